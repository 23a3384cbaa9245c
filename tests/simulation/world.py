"""Time, descriptors and readiness, as one seed wants them.

The pollers of loop/poller.py run unchanged on stand-ins for the three systems they know (systems.py). Waiting takes no
time: when nothing is ready, the clock moves to what comes next, which is a step of a client or the end of the poller's
patience.
"""

from __future__ import annotations

import errno
import os
import random
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loop import Kernel
    from loop.poller import Poller

    from .clients import SimulatedClient
    from .network import Socket
    from .output import Bell, Stderr
    from .systems import System

IN, OUT, ERR, HUP, ONESHOT = 1, 4, 8, 16, 1 << 30  # as in <sys/epoll.h>
FOREVER = float("inf")
LARGE = 10_000  # bytes
LONG = 1000  # turns, after which the world is in a hurry
STEPS = 20_000  # system calls between two polls, after which the server is taken to be caught in a loop


class Failure(BaseException):
    """Something is true that never should be. A BaseException, so that no server code takes it for its own.

    All of one run are in `found`, because some code takes any exception for its own.
    """

    found: ClassVar[list[Failure]] = []

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.found.append(self)


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class File(Protocol):
    """What stands behind a descriptor."""

    always: bool  # a regular file: ready whenever asked, and refused by epoll

    def mask(self) -> int: ...


class World:
    """Everything outside the server. Rates are probabilities; which of them are zero, the seed decides too.

    Runs differ more if each has only some of the faults, and much of those, than if all have a little of all. In a
    calm world there are none.
    """

    def __init__(self, seed: int, history: list[str] | None = None, calm: bool = False) -> None:
        self.random = random.Random(seed)
        self.chance = self.random.random
        self.history = history
        self.now = 1000.0
        self.hits: dict[str, int] = {}
        self.files: dict[int, File] = {}
        self.used: set[int] = set()  # numbers of descriptors that were given out before
        self.agenda: list[tuple[float, int, Iterator[float]]] = []
        self.serial = count()
        self.clients: list[SimulatedClient] = []
        self.system: System
        self.kernel: Kernel
        self.poller: Poller
        self.stderr: Stderr
        self.bell: Bell
        self.turns = 0
        self.work = 0  # what happened; a server that turns much oftener than this is spinning
        self.calls = 0  # system calls since the last poll
        self.leaps = 0
        self.stops = 0
        self.woke_at = 0.0  # when the process last went on after it had stood still
        self.looks = 0  # how often somebody has looked what is ready
        self.looked: dict[int, int] = {}  # and which time that was when last a descriptor was looked at
        self.refused_at = 0.0  # when a call last failed that should not
        self.unarmed = False  # some task could not wait for a descriptor
        self.blind = False  # the last poll returned without having looked
        self.turned: Callable[[], None] = lambda: None  # called between two turns
        self.ended: Callable[[Socket], None] = lambda link: None  # called when the server ends a stream
        self.idle: Callable[[], None] = lambda: None  # called when the server has nothing to do
        self.stuck: Callable[[], bool] = lambda: False  # called when nothing will ever happen again: is that expected?
        self.meddle: Callable[[SimulatedClient | None], None]
        self.tell: Callable[[], None]
        pick: Callable[..., Any] = (lambda none, *_: none) if calm else self.pick
        self.spurious = pick(0, 0, 0.02, 0.3)  # readiness without cause
        self.alarms = 50  # how often yet: more of the same finds nothing new
        self.balk = pick(0, 0, 0.05, 0.5)  # a call that would block after all
        self.hold = pick(0, 0, 0.1, 0.6)  # readiness that is told later
        self.short = pick(0, 0.1, 0.5, 0.95)  # a call that takes or gives less than it could
        self.at_once = not (self.balk or self.short)  # what there is room for is taken
        self.pace = 1 if calm else pick(0.3, 0.6, 0.9)  # how much happens between two polls
        self.mixed = 0 if calm else 0.7  # readiness in any order
        self.race = pick(0, 0, 0.02, 0.2)  # things that happen between two system calls
        self.leap = pick(0, 0, 0, 0, 0.01, 0.1)  # a clock that jumps, as after a suspended laptop
        self.stop = pick(0, 0, 0, 0.05, 0.2)  # a process that stands still, while the others go on
        self.most = pick(1023, 1023, 3, 1)  # how much readiness one poll tells at most
        self.bare = pick(0, 0.5, 1)  # a hang-up without IN and OUT
        # Calls that fail, though all is well: how often, and how many yet.
        self.failing = {what: [pick(0, 0, 0, 0.02, 0.2), pick(1, 3, 10)] for what in ("arming", "closing", "sending")}
        self.steadiness = pick(0.1, 0.2, 0.9)  # clients that read, but only some time after it has come
        self.floods = pick(0, 0, 0, 0.05, 0.3)  # clients that send thousands of newlines
        self.mischief = pick(0, 0.2, 0.9)  # handlers that do harm
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

    def refuse(self, what: str, *numbers: int) -> None:
        """Fail, perhaps, with one of these errors."""
        if (failing := self.failing[what])[0] and failing[1] and self.chance() < failing[0]:
            failing[1] -= 1
            self.refused_at = self.now
            self.unarmed |= what == "arming"
            number = self.pick(*numbers)
            self.hit(f"{what} failed: {errno.errorcode[number]}")
            if self.history is not None:
                self.note(f"{what} fails: {os.strerror(number)}")
            raise error(number)

    def be_calm(self) -> None:
        """No call fails any more, and time neither leaps nor passes while the process stands still."""
        self.leap = self.stop = 0
        for failing in self.failing.values():
            failing[0] = 0

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

    def write(self, fd: int, data: bytes) -> int:
        """What os.write is to a socket's descriptor."""
        sock: Any = self.files[fd]
        size: int = sock.send(data)
        return size

    def close(self, fd: int) -> None:
        del self.files[fd]
        self.work += 1
        if self.system.closed(fd):
            raise Failure(f"descriptor {fd} was closed while it was armed")

    def enter(self, client: SimulatedClient | None = None, meddling: bool = True) -> None:
        """At each system call, on a socket of `client` if it is one: others act meanwhile.

        No `meddling` with members in a send: spread() goes from one to the next, and there nothing else runs.
        """
        self.calls += 1
        if self.calls > STEPS:
            raise Failure("the server makes one system call after the other and does not come back to the poller")
        if self.chance() < self.race and self.agenda and self.agenda[0][0] <= self.now + 0.01:
            self.hit("something happened between two system calls")
            self.step()
        if self.stop and self.chance() < self.stop / 10:
            self.stand_still()
        if meddling and self.meddling and self.chance() < self.meddling:
            self.meddle(client)
        if meddling and self.telling and self.chance() < self.telling:
            self.tell()

    # Readiness.

    def wait(self, armed: dict[int, int], timeout: float | None) -> list[tuple[int, int]]:
        """What is ready of `armed` (what is wanted of each descriptor), after at most `timeout` seconds."""
        self.turned()
        self.turns += 1
        self.calls = 0
        if self.turns > 100 + 10 * self.work:
            raise Failure(f"the server spins: {self.turns} turns for {self.work} things that happened")
        if self.turns == LONG:
            self.hurry()
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
        if self.stop and self.chance() < self.stop and self.stand_still() and self.now >= until:
            self.blind = True
            return []  # as epoll.poll and its like do, when a signal ends their wait too late: without another look
        while True:
            self.let_read()
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
        self.looks += 1
        self.blind = False
        chance = self.chance
        found = []
        held = None
        for fd, want in armed.items():
            mask = self.files[fd].mask() & (want | ERR | HUP)
            if mask:
                if mask & HUP and chance() < self.bare:
                    self.count("hang-up without IN or OUT")
                    mask &= ERR | HUP
                if chance() < self.hold and self.now != self.woke_at:
                    held = (fd, mask)
                    continue
                found.append((fd, mask))
            elif self.spurious and chance() < self.spurious and want & (IN | OUT) and self.alarms:
                self.alarms -= 1
                self.hit("readiness without cause")
                found.append((fd, want & (IN | OUT)))
            self.looked[fd] = self.looks
        if held is not None:
            if found:
                self.count("readiness told later")
            else:
                found.append(held)
        if len(found) > 1 and chance() < self.mixed:
            self.random.shuffle(found)
            self.count("readiness in any order")
        return found

    def hurry(self) -> None:
        """From here on all moves in large steps: thousands of turns for a few bytes each find nothing new."""
        self.hit("was in a hurry in the end")
        self.short = self.hold = 0
        for client in self.clients:
            if not client.steady:
                client.link.widen(LARGE)

    def few(self, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """As many as one call tells."""
        if len(found) > self.most:
            self.hit("more was ready than one poll tells")
        return found[: self.most]

    def stand_still(self) -> bool:
        """The process is stopped, or in a step that lasts, while the others go on; no oftener than a few times."""
        if self.stops >= 5:
            return False
        self.stops += 1
        far = self.pick(0.5, 3.0, 3.0, 40.0, 100.0)
        self.hit("process stood still")
        if self.history is not None:
            self.note(f"the process stands still for {far:g} s")
        end = self.now + far
        while self.agenda and self.agenda[0][0] <= end:
            self.step()
            self.let_read()
        self.now = self.woke_at = max(self.now, end)
        self.let_read()
        return True

    def let_read(self) -> None:
        """Clients that read, read everything."""
        for client in self.clients:
            if client.reading and client.connected:
                client.read(everything=True)

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
