"""System calls as coroutines.

Each is used like the blocking call of the same name, but `accept` returns a list of the connections that are there.
Readiness is a hint: the data may be gone again. So each of these functions waits again when the system says that the
call would block after all.

`recv` and `accept` wait first. Otherwise a peer that always sends more would keep its task running for ever. `send`
tries first, because the system's buffer nearly always has space. So beware: a loop that only sends might never pause.

Sockets must be non-blocking; send and recv also take a TLS object. A `timeout` is in seconds; None means no limit.
TimedOut is raised when it has run out. It limits one wait: if the system said "ready" by mistake, the time begins anew.
A system call that fails raises OSError.
"""

from __future__ import annotations

import errno
import os
import select

from .bare import socket
from .task import TimedOut
from .traps import Any, Coroutine, ReadWait, Sleep, Source, Stream, WriteWait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

PLAIN = bytes(range(32, 256))  # bytes that stay one byte in a terminal; a newline becomes two, a tab up to eight


def accept(listener: socket.socket, most: int = 64) -> Coroutine[list[tuple[socket.socket, Any]]]:
    """COROUTINE. Returns socket and address of each connection that is there, at least one, at most `most`.

    There is a limit so that many connections at once do not delay the clients that are connected already.
    """
    accepted: list[tuple[socket.socket, Any]] = []
    while not accepted:
        yield ReadWait(listener)
        try:
            for _ in range(most):
                accepted.append(listener.accept())
        except BlockingIOError:
            pass  # there are no more
        except OSError:
            if not accepted:
                raise  # if some were accepted, the next call gets this error again
    for sock, _ in accepted:
        sock.setblocking(False)
    return accepted


def connect(sock: socket.socket, address: Any, timeout: float | None = None) -> Coroutine[None]:
    """COROUTINE. Returns once connected; raises OSError if `address` refuses, or cannot be reached. For TCP."""
    # The first call starts the attempt. When the attempt has ended, the socket is writable, and SO_ERROR says how it
    # ended. If it ended well, the next call answers EISCONN.
    while error := sock.connect_ex(address):
        if error == errno.EISCONN:
            break
        if error in (errno.EINPROGRESS, errno.EALREADY, errno.EINTR):
            yield WriteWait(sock, timeout)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
    if sock.getsockname()[:2] == address[:2]:  # TCP may connect a socket to itself, if nobody listens at a local port
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def recv(sock: Stream, most: int, timeout: float | None = None) -> Coroutine[bytes]:
    """COROUTINE. Returns what has arrived, up to `most` bytes; b"" at the end of the stream."""
    while True:
        if getattr(sock, "pending", False):  # TLS has taken data that the socket does not report any more
            yield Sleep(0)
        else:
            yield ReadWait(sock, timeout)
        try:
            return sock.recv(most)
        except BlockingIOError:
            pass


def send(sock: Stream, data: bytes | memoryview, timeout: float | None = None) -> Coroutine[None]:
    """COROUTINE. Returns once the system has taken all of `data`. When some bytes were taken, `timeout` runs anew."""
    rest = data
    while True:
        try:
            sent = sock.send(rest)
            if sent == len(rest):
                return
        except BlockingIOError as error:
            sent = getattr(error, "characters_written", 0)  # TLS may have taken some bytes; a socket has taken none
        rest = memoryview(rest)[sent:]
        yield WriteWait(sock, timeout)


def read(file: Source, most: int, timeout: float | None = None) -> Coroutine[bytes]:
    """COROUTINE. Waits until there is something, and calls os.read, which then does not block. b"" at the end."""
    while True:
        yield ReadWait(file, timeout)
        try:
            return os.read(file if isinstance(file, int) else file.fileno(), most)
        except BlockingIOError:
            pass


def write(fd: int, data: bytes) -> Coroutine[None]:
    """COROUTINE. Writes all of `data` with write_some(), whenever there is space."""
    rest = memoryview(data)
    while rest:
        yield WriteWait(fd)
        rest = rest[write_some(fd, rest) :]


def write_some(fd: int, data: bytes | memoryview) -> int:
    """Write only as much of `data` as cannot block, even on a blocking descriptor. Return how much, perhaps 0.

    For stdout and stderr: other processes share them, and would share O_NONBLOCK. A writable pipe has space for
    PIPE_BUF bytes. A writable terminal takes one character without blocking, even one that becomes several bytes there.
    A terminal also takes a short text without control characters, at least on Linux.
    """
    if not select.select([], [fd], [], 0)[1]:  # another task may have filled the pipe meanwhile
        return 0
    size = select.PIPE_BUF
    if os.isatty(fd):
        text = bytes(data[:64])
        plain = len(text) - len(text.lstrip(PLAIN))  # bytes before the first control character
        size = max(plain, 1)  # 1: the control character alone
    try:
        return write_now(fd, data[:size])
    except BlockingIOError:
        return 0


def write_now(fd: int, data: bytes | memoryview) -> int:
    """os.write, but if another process has filled the pipe, it raises BlockingIOError on Linux instead of blocking."""
    try:
        return os.pwritev(fd, [data], -1, os.RWF_NOWAIT)
    except BlockingIOError:
        raise
    except (AttributeError, OSError):  # this system, or a terminal, does not know RWF_NOWAIT; or a real error
        return os.write(fd, data)


def readable(file: Source, timeout: float | None = None) -> Coroutine[None]:
    """COROUTINE. Returns when there is something to read: data, the end, or an error."""
    yield ReadWait(file, timeout)


def writable(file: Source, timeout: float | None = None) -> Coroutine[None]:
    """COROUTINE. Returns when there is space to write, or an error."""
    yield WriteWait(file, timeout)


def countdown(clock: Callable[[], float], seconds: float) -> Callable[[], float]:
    """Return a function that says how many of the `seconds` are left, and raises TimedOut if none are.

    This gives several waits one limit: the timeout of each is what is left. The returned function raises TimedOut
    itself, because a wait for a socket that is always ready never times out.
    """
    end = clock() + seconds

    def left() -> float:
        if (rest := end - clock()) > 0:
            return rest
        raise TimedOut("no time is left")

    return left


def sleep(seconds: float) -> Coroutine[None]:
    """COROUTINE. Returns after `seconds`, never earlier; 0: in the next turn. Raises TypeError for None."""
    if seconds is None:
        raise TypeError("sleep() takes a number of seconds, not None")  # as a timeout, None would be for ever
    yield Sleep(seconds)
