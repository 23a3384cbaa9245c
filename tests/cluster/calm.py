"""Nodes in a simulated world in which only that goes wrong which a test says, and only those act which it names.

It is the same every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulation.lines import Line, Lines, later
from simulation.redis import FakeRedis
from simulation.systems import Direct
from simulation.world import World

from chat.server.cluster.address import Address
from chat.server.cluster.node import Cluster
from chat.server.cluster.wire import TIMEOUT
from chat.server.flags import Options
from chat.server.journal import Journal
from chat.server.member import APART, Member
from chat.server.outbox import Outbox
from chat.server.room import Hub, Room
from chat.server.sending import spread
from loop import Kernel, connect, sleep

if TYPE_CHECKING:
    from loop import Task
    from loop.traps import Coroutine

YEAR_2025 = 1735689600.0  # Redis's ids have the time in them


class CalmWorld(World):
    """A world without chance."""

    def __init__(self) -> None:
        super().__init__(0, calm=True)
        self.system = self.poller = Direct(self)
        self.kernel = Kernel(self.poller, self.clock)
        self.lines = Lines(self)
        self.redis = FakeRedis(lambda: YEAR_2025 + self.now, later(self))
        self.lines.hosts["redis"] = self.redis
        self.nodes: list[CalmNode] = []

    def node(self) -> CalmNode:
        self.nodes.append(CalmNode(self, len(self.nodes)))
        return self.nodes[-1]

    def part_all(self) -> None:
        """Take Redis out of everybody's reach."""
        for node in self.nodes:
            node.part()

    def mend_all(self) -> None:
        self.lines.away.clear()

    def restart(self, keys: dict[tuple[int, bytes], Any] | None = None) -> None:
        """Another Redis takes over, at once, with what was in the old one or with these keys. Nothing else arrives."""
        self.redis.run += 1
        if keys is not None:
            self.redis.keys = keys
        self.lines.cut_all()

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.kernel.run(until=self.kernel.spawn(sleep(seconds), "time"))


class CalmMember:
    """A member, as far as rooms and the cluster know one: it hears what a real one would be sent."""

    def __init__(self, node: CalmNode, name: str) -> None:
        self.hub = node.hub
        self.name = name
        self.prefix = f"{name}: "
        self.kicked = False
        self.reason = ""
        self.handled = False
        self.sending = APART
        self.room: Room | None = None
        self.room_or_nowhere = node.hub.nowhere
        self.outbox = Outbox(self.room_or_nowhere.feed)
        self.heard = bytearray()

    enter: Any = Member.enter
    tell: Any = Member.tell
    queue: Any = Member.queue
    depart: Any = Member.depart

    def stand_apart(self) -> None:
        pass

    def kick_if_behind(self) -> None:
        pass

    def kick(self, reason: str) -> None:
        self.kicked = True
        self.reason = reason
        self.depart()
        self.outbox.close(f"* You are disconnected: {reason}.\n".encode())

    def acknowledged(self) -> int:
        return 0

    def say(self, *messages: str, but: tuple[CalmMember, ...] = ()) -> None:
        assert self.room
        self.room.publish(self, messages, but)

    def has_heard(self) -> list[str]:
        """Everything so far, a line each."""
        if self.outbox.feed:
            self.outbox.feed.seal()
        self.heard += self.outbox.take(1 << 40)
        return self.heard.decode().splitlines()


class CalmNode:
    """A room in a cluster, and a reader of its whole feed."""

    def __init__(self, world: CalmWorld, number: int) -> None:
        self.world = world
        self.number = f"{number}"
        self.journal = Journal(None)  # type: ignore[arg-type]  # nobody writes it
        self.hub = Hub(world.kernel, Options(), self.journal)
        self.room = self.hub.first
        self.cluster = Cluster(world.kernel, self.hub, Address("redis://there"), self.dial)
        self.hub.cluster = self.cluster
        self.ear = Outbox(self.room.feed)
        self.heard = bytearray()
        self.task: Task = world.kernel.spawn(self.cluster.run(), "node")
        world.kernel.spawn(spread(self.hub), "spread")

    def dial(self, kernel: Kernel, address: Address) -> Coroutine[Any]:
        """COROUTINE. The cluster's way to Redis."""
        line = self.world.lines.socket()
        try:
            yield from connect(line, (f"redis.{self.number}", 6379), TIMEOUT)  # type: ignore[arg-type]
        except OSError:
            kernel.close(line)
            raise
        return line

    def lines(self) -> list[Line]:
        """The one that follows and the one that writes."""
        return self.world.lines.of(self.number)

    def member(self, name: str, room: str = "") -> CalmMember:
        """Somebody in this room; without a name, the first one."""
        member = CalmMember(self, name)
        member.enter(self.room.other(room) if room else self.room)
        return member

    def part(self) -> None:
        """Take Redis out of its reach."""
        self.world.lines.part(self.number)

    def mend(self) -> None:
        self.world.lines.away.discard(self.number)

    def say(self, *messages: str) -> None:
        self.room.submit(None, "somebody", b"", messages, ())

    def listen(self) -> bytes:
        """Everything so far."""
        self.room.feed.seal()
        self.heard += self.ear.take(1 << 40)
        return bytes(self.heard)

    def told(self) -> str:
        """What its journal says of the cluster."""
        return "".join(
            line.decode() for lines, _ in self.journal.waiting for line in lines if line.startswith(b"cluster ")
        )
