"""stdout, opened so that a slow reader cannot make a write wait."""

from __future__ import annotations

import io
import os
import stat

from loop import write_some

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Output(Protocol):
        def fileno(self) -> int: ...
        def write(self, data: bytes | memoryview, /) -> int | None: ...
        def close(self) -> None: ...


PORTION = 1 << 20  # bytes to be written in one call, at most: a file takes all that it gets, however long that takes


class Shared:
    """A descriptor shared with other processes. It is non-blocking only while write() runs, so they do not notice."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.blocking = os.get_blocking(fd)

    def fileno(self) -> int:
        return self.fd

    def write(self, data: bytes | memoryview, /) -> int | None:
        """Return how many bytes were taken; None if the write would have to wait."""
        os.set_blocking(self.fd, False)
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            return None
        finally:
            os.set_blocking(self.fd, self.blocking)

    def close(self) -> None:
        """Do nothing: the descriptor belongs to others."""


class Pipe(Shared):
    """A pipe. Its mode is not changed, not even for a moment, so no other process can notice."""

    def write(self, data: bytes | memoryview, /) -> int | None:
        return write_some(self.fd, data) or None


def standard_output() -> Output:
    """stdout, opened so that a write of at most PORTION bytes never waits.

    Files take everything. Pipes and terminals are opened anew to make them non-blocking, because O_NONBLOCK on
    descriptor 1 itself would also hit the shell and all others that share it. A pipe or terminal of another user cannot
    be opened.
    """
    kind = os.fstat(1).st_mode
    if stat.S_ISREG(kind):
        return io.FileIO(1, "w", closefd=False)
    try:
        terminal = os.ttyname(1)
    except OSError:
        terminal = ""  # stdout is no terminal, or its device is not in our /dev
    for path in "/proc/self/fd/1", terminal:
        try:
            return io.FileIO(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY), "w")
        except OSError:
            pass  # this is not Linux, or stdout is a socket or belongs to another user
    return Pipe(1) if stat.S_ISFIFO(kind) else Shared(1)
