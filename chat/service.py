"""Running under systemd, by its plain protocol: sockets it has opened for us, and telling it how we are.

Other supervisors speak it too. Without one, nothing here does anything.
"""

from __future__ import annotations

import os
import socket

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


def notify(state: str) -> None:
    """Tell the supervisor: "READY=1", "STOPPING=1"."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            sock.send(state.encode())
    except OSError:
        pass  # it is gone; the chat is none the worse
