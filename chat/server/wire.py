"""What translates between a member and its socket: the methods that TLS and browsers have to provide.

A plain member has no wire. Its socket has the same two methods, send and recv, so only members that need a wire pay for
it. The rest of the server knows nothing of records and frames: it counts in bytes of the plain stream.

Two rules make this possible. First, what a wire has taken counts as sent: it cannot be taken back, because half a
record is not a record. What the socket has not taken of it stays in the wire, `unsent`, and goes out before anything
else. Second, what has arrived is either returned by recv() or `pending`: a descriptor does not report bytes that were
taken from it. So a task must not wait for the descriptor while something is pending.
"""

from __future__ import annotations

from loop import writable
from loop.traps import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Callable

    from loop.traps import Coroutine

    from .outbox import Piece

    MakeWire = Callable[[socket.socket], "Wire"]


class Wire(Protocol):
    """Made from a connected, non-blocking socket. Only the server shuts the socket down and closes it."""

    @property
    def unsent(self) -> bool:
        """Whether the wire has something that the socket has not taken yet. This is never more than about 64 KiB."""

    @property
    def pending(self) -> bool:
        """Whether recv() has data or the end to return, even if the socket does not become readable again."""

    @property
    def cut_off(self) -> bool:
        """Whether the peer's stream has ended without the wire's sign of the end: an unfinished message is ignored."""

    def handshake(self, left: Callable[[], float]) -> Coroutine[str]:
        """COROUTINE. Returns "" when the peer can be greeted, or else why the connection ends: for the journal.

        Tries to tell the peer this reason before returning it. The timeout of each wait is `left()`; see
        countdown(). Raises TimedOut and OSError.
        """

    def send(self, data: Piece) -> int:
        """Send what is unsent, then `data`, which may be b"". Returns how much of `data` was taken.

        If something is unsent after that, raises BlockingIOError, with that count as its `characters_written`. Raises
        OSError if the connection has failed.
        """

    def recv(self, most: int) -> bytes:
        """Return what has arrived; b"" at the end of the stream. Takes at most about `most` bytes from the socket.

        Raises BlockingIOError if there is nothing yet, and OSError if the connection has failed or what came makes no
        sense. If the peer has to get an answer, recv() also tries to send this. If that fails, the next send() raises
        the error.
        """

    def end(self, reason: str) -> None:
        """Tell the peer that nothing follows, and why. This may stay `unsent`. A second call does nothing."""


def finish(wire: Wire, sock: socket.socket, reason: str, left: Callable[[], float]) -> Coroutine[None]:
    """COROUTINE. Says that nothing follows; returns when that is sent. Raises TimedOut when no time is left."""
    wire.end(reason)
    while wire.unsent:
        yield from writable(sock, left())
        try:
            wire.send(b"")
        except BlockingIOError:
            pass
