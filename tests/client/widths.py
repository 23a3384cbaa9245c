#!/usr/bin/env python3
"""Makes chat/client/widths.py from the tables of the package wcwidth: run `python tests/client/widths.py`."""

from __future__ import annotations

from pathlib import Path

from wcwidth.table_mc import CATEGORY_MC as CATEGORY_MC
from wcwidth.table_wide import WIDE_EASTASIAN
from wcwidth.table_zero import ZERO_WIDTH

TARGET = Path(__file__).resolve().parents[2] / "chat" / "client" / "widths.py"
HEAD = '''"""How many columns characters take, from Unicode {version}. Made by tests/client/widths.py; not to be edited.

Each table has the borders of ranges: the first code point of a range, the first one after it, and so on.
"""
'''


def newest() -> str:
    """The version of Unicode that wcwidth has."""
    return max(ZERO_WIDTH, key=lambda version: [*map(int, version.split("."))])


def borders(codes: set[int]) -> list[int]:
    found: list[int] = []
    for code in sorted(codes):
        if found and found[-1] == code:
            found[-1] = code + 1
        else:
            found += [code, code + 1]
    return found


def codes(ranges: tuple[tuple[int, int], ...]) -> set[int]:
    """All code points in these ranges, but for those before the first mark."""
    return {code for first, last in ranges for code in range(first, last + 1) if code >= 0x300}


def table(name: str, comment: str, numbers: list[int]) -> str:
    lines, line = [f"{name} = (  # {comment}"], "   "
    for number in numbers:
        if len(line) + len(f" {number:#x},") > 120:
            lines.append(line)
            line = "   "
        line += f" {number:#x},"
    return "\n".join([*lines, line, ")  # fmt: skip", ""])


def made() -> str:
    """The text of chat/client/widths.py."""
    version = newest()
    marks = codes(CATEGORY_MC[version])
    zero = codes(ZERO_WIDTH[version]) - marks
    wide = codes(WIDE_EASTASIAN[version]) | {*range(0x3248, 0x3250)}  # as glibc, xterm and tmux have these
    return "\n".join(
        [
            HEAD.format(version=version),
            table("ZERO", "no column: what is drawn into the character before it", borders(zero)),
            table("SPACING", "one column, and still a part of the character before it", borders(marks)),
            table("WIDE", "two columns", borders(wide)),
        ]
    )


if __name__ == "__main__":
    TARGET.write_text(made())
