"""The states of a member's sending side, with the changes that the server makes in simulated worlds."""

from __future__ import annotations

import sys
from collections import defaultdict

from simulation.run import failure_of

from chat.server.member import APART, BEHIND, NEW, OVER, TOGETHER, Member

from .svg import Picture

SEEDS = 30
WIDTH, HEIGHT = 216, 78
PLACES = {APART: (44, 116), TOGETHER: (600, 116), BEHIND: (44, 378), OVER: (600, 378)}
WORDS = {
    APART: ("something is due to it alone:", "spread() sends it that"),
    TOGETHER: ("it has caught up: spread() sends", "all of these the same bytes"),
    BEHIND: ("it takes nothing for now:", "deliver() waits for room"),
    OVER: ("nothing is sent to it any more",),
}
# Where an arrow begins, bends, and ends, and where its words stand: at an x, and at the y of the first line.
ARROWS = {
    (APART, TOGETHER): ("M260 138H592", "green", 430, 122),
    (TOGETHER, APART): ("M600 172H268", "orange", 430, 192),
    (APART, BEHIND): ("M112 194V370", "red", 112, 288),
    (BEHIND, APART): ("M210 378V202", "green", 210, 288),
    (APART, OVER): ("M260 194L592 382", "soft", 400, 268),
    (TOGETHER, OVER): ("M708 194V370", "soft", 708, 280),
    (BEHIND, OVER): ("M260 417H592", "soft", 430, 404),
}
Changes = dict[tuple[str, str], set[str]]


def run() -> Changes:
    """From which state to which, and the functions that asked for it."""
    found: Changes = defaultdict(set)
    become = Member.become

    def watched(member: Member, state: str) -> None:
        found[member.sending, state].add(sys._getframe(1).f_code.co_name)
        become(member, state)

    Member.become = watched  # type: ignore[method-assign, assignment]
    try:
        for seed in range(SEEDS):
            assert not failure_of(seed)[0]
    finally:
        Member.become = become  # type: ignore[method-assign]
    return found


def draw() -> str:
    changes = run()
    changes.pop((OVER, OVER), None)  # it stays what it is
    (entry,) = changes.pop((NEW, APART))
    assert changes.keys() == ARROWS.keys(), f"there are other changes: {changes.keys() ^ ARROWS.keys()}"
    description = f"A new member, from {entry}(), is apart. " + " ".join(
        f"From {before} to {after}: {calls(callers)}." for (before, after), callers in sorted(changes.items())
    )
    picture = Picture(860, 496, "A member's sending side: four states, and the functions that change them", description)
    picture.path("M152 66V108", "ink thick", "ink")
    picture.text(164, 88, f"{entry}(), once it is let in", "code")
    for change, (path, colour, x, y) in ARROWS.items():
        picture.path(path, f"{colour} thick", colour)
        picture.label(x, y, [f"{caller}()" for caller in sorted(changes[change])], "code")
    for state, (x, y) in PLACES.items():
        picture.box(
            x, y, WIDTH, HEIGHT, "frame " + {TOGETHER: "green", APART: "orange", BEHIND: "red"}.get(state, "soft")
        )
        picture.text(x + WIDTH / 2, y + 24, state.upper(), "code bold", "middle")
        for line, words in enumerate(WORDS[state]):
            picture.text(x + WIDTH / 2, y + 45 + 17 * line, words, "small soft", "middle")
    return str(picture)


def calls(names: set[str]) -> str:
    return ", ".join(f"{name}()" for name in sorted(names))
