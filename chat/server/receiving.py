"""The receiving side of a member: what has arrived from its peer, and when more may be read."""

from __future__ import annotations

import errno
import os

from loop import Cancelled, TimedOut, WaitQueue, readable, sleep

from ..framing import Framer, Messages
from .misuse import check_timeout
from .peer import ENDED, RESET, look_at, speaks_tls
from .room import encoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from loop import Task
    from loop.traps import Coroutine

    from .room import Hub
    from .wire import Wire

MOST = 1000  # messages that one receive() returns at most, so that no step of a handler takes long
MUCH = 64 << 10  # about how many bytes prefixes may add to the messages of one receive()
LOOK = 1.0  # seconds between two looks at a member that is not read from
VAIN = 100  # after so many fruitless reads since a timeout was over, it is raised even if more can be read
# b"" from recv() is the real end of the stream only if `failure` is one of these ("": no send has failed). After any
# other failed send, b"" hides a failure that the system reports only once.
REAL_END_AFTER = ["", *map(os.strerror, (errno.EPIPE, errno.ENOMEM, errno.ENOBUFS, errno.EPROTOTYPE))]

NOTHING: list[bytes] = []


class Receiver:
    """The receiving side of a member. Its sending side is in Member."""

    __slots__ = (
        "hub", "socket", "wire", "prefix",
        "framer", "unread", "heard_at", "slowed_until", "receiving", "peer_ended", "end_known", "asked_after_end",
        "kicked", "failure", "writer", "in_vain",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, prefix: bytes, hub: Hub, wire: Wire | None) -> None:
        self.hub = hub
        self.socket = sock
        self.wire = wire  # what its bytes go through; None: the socket alone
        self.prefix = prefix  # put before what it says
        self.framer: Framer | None = None  # made when the first bytes come
        self.unread = NOTHING  # messages that have arrived and were not returned yet
        self.heard_at = hub.kernel.clock() if hub.timed else 0.0  # when it said something last; for --idle-timeout
        self.slowed_until = 0.0  # --max-rate allows nothing before this time
        self.receiving = False  # whether its handler is in receive()
        self.peer_ended = False
        self.end_known = False  # whether its handler knows that nothing more will come
        self.asked_after_end = False  # whether its handler has asked for messages after the end or a kick
        self.kicked = False
        self.failure = ""  # why a send or a read has failed
        self.writer: Task | None = None  # its deliver() task, while it is BEHIND
        self.in_vain = 0  # reads that brought nothing, such as a browser's pings, since a timeout was over

    # For handlers.

    def receive(self, timeout: float | None = None) -> Coroutine[list[bytes]]:
        """COROUTINE. Returns the messages that have arrived, without newlines, at least one.

        At the end of the stream, returns an empty list, once. Raises TimedOut if no message is complete after `timeout`
        seconds (None: waits for ever; negative: as 0), and OSError if the connection has failed: a handler should
        not catch OSError. The next call after the end or a failure ends the handler.

        If something has arrived in time, but Pace or --max-rate does not let it be read yet, waits beyond `timeout`.
        """
        if self.kicked or self.end_known:
            yield from self.refuse()
        hub = self.hub
        deadline = None if timeout is None else hub.kernel.clock() + check_timeout(timeout)
        self.receiving = True
        try:
            if self.unread:
                yield from sleep(0)
                if hub.pace.held or self.writer:
                    yield from self.be_held()
                return self.portion(self.unread)
            if self.peer_ended:
                self.end_known = True
                return []
            while True:
                failed = False
                if hub.timed or deadline is not None or self.failure or self.wire:
                    failed = yield from self.wait(deadline)
                else:
                    yield from readable(self.socket)  # not recv(): how much may be read is decided only after the wait
                if hub.pace.held or self.writer:
                    yield from self.be_held()
                try:
                    data = self.read(hub.pace.share())
                except BlockingIOError:
                    if failed:
                        raise ConnectionError(self.failure) from None
                    self.in_vain += 1
                    continue
                if not data:
                    self.peer_ended = True
                    rest = self.framer.finish() if self.framer and not (self.wire and self.wire.cut_off) else []
                    self.end_known = not rest
                    return rest
                if self.framer is None:
                    if speaks_tls(data):
                        self.kick("this port does not speak TLS")
                        yield from sleep(0)  # raises Cancelled: the handler ends
                    self.framer = Framer()
                messages = self.framer.receive_data(data)
                if hub.timed:
                    self.account(data, messages)
                if type(messages) is Messages or messages:  # a Messages is never empty; its __bool__ would cost a call
                    # Data as short as this cannot have too many messages in it.
                    little = len(data) < MOST and type(self.prefix) is bytes and len(data) * len(self.prefix) < MUCH
                    return messages if little else self.portion(messages)
        except OSError as error:  # the connection has failed, or the system had no memory for the wait
            self.failure = self.failure or error.strerror or str(error)
            self.end_known = True
            raise
        finally:
            self.receiving = False

    # What receive() is made of.

    def wait(self, deadline: float | None) -> Coroutine[bool]:
        """COROUTINE. Returns when there may be something to read, and --max-rate allows it. Raises TimedOut.

        Returns True if the connection has failed and there is nothing to read any more.

        --max-rate is an average. After a silence, one second's worth is free, because a paste is no flood. A member
        that says nothing for --idle-timeout is kicked here.
        """
        clock, idle_timeout = self.hub.kernel.clock, self.hub.options.idle_timeout
        if self.slowed_until > clock():
            if deadline is not None and self.slowed_until > deadline and not (self.wire and self.wire.pending):
                yield from readable(self.socket, deadline - clock())  # TimedOut if nothing comes in time
            yield from sleep(self.slowed_until - clock())
        if self.wire and self.wire.pending:
            yield from sleep(0)
            return False
        # Wait until the deadline, or until the member has been silent for too long, whichever comes first.
        until = deadline
        if idle_timeout is not None and (until is None or self.heard_at + idle_timeout < until):
            until = self.heard_at + idle_timeout
        if self.failure:
            until = clock()  # only look: nothing more will come
        elif until is None or until > clock():
            self.in_vain = 0
        try:
            if self.in_vain > VAIN and not self.failure:
                raise TimedOut("time is up")
            yield from readable(self.socket, None if until is None else until - clock())
        except TimedOut:
            if self.failure:
                return True
            if until == deadline:
                raise
            self.kick(f"silent for {idle_timeout:g} s")
            yield from sleep(0)  # raises Cancelled: the handler ends
        return False

    def be_held(self) -> Coroutine[None]:
        """COROUTINE. Returns when the member may be read from. Raises OSError if the connection has failed.

        While Pace holds it, looks every second for a reset. Also returns if the peer has ended its stream, and
        everything before this end was read.
        """
        pace = self.hub.pace
        while pace.held or self.overfed:
            if self.overfed:
                yield from self.wait_for_progress(None)
                continue
            try:
                yield from pace.released.wait(LOOK)
            except TimedOut:
                state = "" if self.unread else look_at(self.socket)
                if state == RESET:
                    raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None
                if state == ENDED:
                    return

    def account(self, data: bytes, messages: list[bytes]) -> None:
        """Note when `data` has arrived, for --idle-timeout, and its size with prefixes, for --max-rate.

        `messages` are those that are complete now. Each of them goes out with a prefix.
        """
        self.heard_at = self.hub.kernel.clock()
        if max_rate := self.hub.options.max_rate:
            size = len(data) + len(messages) * len(encoded(self.prefix, "a prefix"))
            a_second_ago = self.heard_at - 1
            self.slowed_until = max(self.slowed_until, a_second_ago) + size / max_rate

    def portion(self, messages: list[bytes]) -> list[bytes]:
        """Return the first of these messages and keep the others, so that one step of a handler is bounded."""
        prefix = encoded(self.prefix, "a prefix")
        most = MOST if MOST * len(prefix) <= MUCH else MUCH // len(prefix) + 1
        number = messages.how_many(prefix) if type(messages) is Messages else len(messages)
        if number <= most:
            self.unread = NOTHING
            return messages
        self.unread = messages[most:]
        return messages[:most]

    def read(self, most: int) -> bytes:
        """Receive at most so many bytes; b"" at the end of the stream. Raises OSError if the connection has failed."""
        try:
            data = (self.wire or self.socket).recv(most)
        except BlockingIOError:
            raise
        except OSError as error:
            self.failure = error.strerror or str(error)
        else:
            if data or self.failure in REAL_END_AFTER:
                return data
        finally:
            if self.wire and self.wire.unsent:
                self.stand_apart()  # recv() has left an answer to the peer in the wire; spread() sends it
        raise ConnectionError(self.failure)  # the failure of recv() just now, or of an earlier send

    def refuse(self) -> Coroutine[None]:
        """COROUTINE. Ends a handler that asks for messages after the end or a kick.

        A handler that catches Cancelled and asks again waits here until it is dropped.
        """
        if not self.asked_after_end:
            self.asked_after_end = True
            raise Cancelled
        self.hub.insist(self, 0.0)
        yield from WaitQueue().wait()

    # Parts of the sending side that are called here. Member defines them.

    @property
    def overfed(self) -> bool:
        """Whether so much is due to the member that it is not read from."""
        raise NotImplementedError

    def wait_for_progress(self, timeout: float | None) -> Coroutine[None]:
        raise NotImplementedError

    def stand_apart(self) -> None:
        raise NotImplementedError

    def kick(self, reason: bytes | str) -> None:
        raise NotImplementedError
