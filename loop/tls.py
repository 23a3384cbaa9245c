"""TLS over a non-blocking socket. It has the methods of a socket; what goes through it travels in encrypted records.

Readiness is not enough here. The descriptor is ready when there are bytes, but data is given out only when a record is
whole. Records that were read together with this one do not make the descriptor readable again. A read sometimes has to
write something, such as an answer when the peer changes its key. And a record must not change once a part of it was
sent. So the records are kept in memory, apart from the socket. A read takes what the socket has, and returns all that
is complete. A write puts its data into records, and these are kept until the socket has taken them.
"""

from __future__ import annotations

import errno
import socket
import ssl

from .gate import Gate
from .stream import recv, sleep, writable
from .traps import Coroutine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Union

    Data = Union[bytes, bytearray, memoryview]

RECORD = 16 << 10  # bytes in a record, at most
SHORT = 2 << 10  # bytes that are read if little of them may be data: 75 changes of keys, of 30 us each, or 90 letters
# OpenSSL 3 sets this by default; PyPy 3.9 has no name for it
NO_RENEGOTIATION = getattr(ssl, "OP_NO_RENEGOTIATION", 1 << 30)
BEGINNINGS = 21, 22  # the first byte of an alert, and of a handshake
ALERTS = "tlsv1 alert ", "tlsv13 alert ", "sslv3 alert "  # how OpenSSL names what the peer has complained about


class Broken(OSError):
    """What has come is no TLS that can be accepted; `strerror` says why."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPROTO, why)


class NotTLS(Broken):
    """The peer does not speak TLS at all."""


class TLS:
    """One end of a connection: the client's if there is a `host`, which the server's certificate must name.

    send() and recv() are used like those of a non-blocking socket, with two differences. A task that wants to wait for
    the socket to become readable has to check first that nothing is `pending`. What is `unsent` goes out with the next
    send().
    """

    __slots__ = (
        "address", "cut_off", "ended", "failure", "gate", "heard", "hollow", "incoming", "kept", "lost", "outgoing",
        "socket", "ssl",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        host: str | None = None,
        gate: Gate | None = None,
        address: str = "",
    ) -> None:
        """Without a `host`, this is the server's end. Its handshake waits at the `gate`, under its peer's `address`."""
        self.socket = sock
        self.gate = gate or Gate()
        self.address = address
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()  # records
        self.ssl = context.wrap_bio(self.incoming, self.outgoing, server_side=host is None, server_hostname=host)
        self.kept: Data = b""  # came out of `outgoing`, and waits for the socket to take it
        self.heard = False  # whether something has come
        self.hollow = True  # whether less than half of what was received last was data
        self.ended = False  # whether the peer's stream has ended
        self.cut_off = False  # whether it has ended without close_notify: then an attacker may have ended it
        self.failure = ""  # why received bytes were refused; a text, since an exception keeps frames alive
        self.lost: tuple[object, ...] = ()  # the `args` of the OSError that try_to_flush() got; (): it got none

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        """Close the socket, without telling the peer; see end()."""
        self.socket.close()

    @property
    def unsent(self) -> bool:
        """Whether there is something that the socket has yet to take; up to two records."""
        return bool(self.kept) or self.outgoing.pending > 0

    @property
    def pending(self) -> bool:
        """Whether recv() has something to return, even if the socket is not readable."""
        return self.ended or bool(self.failure) or self.incoming.pending > 0

    def begin(self, left: Callable[[], float | None]) -> Coroutine[None]:
        """COROUTINE. The handshake. Raises Broken, or another OSError, or TimedOut.

        `left()` is each wait's timeout; see countdown(). A handshake that fails sends the peer an alert, if possible.
        """
        done = False
        while True:
            yield from self.gate.enter(self.address)
            try:
                done = self.shake()
                yield from sleep(0)
            finally:
                self.gate.leave()
            while self.unsent:
                try:
                    self.flush()
                except BlockingIOError:
                    yield from writable(self.socket, left())
            if done:
                return
            data = yield from recv(self.socket, RECORD, left())
            if not data:
                raise Broken("end of stream")
            if not self.heard and data[0] not in BEGINNINGS:
                raise NotTLS("not TLS")
            self.heard = True
            self.incoming.write(data)

    def shake(self) -> bool:
        """Go on with the handshake as far as is possible now; returns whether it is done."""
        try:
            self.ssl.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self.try_to_flush()
            raise Broken(why(error)) from None

    def send(self, data: Data) -> int:
        """Send what is unsent, and then `data`; returns the size of `data` if all of it was sent.

        Otherwise raises BlockingIOError, whose `characters_written` says how many bytes of `data` were taken.
        """
        self.flush()
        size = len(data)
        taken = 0
        while taken < size:
            part = data if size <= RECORD else memoryview(data)[taken : taken + RECORD]
            taken += self.ssl.write(part)  # all of it, because it goes to memory
            self.flush(taken)
        return taken

    def flush(self, taken: int = 0) -> None:
        """Send what is unsent. If some stays unsent, raises BlockingIOError, whose `characters_written` is `taken`."""
        if self.lost:
            raise OSError(*self.lost)
        while data := self.kept or self.outgoing.read():
            self.kept = data
            try:
                sent = self.socket.send(data)
            except BlockingIOError as error:
                error.characters_written = taken
                raise
            self.kept = memoryview(data)[sent:] if sent < len(data) else b""

    def try_to_flush(self) -> None:
        """Send what is unsent, as far as that is possible. If it fails, the next send() raises the error."""
        try:
            self.flush()
        except BlockingIOError:
            pass
        except OSError as error:  # the system reports this error only once
            self.lost = error.args

    def recv(self, most: int) -> bytes:
        """Take up to `most` bytes from the socket, and return all that is complete now; b"" at the end of the stream.

        Raises BlockingIOError if nothing is complete, Broken if what came makes no sense, or what the socket raises.
        """
        data = b""
        if not self.pending:
            data = self.socket.recv(min(most, SHORT) if self.hollow else most)
            if not data and self.lost:  # not the end: the connection has failed, and try_to_flush() got that error
                raise OSError(*self.lost)
            self.incoming.write(data)
            self.ended = self.cut_off = not data  # b"" means cut off: after close_notify, nothing is read here
        pieces = []
        try:
            while not (self.ended or self.failure):
                if piece := self.ssl.read(RECORD):
                    pieces.append(piece)
                    if not self.incoming.pending:
                        break
                else:  # close_notify
                    self.ended = True
        except ssl.SSLWantReadError:
            pass  # the last record is not whole yet
        except ssl.SSLZeroReturnError:  # close_notify, after we have sent ours
            self.ended = True
        except ssl.SSLError as error:
            self.failure = why(error)
        self.hollow = 2 * sum(map(len, pieces)) < len(data)
        if self.kept and self.outgoing.pending > RECORD and not self.failure:  # our answers pile up
            self.failure = "it asks for new keys, and does not read"
        elif self.outgoing.pending:  # reading has made something to be written: an answer to a new key, or an alert
            self.try_to_flush()
        if pieces:  # the next call tells the end or a failure
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self.ended:
            return b""
        if self.failure:
            raise Broken(self.failure)
        raise BlockingIOError(errno.EAGAIN, "no record is complete")

    def end(self, reason: str = "") -> None:
        """Send close_notify: nothing follows. What the peer sends can still be read. close_notify may stay `unsent`."""
        try:
            self.ssl.unwrap()
        except ssl.SSLError:
            pass  # unwrap() would like to wait for the peer's close_notify
        self.try_to_flush()


def why(error: ssl.SSLError) -> str:
    """What OpenSSL complains about, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not to be trusted: {error.verify_message.rstrip('.')}"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    for alert in ALERTS:
        if reason.startswith(alert):
            return f"the other side complains: {reason[len(alert) :]}"
    return reason
