"""What a task may yield.

A trap is a request to the kernel, the way a system call is a request to an operating system: the task stops at its
`yield`, the kernel suspends it, and resumes it there when the request is answered. A trap says what is wanted and does
nothing itself. There are four, and only code in loop/ yields them; everywhere else a pause is a `yield from` of one of
the coroutines in stream.py and waitqueue.py. A coroutine, here, is a generator whose yields are traps.

`timeout` is in seconds; None waits for ever. When it runs out, TimedOut is raised at the `yield`.
"""

from __future__ import annotations

from types import GeneratorType

from .bare import Generator


class Wait:
    """Wait until a descriptor is ready, for reading or for writing, as the subclass says."""

    __slots__ = ("fd", "timeout")

    def __init__(self, source: Source, timeout: float | None = None) -> None:
        self.fd = source if isinstance(source, int) else source.fileno()
        self.timeout = timeout


class ReadWait(Wait):
    """Wait until the descriptor can be read: there is data, the stream has ended, or it has failed."""

    __slots__ = ()


class WriteWait(Wait):
    """Wait until the descriptor can be written: there is space for more, or it has failed."""

    __slots__ = ()


class Sleep:
    """Wait for `timeout` seconds, or, if that is 0, until the next turn. TimedOut is not raised."""

    __slots__ = ("timeout",)

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout


class Park:
    """Wait until another task wakes this one.

    Meanwhile this task is in `tasks`, where the other task finds it: in the `tasks` of a WaitQueue, or in the `joiners`
    of a Task.
    """

    __slots__ = ("tasks", "timeout", "woken")

    def __init__(self, tasks: dict[Task, None], timeout: float | None = None) -> None:
        self.tasks = tasks
        self.timeout = timeout
        self.woken = False  # whether WaitQueue.wake() has woken the task


def guess(trap: object) -> str:
    """A guess at why a task has yielded something that is no trap."""
    if isinstance(trap, GeneratorType):
        name = trap.__name__
        return f"the generator {name}() was yielded, not run; did you mean `yield from {name}(...)`?"
    return f"{trap!r} was yielded, which is no trap; did you mean `return`, or `yield from` a coroutine?"


# Names for type hints. Type checkers take TYPE_CHECKING for True. To import typing would take longer than all of loop/.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Any
    from typing import Protocol as Protocol
    from typing import TypeVar, Union

    from .task import Task

    T = TypeVar("T")

    class HasFileno(Protocol):
        def fileno(self) -> int: ...

    class Stream(HasFileno, Protocol):
        """A socket, or TLS on one."""

        def send(self, data: bytes | memoryview, /) -> int: ...
        def recv(self, most: int, /) -> bytes: ...
        def close(self) -> None: ...

    Source = Union[int, HasFileno]
    Trap = Union["ReadWait", "WriteWait", "Sleep", "Park"]
    Coroutine = Generator[Trap, Any, T]  # T: what it returns
else:
    Any = Protocol = Source = Stream = object
    Coroutine = Generator
