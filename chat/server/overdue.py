"""Ends the handlers that do not end in time, and the tasks that handlers have spawned."""

from __future__ import annotations

from loop import TimedOut, WaitQueue, complain, explain, join

from .connection import LINGER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from loop import Kernel
    from loop.traps import Coroutine

    from .member import Member
    from .room import Hub


class Overdue:
    """Makes the handlers of members end. `drop` removes a member whose handler did not end when it was cancelled."""

    def __init__(self, kernel: Kernel, drop: Callable[[Member], None]) -> None:
        self.kernel = kernel
        self.drop = drop
        self.ends: dict[Member, float] = {}  # when the handler of each of these members should have ended
        self.news = WaitQueue()

    def insist(self, member: Member, seconds: float) -> None:
        """End the member's handler, if it has not ended by itself after so many seconds."""
        end = self.kernel.clock() + seconds
        self.ends[member] = min(end, self.ends.get(member, end))
        self.news.wake()

    def forget(self, member: Member) -> None:
        """Stop waiting for the member's handler to end."""
        self.ends.pop(member, None)

    def see_handlers_end(self) -> Coroutine[None]:
        """COROUTINE. If a handler does not end in time, kicks its member; if the member was kicked before, drops it."""
        while True:
            first = min(self.ends.values(), default=None)
            try:
                yield from self.news.wait(None if first is None else first - self.kernel.clock())
                continue  # there is a new end, which may come before the others
            except TimedOut:
                pass
            now = self.kernel.clock() + 0.001  # because sums of times are rounded, and may miss `first` by a little
            for member in [member for member, end in self.ends.items() if end <= now]:
                self.forget(member)
                if member.handled:
                    continue
                if member.task.cancel_due:  # there was no turn since cancel()
                    self.insist(member, 0.0)
                elif member.kicked or member.asked_after_end:
                    self.drop(member)
                elif member.receiving:  # it still reads what its peer had said, perhaps slowed by --max-rate
                    self.insist(member, LINGER)
                else:
                    member.kick(member.failure.lower())


def end_tasks(hub: Hub) -> Coroutine[None]:
    """COROUTINE. Ends the tasks that handlers have spawned, within LINGER."""
    clock, tasks = hub.kernel.clock, list(hub.tasks.values())
    end = clock() + LINGER
    for task in tasks:
        task.cancel()
    for task in tasks:
        try:
            yield from join(task, end - clock())
        except TimedOut:
            where = "" if task.cancel_due else explain(task)
            hub.kernel.drop(task)
            if where:
                complain(f"chatsrv: the task {task.name} does not end; it was dropped\n{where}")
    for coroutine in [coroutine for coroutine, task in hub.tasks.items() if task.outcome]:
        del hub.tasks[coroutine]  # dropped before they began: no `finally` of Room.spawn has run
