"""Tasks that wait for other tasks."""

from __future__ import annotations

from collections import OrderedDict

from .task import Task
from .traps import Coroutine, Park


class WaitQueue:
    """Tasks waiting for something to come true, first come, first woken.

    Waking is a hint, like readiness: between the wake-up and its turn, somebody else may have taken what there was.
    So a waiter checks in a loop, with no pause between the check and the wait:

        while not ready():
            yield from queue.wait()
    """

    __slots__ = ("tasks",)

    def __init__(self) -> None:
        self.tasks: OrderedDict[Task, None] = OrderedDict()  # the first of a dict is found past all that have left it

    def wait(self, timeout: float | None = None) -> Coroutine[None]:
        """COROUTINE. Returns once woken; raises TimedOut after `timeout` seconds (None: never).

        A task that ends after it was woken has not made use of it: the next one is woken in its place.
        """
        park = Park(self.tasks, timeout)
        try:
            yield park
        except BaseException:
            if park.woken:
                self.wake()
            raise

    def wake(self) -> None:
        """Wake the one that waits longest. Nobody there: nothing happens."""
        for task in self.tasks:
            task.trap.woken = True
            return task.wake()

    def wake_all(self) -> None:
        """Wake everybody who waits here now."""
        for task in list(self.tasks):
            task.wake()


def join(task: Task, timeout: float | None = None) -> Coroutine[str]:
    """COROUTINE. Waits until `task` has ended; returns how: "returned", "cancelled", "failed" or "dropped".

    Raises TimedOut after `timeout` seconds; the task goes on.
    """
    while task.outcome is None:
        yield Park(task.joiners, timeout)
    return task.outcome
