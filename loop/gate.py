"""A gate for steps that take long, such as those of a handshake."""

from __future__ import annotations

from .bare import OrderedDict
from .traps import Coroutine
from .waitqueue import WaitQueue


class Gate:
    """Lets tasks through, one in each turn. If their steps take a millisecond, a thousand at once would take a second.

    They wait by address, and the addresses alternate, so one that sends a thousand does not keep the others waiting.
    """

    def __init__(self) -> None:
        self.waiting: OrderedDict[str, OrderedDict[WaitQueue, None]] = OrderedDict()  # one for each task, by address
        self.inside: WaitQueue | None = None  # the one of the task that may go through now

    def enter(self, address: str) -> Coroutine[None]:
        """COROUTINE. Returns when the task may go through. Then it takes its step, sleeps a turn, and calls leave()."""
        place = WaitQueue()
        if not self.inside:
            self.inside = place
            return
        self.waiting.setdefault(address, OrderedDict())[place] = None
        try:
            while self.inside is not place:
                yield from place.wait()
        except BaseException:
            if self.inside is place:
                self.leave()
            else:
                del self.waiting[address][place]
            raise

    def leave(self) -> None:
        """Let the next one in: it cannot be overtaken by one that comes later."""
        self.inside = None
        while self.waiting and not self.inside:
            address, places = self.waiting.popitem(last=False)
            if places:
                self.inside, _ = places.popitem(last=False)
                self.inside.wake()
                self.waiting[address] = places
