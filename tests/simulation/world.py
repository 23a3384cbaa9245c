"""Time, descriptors and readiness, as one seed wants them.

The pollers of loop/poller.py run unchanged on stand-ins for the three systems they know (`Epoll`, `Kqueue`, `Select`).
Waiting takes no time: when nothing is ready, the clock moves to what comes next, which is a step of a client or the end
of the poller's patience.
"""

from __future__ import annotations

import random
import stat
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loop import Kernel
    from loop.poller import Poller

    from .clients import Client
    from .network import Bell, Listener, Output, Stderr

IN, OUT, ERR, HUP, ONESHOT = 1, 4, 8, 16, 1 << 30  # as in <sys/epoll.h>
FOREVER = float("inf")
STEPS = 20_000  # system calls between two polls, after which the server is taken to be caught in a loop


class Failure(BaseException):
    """Something is true that never should be. A BaseException, so that no server code takes it for its own."""


class File(Protocol):
    """What stands behind a descriptor."""

    always: bool  # a regular file: ready whenever asked, and refused by epoll

    def mask(self) -> int: ...


class World:
    """Everything outside the server. Rates are probabilities; which of them are zero, the seed decides too.

    Runs differ more if each has only some of the faults, and much of those, than if all have a little of all.
    """

    def __init__(self, seed: int, history: list[str] | None = None) -> None:
        self.random = random.Random(seed)
        self.chance = self.random.random
        self.history = history
        self.now = 1000.0
        self.hits: dict[str, int] = {}
        self.files: dict[int, File] = {}
        self.used: set[int] = set()  # numbers of descriptors that were given out before
        self.agenda: list[tuple[float, int, Iterator[float]]] = []
        self.serial = count()
        self.clients: list[Client] = []
        self.backend: Backend
        self.kernel: Kernel
        self.poller: Poller
        self.listeners: list[Listener] = []
        self.stdout: Output
        self.stderr: Stderr
        self.bell: Bell
        self.order = bytearray()  # all that was ever laid into the feed
        self.turns = 0
        self.work = 0  # what happened; a server that turns much oftener than this is spinning
        self.calls = 0  # system calls since the last poll
        self.leaps = 0
        self.idle: Callable[[], None] = lambda: None  # called when the server has nothing to do
        self.stuck: Callable[[], bool]  # called when nothing will ever happen again: whether that was to be expected
        self.meddle: Callable[[Client | None], None]
        self.tell: Callable[[], None]
        pick = self.pick
        self.spurious = pick(0, 0, 0.02, 0.3)  # readiness without cause
        self.alarms = 50  # how often yet: more of the same finds nothing new
        self.balk = pick(0, 0, 0.05, 0.5)  # a call that would block after all
        self.hold = pick(0, 0, 0.1, 0.6)  # readiness that is told later
        self.short = pick(0, 0.1, 0.5, 0.95)  # a call that takes or gives less than it could
        self.pace = pick(0.3, 0.6, 0.9)  # how much happens between two polls
        self.race = pick(0, 0, 0.02, 0.2)  # things that happen between two system calls
        self.leap = pick(0, 0, 0, 0, 0.01, 0.1)  # a clock that jumps, as after a suspended laptop
        self.bare = pick(0, 0.5, 1)  # a hang-up without IN and OUT
        self.telling = 0.0  # a line for one member alone, between two system calls
        self.meddling = 0.0  # a member kicked or a task cancelled between two system calls

    # Chance.

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.chance() * len(choices))]

    def below(self, number: int) -> int:
        """A whole number from 0 to number - 1."""
        return int(self.chance() * number)

    def part(self, most: int) -> int:
        """How much of `most` bytes, at least one, a system call takes."""
        if most > 1 and self.chance() < self.short:
            return 1 + min(self.below(most), self.below(most))
        return most

    def count(self, fault: str) -> None:
        """Count a fault that has really occurred."""
        self.hits[fault] = self.hits.get(fault, 0) + 1

    def hit(self, fault: str) -> None:
        """The same for one that is also work: the server may need another turn because of it."""
        self.count(fault)
        self.work += 1

    def note(self, what: str) -> None:
        """A line of history. Callers ask whether there is one first: making the line costs more than the rest."""
        assert self.history is not None
        self.history.append(f"{self.now - 1000:11.4f}  {what}")

    # Time and descriptors.

    def clock(self) -> float:
        return self.now

    def at(self, delay: float, steps: Iterator[float]) -> None:
        """Take a step of `steps` in `delay` seconds, and the next after as many seconds as it yields."""
        heappush(self.agenda, (self.now + delay, next(self.serial), steps))

    def step(self) -> None:
        moment, _, steps = heappop(self.agenda)
        self.now = max(self.now, moment)
        self.work += 1
        delay = next(steps, None)
        if delay is not None:
            self.at(delay, steps)

    def open(self, file: File, lowest: int = 3) -> int:
        """The lowest free number, as the system does it: the number of a closed socket is used again at once."""
        fd = lowest
        while fd in self.files:
            fd += 1
        self.files[fd] = file
        if fd in self.used:
            self.count("descriptor number used again")
        self.used.add(fd)
        return fd

    def close(self, fd: int) -> None:
        del self.files[fd]
        self.work += 1
        if self.backend.holds(fd):
            raise Failure(f"descriptor {fd} was closed while the poller still knew it")

    def enter(self, client: Client | None = None, meddling: bool = True) -> None:
        """At each system call, on a socket of `client` if it is one: others act meanwhile.

        No `meddling` with members in a send: spread() goes from one to the next, and there nothing else runs.
        """
        self.calls += 1
        if self.calls > STEPS:
            raise Failure("the server makes one system call after the other and does not come back to the poller")
        if self.chance() < self.race and self.agenda and self.agenda[0][0] <= self.now + 0.01:
            self.hit("something happened between two system calls")
            self.step()
        if meddling and self.meddling and self.chance() < self.meddling:
            self.meddle(client)
        if meddling and self.telling and self.chance() < self.telling:
            self.tell()

    # Readiness.

    def wait(self, armed: dict[int, int], timeout: float | None) -> list[tuple[int, int]]:
        """What is ready of `armed` (what is wanted of each descriptor), after at most `timeout` seconds."""
        self.turns += 1
        self.calls = 0
        if self.turns > 100 + 10 * self.work:
            raise Failure(f"the server spins: {self.turns} turns for {self.work} things that happened")
        chance = self.chance
        while self.agenda and self.agenda[0][0] <= self.now and chance() < self.pace:
            self.step()
        for client in self.clients:
            if client.reading and client.connected and chance() < 0.7:
                client.read()
        leaped = self.leap and self.leaps < 5 and chance() < self.leap
        if leaped:
            self.jump()
        found = self.look(armed)
        if found or timeout == 0 or (leaped and timeout is not None):
            return found
        until = FOREVER if timeout is None else self.now + timeout
        while True:
            for client in self.clients:
                if client.reading and client.connected:
                    client.read(everything=True)
            found = self.look(armed)
            if found:
                return found
            self.work += 1  # time passes: waiting is no spinning
            if not self.agenda or self.agenda[0][0] > self.now:
                self.idle()
            if self.agenda and self.agenda[0][0] <= until:
                self.step()
            elif until < FOREVER:
                self.now = max(self.now, until)
                return self.look(armed)
            elif not self.stuck():
                raise Failure(f"stuck: nothing can happen any more, and these wait: {list(self.kernel.tasks)}")

    def look(self, armed: dict[int, int]) -> list[tuple[int, int]]:
        chance = self.chance
        found = []
        held = None
        for fd, want in armed.items():
            mask = self.files[fd].mask() & (want | ERR | HUP)
            if mask:
                if mask & HUP and chance() < self.bare:
                    self.count("hang-up without IN or OUT")
                    mask &= ERR | HUP
                if chance() < self.hold:
                    held = (fd, mask)
                else:
                    found.append((fd, mask))
            elif self.spurious and chance() < self.spurious and want & (IN | OUT) and self.alarms:
                self.alarms -= 1
                self.hit("readiness without cause")
                found.append((fd, want & (IN | OUT)))
        if held is not None:
            if found:
                self.count("readiness told later")
            else:
                found.append(held)
        if len(found) > 1 and chance() < 0.7:
            self.random.shuffle(found)
            self.count("readiness in any order")
        return found

    def jump(self) -> None:
        """Hours pass between two turns."""
        far = self.pick(1.0, 10.0, 100.0, 10000.0)
        self.now += far
        self.leaps += 1
        self.hit("clock leaped")
        due = sum(timer[0] <= self.now and timer[2].timer is timer for timer in self.kernel.timers)
        if due > 1:
            self.hit("timers all at once")
        if self.history is not None:
            self.note(f"the clock leaps {far:g} s")


def once(action: Callable[[], None]) -> Iterator[float]:
    """Steps for World.at: just this one."""
    action()
    yield from ()


# The systems under the pollers: just enough of the `select` module for each of them.


class Files:
    """Just enough of the `os` module for the pollers: what kind of file a descriptor is."""

    def __init__(self, world: World) -> None:
        self.world = world

    def fstat(self, fd: int) -> Files:
        self.st_mode = stat.S_IFREG if self.world.files[fd].always else stat.S_IFSOCK
        return self


class Backend(Protocol):
    def holds(self, fd: int) -> bool:
        """Whether it still knows the descriptor."""


class Epoll:
    """Known descriptors stay known until they are unregistered; one-shot, so most are not armed. ERR and HUP cannot be
    masked: they are also told to those who want nothing, but once.
    """

    EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLONESHOT = IN, OUT, ERR, HUP, ONESHOT

    def __init__(self, world: World) -> None:
        self.world = world
        self.known: dict[int, None] = {}
        self.armed: dict[int, int] = {}

    def epoll(self) -> Epoll:
        return self

    def register(self, fd: int, wanted: int) -> None:
        if self.world.files[fd].always:
            raise PermissionError(1, "Operation not permitted")
        if fd in self.known:
            raise FileExistsError(17, "File exists")
        self.known[fd] = None
        self.modify(fd, wanted)

    def modify(self, fd: int, wanted: int) -> None:
        if self.world.files[fd].always:
            raise PermissionError(1, "Operation not permitted")
        if fd not in self.known:
            raise FileNotFoundError(2, "No such file or directory")
        if not wanted & ONESHOT:
            raise Failure(f"descriptor {fd} is armed for more than once")
        self.armed[fd] = wanted & (IN | OUT)

    def unregister(self, fd: int) -> None:
        if fd not in self.known:
            raise FileNotFoundError(2, "No such file or directory")
        del self.known[fd]
        self.armed.pop(fd, None)

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        found = self.world.wait(self.armed, None if timeout < 0 else timeout)
        for fd, _ in found:
            del self.armed[fd]
        return found

    def holds(self, fd: int) -> bool:
        return fd in self.known

    def close(self) -> None:
        self.known.clear()
        self.armed.clear()


class Event(NamedTuple):
    ident: int
    filter: int
    flags: int


class Kqueue:
    """Two filters a descriptor, each armed and told by itself, and gone once it was told."""

    KQ_FILTER_READ, KQ_FILTER_WRITE = -1, -2
    KQ_EV_ADD, KQ_EV_DELETE, KQ_EV_ONESHOT = 1, 2, 16
    kevent = Event

    def __init__(self, world: World) -> None:
        self.world = world
        self.armed: dict[int, int] = {}

    def kqueue(self) -> Kqueue:
        return self

    def control(self, changes: list[Event] | None, most: int, timeout: float | None = 0) -> list[Event]:
        for fd, filter, flags in changes or []:
            bit = IN if filter == -1 else OUT
            if flags & self.KQ_EV_ADD:
                if not flags & self.KQ_EV_ONESHOT:
                    raise Failure(f"descriptor {fd} is armed for more than once")
                self.armed[fd] = self.armed.get(fd, 0) | bit
            elif self.armed.get(fd, 0) & bit:
                self.fire(fd, bit)
            else:
                raise FileNotFoundError(2, "No such file or directory")
        told = []
        for fd, mask in self.world.wait(self.armed, timeout) if most else []:
            for filter, bit in ((-1, IN), (-2, OUT)):
                if self.armed.get(fd, 0) & bit and mask & (bit | ERR | HUP):
                    self.fire(fd, bit)
                    told.append(Event(fd, filter, 0))
        return told

    def fire(self, fd: int, bit: int) -> None:
        self.armed[fd] &= ~bit
        if not self.armed[fd]:
            del self.armed[fd]

    def holds(self, fd: int) -> bool:
        return fd in self.armed

    def close(self) -> None:
        self.armed.clear()


class Select:
    """Knows nothing between two calls; what is armed is the poller's own book."""

    def __init__(self, world: World) -> None:
        self.world = world

    def select(
        self, readers: list[int], writers: list[int], failing: list[int], timeout: float | None
    ) -> tuple[list[int], list[int], list[int]]:
        wanted = dict.fromkeys(readers, IN)
        for fd in writers:
            wanted[fd] = wanted.get(fd, 0) | OUT
        readable, writable = [], []
        for fd, mask in self.world.wait(wanted, timeout):
            if wanted[fd] & IN and mask & (IN | ERR | HUP):
                readable.append(fd)
            if wanted[fd] & OUT and mask & (OUT | ERR | HUP):
                writable.append(fd)
        return readable, writable, []

    def holds(self, fd: int) -> bool:
        armed: dict[int, int] = self.world.poller.armed  # type: ignore[attr-defined]
        return fd in armed
