"""A world in which nodes run without a network: its clock, its poller, its sockets, and a false Redis behind them.

It is the same every time. Connections can be cut after any byte, in both directions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

from chat.server.cluster.address import Address
from chat.server.cluster.node import Cluster
from chat.server.flags import Options
from chat.server.journal import Journal
from chat.server.member import APART, Member
from chat.server.outbox import Outbox
from chat.server.room import Hub, Room
from chat.server.sending import spread
from cluster.fake import FakeRedis, Session
from loop import Kernel, sleep
from loop.poller import READ, WRITE

if TYPE_CHECKING:
    from loop import Task
    from loop.traps import Coroutine

LATENCY = 0.001  # seconds one way
YEAR_2025 = 1735689600.0  # when time begins: Redis's ids have it in them


class Wire:
    """One connection. The node's end is the socket; the other is a Session.

    `budget` says after how many bytes it breaks: (to Redis, from Redis), None for never. What was on its way to Redis
    then still gets there, `late` seconds later.
    """

    def __init__(self, world: World, budget: tuple[int | None, int | None], late: float) -> None:
        self.world = world
        self.number = next(world.numbers)
        self.budget = list(budget)
        self.late = late
        self.flying: deque[bytes] = deque()  # to Redis
        self.inbox = bytearray()
        self.broken = False
        self.closed = False
        self.sent = 0  # bytes to Redis
        self.received = 0
        self.session = Session(world.redis, self.push)

    # The socket's side.

    def fileno(self) -> int:
        return -1 if self.closed else self.number

    def send(self, data: bytes | memoryview) -> int:
        if self.broken or self.closed:
            raise BrokenPipeError(32, "Broken pipe")
        data = bytes(data[:1000])  # never all at once, so that what is left over is seen to as well
        left = self.budget[0]
        if left is not None and left < self.sent + len(data):
            data = data[: left - self.sent]
            self.cut()
            if not data:
                raise ConnectionResetError(104, "Connection reset by peer")
        self.sent += len(data)
        self.flying.append(data)
        if not self.broken:
            self.world.after(LATENCY, self.deliver)
        return len(data)

    def recv(self, most: int) -> bytes:
        if self.inbox:
            data = bytes(self.inbox[:most])
            del self.inbox[:most]
            return data
        if self.broken:
            raise ConnectionResetError(104, "Connection reset by peer")
        raise BlockingIOError

    def close(self) -> None:
        if not self.closed:
            self.cut()
            self.closed = True
            self.world.wires.remove(self)

    # Redis's side.

    def push(self, data: bytes) -> None:
        """Redis answers."""
        self.world.after(LATENCY, lambda: self.arrive(data))

    def arrive(self, data: bytes) -> None:
        left = self.budget[1]
        if self.broken:
            return
        if left is not None and left < self.received + len(data):
            data = data[: left - self.received]
            self.cut()
        self.received += len(data)
        self.inbox += data

    def deliver(self) -> None:
        """Redis gets what was sent first."""
        if self.flying and not self.broken:
            self.session.feed(self.flying.popleft())

    def cut(self) -> None:
        """The node will find it broken. Redis gets what is on its way, and then finds it broken, too."""
        if not self.broken:
            self.broken = True
            self.world.after(LATENCY + self.late, self.end)

    def end(self) -> None:
        self.session.feed(b"".join(self.flying))
        self.flying.clear()
        self.session.close()

    def ready(self) -> int:
        return WRITE | (READ if self.inbox or self.broken else 0)


class World:
    """Poller, clock and network."""

    def __init__(self, redis: FakeRedis | None = None) -> None:
        self.now = YEAR_2025
        self.redis = redis or FakeRedis(lambda: self.now)
        self.redis.clock = lambda: self.now
        self.numbers = count(10)
        self.serial = count()
        self.wires: list[Wire] = []
        self.armed: dict[int, int] = {}
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.kernel = Kernel(self, lambda: self.now)
        self.budgets: list[tuple[int | None, int | None]] = []  # for the wires to come
        self.late = 0.0
        self.dialled = 0
        self.nodes: list[Node] = []

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        heappush(self.events, (self.now + seconds, next(self.serial), what))

    def wire(self) -> Wire:
        """A new connection."""
        self.wires.append(Wire(self, self.budgets.pop(0) if self.budgets else (None, None), self.late))
        return self.wires[-1]

    # The poller.

    def arm(self, fd: int, want: int) -> None:
        self.armed[fd] = want

    def forget(self, fd: int) -> None:
        self.armed.pop(fd, None)

    def close(self) -> None:
        pass

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        end = None if timeout is None else self.now + timeout
        while True:
            while self.events and self.events[0][0] <= self.now:
                heappop(self.events)[2]()
            self.redis.tick()
            found = []
            for wire in self.wires:
                if got := wire.ready() & self.armed.get(wire.number, 0):
                    self.armed[wire.number] = 0
                    found.append((wire.number, got))
            if found or self.now == end:
                return found
            ahead = [moment for moment in (self.events[0][0] if self.events else None, self.redis.next_tick(), end)
                     if moment is not None]  # fmt: skip
            assert ahead, "nothing will ever happen here again"
            self.now = max(self.now, min(ahead))

    # Nodes.

    def node(self, url: str = "redis://there") -> Node:
        self.nodes.append(Node(self, url))
        return self.nodes[-1]

    def part(self) -> None:
        """Take Redis out of everybody's reach."""
        for node in self.nodes:
            node.part()

    def mend(self) -> None:
        for node in self.nodes:
            node.reachable = True

    def restart(self, keys: dict[tuple[int, bytes], Any] | None = None) -> None:
        """Another Redis takes over, at once, with what was in the old one or with these keys. Nothing else arrives."""
        self.redis.run += 1
        if keys is not None:
            self.redis.keys = keys
        for wire in list(self.wires):
            wire.flying.clear()
            wire.session.close()
            wire.cut()

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.kernel.run(until=self.kernel.spawn(sleep(seconds), "time"))


class Ear:
    """A member, as far as rooms and the cluster know one: it hears what a real one would be sent."""

    def __init__(self, node: Node, name: str) -> None:
        self.hub = node.hub
        self.name = name
        self.prefix = f"{name}: "
        self.kicked = False
        self.sending = APART
        self.room: Room | None = None
        self.outbox = Outbox(node.hub.nowhere.feed)
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
        self.depart()
        self.outbox.close(f"* You are disconnected: {reason}.\n".encode())

    def say(self, *messages: str, but: tuple[Ear, ...] = ()) -> None:
        assert self.room
        self.room.publish(self, messages, but)

    def hears(self) -> list[str]:
        """Everything so far, a line each."""
        if self.outbox.feed:
            self.outbox.feed.seal()
        self.heard += self.outbox.take(1 << 40)
        return self.heard.decode().splitlines()


class Node:
    """A room in a cluster, and a reader of its whole feed."""

    def __init__(self, world: World, url: str) -> None:
        self.world = world
        self.journal = Journal(None)  # type: ignore[arg-type]  # nobody writes it
        self.hub = Hub(world.kernel, Options(), self.journal)
        self.room = self.hub.first
        self.reachable = True
        self.cluster = Cluster(world.kernel, self.hub, Address(url), self.dial)
        self.hub.cluster = self.cluster
        self.ear = Outbox(self.room.feed)
        self.heard = bytearray()
        self.task: Task = world.kernel.spawn(self.cluster.run(), "node")
        world.kernel.spawn(spread(self.hub), "spread")

    def dial(self, kernel: Kernel, address: Address) -> Coroutine[Any]:
        """COROUTINE. The cluster's way to Redis."""
        self.world.dialled += 1
        yield from sleep(LATENCY)
        if not self.reachable:
            raise ConnectionRefusedError(111, "Connection refused")
        return self.world.wire()

    def wires(self) -> list[Any]:
        """The connection that follows and the one that writes."""
        session = self.cluster.session
        return [connection.socket for connection in session.connections] if session else []

    def member(self, name: str, room: str = "") -> Ear:
        """Somebody in this room; without a name, the first one."""
        member = Ear(self, name)
        member.enter(self.room.other(room) if room else self.room)
        return member

    def part(self) -> None:
        """Take Redis out of its reach."""
        self.reachable = False
        for wire in self.wires():
            wire.cut()

    def say(self, *messages: str) -> None:
        self.room.submit(None, "somebody", b"", messages, ())

    def listen(self) -> bytes:
        """Everything so far."""
        self.room.feed.seal()
        self.heard += self.ear.take(1 << 40)
        return bytes(self.heard)

    def told(self) -> str:
        """What its journal says of the cluster."""
        return "".join(line.decode() for line, _ in self.journal.waiting if line.startswith(b"cluster "))
