"""Where each task is, from moment to moment: places are rows, moments are columns, and each task is a line."""

from __future__ import annotations

from dataclasses import dataclass, field

from .svg import Picture

LEFT, TOP = 172, 104
COLUMN, CHIP, STEP = 98, 78, 32  # pixels: between moments, a chip's width, from one chip to the next below it


@dataclass
class Moment:
    """`what` has just happened, in a line or two; `places` says which tasks are where; `notes`, what else is there."""

    what: tuple[str, ...]
    places: dict[str, list[str]]
    notes: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        places = {**self.notes, **{place: ", ".join(tasks) for place, tasks in self.places.items() if tasks}}
        return f"{' '.join(self.what)}: {'; '.join(f'{place}: {what}' for place, what in places.items())}."


def picture(moments: list[Moment], rows: dict[str, str], title: str, opening: str, words: str, **colours: str) -> str:
    """All of it: `opening` begins the description, each task has its colour, and `words` stand below."""
    width, bands = size(moments, rows)
    bottom = max(y + height for y, height in bands.values())
    description = opening + " " + " ".join(map(str, moments))
    drawn = Picture(width, bottom + 46, title, description)
    draw(drawn, moments, rows, colours)
    drawn.text(20, bottom + 28, words, "soft")
    return str(drawn)


def size(moments: list[Moment], rows: dict[str, str]) -> tuple[float, dict[str, tuple[float, float]]]:
    """The width of it all, and of each place where it begins and how high it is."""
    y = float(TOP)
    bands: dict[str, tuple[float, float]] = {}
    for row in rows:
        most = max(1, *(len(moment.places.get(row, [])) for moment in moments))
        bands[row] = (y, most * STEP + 12)
        y += most * STEP + 18
    return LEFT + COLUMN * len(moments) + 12, bands


def draw(picture: Picture, moments: list[Moment], rows: dict[str, str], colours: dict[str, str]) -> float:
    """Draw it; `rows` are the places and a word on each; returns where it ends at the bottom."""
    width, bands = size(moments, rows)
    for row, (y, height) in bands.items():
        picture.box(14, y, width - 28, height, "place")
        picture.text(26, y + height / 2 - 2, row, "code bold")
        picture.text(26, y + height / 2 + 14, rows[row], "small soft")
    where: dict[str, tuple[float, float]] = {}
    chips = []
    for number, moment in enumerate(moments):
        x = LEFT + number * COLUMN
        for line, words in enumerate(moment.what):
            look = "code bold" if line == 0 else "small soft"
            picture.text(x + CHIP / 2, TOP - 40 + 16 * line, words, look, "middle")
        for row, (y, height) in bands.items():
            tasks = moment.places.get(row, [])
            top = y + (height - len(tasks) * STEP) / 2 + 3
            if note := moment.notes.get(row):
                picture.text(x + CHIP / 2, y + height / 2 + 5, note, "code bold", "middle")
            for place, task in enumerate(tasks):
                at = (x, top + place * STEP)
                if task in where:
                    (x0, y0), (x1, y1) = where[task], at
                    x0, y0, y1 = x0 + CHIP, y0 + 13, y1 + 13
                    bend = (x1 - x0) / 2 + abs(y1 - y0) / 12
                    path = f"M{x0 - 2:g} {y0:g}C{x0 + bend:g} {y0:g} {x1 - bend:g} {y1:g} {x1 + 2:g} {y1:g}"
                    picture.path(path, f"{colours[task]} thick{' faint' * (y0 == y1)}")
                where[task] = at
                chips.append((at, task))
    for (x, y), task in chips:
        picture.chip(x, y, task, colours[task], CHIP)
    return max(y + height for y, height in bands.values())
