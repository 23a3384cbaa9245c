"""What can be learned about a peer without reading what it has said."""

from __future__ import annotations

import socket

RESET, ENDED = "reset", "ended"
CLOSED = 7  # TCP_CLOSE: the state of a connection that has ended, on Linux


def look_at(sock: socket.socket) -> str:
    """Whether the peer has RESET the connection, or ENDED its stream and all it had said was read; "" if neither.

    recv reports a reset, too, but only after all the data that came before it.
    """
    try:
        if not sock.recv(1, socket.MSG_PEEK):
            return ENDED
        about = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except BlockingIOError:
        return ""
    except (AttributeError, TypeError):  # another system; no plain socket
        return ""
    except OSError:
        return RESET
    return RESET if about[0] == CLOSED else ""
