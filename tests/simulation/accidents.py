"""What goes wrong between the nodes and Redis, and in it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

from .redis import NODE, TOP
from .world import once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .redis import FakeRedis, Id
    from .run import Run
    from .shared import Shared
    from .world import World


class Accidents:
    """A seed's share of them."""

    def __init__(self, run: Run, shared: Shared) -> None:
        self.run = run
        self.world: World = run.world
        self.shared = shared
        self.lines = shared.lines
        self.kept: list[dict[tuple[int, bytes], Any]] = []

    def happen(self) -> Iterator[float]:
        """Steps for World.at."""
        world, pick = self.world, self.world.pick
        graver = pick(PASSING, REMOVING, REMOVING, FORGETTING, [Accidents.numbers_are_forgotten])
        kinds = [*(pick(*PASSING) for _ in range(4)), *(pick(*graver) for _ in range(4))]
        longest = pick(0.001, 0.05, 0.4, 6)
        for _ in range(pick(0, 2, 4, 8, 16)):
            yield pick(0, 0.01, 0.1, 1) * world.chance() * longest
            accident = pick(*kinds)
            name = accident.__name__.replace("_", " ")
            if world.history is not None:
                world.note(f"accident: {name}")
            if accident(self) is None:
                world.hit(f"accident: {name}")
        self.shared.over = True

    def mend(self) -> None:
        """Redis is well and within everybody's reach."""
        self.lines.away.clear()
        self.lines.speed = 0
        self.lines.latency = min(self.lines.latency, 0.02)
        self.shared.redis.refuse = ""
        if self.shared.sentinels:
            for number, sentinel in enumerate(self.shared.sentinels):
                self.lines.hosts[f"sentinel{number}"] = sentinel
                self.tell(sentinel)
        for line in self.lines.all:
            if line.silent:
                line.cut()

    # The lines.

    def cut_a_line(self) -> object:
        if not self.lines.all:
            return False
        line = self.world.pick(*self.lines.all)
        self.lines.late = self.world.pick(0, 0.002, 0.3)
        line.polite = self.world.chance() < 0.3
        line.cut()
        return None

    def cut_a_line_at_a_byte(self) -> object:
        if not self.lines.all:
            return False
        line, way = self.world.pick(*self.lines.all), self.world.pick(0, 1)
        line.budget[way] = (line.received if way else line.sent) + self.world.below(300)
        return None

    def silence_a_line(self) -> object:
        if not self.lines.all:
            return False
        self.world.pick(*self.lines.all).silent = True
        return None

    def part_or_mend_a_node(self) -> None:
        name = f"{self.world.pick(*self.run.nodes).number}"
        if name in self.lines.away:
            self.lines.away.discard(name)
        else:
            self.lines.part(name)

    def slow_the_lines(self) -> None:
        self.lines.latency = self.world.pick(0.0005, 0.02, 0.3, 1.0)

    # Nodes.

    def another_node_comes(self) -> object:
        if len(self.run.nodes) > 4 or self.shared.forgotten or self.run.ended:
            return False
        self.run.ring(self.run.add_node)
        return None

    def a_node_stops(self) -> None:
        self.run.ring(self.world.pick(*self.run.nodes).stop)

    # Redis.

    def redis_refuses(self) -> None:
        self.shared.redis.refuse = self.world.pick(
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "LOADING Redis is loading the dataset in memory",
        )
        self.world.at(self.world.pick(0.01, 1.0, 20.0), once(self.take_again))

    def take_again(self) -> None:
        self.shared.redis.refuse = ""

    def scripts_are_flushed(self) -> None:
        self.shared.redis.scripts.clear()

    def a_stranger_writes(self) -> object:
        return self.write(None)

    def a_stranger_from_the_future_writes(self) -> object:
        ms = self.shared.redis.now() + self.world.pick(5, 1000, 100_000_000)
        return self.write((ms, self.world.pick(0, 7, TOP - 2, TOP)))

    def the_ids_are_used_up(self) -> object:
        if self.shared.forgotten:
            return False
        self.shared.gone = True  # this makes the script delete it
        return self.write((TOP, TOP))

    def write(self, id: Id | None) -> object:
        name = self.stream()
        fields = self.world.pick(
            [b"text", b"hi\n"], [b"epoch", b"x"], [b"epoch", b"e", b"end", b"1", b"text", b"a"],
        )  # fmt: skip
        if name is None or (id or (TOP, TOP)) <= self.shared.redis.keys[0, name].last:
            return False
        if self.shared.redis.keys[0, name].last == (TOP, TOP):
            return False
        self.shared.redis.append(0, name, id, None, fields)
        self.shared.redis.serve()
        return None

    def stream(self) -> bytes | None:
        """One of them."""
        names = [key for _, key in self.shared.redis.keys if b"{" not in key]
        return self.world.pick(*names) if names else None

    def the_clock_is_put_back(self) -> None:
        self.shared.redis.skew -= self.world.pick(1, 20, 100_000)

    def a_stream_is_trimmed(self) -> object:
        name = self.stream()
        if name is None or self.shared.forgotten:
            return False
        del self.shared.redis.keys[0, name].entries[: self.world.pick(1, 3, NODE, NODE)]
        self.shared.gone = True
        return None

    def a_stream_is_deleted(self) -> object:
        name = self.stream()
        if name is None or self.shared.forgotten:
            return False
        del self.shared.redis.keys[0, name]
        self.shared.gone = True
        return None

    def numbers_are_forgotten(self) -> object:
        if self.shared.gone or self.shared.reset:
            return False
        self.shared.forgotten = True
        following = self.following()
        for track in self.shared.tracks:
            track.early = track in following
        for key in [key for key in self.shared.redis.keys if b":{" in key[1] and not key[1].endswith(b":state")]:
            del self.shared.redis.keys[key]
        return None

    def everything_is_flushed(self) -> None:
        self.shared.redis.keys.clear()
        self.lose()

    def a_state_is_deleted(self) -> object:
        states = [key for key in self.shared.redis.keys if key[1].endswith(b":state")]
        if not states:
            return False
        del self.shared.redis.keys[self.world.pick(*states)]
        self.lose()
        return None

    def following(self) -> list[Any]:
        """The tracks of streams whose place is known."""
        clusters: list[Any] = [node.server.hub.cluster for node in self.run.nodes]
        return [link.track for cluster in clusters for link in cluster.links.all() if link.looked]

    def lose(self) -> None:
        if not self.shared.reset:
            self.shared.reset = True
            following = self.following()
            for track in self.shared.tracks:
                track.there = track in following

    def redis_starts_again(self) -> None:
        self.shared.redis.run += 1
        self.lines.cut_all()

    def a_file_is_kept(self) -> None:
        self.kept = [*self.kept[-2:], deepcopy(self.shared.redis.keys)]

    def redis_falls_back(self) -> object:
        """It starts again with an old file."""
        if not self.kept:
            return False
        self.redis_starts_again()
        self.shared.redis.keys = deepcopy(self.world.pick(*self.kept))
        self.lose()
        return None

    def another_master(self, behind: bool = False) -> object:
        """A copy takes over. The Sentinels know at once, or some time later."""
        shared, world = self.shared, self.world
        if not shared.sentinels or (behind and not self.kept):
            return False
        old = shared.redis
        new = shared.another(old.run + 100)
        new.keys = deepcopy(world.pick(*self.kept)) if behind else deepcopy(old.keys)
        new.written, new.orders = old.written, old.orders
        name = f"copy{new.run}"
        shared.redis = self.lines.hosts[name] = new
        old.role = "slave"
        if world.chance() < 0.5:
            for host in [host for host, redis in self.lines.hosts.items() if redis is old]:
                del self.lines.hosts[host]
        self.lines.cut_all()
        for sentinel in shared.sentinels:
            world.at(world.pick(0, 0.01, 1.0, 8.0), once(partial(self.tell, sentinel)))
        if world.chance() < 0.3:
            self.lines.hosts.pop("sentinel0", None)
        if behind:
            self.lose()
        return None

    def tell(self, sentinel: FakeRedis) -> None:
        """Which the master is by now: news that comes late never takes a Sentinel back to an earlier one."""
        sentinel.master = next(name for name, redis in self.lines.hosts.items() if redis is self.shared.redis)

    def another_master_falls_back(self) -> object:
        """The copy was behind."""
        return self.another_master(behind=True)


Accident = Callable[[Accidents], object]
PASSING: list[Accident] = [
    Accidents.cut_a_line, Accidents.cut_a_line_at_a_byte, Accidents.silence_a_line, Accidents.part_or_mend_a_node,
    Accidents.part_or_mend_a_node, Accidents.slow_the_lines, Accidents.another_node_comes, Accidents.a_node_stops,
    Accidents.redis_refuses, Accidents.scripts_are_flushed, Accidents.a_stranger_writes,
    Accidents.a_stranger_from_the_future_writes, Accidents.the_clock_is_put_back, Accidents.redis_starts_again,
    Accidents.another_master,
]  # fmt: skip
REMOVING: list[Accident] = [
    Accidents.a_stream_is_trimmed, Accidents.a_stream_is_trimmed, Accidents.a_stream_is_deleted,
    Accidents.the_ids_are_used_up, Accidents.part_or_mend_a_node,
]  # fmt: skip
FORGETTING: list[Accident] = [
    Accidents.everything_is_flushed, Accidents.a_state_is_deleted, Accidents.a_file_is_kept, Accidents.a_file_is_kept,
    Accidents.redis_falls_back, Accidents.another_master_falls_back,
]  # fmt: skip
