"""Tasks that wait for other tasks."""

from __future__ import annotations

from .bare import OrderedDict
from .task import Task
from .traps import Coroutine, Park


class WaitQueue:
    """Tasks that wait for something to happen; the task that has waited longest is woken first.

    Waking is a hint, like readiness. Between the wake-up and the waiter's step, another task may have used up what the
    waiter was woken for. So a waiter checks in a loop, with no pause between the check and the wait:

        while not ready():
            yield from queue.wait()
    """

    __slots__ = ("tasks",)

    def __init__(self) -> None:
        self.tasks: OrderedDict[Task, None] = OrderedDict()  # a dict's first key is slow to find after deletions

    def wait(self, timeout: float | None = None) -> Coroutine[None]:
        """COROUTINE. Returns once woken; raises TimedOut after `timeout` seconds (None: never; negative: as 0).

        If the task is woken, and then cancelled before its step, the wake-up goes to the next task.
        """
        park = Park(self.tasks, timeout)
        try:
            yield park
        except BaseException:
            if park.woken:
                self.wake()
            raise

    def wake(self) -> None:
        """Wake the task that has waited longest, if there is one."""
        for task in self.tasks:  # only the first: `return` ends the loop
            task.trap.woken = True  # its trap is the Park from wait()
            return task.wake()

    def wake_all(self) -> None:
        """Wake all tasks that wait here now."""
        for task in list(self.tasks):
            task.wake()  # `woken` stays False: if this task is cancelled, no other task needs its wake-up


def join(task: Task, timeout: float | None = None) -> Coroutine[str]:
    """COROUTINE. Waits until `task` has ended; returns how: "returned", "cancelled", "failed" or "dropped".

    Raises TimedOut after `timeout` seconds; the task goes on.
    """
    if task.joiners is None:
        task.joiners = {}
    while task.outcome is None:
        yield Park(task.joiners, timeout)
    return task.outcome
