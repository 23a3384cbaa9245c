"""Files that a flag names: what may be read, and what would make the reader wait."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chat.files import must_be_file


def test_a_file_may_be_read_and_a_fifo_may_not(tmp_path: Path) -> None:
    file, fifo = tmp_path / "file", tmp_path / "fifo"
    file.write_text("x")
    os.mkfifo(fifo)
    must_be_file(str(file))
    for path in fifo, tmp_path, Path("/dev/null"):
        for once in False, True:
            with pytest.raises(OSError):
                must_be_file(str(path), once)


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd"])
def test_a_pipe_from_a_shell_may_be_read_once_and_not_again_and_again(folder: str) -> None:
    """bash names it in one folder, and zsh in the other."""
    if not os.path.isdir(folder):
        pytest.skip(f"there is no {folder}")
    ours, theirs = os.pipe()
    try:
        must_be_file(f"{folder}/{ours}", once=True)
        with pytest.raises(OSError):
            must_be_file(f"{folder}/{ours}")
    finally:
        os.close(ours)
        os.close(theirs)
