"""Clients that speak TLS, for the load generator."""

from __future__ import annotations

import socket
import ssl


class Secured:
    """A socket on which TLS is spoken, from which what is in the records can be received."""

    def __init__(self, port: int, greeting: bytes) -> None:
        """Connect, and wait for the greeting."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
        self.fileno, self.send = self.sock.fileno, self.sock.send
        heard = b""
        while not heard.endswith(greeting):
            heard += self.sock.recv(1 << 16)
        self.sock.setblocking(False)

    def recv_into(self, buffer: bytearray | memoryview, size: int = 0, flags: int = 0) -> int:
        """As a socket's, one record at a time. What TLS has to decrypt, the system cannot throw away."""
        try:
            return self.sock.recv_into(buffer, size or None)
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
