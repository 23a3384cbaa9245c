"""A member's wire to a browser: HTTP until the browser is let in, then frames, over a socket or over TLS."""

from __future__ import annotations

import errno

from loop import ReadWait, TimedOut, readable, sleep, writable

from ..member import NEW, OVER
from ..sending import taken
from .frames import PING, Incoming, Outgoing, goodbye
from .site import HEAD, Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable
    from typing import Callable

    from loop.traps import Coroutine

    from ..member import Member
    from ..outbox import Piece
    from ..pace import Pace
    from ..wire import Wire

CODES = {"left": 1000, "end of stream": 1000, "the server is ending": 1001, "its handler failed": 1011}
SENT_AWAY = 1008  # the code for all other ends: "policy violation"
PAUSE = 20.0  # seconds between two pings: proxies end a connection that is silent for a minute
READ = 4096  # bytes read at once, not more: they may be 680 frames, each of which takes some 15 us to parse
SHORT = 512  # the same, if the last frames brought little text
UNANSWERED = 3  # after so many pings without an answer, a browser is gone
AT_ONCE = 100  # how many members one step looks at


class Door:
    """What all browsers of a server share."""

    def __init__(self, origins: list[str]) -> None:
        self.site = Site(origins)
        self.outgoing = Outgoing()


class BrowserWire:
    """A Wire; see chat/server/wire.py for what its methods promise. `below` is the socket, or TLS over it."""

    __slots__ = (
        "door", "outgoing", "socket", "tls", "below",
        "incoming", "inside", "hollow", "rest", "lost", "pings", "ended", "closed",
    )  # fmt: skip

    def __init__(self, door: Door, sock: socket.socket, tls: Wire | None = None) -> None:
        self.door = door
        self.outgoing = door.outgoing
        self.socket = sock
        self.tls = tls
        self.below: socket.socket | Wire = tls or sock
        self.incoming: Incoming | None = None  # from the handshake on
        self.inside = b""  # lines that have come, and that recv() has not returned yet
        self.hollow = True  # whether less than half of what was received last was text, though it brought some
        self.rest: bytes | memoryview = b""  # frames, or the rest of one, that are to be sent before anything else
        self.lost: tuple[object, ...] = ()  # the `args` of the OSError that try_to_flush() got; (): it got none
        self.pings = 0  # how many were sent since the browser last sent anything
        self.ended = False  # whether nothing will be sent after `rest`
        self.closed = False  # whether the stream inside TLS was ended

    @property
    def cut_off(self) -> bool:
        """Whether the stream has ended within a message."""
        return self.incoming is not None and self.incoming.decoder is not None

    @property
    def unsent(self) -> bool:
        return bool(self.rest) or (self.tls is not None and self.tls.unsent)

    @property
    def pending(self) -> bool:
        if self.inside or (self.incoming and self.incoming.ended):
            return True
        return self.tls is not None and self.tls.pending

    # Before the browser is let in.

    def handshake(self, left: Callable[[], float]) -> Coroutine[str]:
        """COROUTINE. Answers one request. Returns "" if a WebSocket is open now; otherwise why not, for the journal."""
        if self.tls and (why := (yield from self.tls.handshake(left))):
            return why
        site = self.door.site
        head = b""
        try:
            while (answer := site.answer(head)) is None:
                data = yield from self.more(left)
                if not data:
                    return "end of stream"
                head += data
        except TimedOut:
            answer = site.late()
        self.rest = answer.data
        if answer.protocol:
            self.incoming = Incoming(answer.protocol)
            self.inside = self.incoming.receive_data(head[head.index(b"\r\n\r\n") + 4 :])
        else:
            self.ended = True
        self.flush()
        while self.unsent:
            yield from writable(self.socket, left())
            self.flush()
        return "" if answer.protocol else answer.what

    def more(self, left: Callable[[], float]) -> Coroutine[bytes]:
        """COROUTINE. Returns the next bytes of a request; b"" at the end of the stream."""
        while True:
            if not self.pending:
                yield from readable(self.socket, left())
            try:
                return self.below.recv(HEAD)
            except BlockingIOError:
                pass

    # The conversation.

    def send(self, data: Piece) -> int:
        if self.rest or not data:
            self.flush()
            if self.unsent:
                raise BlockingIOError(errno.EAGAIN, "", 0)
            if not data:
                return 0
        outgoing = self.outgoing
        frames = outgoing.frames if data is outgoing.text else outgoing.frame(data)
        try:
            if (sent := self.below.send(frames.data)) == frames.size:
                return frames.taken
        except BlockingIOError as error:
            sent = taken(error)
        if not sent:
            raise BlockingIOError(errno.EAGAIN, "", 0)
        self.rest, count = frames.cut(sent)
        raise BlockingIOError(errno.EAGAIN, "", count)

    def recv(self, most: int) -> bytes:
        incoming = self.incoming
        assert incoming
        if not (self.inside or incoming.ended):
            data = self.below.recv(min(most, SHORT if self.hollow else READ))
            if not data:
                if self.lost:  # try_to_flush() has got this error, and the system reports it only once
                    raise OSError(*self.lost)
                return b""
            self.pings = 0
            self.inside = incoming.receive_data(data)
            self.hollow = 0 < 2 * len(self.inside) < len(data)
        if incoming.pong:
            self.try_to_flush()
        if self.inside:
            said, self.inside = self.inside, b""
            return said
        if incoming.failure:
            self.end(incoming.failure)
            raise ConnectionError(errno.EPROTO, incoming.failure)
        if incoming.ended:
            return b""
        raise BlockingIOError(errno.EAGAIN, "")

    def end(self, reason: str) -> None:
        if not self.ended:
            self.ended = True
            incoming, last = self.incoming, b""
            if incoming and incoming.failure in ("", reason):
                last = incoming.farewell
            self.rest = bytes(self.rest) + (last or goodbye(CODES.get(reason, SENT_AWAY), reason))
        self.try_to_flush()

    def flush(self) -> None:
        """Send what is unsent, as far as the socket takes it. Raises OSError if the connection has failed."""
        if self.lost:
            raise OSError(*self.lost)
        while True:
            if not self.rest and self.incoming and not self.ended:
                self.rest, self.incoming.pong = self.incoming.pong, b""
            if not (self.rest or (self.tls and self.tls.unsent)):
                break
            try:
                sent = self.below.send(self.rest)
            except BlockingIOError as error:
                sent = taken(error)
                if not sent:
                    return
            self.rest = self.rest[sent:] if sent < len(self.rest) else b""
        if self.ended and self.tls and not self.closed:
            self.closed = True
            self.tls.end("")

    def try_to_flush(self) -> None:
        """Like flush(), but keeps a failure for the next send, because the system reports it only once."""
        try:
            self.flush()
        except OSError as error:
            self.lost = error.args

    def ping(self) -> None:
        """Ask the browser for a sign of life, unless it is behind."""
        if not (self.unsent or self.ended):
            self.pings += 1
            self.rest = PING
            self.try_to_flush()


def keep_alive(connections: Iterable[Member], pace: Pace) -> Coroutine[None]:
    """COROUTINE. Pings all browsers once in a while. Kicks those that have not answered, although we read from them."""
    while True:
        yield from sleep(PAUSE)
        if pace.held:
            continue
        for number, member in enumerate(list(connections), 1):
            if number % AT_ONCE == 0:
                yield from sleep(0)
            wire = member.wire
            if not isinstance(wire, BrowserWire) or member.sending in (NEW, OVER):
                continue
            if wire.pings < UNANSWERED:
                wire.ping()
                if wire.unsent:
                    member.stand_apart()  # so that spread() sends the rest
            elif member.receiving and isinstance(member.task.waits_for, ReadWait):
                member.kick(f"no answer to a ping for {UNANSWERED * PAUSE:g} s")
