"""What the system knows of a peer, without reading from it or sending to it."""

from __future__ import annotations

import sys

from loop.bare import socket

RESET, ENDED = "reset", "ended"
TAKEN = slice(120, 128)  # where tcp_info has tcpi_bytes_acked, since Linux 4.2
TCP_CLOSE = 7  # the state of a connection that has ended, on Linux


def look_at(sock: socket.socket) -> str:
    """RESET if the peer has reset the connection, ENDED if it has ended its stream and all was read; else "".

    recv reports a reset, too, but only after all the data that came before it.
    """
    try:
        if not sock.recv(1, socket.MSG_PEEK):
            return ENDED
        if sys.platform != "linux":
            return ""
        about = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except BlockingIOError:
        return ""
    except OSError:
        return RESET
    return RESET if about[0] == TCP_CLOSE else ""


def acknowledged(sock: socket.socket) -> int | None:
    """How many bytes the peer has acknowledged; None where the system does not tell.

    Whether a socket is writable says less. Linux calls it writable only when a third of its buffer is free, perhaps a
    megabyte, and a slow reader can take minutes for that.
    """
    if sys.platform != "linux":  # FreeBSD has a TCP_INFO with other fields
        return None
    try:
        about = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TAKEN.stop)
    except OSError:
        return None
    return int.from_bytes(about[TAKEN], sys.byteorder) if len(about) == TAKEN.stop else None


def speaks_tls(data: bytes) -> bool:
    """Whether `data` begins with a ClientHello: the head of a record, the head of the message, each with a version."""
    return data[:2] == b"\x16\x03" and data[2:3] <= b"\x04" and data[5:7] == b"\x01\x00" and data[9:10] == b"\x03"
