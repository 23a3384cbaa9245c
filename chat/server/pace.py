"""How much may be read from all members, so that a member can keep up if it takes what it is sent."""

from __future__ import annotations

from loop import WaitQueue, sleep

from .outbox import OVERHEAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Protocol

    from loop.traps import Coroutine

    from .flags import Options
    from .outbox import Outbox

    class Reader(Protocol):
        outbox: Outbox

        def acknowledged(self) -> int: ...
        def kick(self, reason: str) -> None: ...


RECEIVE = 32 << 10  # bytes taken from one socket at once, at most; with 64 KiB, fan-out was slower
TURN = 1 << 20  # about how many bytes are taken from all sockets together before they are sent on
LEAST = 1024  # bytes that may always be taken
GRACE = 0.2  # seconds in which a member that is too far behind has to show that it takes data
ENOUGH = 128 << 10  # bytes that it has to take in that time (acknowledgements may be late, so this is a low bound)


class Pace:
    """Divides what may be read in a turn among the talking members, and kicks those that are too far behind."""

    def __init__(self, options: Options, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.max_lag = options.max_lag
        self.ceiling = min(RECEIVE, options.max_rate or RECEIVE)
        self.enough = min(ENOUGH, options.max_lag)
        self.budget = min(TURN, options.max_lag // 4)  # bytes for a turn
        self.most = self.ceiling  # bytes that one member may take in this turn
        self.gathered = 0  # bytes published since the last spreading
        self.talking: set[int] = set()  # the id() of members that have published since then: some of them may have gone
        self.interval = options.max_lag // 16  # bytes between two looks at how far behind members are
        self.unchecked = 0  # bytes counted since the last look at how far behind members are
        # For each member that is BEHIND, where its measuring begins: a time, and how many bytes it had taken by then.
        # It begins anew when a look finds that at most half of --max-lag is due, or that enough was taken.
        self.behind: dict[Reader, tuple[float, int]] = {}
        self.overrun = False  # a member is too far behind, and perhaps takes data: it was not kicked
        self.looked_at = 0.0  # when look() was called last
        self.full = False  # the cluster takes no more
        self.held = False  # `overrun` or `full`: no member is read from
        self.released = WaitQueue()  # members wait here until they may be read from
        self.news = WaitQueue()  # keep() waits here until `overrun` is set

    def share(self) -> int:
        """How many bytes a member may take from its socket now.

        What may be read in a turn is shared. We expect as many talking members as there were in the last turn, and none
        gets more than what is left. Otherwise a thousand of them could say more than --max-lag in one turn, and all
        others would be too far behind.
        """
        left = self.budget - self.gathered
        if self.most <= left:  # nearly always
            return self.most
        return min(self.most, max(LEAST, left))

    def gather(self, size: int) -> None:
        """Add `size` bytes to what was published in this turn."""
        self.gathered += size
        self.unchecked += size + OVERHEAD
        if self.unchecked >= self.interval:
            self.look()

    def count(self, size: int) -> None:
        """Members may have fallen behind by `size` bytes more.

        Not every call looks at them, so that publishing costs the same however many members there are.
        """
        self.unchecked += size + OVERHEAD
        if self.unchecked >= self.interval:
            self.look()

    def start_turn(self) -> None:
        """Start counting again, since what was gathered is now being sent."""
        self.most = min(self.ceiling, max(LEAST, self.budget // (len(self.talking) or 1)))
        self.talking.clear()
        self.gathered = 0

    def look(self) -> None:
        """Kick members that are more than --max-lag behind and take too little. If one takes enough, set `overrun`."""
        now = self.clock()
        stood_still = self.overrun and now - self.looked_at > GRACE  # this process: keep() looks far more often
        self.looked_at = now
        self.unchecked = 0
        self.overrun = False
        for reader, (since, taken) in list(self.behind.items()):
            lag = reader.outbox.lag
            if stood_still or lag <= self.max_lag // 2:
                since, taken = self.behind[reader] = now, reader.acknowledged()
            if lag > self.max_lag:
                if now - since >= GRACE:
                    before, taken = taken, reader.acknowledged()
                    if taken - before < self.enough * (now - since) / GRACE:
                        reader.kick(f"more than {self.max_lag} bytes behind")
                        continue
                    self.behind[reader] = now, taken
                self.overrun = True
        if self.overrun:
            self.news.wake()
        self.hold()

    def hold(self) -> None:
        """Stop reading from members, or go on, as `overrun` and `full` say."""
        self.held = self.overrun or self.full
        if not self.held:
            self.released.wake_all()

    def keep(self) -> Coroutine[None]:
        """COROUTINE. While `overrun` is set, looks again and again."""
        while True:
            while not self.overrun:
                yield from self.news.wait()
            yield from sleep(GRACE / 5)
            self.look()
