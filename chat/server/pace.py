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

    class Hearer(Protocol):
        outbox: Outbox

        def acknowledged(self) -> int: ...
        def kick(self, reason: str) -> None: ...


RECEIVE = 32 << 10  # bytes that are read from one member at once, at most; with 64 KiB, sending was slower
TURN = 1 << 20  # about how many bytes are read from all members together before they are sent on
LEAST = 1024  # bytes that may always be read from a member
GRACE = 0.2  # seconds in which a peer that is too far behind has to show that it takes data
ENOUGH = 128 << 10  # bytes that it has to take in this time (acknowledgements can be late, so this is a low bound)


class Pace:
    """Divides what may be read in a turn among the talking members, and kicks those that are too far behind."""

    def __init__(self, options: Options, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.max_lag = options.max_lag
        self.ceiling = min(RECEIVE, options.max_rate or RECEIVE)
        self.enough = min(ENOUGH, options.max_lag)
        self.budget = min(TURN, options.max_lag // 4)  # about how many bytes a turn may publish
        self.most = self.ceiling  # bytes that may be read from one member in this turn
        self.published = 0  # bytes that were published in this turn
        self.talking: set[int] = set()  # the id() of each member that has published in this turn
        self.interval = options.max_lag // 16  # bytes from one look() to the next
        self.unchecked = 0  # bytes counted since the last look()
        # For each member that is BEHIND: since when its peer is watched, and how many bytes the peer had taken by then.
        # look() begins a new watch when at most half of --max-lag is due, or when the peer has taken enough.
        self.behind: dict[Hearer, tuple[float, int]] = {}
        self.overrun = False  # whether a member is too far behind, and was not kicked (yet): see look()
        self.last_look = 0.0  # the time of the last look()
        self.full = False  # whether the cluster takes no more
        self.held = False  # whether no member is read from: because of `overrun` or `full`
        self.released = WaitQueue()  # members wait here until they may be read from
        self.news = WaitQueue()  # keep_looking() waits here until `overrun` is set

    def share(self) -> int:
        """How many bytes may be read from a member now.

        The budget of a turn is divided by the number of members that talked in the last turn. If more members talk in
        this turn, the later ones get what is left, but at least LEAST. Without a budget, a thousand members could say
        more than --max-lag in one turn, and all others would be too far behind.
        """
        left = self.budget - self.published
        if self.most <= left:  # nearly always
            return self.most
        return min(self.most, max(LEAST, left))

    def add_published(self, size: int) -> None:
        """Add `size` bytes to what was published in this turn, and count them as count() does."""
        self.published += size
        self.unchecked += size + OVERHEAD
        if self.unchecked >= self.interval:
            self.look()

    def count(self, size: int) -> None:
        """Count `size` bytes that have become due to members. Once every `interval` bytes, look() at the members.

        Most calls do not look, so that publishing costs the same however many members there are.
        """
        self.unchecked += size + OVERHEAD
        if self.unchecked >= self.interval:
            self.look()

    def start_turn(self) -> None:
        """Start counting again, since what was published is now being sent."""
        self.most = min(self.ceiling, max(LEAST, self.budget // (len(self.talking) or 1)))
        self.talking.clear()
        self.published = 0

    def look(self) -> None:
        """Kick members that lag more than --max-lag and take too little. If others lag so much, set `overrun`."""
        now = self.clock()
        # In an overrun, keep_looking() looks every GRACE / 5. If more than GRACE has passed since the last look,
        # the process stood still, and no peer is to blame.
        stood_still = self.overrun and now - self.last_look > GRACE
        self.last_look = now
        self.unchecked = 0
        self.overrun = False
        for member, (since, taken_before) in list(self.behind.items()):
            lag = member.outbox.lag()
            if stood_still or lag <= self.max_lag // 2:
                self.behind[member] = now, member.acknowledged()
            elif lag > self.max_lag and now - since >= GRACE:
                taken = member.acknowledged()
                if taken - taken_before < self.enough * (now - since) / GRACE:
                    member.kick(f"more than {self.max_lag} bytes behind")
                    continue
                self.behind[member] = now, taken
            if lag > self.max_lag:
                self.overrun = True
        if self.overrun:
            self.news.wake()
        self.set_held()

    def set_held(self) -> None:
        """Stop reading from members, or go on, as `overrun` and `full` say."""
        self.held = self.overrun or self.full
        if not self.held:
            self.released.wake_all()

    def keep_looking(self) -> Coroutine[None]:
        """COROUTINE. While `overrun` is set, looks again and again."""
        while True:
            while not self.overrun:
                yield from self.news.wait()
            yield from sleep(GRACE / 5)
            self.look()
