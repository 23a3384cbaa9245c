"""Listening sockets: our own, or those that systemd has opened for us."""

from __future__ import annotations

import errno
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BACKLOG = 1024  # connections the system holds for us until we accept them
# Seconds of silence before TCP asks whether the peer is still there, seconds between its questions, and how many
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
FIRST = 3  # the first descriptor that is handed over


def inherited() -> list[socket.socket]:
    """The listening sockets handed over in LISTEN_FDS; none if there are none. Raises ValueError for other sockets."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return []  # they are meant for another process
    listeners = []
    for fd in range(FIRST, FIRST + int(os.environ.pop("LISTEN_FDS", "0"))):
        os.set_inheritable(fd, False)
        listener = socket.socket(fileno=fd)
        if listener.family not in (socket.AF_INET, socket.AF_INET6) or listener.type != socket.SOCK_STREAM:
            raise ValueError(f"descriptor {fd}, handed over in LISTEN_FDS, is not a TCP socket")
        listeners.append(listener)
    return listeners


def listen(host: str | None, port: int, share: bool = False) -> list[socket.socket]:
    """Listening sockets on `host` (None: on everything, IPv6 and IPv4 in one where the system can). Raises OSError.

    With `share`, other processes may listen there too, and the system deals connections out among them.
    """
    common: Any = {"backlog": BACKLOG, "reuse_port": share}
    if host is None and socket.has_dualstack_ipv6():
        try:
            return [socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, **common)]
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
    family = socket.AF_INET6 if host and ":" in host else socket.AF_INET
    return [socket.create_server((host or "", port), family=family, **common)]


def prepare(listener: socket.socket, patience: float | None) -> None:
    """Set up a listening socket. The sockets accepted on it inherit this, which saves the calls for each of them.

    A peer that acknowledges nothing for `patience` seconds (None: as long as TCP tries) loses its connection.
    """
    listener.setblocking(False)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if patience is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(patience * 1000)))
