"""Tasks that wait for other tasks."""

from __future__ import annotations

from .task import Cancelled
from .traps import Park

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .task import Task
    from .traps import Coroutine


class WaitQueue:
    """Tasks waiting for something to come true, first come, first woken.

    Waking is a hint, like readiness: between the wake-up and its turn, somebody else may have taken what there was.
    So a waiter checks in a loop, with no pause between the check and the wait:

        while not ready():
            yield from queue.wait()
    """

    __slots__ = ("tasks",)

    def __init__(self) -> None:
        self.tasks: dict[Task, None] = {}  # a dict is an ordered set: cheap to leave from the middle

    def wait(self, timeout: float | None = None) -> Coroutine[None]:
        """COROUTINE. Returns once woken; raises TimedOut after `timeout` seconds (None: never).

        A task that is cancelled may have been woken before, for something only one can take. So it wakes the next one.
        """
        try:
            yield Park(self.tasks, timeout)
        except Cancelled:
            self.wake()
            raise

    def wake(self) -> None:
        """Wake the one that waits longest. Nobody there: nothing happens."""
        for task in self.tasks:
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
