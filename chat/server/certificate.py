"""TLS for members: the certificate, and each connection's wire."""

from __future__ import annotations

import errno
import socket
import ssl

from loop import TimedOut
from loop.gate import Gate
from loop.tls import NO_RENEGOTIATION, TLS, Broken, NotTLS

from ..files import must_be_file
from .listen import why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from loop.traps import Coroutine

TOLD = b"* You are disconnected: this port speaks TLS, and nothing else.\n"  # sent to a peer that does not speak TLS


class Secured(TLS):
    """A member's wire. `told` is sent to a peer that does not speak TLS."""

    __slots__ = ("told",)
    told: bytes

    def handshake(self, left: Callable[[], float]) -> Coroutine[str]:
        """COROUTINE. See Wire.handshake()."""
        try:
            yield from self.begin(left)
        except NotTLS:
            self.send_told()
            return "it does not speak TLS"
        except TimedOut:
            if not self.heard:  # perhaps the peer waits for us to speak first
                self.send_told()
            raise
        except Broken as error:
            return f"no TLS: {error.strerror}"
        return ""

    def send_told(self) -> None:
        """Send `told` as plain bytes, because the peer does not speak TLS."""
        try:
            self.socket.send(self.told)
        except OSError:
            pass


class Certificate:
    """A certificate and its key, in PEM files. Both can be in one file."""

    def __init__(self, certificate: str, key: str = "") -> None:
        """Raises ValueError, with a line for the user."""
        self.files = certificate, key
        self.gate = Gate()
        self.context: ssl.SSLContext
        self.load()

    def load(self) -> None:
        """Read the files, for new connections. If load() raises ValueError, the previous certificate stays in use."""
        certificate, key = self.files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= NO_RENEGOTIATION  # a renegotiation would make a write wait for a read
        context.num_tickets = 0  # a client that only writes would never read tickets, and be reset in the end
        try:
            for file in filter(None, self.files):
                must_be_file(file, once=True)
                open(file, "rb").close()  # load_cert_chain does not say which file it cannot read
            context.load_cert_chain(certificate, key or None, password=no_password)
        except ssl.SSLError as error:
            if "MISMATCH" in (error.reason or ""):
                raise ValueError(f"--tls: the key in {key or certificate} is not that of the certificate") from None
            if (error.reason or "").endswith(("TOO_SMALL", "TOO_WEAK")):
                reason = str(error.reason).replace("_", " ").lower()
                raise ValueError(f"--tls: OpenSSL does not accept {certificate}: {reason}") from None
            files = f"{certificate} and {key}" if key else certificate
            raise ValueError(f"--tls: there is no certificate with a key in {files}, or not in PEM format") from None
        except OSError as error:
            raise ValueError(f"--tls: cannot read {error.filename or certificate or repr('')}: {why(error)}") from None
        self.context = context

    def wire(self, sock: socket.socket, told: bytes = TOLD) -> Secured:
        """The wire of a connection that was accepted. Raises OSError if there is no memory for it."""
        try:
            address = sock.getpeername()[0]
        except OSError:
            address = ""  # the connection has failed already
        try:
            wire = Secured(sock, self.context, gate=self.gate, address=address)
        except ssl.SSLError:
            raise OSError(errno.ENOMEM, "no memory for TLS") from None
        wire.told = told
        return wire


def no_password() -> str:
    """Without this, OpenSSL would ask at the terminal, and the server would wait for an answer."""
    raise ValueError("--tls: the key has a password; write it without one: openssl pkey -in KEY -out FILE")
