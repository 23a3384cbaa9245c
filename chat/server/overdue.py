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
        self.entries: list[tuple[float, Member]] = []  # when a handler should have ended, and its member
        self.news = WaitQueue()

    def insist(self, member: Member, seconds: float) -> None:
        """End the member's handler, if it has not ended by itself after so many seconds."""
        self.entries.append((self.kernel.clock() + seconds, member))
        self.news.wake()

    def see_handlers_end(self) -> Coroutine[None]:
        """COROUTINE. If a handler does not end in time, kicks its member; if the member was kicked before, drops it."""
        while True:
            first = min((moment for moment, _ in self.entries), default=None)
            try:
                yield from self.news.wait(None if first is None else first - self.kernel.clock())
                continue  # there is a new entry, which may be due before the others
            except TimedOut:
                pass
            now = self.kernel.clock() + 0.001  # because sums of times are rounded, and may miss `first` by a little
            due = [member for moment, member in self.entries if moment <= now]
            self.entries = [entry for entry in self.entries if entry[0] > now]
            for member in due:
                if member.handled:
                    continue
                if member.task.error:  # it was cancelled, but had no step since then: the process stood still
                    self.insist(member, 0.0)
                elif member.kicked or member.asked_after_end:
                    self.drop(member)
                elif member.receiving:  # it still reads what its peer had said; --max-rate may slow that down
                    self.insist(member, LINGER)
                else:
                    member.kick(member.failure.lower())


def end_tasks(hub: Hub) -> Coroutine[None]:
    """COROUTINE. End the tasks that handlers have spawned, within LINGER."""
    clock, tasks = hub.kernel.clock, list(hub.tasks.items())
    end = clock() + LINGER
    for _, task in tasks:
        task.cancel()
    for coroutine, task in tasks:
        try:
            yield from join(task, end - clock())
        except TimedOut:
            if not task.error:  # with task.error set, it has had no step since cancel()
                complain(f"chatsrv: the task {task.name} does not end; it was dropped\n{explain(task)}")
            hub.kernel.drop(task)
            hub.tasks.pop(coroutine, None)  # a task that has not begun does not run the `finally` that does this
