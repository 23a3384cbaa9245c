"""A picture: boxes, lines and real text, on a ground of its own that is light or dark as the reader likes it."""

from __future__ import annotations

from html import escape

STYLE = """\
svg { --ground: #fbfaf7; --ink: #23262c; --soft: #646a73; --line: #c4c8ce; --place: #f0eee8; --on: #ffffff;
  --blue: #2b68c5; --orange: #b4510b; --green: #28783b; --violet: #7d3ab3; --red: #bd2b37;
  font: 14px system-ui, "Segoe UI", Helvetica, Arial, "DejaVu Sans", sans-serif }
@media (prefers-color-scheme: dark) {
  svg { --ground: #16181d; --ink: #e2e4e8; --soft: #a0a7b1; --line: #464c56; --place: #22262d; --on: #14161a;
    --blue: #74abff; --orange: #f2a25c; --green: #74cd8a; --violet: #c996ee; --red: #ff828b } }
text { fill: var(--ink) } .soft { fill: var(--soft) } .bold { font-weight: 600 } .small { font-size: 12px }
.title { font-size: 17px; font-weight: 600 }
.code { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 12.5px }
.ground { fill: var(--ground) } .place { fill: var(--place); stroke: var(--line) } .none { fill: none }
.line { fill: none; stroke: var(--line); stroke-width: 1.5 } .thick { stroke-width: 2.5 }
.dash { stroke-dasharray: 4 4 }
text.on { fill: var(--on) } .faint { opacity: 0.45 }
"""
COLOURS = ["blue", "orange", "green", "violet", "red", "soft", "ink"]
STYLE += "".join(
    f".{name} {{ fill: var(--{name}) }} path.{name} {{ fill: none; stroke: var(--{name}) }} "
    f"rect.{name}.frame {{ fill: var(--ground); stroke: var(--{name}); stroke-width: 1.5 }}\n"
    for name in COLOURS
)


class Picture:
    """What is drawn later covers what was drawn before. Lengths are in pixels; a class is a look from STYLE."""

    def __init__(self, width: float, height: float, title: str, description: str) -> None:
        self.width, self.height = width, height
        self.parts = [f'<title id="title">{escape(title)}</title>', f'<desc id="desc">{escape(description)}</desc>']
        self.heads: dict[str, None] = {}  # colours of arrow heads
        self.box(0, 0, width, height, "ground", 10)
        self.text(20, 32, title, "title")

    @staticmethod
    def escaped(text: str) -> str:
        return escape(text, quote=False)

    def box(self, x: float, y: float, width: float, height: float, look: str, round: float = 5) -> None:
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self.parts.append(f'<rect {place} rx="{round:g}" class="{look}"/>')

    def text(self, x: float, y: float, text: str, look: str = "", anchor: str = "start") -> None:
        """`anchor`: whether the text begins at x ("start"), ends there ("end"), or has it in its "middle"."""
        more = f' text-anchor="{anchor}"' * (anchor != "start") + f' class="{look}"' * bool(look)
        self.parts.append(f'<text x="{x:g}" y="{y:g}"{more}>{self.escaped(text)}</text>')

    def label(self, x: float, y: float, lines: list[str], look: str = "") -> None:
        """Small lines around x, the first one at y, that hide what is behind them."""
        width = max(map(len, lines)) * 7.7 + 8
        self.box(x - width / 2, y - 13, width, 17 * len(lines) + 1, "ground")
        for number, line in enumerate(lines):
            self.text(x, y + 17 * number, line, look, "middle")

    def path(self, path: str, look: str = "line", arrow: str = "") -> None:
        """`arrow`: the colour of its head, if it has one."""
        head = ""
        if arrow:
            self.heads[arrow] = None
            head = f' marker-end="url(#{arrow})"'
        self.parts.append(f'<path d="{path}" class="{look}"{head}/>')

    def chip(self, x: float, y: float, text: str, colour: str, width: float = 84, height: float = 26) -> None:
        """A box of one colour with its name in it."""
        self.box(x, y, width, height, colour, height / 2)
        self.text(x + width / 2, y + height / 2 + 4.5, text, "code on bold", "middle")

    def __str__(self) -> str:
        size = f'width="{self.width:g}" height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}"'
        heads = "".join(
            f'<marker id="{colour}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5L9.5 5L0 9.5z" '
            f'style="fill: var(--{colour}); stroke: none"/></marker>'
            for colour in self.heads
        )
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title desc">',
            *self.parts[:2],
            f"<style>\n{STYLE}</style>",
            *[f"<defs>{heads}</defs>"] * bool(heads),
            *self.parts[2:],
        ]
        return "\n".join([*lines, "</svg>", ""])
