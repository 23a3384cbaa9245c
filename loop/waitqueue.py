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

    __slots__ = ("parked", "tasks")

    def __init__(self) -> None:
        self.tasks: dict[Task, None] = {}  # a dict is an ordered set: cheap to leave from the middle
        self.parked = Park(self.tasks)  # the trap of all who wait without a timeout

    def wait(self, timeout: float | None = None) -> Coroutine[None]:
        """COROUTINE. Returns once woken; raises TimedOut after `timeout` seconds (None: never).

        A task that is woken and then cancelled, before it has run, passes the wake-up on.
        """
        try:
            yield self.parked if timeout is None else Park(self.tasks, timeout)
        except Cancelled as end:
            if end.woken:
                self.wake()
            raise

    def wake(self, task: Task | None = None) -> None:
        """Wake the one that waits longest, or `task` if it waits here. Nobody there: nothing happens."""
        if task is None:
            task = next(iter(self.tasks), None)
        if task in self.tasks:
            task.wake()

    def wake_all(self) -> None:
        """Wake everybody who waits here now."""
        tasks = list(self.tasks)
        self.tasks.clear()
        for task in tasks:  # what task.wake() does, with one undo for all: a room full of writers waits here
            task.undo = task.deadline = None
            task.ready_queue.append(task)


def join(task: Task, timeout: float | None = None) -> Coroutine[str]:
    """COROUTINE. Waits until `task` has ended; returns how: "returned", "cancelled" or "failed".

    Raises TimedOut after `timeout` seconds; the task goes on.
    """
    while task.outcome is None:
        if task.joiners is None:
            task.joiners = WaitQueue()
        yield from task.joiners.wait(timeout)
    return task.outcome
