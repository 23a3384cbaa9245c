"""Two sockets connected to each other: the fixture `pair`."""

from __future__ import annotations

import socket

Pair = tuple[socket.socket, socket.socket]


def fill(sock: socket.socket) -> None:
    """Leave no room."""
    for size in (65536, 1):
        try:
            while True:
                sock.send(bytes(size))
        except BlockingIOError:
            pass
