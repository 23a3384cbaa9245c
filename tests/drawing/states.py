"""The states of a member's sending side, with the changes that the server makes in simulated worlds."""

from __future__ import annotations

import sys
from collections import defaultdict

from simulation.run import failure_of

from chat.server.member import APART, BEHIND, NEW, OVER, TOGETHER, Member

from .svg import Picture

SEEDS = 60
NUMBERS = {4: "four", 5: "five", 6: "six"}
WIDTH, HEIGHT = 216, 78
PLACES = {NEW: (44, 56), APART: (44, 196), TOGETHER: (600, 196), BEHIND: (44, 458), OVER: (600, 458)}
WORDS = {
    NEW: ("nothing is sent to it yet",),
    APART: ("it has an outbox of its own:", "spread() sends what is in it"),
    TOGETHER: ("it has caught up: spread() sends", "all of these the same bytes"),
    BEHIND: ("it takes nothing for now:", "deliver() waits for space"),
    OVER: ("nothing is sent to it any more",),
}
# Where an arrow begins, bends, and ends, and where its words stand: at an x, and at the y of the first line.
ARROWS = {
    (NEW, APART): ("M152 134V188", "ink", 196, 158),
    (NEW, TOGETHER): ("M260 120H708V188", "green", 560, 141),
    (NEW, OVER): ("M260 95H838V497H824", "soft", 600, 99),  # a handshake that fails, which plain worlds don't have
    (APART, TOGETHER): ("M260 218H592", "green", 430, 202),
    (TOGETHER, APART): ("M600 252H268", "orange", 430, 272),
    (APART, BEHIND): ("M112 274V450", "red", 112, 368),
    (BEHIND, APART): ("M210 458V282", "green", 210, 368),
    (APART, OVER): ("M260 274L592 462", "soft", 400, 348),
    (TOGETHER, OVER): ("M708 274V450", "soft", 708, 360),
    (BEHIND, OVER): ("M260 497H592", "soft", 430, 484),
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
            assert not failure_of(seed, cluster=False)[0]
    finally:
        Member.become = become  # type: ignore[method-assign]
    return found


def draw() -> str:
    changes = run()
    changes.pop((OVER, OVER), None)  # it stays what it is
    assert changes.keys() <= ARROWS.keys(), f"there are other changes: {changes.keys() - ARROWS.keys()}"
    description = " ".join(
        f"From {before} to {after}: {calls(callers)}." for (before, after), callers in sorted(changes.items())
    )
    title = f"A member's sending side: its {NUMBERS[len(PLACES)]} states, and the functions that change them"
    picture = Picture(860, 576, title, description)
    for change, (path, colour, x, y) in ARROWS.items():
        if change not in changes:
            continue
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
