#!/usr/bin/env python3
"""Makes the README's picture of the client from a real run: `python tests/picture.py` writes tests/pictures/client.svg.

Two people talk over sockets, a third sits at the client in tmux. What tmux then shows, with its colours and its cursor,
is drawn as it is. Needs tmux, and the packages for the tests.
"""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from chatting import HERE, Chatsrv, Client, eventually  # noqa: E402
from terminals import CLIENT, Tmux  # noqa: E402

from chat.client.characters import split, width  # noqa: E402

TARGET = Path(__file__).resolve().parent / "pictures" / "client.svg"
COLUMNS, ROWS = 72, 16
CELL, LINE, SIZE, MARGIN = 8.4, 19, 14, 14  # pixels: a column, a row, the font, around it all
GROUND, INK = "#16181d", "#d6d9de"
PALETTE = {
    31: "#e06c75", 32: "#98c379", 33: "#d7ac5c", 34: "#61a6f0", 35: "#c678dd", 36: "#4fb8c4",
    91: "#ff8d95", 92: "#b6e29a", 93: "#f0c674", 94: "#86bdff", 95: "#dd9bf0", 96: "#7fd8e0",
}  # fmt: skip


def session() -> tuple[list[str], tuple[int, int]]:
    """Let three people talk; returns the rows of the third one's screen, with their styles, and the cursor's place."""
    server = Chatsrv("--handler", "chat.handlers.nick:nick")
    people: dict[str, Client] = {}
    try:
        with Tmux(f"{' '.join(CLIENT)} {HERE} {server.port}", COLUMNS, ROWS) as tmux:

            def shows(text: str) -> None:
                eventually(lambda: text in "\n".join(tmux.screen()), text)

            def enter(text: str) -> None:
                tmux.write(text)
                tmux.press("Enter")

            shows("guest1 is here")
            enter("/nick carla")
            shows("guest1 is now carla")
            for name in "anna", "ben":
                people[name] = server.client()
                people[name].say(f"/nick {name}")
                shows(f"is now {name}")
            for name, text in (
                ("anna", "The build is green again."),
                ("ben", "Good. Was it the port that was still in use?"),
                ("carla", "It was. Now every test asks for port 0."),
                ("anna", "你好, Carla! And what happens when somebody sends \x1b[2J?"),
                ("carla", "You see it, and nothing happens."),
            ):
                if name == "carla":
                    enter(text)
                else:
                    people[name].say(text)
                shows(f"{name}: {text[:40]}".split("\x1b")[0])
            tmux.write("The line one types stays where it is, on as many rows as it needs, while the others")
            shows("others")
            people["ben"].say("So one can talk while one types.")
            shows("while one types.")
            rows = tmux.call("capture-pane", "-p", "-e").rstrip("\n").split("\n")
            cursor = tmux.cursor()
        server.finish()
        return rows, cursor
    finally:
        server.destroy()


def runs(rows: list[str]) -> list[tuple[int, int, str, int, bool, bool]]:
    """Each stretch of a row in one style: its column and row, its text, and its colour, bold and dim. 0: no colour."""
    found = []
    colour, bold, dim = 0, False, False
    for number, row in enumerate(rows):
        column = 0
        for style, text in re.findall(r"((?:\x1b\[[0-9;]*m)*)([^\x1b]*)", row):
            for code in re.findall(r"\d+", style.replace("[m", "[0m")):
                if code == "0":
                    colour, bold, dim = 0, False, False
                elif code in ("1", "2", "22"):
                    bold, dim = code == "1", code == "2"
                elif code == "39" or int(code) in PALETTE:
                    colour = 0 if code == "39" else int(code)
            if text.strip():
                found.append((column, number, text, colour, bold, dim))
            column += sum(map(width, split(text)))
    return found


def drawn(rows: list[str], cursor: tuple[int, int]) -> str:
    """The screen as an SVG picture. Every word has its place, so that no font can push the columns about."""
    columns_wide, rows_high = COLUMNS * CELL + 2 * MARGIN, ROWS * LINE + 2 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{columns_wide:.0f}" height="{rows_high}" '
        f'font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="{SIZE}" fill="{INK}">',
        f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>',
        f'<rect x="{MARGIN + cursor[0] * CELL:.1f}" y="{MARGIN + cursor[1] * LINE}" width="{CELL}" height="{LINE}" '
        f'fill="{INK}" opacity="0.8"/>',
    ]
    for column, row, text, colour, bold, dim in runs(rows):
        look = f' fill="{PALETTE.get(colour)}"' * bool(colour) + ' font-weight="bold"' * bold + ' opacity="0.6"' * dim
        for word in re.finditer(r"\S+", text):
            start = column + sum(map(width, split(text[: word.start()])))
            taken = sum(map(width, split(word.group()))) * CELL
            lines.append(
                f'<text x="{MARGIN + start * CELL:.1f}" y="{MARGIN + row * LINE + SIZE}" textLength="{taken:.1f}" '
                f'lengthAdjust="spacingAndGlyphs"{look}>{escape(word.group())}</text>'
            )
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    TARGET.write_text(drawn(*session()), encoding="utf-8")
