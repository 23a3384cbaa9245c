"""What a member's bytes may go through on their way: the face that is asked of TLS, and of browsers.

A plain member has no wire. Its socket is sent to and received from, and has the same two methods; so a wire costs only
those that need one. What is above knows nothing of records and frames: it counts in bytes of the plain stream.

Two rules make this possible. What a wire has taken is sent, as far as anybody above is concerned: it cannot be taken
back, for half a record is not a record. So what the socket has not taken of it stays in the wire, `unsent`, and goes
out before anything else. And what has arrived is either given out by recv() or `pending`: a descriptor knows nothing of
bytes that have left it, so nobody may wait for it to become readable while there are some.
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
    """Made of a connected, non-blocking socket, which the server waits for, shuts down and closes itself."""

    @property
    def unsent(self) -> bool:
        """Whether something is inside that the socket has yet to take. About 64 KiB at most, whatever the peer does."""

    @property
    def pending(self) -> bool:
        """Whether recv() has something to return, be it the end, though the socket may not become readable again."""

    @property
    def cut(self) -> bool:
        """Whether the stream has ended without the wire's own end, so that what was unfinished is not whole."""

    def handshake(self, left: Callable[[], float]) -> Coroutine[str]:
        """COROUTINE. Returns "" when the peer can be greeted, or else why the connection ends: for the journal.

        All waits have `left()` for a timeout; see countdown(). Let TimedOut pass, and OSError. What the peer should
        know of its end was sent when this returns, as far as it could be.
        """

    def send(self, data: Piece) -> int:
        """Send what is unsent, then `data`; returns how much of it was taken if nothing has to wait.

        If something has to, raises BlockingIOError, with the count as its `characters_written`. Raises OSError if the
        connection has failed. b"": only what is unsent.
        """

    def recv(self, most: int) -> bytes:
        """What has arrived; b"" at the end of the stream. Takes at most about `most` bytes from the socket.

        Raises BlockingIOError if there is nothing yet, and OSError if the connection has failed or makes no sense. What
        the peer has to be told now is sent, or left unsent if it can't be: a failure to send is none to receive.
        """

    def end(self, reason: str) -> None:
        """Say that nothing follows, and why, in the wire's own way, or leave that unsent. Called once, and last."""


def finish(wire: Wire, sock: socket.socket, reason: str, left: Callable[[], float]) -> Coroutine[None]:
    """COROUTINE. Say that nothing follows; returns when it is sent. Raises TimedOut when no time is left."""
    wire.end(reason)
    while wire.unsent:
        yield from writable(sock, left())
        try:
            wire.send(b"")
        except BlockingIOError:
            pass
