"""System calls as sequential generator functions.

Each reads like the blocking call of the same name; only `accept` returns all the connections that are there. Readiness
is a hint: the data may be gone again, the connection may have been reset, so each call is tried anew when the system
says it would block after all.

`recv` and `accept` wait first, because the peer decides how much comes: a peer that always has more would otherwise
never let go. `send` tries first, because there is mostly room: a loop that only sends may never pause.

Sockets must be non-blocking. Timeouts are in seconds, None for none, and raise TimedOut; each wait has its own, so a
false readiness begins it anew. A call that fails raises OSError as usual.
"""

from __future__ import annotations

import os
import select
import socket

from .traps import ReadWait, Sleep, WriteWait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .traps import Coroutine, Source


def accept(listener: socket.socket, most: int = 64) -> Coroutine[list[tuple[socket.socket, Any]]]:
    """COROUTINE. Returns what accept(2) gives for each connection that is there, at least one, at most `most`.

    64 a turn, so that a rush of connections does not keep those who are in from talking.
    """
    accepted: list[tuple[socket.socket, Any]] = []
    while not accepted:
        yield ReadWait(listener)
        try:
            while len(accepted) < most:
                sock, address = listener.accept()
                accepted.append((sock, address))
                sock.setblocking(False)
        except OSError as error:  # one that comes after some were accepted comes again
            if not accepted and not isinstance(error, BlockingIOError):
                raise
    return accepted


def connect(sock: socket.socket, address: Any, timeout: float | None = None) -> Coroutine[None]:
    """COROUTINE. Returns once connected; raises OSError if it is refused or cannot be reached.

    For TCP. The one call whose readiness is not taken as a hint: it cannot be tried anew.
    """
    try:
        sock.connect(address)
    except (BlockingIOError, InterruptedError):
        yield WriteWait(sock, timeout)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error)) from None


def recv(sock: socket.socket, most: int, timeout: float | None = None) -> Coroutine[bytes]:
    """COROUTINE. Returns what has arrived, up to `most` bytes; b"" at the end of the stream."""
    while True:
        yield ReadWait(sock, timeout)
        try:
            return sock.recv(most)
        except BlockingIOError:
            pass


def send(sock: socket.socket, data: bytes | memoryview, timeout: float | None = None) -> Coroutine[None]:
    """COROUTINE. Returns once the system has taken all of `data`. `timeout` runs anew whenever it took some."""
    rest = data
    while True:
        try:
            sent = sock.send(rest)
        except BlockingIOError:
            sent = 0
        if sent == len(rest):
            return
        rest = memoryview(rest)[sent:]
        yield WriteWait(sock, timeout)


def read(file: Source, most: int, timeout: float | None = None) -> Coroutine[bytes]:
    """COROUTINE. os.read, once, when there is something: a blocking descriptor does not block. b"" at its end."""
    while True:
        yield ReadWait(file, timeout)
        try:
            return os.read(file if isinstance(file, int) else file.fileno(), most)
        except BlockingIOError:
            pass


def write(fd: int, data: bytes) -> Coroutine[None]:
    """COROUTINE. os.write all of `data`, a piece each time there is room: a blocking descriptor does not block.

    PIPE_BUF bytes are what a pipe that is ready surely takes.
    """
    rest = memoryview(data)
    while rest:
        yield WriteWait(fd)
        try:
            rest = rest[os.write(fd, rest[: select.PIPE_BUF]) :]
        except BlockingIOError:
            pass


def readable(file: Source, timeout: float | None = None) -> Coroutine[None]:
    """COROUTINE. Returns when there is something to read, or the end of it, or an error waits to be seen."""
    yield ReadWait(file, timeout)


def writable(file: Source, timeout: float | None = None) -> Coroutine[None]:
    """COROUTINE. Returns when there is room, or an error waits to be seen."""
    yield WriteWait(file, timeout)


def sleep(seconds: float) -> Coroutine[None]:
    """COROUTINE. Returns after so many seconds, never earlier; 0: in the next turn."""
    yield Sleep(seconds)
