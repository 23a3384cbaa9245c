"""Nodes in the simulated world, what can happen to them and to Redis, at random, and what must be true all the same.

PYTHONPATH=.:tests python -m cluster.accidents --seeds 10000
PYTHONPATH=.:tests python -m cluster.accidents --seed 123
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from simulation.redis import NODE, TOP

from chat.server.cluster.follow import SILENCE
from chat.server.cluster.node import PAUSES
from cluster.calm import CalmWorld, Node
from cluster.oracle import Message, Stream

STREAM = 0, b"chat"
SETTLED = 2 * SILENCE + PAUSES[1] + 2  # seconds after which everybody knows everything


class Accidents(CalmWorld):
    """A world with a seed. What has happened decides what must be true."""

    def __init__(self, seed: int, show: bool = False) -> None:
        super().__init__()
        self.dice = random.Random(seed)
        self.show = show
        self.said: dict[int, int] = {}
        self.kept: list[dict[tuple[int, bytes], Any]] = []
        self.there: list[Node] = []  # the nodes that were there when Redis first lost what it knew of the stream
        self.reset = False  # it has
        self.gone = False  # entries were removed from the stream
        self.forgotten = False  # it has forgotten which numbers it had; a new node may hear a message late
        self.grown = False  # somebody has come

    def happen(self, chances: int) -> None:
        """Talk, with so many accidents in between."""
        for _ in range(self.dice.randint(1, 3)):
            self.node()
        self.run(self.dice.uniform(0, 0.05))
        for _ in range(chances):
            for _ in range(self.dice.randint(0, 4)):
                self.talk()
            accident = self.dice.choice(ACCIDENTS)
            if self.show:
                print(f"{self.now - 1735689600:8.4f} {accident.__name__}")
            accident(self)
            self.pause()
        for node in self.nodes:
            node.mend()
        self.run(SETTLED)
        for number in range(len(self.nodes)):
            self.say(number)
            self.run(0.1)
        self.run(SETTLED)

    def pause(self) -> None:
        self.run(self.dice.choice([0, 0.0005, 0.001, 0.002, 0.01, 0.05, 0.4, 6]) * self.dice.random())

    def say(self, number: int, count: int = 1) -> None:
        first = self.said.get(number, 0)
        self.said[number] = first + count
        self.nodes[number].say(*(f"<{number} {first + i}>" for i in range(count)))

    def talk(self) -> None:
        self.say(self.dice.randrange(len(self.nodes)), self.dice.choice([1, 1, 2, 5]))
        self.run(self.dice.choice([0, 0.0003, 0.001, 0.004]))

    # The accidents.

    def nothing(self) -> None:
        pass

    def cut(self) -> None:
        if self.lines.all:
            self.lines.late = self.dice.choice([0, 0.002, 0.3])
            self.dice.choice(self.lines.all).cut()

    def part_one(self) -> None:
        node = self.dice.choice(self.nodes)
        if node.number not in self.lines.away:
            node.part()
        else:
            node.mend()

    def come(self) -> None:
        if len(self.nodes) < 5 and not self.forgotten:
            self.grown = True
            self.node()

    def scripts(self) -> None:
        self.redis.scripts.clear()

    def stranger(self) -> None:
        self.add(None)

    def add(self, id: tuple[int, int] | None) -> None:
        fields = self.dice.choice([[b"text", b"hi\n"], [b"epoch", b"x"], [b"epoch", b"e", b"end", b"1", b"text", b"a"]])
        if self.lines.all and (id or (TOP, TOP)) > self.top():
            self.redis.append(0, STREAM[1], id, None, fields)
            self.redis.serve()

    def top(self) -> tuple[int, int]:
        stream = self.redis.keys.get(STREAM)
        return stream.last if stream else (0, 0)

    def stranger_from_the_future(self) -> None:
        ms = self.redis.now() + self.dice.choice([5, 1000, 100_000_000])
        self.add((ms, self.dice.choice([0, 7, TOP - 2, TOP])))

    def ids_used_up(self) -> None:
        if not self.forgotten:
            self.add((TOP, TOP))
            self.gone = True  # this makes the script delete it

    def put_back_the_clock(self) -> None:
        self.redis.skew -= self.dice.choice([1, 20, 100_000])

    def trim(self) -> None:
        if not self.forgotten and (stream := self.redis.keys.get(STREAM)):
            del stream.entries[: self.dice.choice([1, 3, NODE])]
            self.gone = True

    def delete_stream(self) -> None:
        if not self.forgotten:
            self.redis.keys.pop(STREAM, None)
            self.gone = True

    def forget_numbers(self) -> None:
        if not (self.gone or self.reset or self.grown):
            self.forgotten = True
            for db, key in list(self.redis.keys):
                if b":" in key and not key.endswith(b":state"):
                    del self.redis.keys[db, key]

    def flush(self) -> None:
        self.redis.keys.clear()
        self.lose()

    def delete_state(self) -> None:
        self.redis.keys.pop((0, b"chat:{chat}:state"), None)
        self.lose()

    def lose(self) -> None:
        if not self.reset:
            self.reset = True
            self.there = [node for node in self.nodes if node.cluster.links.first.incoming.cursor]

    def start_again(self) -> None:
        self.restart()

    def keep(self) -> None:
        self.kept = [*self.kept[-2:], deepcopy(self.redis.keys)]

    def fall_back(self) -> None:
        """Another Redis takes over that was behind, or had an old file."""
        if self.kept:
            self.restart(deepcopy(self.dice.choice(self.kept)))
            self.lose()

    # What must be true.

    def check(self) -> None:
        streams = [Stream(node.listen()) for node in self.nodes]
        last = [(str(number), self.said[number] - 1) for number in range(len(self.nodes))]
        for node, stream in zip(self.nodes, streams):
            outgoing = node.cluster.links.first.outgoing
            assert not outgoing.entries and outgoing.size == 0, "something has not come back"
            assert not node.hub.pace.full
            assert node.task.outcome is None
            heard = stream.messages()
            assert len(set(heard)) == len(heard), "something was heard twice"
            assert heard[-len(last) :] == last, "not all have heard what was said at the end"
            for sender in {sender for sender, _ in heard}:
                numbers = [number for who, number in heard if who == sender]
                assert numbers == sorted(numbers), f"what {sender} said is out of order"
        if self.reset:
            self.check_broken(streams)
        else:
            self.check_whole(streams)

    def check_whole(self, streams: list[Stream]) -> None:
        """Redis knows what it had: there is one order, and every gap has its width."""
        order = [message for line in self.redis.written for message in Stream(line + b"\n").messages()]
        order = list(dict.fromkeys(order)) if self.forgotten else order
        assert len(order) == sum(self.said.values()), "something was not written, or twice"
        for stream in streams:
            assert all(stream.lost), "a loss without a number"
            assert self.gone or not stream.lost, "something was lost, but nothing had been removed"
            heard = stream.messages()
            at = len(order) - len(heard) - sum(filter(None, stream.lost))
            for slice, lost in zip(stream.slices, [*stream.lost, 0]):
                assert slice == order[at : at + len(slice)], "not a contiguous piece of the order"
                at += len(slice) + (lost or 0)
            assert at == len(order)

    def check_broken(self, streams: list[Stream]) -> None:
        """Of those that were there, all were told, but those that have missed nothing and heard all in its order.

        Whoever comes later may hear what others had heard before, when it is written again.
        """
        streams = [stream for node, stream in zip(self.nodes, streams) if node in self.there]
        for one in streams:
            for other in streams:
                if not one.lost:
                    self.check_together(one.messages(), other.messages())

    def check_together(self, whole: list[Message], other: list[Message]) -> None:
        """One that was told of no loss has missed nothing since it came, and all others have its order."""
        common = set(whole) & set(other)
        first = [message for message in whole if message in common]
        assert first == [message for message in other if message in common], "two orders, and one was not told"
        if whole:
            since: dict[str, int] = {}
            for sender, number in whole:
                since.setdefault(sender, number)
            heard = set(whole)
            for sender, number in since.items():
                for n in range(number, self.said[int(sender)]):
                    assert (sender, n) in heard, "something is missing, and nobody was told"


ACCIDENTS: list[Callable[[Accidents], None]] = [
    Accidents.nothing, Accidents.cut, Accidents.cut, Accidents.part_one, Accidents.come, Accidents.scripts,
    Accidents.stranger, Accidents.stranger_from_the_future, Accidents.ids_used_up, Accidents.put_back_the_clock,
    Accidents.trim, Accidents.delete_stream, Accidents.forget_numbers, Accidents.flush, Accidents.delete_state,
    Accidents.start_again, Accidents.keep, Accidents.fall_back,
]  # fmt: skip


def run(seed: int, show: bool = False) -> Accidents:
    """What is left when all is over; check() says whether it is as it must be."""
    world = Accidents(seed, show)
    world.happen(world.dice.choice([1, 2, 3, 5, 8]))
    return world


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cluster.accidents")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="show this one")
    options = parser.parse_args()
    if options.seed is not None:
        world = run(options.seed, show=True)
        for node in world.nodes:
            print(f"\n{node.cluster.node[:8]}: {node.listen().decode()!r}\n{node.told()}")
        world.check()
        return
    for seed in range(options.first, options.first + options.seeds):
        try:
            run(seed).check()
        except Exception as error:
            print(f"seed {seed}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
