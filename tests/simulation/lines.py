"""The nodes' lines to Redis, and what stands in for the module `socket` where nodes make them.

A line can break after any byte, in both directions, be slow, or be dead without a word.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from .redis import Session
from .world import ERR, HUP, IN, OUT, error, once

if TYPE_CHECKING:
    from collections.abc import Callable

    from .redis import FakeRedis
    from .world import World

LATENCY = 0.001  # seconds one way
TAKEN = 1000  # bytes that a send takes at most, so that what is left over is seen to as well


class Lines:
    """All lines. `hosts` says who answers at a name; what comes behind a dot in it is only who calls."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hosts: dict[str, FakeRedis] = {}
        self.all: list[Line] = []
        self.budgets: list[tuple[int | None, int | None]] = []  # for the lines to come
        self.latency = LATENCY
        self.late = 0.0  # seconds more until what was on its way when a line breaks is there
        self.speed = 0.0  # bytes a second to Redis, if that is not zero
        self.away: set[str] = set()  # who reaches nobody
        self.dialled = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)  # the constants

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> Line:
        return Line(self)

    def getaddrinfo(self, host: str, port: int, type: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(socket.AF_INET, type, 0, "", (host, port))]

    def of(self, caller: str) -> list[Line]:
        return [line for line in self.all if line.caller == caller]

    def part(self, caller: str) -> None:
        """Take all Redises out of this one's reach."""
        self.away.add(caller)
        for line in self.of(caller):
            line.cut()

    def cut_all(self) -> None:
        """Break all lines; what is on its way to Redis does not arrive."""
        for line in list(self.all):
            line.flying.clear()
            if line.session:
                line.session.close()
            line.cut()


class Line:
    """One connection. The node's end is the socket; the other is a Session.

    `budget` says after how many bytes it breaks: (to Redis, from Redis), None for never. What was on its way to Redis
    then still gets there.
    """

    always = False

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.world = lines.world
        self.fd = self.world.open(self, 10)
        self.name = f"line {self.fd}"
        self.caller = ""
        self.session: Session | None = None
        self.budget: list[int | None] = [None, None]
        self.flying: deque[bytes] = deque()  # to Redis
        self.coming: deque[bytes] = deque()  # from Redis
        self.inbox = bytearray()
        self.error = 0  # why it could not be made
        self.broken = self.closed = False
        self.silent = False  # nothing arrives any more, in either direction
        self.polite = False  # it breaks by an end of the stream
        self.sent = self.received = 0  # bytes
        self.busy_until = 0.0

    # The socket's face.

    def setblocking(self, flag: bool) -> None:
        pass

    def setsockopt(self, level: int, option: int, value: int) -> None:
        pass

    def getsockopt(self, level: int, option: int) -> int:
        return self.error

    def getsockname(self) -> tuple[str, int]:
        return "here", self.fd

    def fileno(self) -> int:
        return -1 if self.closed else self.fd

    def mask(self) -> int:
        if self.error or self.broken:
            return IN | OUT | (0 if self.polite else ERR | HUP)
        if not self.session:
            return 0
        return (IN if self.inbox else 0) | (OUT if self.roomy else 0)

    @property
    def roomy(self) -> bool:
        return not self.lines.speed or self.busy_until < self.world.now + 1

    def connect_ex(self, address: tuple[str, int]) -> int:
        if self.session or self.broken:
            return 0
        if self.caller:
            return errno.EALREADY  # asked again, after a false alarm
        host, _, self.caller = address[0].partition(".")
        self.lines.dialled += 1
        self.world.at(self.lines.latency, once(lambda: self.connect(host)))
        return errno.EINPROGRESS

    def connect(self, host: str) -> None:
        """The way is gone, and back."""
        redis = self.lines.hosts.get(host)
        if self.closed:
            return
        if redis is None or self.caller in self.lines.away:
            self.error = errno.ECONNREFUSED
            return
        if self.lines.budgets:
            self.budget = list(self.lines.budgets.pop(0))
        self.session = Session(redis, self.push)
        self.session.caller = self.caller
        self.lines.all.append(self)

    def send(self, data: bytes | memoryview) -> int:
        self.world.enter(None, meddling=False)
        if self.broken or self.closed:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        if not self.roomy:
            raise BlockingIOError(errno.EAGAIN, "again")
        size = self.world.part(min(TAKEN, len(data)))
        left = self.budget[0]
        if left is not None and left < self.sent + size:
            size = left - self.sent
            self.cut()
            if not size:
                raise error(errno.ECONNRESET)
        self.sent += size
        self.world.work += 1
        if self.silent:
            return size
        self.flying.append(bytes(data[:size]))
        if not self.broken:
            delay = self.lines.latency
            if self.lines.speed:
                self.busy_until = max(self.busy_until, self.world.now) + size / self.lines.speed
                delay += self.busy_until - self.world.now
            self.world.at(delay, once(self.deliver))
        return size

    def recv(self, most: int) -> bytes:
        self.world.enter(None, meddling=False)
        self.world.work += 1
        if self.inbox:
            data = bytes(self.inbox[:most])
            del self.inbox[:most]
            return data
        if self.broken:
            if self.polite:
                return b""
            raise error(errno.ECONNRESET)
        raise BlockingIOError(errno.EAGAIN, "again")

    def close(self) -> None:
        if not self.closed:
            self.cut()
            self.closed = True
            if self in self.lines.all:
                self.lines.all.remove(self)
            self.world.close(self.fd)

    # Redis's side.

    def push(self, data: bytes) -> None:
        """Redis answers."""
        self.coming.append(data)
        self.world.at(self.lines.latency, once(self.arrive))

    def arrive(self) -> None:
        data = self.coming.popleft()
        left = self.budget[1]
        if self.broken or self.silent:
            return
        if left is not None and left < self.received + len(data):
            data = data[: left - self.received]
            self.cut()
        self.received += len(data)
        self.inbox += data

    def deliver(self) -> None:
        """Redis gets what was sent first."""
        if self.flying and not self.broken and self.session:
            self.session.feed(self.flying.popleft())

    def cut(self) -> None:
        """The node will find it broken. Redis gets what is on its way, and then finds it broken, too."""
        if not self.broken:
            self.broken = True
            self.world.at(LATENCY + self.lines.late, once(self.end))

    def end(self) -> None:
        if self.session:
            self.session.feed(b"".join(self.flying))
            self.session.close()
        self.flying.clear()


def later(world: World) -> Callable[[float, Callable[[], None]], None]:
    """What a FakeRedis needs of the world."""
    return lambda seconds, action: world.at(seconds, once(action))
