"""Several servers, one feed, in a simulated world: with a false Redis, and cuts wherever they can be."""

from __future__ import annotations

import time
from typing import Optional

import pytest
from cluster.oracle import Stream, check
from cluster.world import Node, World


def streams(nodes: list[Node]) -> dict[str, Stream]:
    return {f"node {number}": Stream(node.listen()) for number, node in enumerate(nodes)}


def talk(world: World, nodes: list[Node], rounds: int = 3) -> int:
    """Let all nodes say something, sometimes at the same time; returns how many messages."""
    for turn in range(rounds):
        for number, node in enumerate(nodes):
            node.say(f"<{number} {2 * turn}>", f"<{number} {2 * turn + 1}>")
            world.run(0.0005 * (turn + 1))
        world.run(0.004 * turn)
    return 2 * rounds * len(nodes)


def run_with_cut(line: int, budget: tuple[Optional[int], Optional[int]], late: float) -> World:
    """Two nodes talk; one connection of the first one breaks after so many bytes."""
    world = World()
    world.late = late
    world.budgets = [(None, None), (None, None)]
    world.budgets[line] = budget
    nodes = [world.node()]
    world.run(0.3)
    nodes.append(world.node())
    world.run(0.05)
    said = talk(world, nodes)
    world.run(2)
    both = streams(nodes)
    assert check(both) == 2 * said, both
    assert all(node.cluster.settled == node.cluster.accepted and not node.cluster.placed for node in nodes)
    return world


def test_cut() -> None:
    world = run_with_cut(0, (None, None), 0)
    print([(w.sent, w.received) for w in world.wires])
    n = 0
    t = time.time()
    for line, wire in enumerate(world.wires[:2]):
        for direction, total in enumerate((wire.sent, wire.received)):
            for at in range(0, total):
                if at %7: continue
                budget = (at, None) if direction == 0 else (None, at)
                for late in 0.0, 0.5:
                    try:
                        run_with_cut(line, budget, late)
                    except:
                        print(line, budget, late)
                        raise
                    n += 1
    print(n, time.time() - t)
    assert 0
