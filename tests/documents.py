"""README.md, NOTES.md and their further pages as the tests see them: their fenced blocks, sections and programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from chatting import ROOT

TEXT = {
    name: (ROOT / name).read_text()
    for name in ("README.md", "NOTES.md", "tests/solutions.md", "chat/server/cluster/README.md")
}
KINDS = ("python", "pycon", "sh", "console", "diff", "text", "ini")


class Block(NamedTuple):
    document: str
    line: int
    kind: str
    source: str
    text: str


def blocks() -> Iterator[Block]:
    for document, text in TEXT.items():
        for match in re.finditer(r"^```(\w*) ?(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
            yield Block(document, text.count("\n", 0, match.start()) + 2, *match.groups())


def section(document: str, heading: str) -> str:
    """What stands between a heading and the next one of its rank or higher."""
    rank = heading.index(" ")
    match = re.search(rf"^{re.escape(heading)}\n((?:.*\n)*?)(?=^#{{1,{rank}}} |\Z)", TEXT[document], re.MULTILINE)
    assert match, f"{document} has no section {heading!r}"
    return match[1]


def changed(block: Block) -> str:
    """The program that a block changes, with these changes."""
    text = PROGRAMS[block.source]
    for part in re.split(r"^@@.*\n", block.text, flags=re.MULTILINE):
        before, after = ("".join(re.findall(rf"^\{sign}(.*\n)", part, re.MULTILINE)) for sign in "-+")
        assert text.count(before) == 1, f"{block.source} does not have this once:\n{before}"
        text = text.replace(before, after)
    return text


BLOCKS = list(blocks())
PROGRAMS: dict[str, str] = {}  # by their name, which is in their first line
for block in BLOCKS:
    if block.document != "README.md" and block.kind in ("python", "diff"):
        if block.kind == "python" and not block.source:
            PROGRAMS[re.findall(r"# (\w+\.py)\n", block.text)[0]] = block.text
        elif block.kind == "diff" and block.source:
            PROGRAMS[re.findall(r"^\+# (\w+\.py)\n", block.text, re.MULTILINE)[0]] = changed(block)
RUNGS = [name[:-3] for name in PROGRAMS if name.startswith("rung")]
HANDLERS = [
    block.text for block in BLOCKS if block.document == "README.md" and block.kind == "python" and not block.source
]


def save_programs(directory: Path) -> None:
    """All of them, since they may import one another."""
    for name, text in PROGRAMS.items():
        (directory / name).write_text(text)
