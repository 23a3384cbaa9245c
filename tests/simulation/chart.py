"""A run as a sequence chart: time goes down, the server on the left, the clients beside it.

An arrow is what the server does with a client's connection, a dot what the client itself does. Between the two are the
buffers of the two systems, so what is sent is read later, and perhaps in other pieces.
"""

from __future__ import annotations

import re

from drawing.svg import Picture

COLOURS = ["blue", "orange", "green", "violet"]
SERVER, FIRST, COLUMN, ROW, TOP = 112, 332, 220, 26, 78  # pixels: the two lifelines, from one to the next, a row, above
WIDEST = 26  # characters


def chart(seed: int, history: list[str], failure: str | None) -> str:
    """The picture of a history as Run writes it."""
    events = []
    for line in history:
        moment, client, what = re.fullmatch(r"\s*(\S+)\s+(?:(c\d+): )?(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
        events.append((moment, client, what))
    clients = sorted({client for _, client, _ in events if client}, key=lambda name: int(name[1:]))
    places = {client: FIRST + COLUMN * number for number, client in enumerate(clients)}
    colours = {client: COLOURS[number % len(COLOURS)] for number, client in enumerate(clients)}
    bottom = TOP + ROW * (len(events) + 1)
    title = f"Seed {seed}: {failure or 'all is well'}"
    picture = Picture(
        FIRST + COLUMN * max(1, len(clients)) + 10, bottom + 20, title, " ".join(" ".join(history).split())
    )
    for name, x in {"the server": SERVER, **places}.items():
        picture.path(f"M{x} {TOP}V{bottom}", "line")
        picture.text(x, TOP - 10, name, f"bold {colours.get(name, 'ink')}", "middle")
    before = ""
    for row, (moment, client, what) in enumerate(events, 1):
        y = TOP + ROW * row
        if moment != before:
            picture.text(14, y + 4, f"{moment} s", "small soft")
            before = moment
        if client is None:
            picture.text(SERVER + 9, y + 4, short(what, WIDEST + 4), "small red")
        elif what.startswith(("the server", "connects", "accepted")):
            draw_arrow(picture, places[client], y, colours[client], what)
        else:
            picture.parts.append(f'<circle cx="{places[client]}" cy="{y}" r="4" class="{colours[client]}"/>')
            picture.text(places[client] + 9, y + 4, short(what, WIDEST + 2), f"small {colours[client]}")
    return str(picture)


def draw_arrow(picture: Picture, x: float, y: float, colour: str, what: str) -> None:
    """What happens between the server and the client whose lifeline is at x."""
    words = re.sub(r"^the server |, 0 left$| from \S+$|( as)? descriptor \d+$", "", what)
    inwards = words.startswith(("reads", "connects"))
    begin, end = (x, SERVER + 4) if inwards else (SERVER, x - 4)
    picture.path(f"M{begin} {y}H{end}", colour, colour)
    picture.text(x - 12, y - 5, short(words, WIDEST), "small", "end")


def short(words: str, most: int) -> str:
    """Without what marks bytes, and not too long."""
    words = re.sub(r"b(['\"])(.*?)\1", r"“\2”", words).replace("\\n", "⏎")
    return words if len(words) <= most else words[: most - 1] + "…"
