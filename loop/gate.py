"""A gate for steps that take long, such as those of a handshake."""

from __future__ import annotations

from .bare import OrderedDict
from .traps import Coroutine
from .waitqueue import WaitQueue


class Gate:
    """Lets tasks through, one in each turn. If a step takes a millisecond, a thousand in one turn would take a second.

    Each address has a queue, and the queues alternate. So a thousand connections of one address do not keep those of
    others waiting.
    """

    def __init__(self) -> None:
        # Each task has a WaitQueue for itself alone: its ticket.
        self.waiting: OrderedDict[str, OrderedDict[WaitQueue, None]] = OrderedDict()  # each address's queue of tickets
        self.inside: WaitQueue | None = None  # the ticket of the task that may go through now

    def enter(self, address: str) -> Coroutine[None]:
        """COROUTINE. Returns when the task may take its step. After the step, it must sleep(0) and call leave()."""
        ticket = WaitQueue()
        if not self.inside:
            self.inside = ticket
            return
        self.waiting.setdefault(address, OrderedDict())[ticket] = None
        try:
            while self.inside is not ticket:
                yield from ticket.wait()
        except BaseException:
            if self.inside is ticket:
                self.leave()
            else:
                del self.waiting[address][ticket]
            raise

    def leave(self) -> None:
        """Let the next task in. Its ticket is `inside` even before the task runs, so no other task can overtake it."""
        self.inside = None
        while self.waiting and not self.inside:
            address, tickets = self.waiting.popitem(last=False)
            if tickets:
                self.inside, _ = tickets.popitem(last=False)
                self.inside.wake()
                self.waiting[address] = tickets  # after all other addresses
