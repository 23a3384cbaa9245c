"""What the system knows of a peer."""

from __future__ import annotations

import socket
import sys

import pytest
from chatting import HERE, linux

from chat.server.peer import acknowledged, look_at


@linux
def test_only_linux_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """FreeBSD has a TCP_INFO, too, with other fields: a peer that takes everything would seem to take nothing."""
    with socket.create_server((HERE, 0)) as listener, socket.create_connection(listener.getsockname()) as peer:
        sock, _ = listener.accept()
        with sock:
            sock.setblocking(False)
            sock.send(b"hello\n")
            assert peer.recv(6) == b"hello\n" and acknowledged(sock) == 6 and look_at(sock) == ""
            monkeypatch.setattr(sys, "platform", "freebsd14")
            assert acknowledged(sock) is None and look_at(sock) == ""
