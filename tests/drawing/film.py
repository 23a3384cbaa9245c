"""A terminal as a moving picture: each stretch of text is drawn once, and shown while it is there."""

from __future__ import annotations

import re
from typing import NamedTuple

from chat.client.characters import split, width

from .svg import Picture

CELL, LINE, MARGIN, TOP = 8.4, 20, 14, 84  # pixels: a column, a row, around it all, above it
COLOURS = {1: "red", 2: "green", 3: "orange", 4: "blue", 5: "violet", 6: "cyan"}
STYLE = """\
svg {{ --cyan: #0b7080 }} @media (prefers-color-scheme: dark) {{ svg {{ --cyan: #62c8d6 }} }}
.cyan {{ fill: var(--cyan) }} .screen {{ font: 14px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono",
  "Noto Sans Mono CJK SC", "Noto Color Emoji", monospace }}
.screen text {{ white-space: pre }} .screen .words {{ font: 14px system-ui, "DejaVu Sans", sans-serif }}
 .cursor {{ fill: var(--ink); opacity: 0.75 }} .dim {{ opacity: 0.65 }}
.away {{ visibility: hidden }} g {{ animation: {length:g}s step-end infinite }}
@media (prefers-reduced-motion: reduce) {{ g {{ animation: none !important }} }}
"""


class Frame(NamedTuple):
    """What a terminal shows for so many seconds, under a caption. The rows have their styles in them."""

    seconds: float
    caption: str
    rows: list[str]
    cursor: tuple[int, int]
    columns: int


def stretches(row: str, look: dict[str, str]) -> list[tuple[int, str, str]]:
    """The column, the text and the look of each part of a row that is in one style, and all wide or all narrow.

    `look` is what the row begins with, and is changed to what it ends with: tmux 3.3 says only what differs.
    """
    found = []
    column = 0
    for style, text in re.findall(r"((?:\x1b\[[0-9;]*m)*)([^\x1b]*)", row):
        for code in re.findall(r"\d+", style.replace("[m", "[0m")):
            number = int(code)
            if number == 0:
                look.update(dict.fromkeys(look, ""))
            elif number in (1, 2, 22):
                look["bold"], look["dim"] = "bold" * (number == 1), "dim" * (number == 2)
            elif number == 39 or number % 60 in range(31, 37):
                look["colour"] = COLOURS.get(number % 10, "") if number != 39 else ""
        part, wide = "", False
        for character in [*split(text), ""]:
            if part and (not character or (width(character) > 1) != wide):
                if part.strip():
                    found.append((column, part.rstrip(), " ".join(filter(None, look.values()))))
                column += sum(map(width, split(part)))
                part = ""
            part, wide = part + character, bool(character) and width(character) > 1
    return found


def draw(frames: list[Frame], still: int, title: str, description: str) -> str:
    """`still` is the frame that is seen where nothing moves."""
    columns, rows = max(frame.columns for frame in frames), max(len(frame.rows) for frame in frames)
    picture = Picture(columns * CELL + 4 * MARGIN, TOP + rows * LINE + MARGIN, title, description)
    length = sum(frame.seconds for frame in frames)
    seen: dict[str, list[int]] = {}  # what is drawn, and in which frames it is seen
    order = {}  # below, and above
    for number, frame in enumerate(frames):
        wide, high = frame.columns * CELL + 2 * MARGIN, rows * LINE + MARGIN
        at_x, at_y = 2 * MARGIN + frame.cursor[0] * CELL, TOP + frame.cursor[1] * LINE - 2
        parts = [
            (0, f'<text x="20" y="58" class="soft words">{picture.escaped(frame.caption)}</text>'),
            (0, f'<rect x="{MARGIN}" y="{TOP - MARGIN}" width="{wide:g}" height="{high:g}" rx="6" class="place"/>'),
            (1, f'<rect x="{at_x:g}" y="{at_y:g}" width="{CELL}" height="{LINE - 2}" class="cursor"/>'),
        ]
        begins = {"colour": "", "bold": "", "dim": ""}
        for line, row in enumerate(frame.rows):
            for column, text, look in stretches(row, begins):
                place = f'x="{2 * MARGIN + column * CELL:g}" y="{TOP + line * LINE + 13}"'
                size = f'textLength="{sum(map(width, split(text))) * CELL:g}" lengthAdjust="spacingAndGlyphs"'
                style = f' class="{look}"' * bool(look)
                parts.append((2, f"<text {place} {size}{style}>{picture.escaped(text)}</text>"))
        for depth, part in parts:
            seen.setdefault(part, []).append(number)
            order[part] = depth
    starts = [sum(frame.seconds for frame in frames[:number]) / length for number in range(len(frames) + 1)]
    groups: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    for part, numbers in seen.items():
        groups.setdefault((order[part], tuple(numbers)), []).append(part)
    names = {numbers: f"f{serial}" for serial, numbers in enumerate(dict.fromkeys(numbers for _, numbers in groups))}
    style = STYLE.format(length=length)
    for there, name in names.items():
        if len(there) < len(frames):
            changes = [n for n in range(len(frames)) if n == 0 or (n in there) != (n - 1 in there)]
            looks = {n: "visible" if n in there else "hidden" for n in changes}
            steps = "".join(f"{starts[n] * 100:.2f}%{{visibility:{look}}}" for n, look in looks.items())
            style += f"@keyframes {name} {{ {steps} }} .{name} {{ animation-name: {name} }}\n"
    picture.parts.append(f"<style>\n{style}</style>")
    picture.parts.append('<g class="screen">')
    for (_, there), drawn in sorted(groups.items()):
        away = " away" * (still not in there)
        picture.parts.append(f'<g class="{names[there]}{away}">{"".join(drawn)}</g>')
    picture.parts.append("</g>")
    return str(picture)
