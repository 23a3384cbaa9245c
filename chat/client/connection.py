"""A connection to the server, and how to notice that the other machine no longer answers."""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios

from loop import connect, send, sleep
from loop.stream import countdown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from loop import Kernel, WaitQueue
    from loop.tls import TLS
    from loop.traps import Coroutine

    from ..trust import Trust

SILENCE = 120  # seconds without an answer after which a machine counts as gone
LOOK = 10  # seconds between two checks of watch()


def reach(
    kernel: Kernel, family: int, address: Any, timeout: float | None, host: str, trust: Trust | None
) -> Coroutine[socket.socket | TLS]:
    """COROUTINE. Returns a connection to `address`; if `trust` is given, with TLS, to a server whose name is `host`.

    Raises OSError or TimedOut.
    """
    left = (lambda: None) if timeout is None else countdown(kernel.clock, timeout)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        half = SILENCE // 2
        for name, value in ("TCP_KEEPIDLE", half), ("TCP_KEEPINTVL", LOOK), ("TCP_KEEPCNT", half // LOOK):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        yield from connect(sock, address, left())
        if trust is None:
            return sock
        return (yield from trust.greet(sock, host, left))
    except BaseException:
        kernel.close(sock)
        raise


def socket_of(connection: socket.socket | TLS) -> socket.socket:
    """The socket of a connection: the connection itself, or what is under its TLS."""
    return connection if isinstance(connection, socket.socket) else connection.socket


def send_end(connection: socket.socket | TLS) -> Coroutine[None]:
    """COROUTINE. Ends our stream, and before that the stream inside TLS, if there is TLS."""
    if not isinstance(connection, socket.socket):
        connection.end()
        yield from send(connection, b"")
    socket_of(connection).shutdown(socket.SHUT_WR)


def watch(kernel: Kernel, sock: socket.socket, sent: WaitQueue) -> Coroutine[None]:
    """COROUTINE. Closes a connection whose other machine confirms nothing for SILENCE seconds, though data was sent.

    Keepalive works only while no data is on its way. TCP_USER_TIMEOUT would also end a connection whose machine answers
    but whose server does not read. `sent` is woken when something was sent.
    """
    while True:
        yield from sent.wait()
        since = kernel.clock()
        while unacknowledged(sock):
            yield from sleep(LOOK)
            if min(kernel.clock() - since, silence(sock)) > SILENCE:
                kernel.close(sock)
                return


def unacknowledged(sock: socket.socket) -> int:
    """How many sent bytes the other machine has not confirmed yet; 0 if this system does not tell."""
    try:
        count: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]
        return count
    except (OSError, ValueError):  # the system does not tell, or the socket is closed
        return 0


def silence(sock: socket.socket) -> float:
    """How many seconds ago the other machine answered last; 0 if it owes no answer, or if that is not known.

    If the program there reads nothing, our system asks that machine with probes, less and less often. So the last
    answer may be old although the machine is well, and one probe on its way proves nothing. The machine owes an answer
    if data is in flight, or if two probes are unanswered.
    """
    if sys.platform != "linux":
        return 0
    # In struct tcp_info of linux/tcp.h: tcpi_probes is byte 3; tcpi_unacked and tcpi_last_ack_recv are at 24 and 56
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 60)
    unanswered_probes = info[3]
    in_flight, milliseconds = struct.unpack_from("I28xI", info, 24)
    return milliseconds / 1000 if in_flight or unanswered_probes > 1 else 0
