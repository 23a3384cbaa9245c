"""A task: one generator, and what it waits for."""

from __future__ import annotations

import builtins
import sys

from .traps import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from types import GeneratorType
    from typing import Callable


class Cancelled(BaseException):
    """Raised in a task that is to end. A BaseException, so that `except Exception` in a handler lets it through."""


# `except*` may put Cancelled into an exception group. Before 3.11 there are no groups: isinstance(error, ()) is False.
EXCEPTION_GROUP = getattr(builtins, "BaseExceptionGroup", ())


def without_cancelled(error: BaseException) -> BaseException | None:
    """What is left of an error without Cancelled; None if nothing is."""
    if isinstance(error, EXCEPTION_GROUP):
        _, rest = error.split(Cancelled)
        return rest  # type: ignore[no-any-return]
    return None if isinstance(error, Cancelled) else error


class Closed(OSError):
    """Raised in a task that waits for a socket which another task closes (kernel.close)."""


class Busy(RuntimeError):
    """Raised at a trap if another task already waits for the same direction of the same descriptor."""


class TimedOut(Exception):
    """Raised at a trap whose timeout has run out. It is not TimeoutError, by which TCP reports a dead peer."""


NOTHING_YET = object()  # the `trap` of a task that has not taken its first step


class Task:
    """What the kernel knows of one coroutine.

    Until it has ended, a task is one of three things: running, ready (in the kernel's queue), or suspended. A suspended
    task, and only a suspended one, carries `undo`, the function that takes the task out of where it waits. Waking
    consumes the undo.
    """

    __slots__ = (
        "name", "coroutine", "ready_queue", "trap", "undo", "timer", "error", "outcome", "joiners",
    )  # fmt: skip

    def __init__(self, coroutine: GeneratorType[Any, Any, Any], name: str, ready_queue: deque[Task]) -> None:
        self.name = name
        self.coroutine = coroutine
        self.ready_queue = ready_queue  # the kernel's, so that waking and cancelling need no kernel
        self.trap: Any = NOTHING_YET  # the latest trap that was yielded
        self.undo: Callable[[Task], object] | None = None
        self.timer: tuple[float, int, Task] | None = None  # the newest one; the kernel ignores older ones of this task
        self.error: BaseException | None = None  # to be raised at its `yield`, when it takes its next step
        self.outcome: str | None = None  # "returned", "cancelled", "failed" or "dropped"; None: not ended
        self.joiners: dict[Task, None] | None = None  # the tasks in join(); None until there is one

    def wake(self, error: BaseException | None = None) -> None:
        """Take a suspended task out of where it waits and make it ready; `error` is then raised at its yield."""
        assert self.undo is not None, f"{self.name} does not wait"
        self.undo(self)
        self.error = error
        self.make_ready()

    def make_ready(self) -> None:
        """The second half of waking: the task has been taken out of where it waits. Its timer is ignored now."""
        self.undo = self.timer = None
        self.ready_queue.append(self)

    def cancel(self) -> None:
        """Raise Cancelled at the `yield` where the task has stopped, or at its next one if the task runs now or is new.

        Only a suspended task is woken: a ready one is in the ready queue already, and step() puts a running one there.
        A task that has ended stays ended.
        """
        if self.outcome is not None or self.cancel_due:
            return
        if self.undo is not None:
            self.wake(error=Cancelled())
        else:
            self.error = Cancelled()

    def abandon(self) -> None:
        """Close the coroutine by force. What it raises is ignored. If it yields again, it is closed again.

        Only Kernel.drop calls this.
        """
        hook = sys.unraisablehook
        # close() also frees the coroutines that this one has called. If one of them raises an exception while it is
        # freed, Python calls this hook, which normally prints the exception.
        sys.unraisablehook = lambda unraisable: None
        try:
            for _ in range(10):  # a coroutine that answers close() with a `yield` is still open
                try:
                    self.coroutine.close()
                    break
                except BaseException:
                    pass
            del self.coroutine
        finally:
            sys.unraisablehook = hook

    @property
    def cancel_due(self) -> bool:
        """Whether Cancelled is still to be raised in the task."""
        return isinstance(self.error, Cancelled)

    @property
    def waits_for(self) -> Any:
        """The trap at which the task is suspended; None if it is ready or running."""
        return None if self.undo is None else self.trap

    def __repr__(self) -> str:
        return f"<task {self.name}>"
