"""stdout, opened so that a slow reader cannot make a write wait."""

from __future__ import annotations

import io
import os
import select
import stat


def standard_output() -> tuple[io.FileIO, int]:
    """stdout for a Journal: a file, and how much may be written at once without ever waiting in write(2).

    Files take everything. Pipes and terminals are opened anew to make them non-blocking, because O_NONBLOCK on
    descriptor 1 itself would also hit the shell and whoever else shares it. Where that is not possible, PIPE_BUF bytes
    are what a pipe that is ready surely takes.
    """
    kind = os.fstat(1).st_mode
    if not stat.S_ISREG(kind):
        for path in ("/proc/self/fd/1", os.ttyname(1) if os.isatty(1) else ""):
            try:
                return io.FileIO(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY), "w"), 1 << 20
            except OSError:
                pass  # not Linux, a socket, or somebody else's pipe
        return io.FileIO(1, "w", closefd=False), select.PIPE_BUF
    return io.FileIO(1, "w", closefd=False), 1 << 20
