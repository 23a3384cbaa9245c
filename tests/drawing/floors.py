"""The two floors: which module imports which, collected from the source. Arrows only go down."""

from __future__ import annotations

import ast
from pathlib import Path

from .svg import Picture

ROOT = Path(__file__).resolve().parents[2]
# Each part of the house: where it begins, how wide it is, how many modules stand side by side, and its colour.
PARTS = {
    "chat/server, handlers": (14, 66, 540, 5, "green"),
    "chat/client": (566, 66, 340, 3, "orange"),
    "chat/, shared": (130, 0, 660, 5, "violet"),
    "loop/": (14, 0, 892, 8, "blue"),
}
BOX, ROW, GAP = 96, 46, 46  # pixels: a module's width, from one row to the next, between two floors


def names() -> dict[str, Path]:
    """Each module, by its dotted name."""
    found = {}
    for folder in "loop", "chat":
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules of ours that are imported when the program runs, not only for type checkers."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checked = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in checked:
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                found.add(f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base)
        elif isinstance(node, ast.Import) and node not in checked:
            found.update(alias.name for alias in node.names)
    return {other for other in found if other in modules}


def room(name: str) -> str:
    """Where it is drawn: a module of the server or the client alone, a package within those as one."""
    parts = name.split(".")
    return ".".join(parts[:3]) if parts[0] == "chat" and parts[1:2] in (["server"], ["client"]) else ".".join(parts[:2])


def run() -> dict[str, set[str]]:
    """Which room imports which."""
    modules = names()
    edges: dict[str, set[str]] = {room(name): set() for name in sorted(modules)}
    for name, path in modules.items():
        for other in imports(name, path, modules):
            if room(other) != room(name):
                edges[room(name)].add(room(other))
    return edges


def part(name: str) -> str:
    if name.startswith("loop"):
        return "loop/"
    if name.startswith("chat.client"):
        return "chat/client"
    return "chat/server, handlers" if name.startswith(("chat.server", "chat.handlers")) else "chat/, shared"


def rows(modules: list[str], edges: dict[str, set[str]], most: int) -> list[list[str]]:
    """The modules in rows, each just below all that import it."""
    depth: dict[str, int] = {}

    def deep(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((deep(other) for other in modules if name in edges[other]), default=-1)
        return depth[name]

    levels: dict[int, list[str]] = {}
    for name in modules:
        levels.setdefault(deep(name), []).append(name)
    found = []
    for level in sorted(levels):
        names = levels[level]
        found += [names[first : first + most] for first in range(0, len(names), most)]
    return found


def draw() -> str:
    edges = run()
    edges = {
        name: others - {"chat"} for name, others in edges.items() if name not in ("chat", "chat.server", "chat.client")
    }
    between = {(part(name), part(other)) for name, others in edges.items() for other in others} - {
        (p, p) for p in PARTS
    }
    order = list(PARTS)
    assert all(order.index(upper) < order.index(lower) for upper, lower in between), f"an arrow goes up: {between}"
    assert (order[0], order[1]) not in between, "the server imports the client"
    found = {p: rows([name for name in edges if part(name) == p], edges, PARTS[p][3]) for p in PARTS}
    tall = {p: ROW * len(found[p]) + 34 for p in PARTS}
    tops = {order[0]: 66.0, order[1]: 66.0}
    tops[order[2]] = 66 + max(tall[order[0]], tall[order[1]]) + GAP
    tops[order[3]] = tops[order[2]] + tall[order[2]] + GAP
    tall[order[0]] = tall[order[1]] = max(tall[order[0]], tall[order[1]])
    description = " ".join(f"{name} imports {', '.join(sorted(others))}." for name, others in edges.items() if others)
    bottom = tops[order[3]] + tall[order[3]]
    picture = Picture(920, bottom + 44, "Two floors: which module imports which", description)
    places: dict[str, tuple[float, float]] = {}
    for p, (x, _, width, _, colour) in PARTS.items():
        picture.box(x, tops[p], width, tall[p], "place", 8)
        picture.text(x + 14, tops[p] + 22, p, f"bold {colour}")
        for number, names in enumerate(found[p]):
            space = (width - len(names) * BOX) / (len(names) + 1)
            for column, name in enumerate(names):
                places[name] = (x + space + column * (BOX + space), tops[p] + 32 + number * ROW)
    for name, others in edges.items():
        for other in sorted(others):
            if part(other) == part(name) and not any(other in reach(near, edges) for near in others - {other}):
                (x0, y0), (x1, y1) = places[name], places[other]
                bend = f"C{x0 + BOX / 2:g} {y0 + 44:g} {x1 + BOX / 2:g} {y1 - 22:g}"
                colour = PARTS[part(name)][4]
                picture.path(f"M{x0 + BOX / 2:g} {y0 + 24:g}{bend} {x1 + BOX / 2:g} {y1:g}", f"{colour} faint")
    for name, (left, top) in places.items():
        picture.box(left, top, BOX, 24, f"{PARTS[part(name)][4]} frame", 4)
        picture.text(left + BOX / 2, top + 16.5, name.rpartition(".")[2], "code small", "middle")
    for upper, lower in sorted(between):
        colour = PARTS[upper][4]
        middle = {order[0]: 84, order[1]: 836} if lower == order[3] else {order[0]: 284, order[1]: 700}
        begin = middle.get(upper, 460)
        picture.path(f"M{begin} {tops[upper] + tall[upper]:g}V{tops[lower] - 2:g}", f"{colour} thick", colour)
    words = (
        "A line is an import, always downwards; what follows from others is left out. Nothing in loop/ imports chat/."
    )
    picture.text(20, bottom + 28, words, "soft small")
    return str(picture)


def reach(name: str, edges: dict[str, set[str]]) -> set[str]:
    """All that it imports, and what those import."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for other in edges[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return found
