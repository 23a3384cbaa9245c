"""Three nodes and the stream: what each of them shows its members, while one of them cannot reach Redis."""

from __future__ import annotations

from cluster.calm import CalmWorld

from .svg import Picture

NODES = {"ann": "blue", "ben": "orange", "carla": "green"}  # one member on each
LEFT, CELL, GAP = 196, 118, 10


def run() -> tuple[list[str], dict[str, list[str]], dict[str, list[str]]]:
    """What is in the stream; what each node has shown; what it has taken from its members and not seen again."""
    world = CalmWorld()
    nodes = {name: world.node() for name in NODES}
    world.run(0.3)
    members = {name: node.member(name) for name, node in nodes.items()}
    world.run(0.1)
    said = {name: [f"{name}: {word}" for word in words] for name, words in SAID.items()}
    for name, word in (("ann", "one"), ("ben", "two"), ("carla", "three"), ("ann", "four")):
        members[name].say(word)
        world.run(0.1)
    nodes["carla"].part()
    for name, word in (("ben", "five"), ("carla", "six"), ("ann", "seven")):
        members[name].say(word)
        world.run(0.1)
    texts = [b"".join(fields).decode() for _, fields in world.redis.keys[0, b"chat"].entries]
    everything = [line for lines in said.values() for line in lines]
    stream = [line for text in texts for line in everything if line in text]
    shown = {name: [line for line in member.has_heard() if line in everything] for name, member in members.items()}
    missing = {name: [line for line in said[name] if line not in stream] for name in NODES}
    return stream, shown, missing


SAID = {"ann": ("one", "four", "seven"), "ben": ("two", "five"), "carla": ("three", "six")}


def draw() -> str:
    stream, shown, missing = run()
    width = LEFT + len(stream) * (CELL + GAP) + 16
    description = f"The stream has {', '.join(stream)}. " + " ".join(
        f"The node of {name} has shown {', '.join(lines)}"
        + (f", and not yet {', '.join(missing[name])}, which has not come back." if missing[name] else ".")
        for name, lines in shown.items()
    )
    picture = Picture(
        width, 440, "Several machines: nobody is shown what has not come back from the stream", description
    )

    def cell(column: int, y: float, line: str) -> None:
        picture.chip(LEFT + column * (CELL + GAP), y, line, NODES[line.partition(":")[0]], CELL, 30)

    picture.box(14, 66, width - 28, 72, "place")
    picture.text(28, 98, "the stream", "bold")
    picture.text(28, 116, "in Redis: one order", "small soft")
    for column, line in enumerate(stream):
        x = LEFT + column * (CELL + GAP) + CELL / 2
        readers = [number for number, name in enumerate(NODES) if line in shown[name]]
        picture.path(f"M{x} 118V{186 + 78 * max(readers)}", "line dash")
        cell(column, 87, line)
    for number, (name, colour) in enumerate(NODES.items()):
        y = 166 + 78 * number
        picture.box(14, y, width - 28, 66, f"{colour} frame")
        picture.text(28, y + 29, f"{name}'s node", "bold")
        picture.text(28, y + 47, "shows its members", "small soft")
        for column, line in enumerate(shown[name]):
            cell(column, y + 18, line)
        end = LEFT + len(shown[name]) * (CELL + GAP) - GAP / 2
        picture.path(f"M{end} {y + 8}V{y + 58}", f"{colour} thick")
        if missing[name]:
            x = LEFT + len(shown[name]) * (CELL + GAP) + 12
            picture.text(x, y + 29, f"“{missing[name][0]}” was said here,", "small")
            picture.text(x, y + 47, "but has not come back yet", "small")
    picture.text(
        20,
        422,
        "The bar is a node's place. Carla's node cannot reach Redis: it shows a shorter history, not another one.",
        "soft",
    )
    return str(picture)
