"""One connected client: what it says, and what is due to it."""

from __future__ import annotations

import errno
import os

from loop import Cancelled, ReadWait, TimedOut, WaitQueue, readable, sleep

from ..framing import Framer
from .outbox import Feed, Outbox
from .peer import ENDED, RESET, TLS, acknowledged, look_at, speaks_tls
from .room import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from loop import Task
    from loop.traps import Coroutine

    from .room import Hub, Room, Text
    from .wire import Wire

MOST = 1000  # messages that one receive() returns: so that no step of a handler takes long
KICKED = 1.0  # seconds for the handler of a member that was kicked to end
LOST = 10.0  # seconds for the handler of one that can't be sent to, to read what its peer had said
# Failures of a send, "" for none, after which b"" from recv() still is the peer's end. After any other, it hides that
# the connection has failed: the system tells of that once, and the send was told.
PASSING = ["", *map(os.strerror, (errno.EPIPE, errno.ENOMEM, errno.ENOBUFS))]
HELD = 1.0  # seconds between two looks at a member that is not read from
MUCH = 64 << 10  # bytes of prefixes that the messages of one receive() may need, at most

# The states of a member's sending side. Only become() changes it.
NEW = "new"  # its task has not begun, or shakes hands: nothing is sent to it yet
TOGETHER = "together"  # it has caught up and shares its room's outbox; spread() sends to it
APART = "apart"  # it has an outbox of its own, which spread() sends in its next round
BEHIND = "behind"  # it does not take what it is sent: a task of its own, deliver(), writes what is in its outbox
OVER = "over"  # nothing is sent to it any more

NOTHING: list[bytes] = []
CLOSED = Outbox(Feed())  # for all that are over
CLOSED.close()


class Member:
    """A client as its handler sees it: receive() what it says, tell() it something. Handlers may set attributes.

    `name` is its address and port, `host` the address, `prefix` is put before what it says, `room` is the one it hears.
    """

    __slots__ = (
        "name", "host", "prefix", "room", "__dict__",
        "hub", "socket", "wire", "task",
        "framer", "unread", "heard_at", "paid", "receiving", "peer_ended", "end_told", "refused",
        "sending", "outbox", "writer", "drained",
        "reason", "kicked", "failure", "handled",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, host: str, port: int, hub: Hub, wire: Wire | None = None) -> None:
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.host = host
        self.prefix = f"{host}: ".encode() if hub.options.prefix else b""
        self.room: Room | None = None
        self.hub = hub
        self.socket = sock
        self.wire = wire  # what its bytes go through; None: the socket alone
        self.task: Task  # runs its handler
        # The receiving side.
        self.framer = Framer()
        self.unread = NOTHING  # messages that have arrived and were not returned yet
        self.heard_at = hub.kernel.clock() if hub.timed else 0.0  # for --idle-timeout
        self.paid = 0.0  # the time up to which it has used up its --max-rate
        self.receiving = False  # its handler is in receive()
        self.peer_ended = False
        self.end_told = False  # its handler knows that there is nothing to come
        self.refused = False  # its handler has asked for messages after the end
        # The sending side.
        self.sending = NEW  # its state
        self.outbox = Outbox(hub.nowhere.feed)
        self.writer: Task | None = None  # deliver()
        self.drained: WaitQueue | None = None  # where its task waits for what is due to be sent
        # Its end.
        self.reason = ""  # why it ends, once that is certain
        self.kicked = False
        self.failure = ""  # why its connection has failed
        self.handled = False  # its handler has ended

    # For handlers.

    def receive(self, timeout: float | None = None) -> Coroutine[list[bytes]]:
        """COROUTINE. Returns the messages that have arrived, without newlines, at least one.

        An empty list, once, at the end of the stream. Raises TimedOut if none is complete after `timeout` seconds
        (None: however long it takes). An OSError, when the connection has failed, passes through here: let it pass.
        Asked again after either, it ends the handler.
        """
        if self.kicked or self.end_told:
            yield from self.refuse()
        hub = self.hub
        deadline = None if timeout is None else hub.kernel.clock() + timeout
        if self.unread:
            yield from sleep(0)
            if hub.pace.held or self.sending == BEHIND:
                yield from self.be_held(deadline)
            return self.portion(self.unread)
        if self.peer_ended:
            self.end_told = True
            return []
        self.receiving = True
        try:
            while True:
                if hub.timed or deadline is not None or self.failure or self.wire:
                    yield from self.wait(deadline)
                else:
                    yield from readable(self.socket)  # not recv(): how much may be read is decided only after the wait
                if hub.pace.held or self.sending == BEHIND:
                    yield from self.be_held(deadline)
                try:
                    data = self.read(hub.pace.share())
                except BlockingIOError:
                    continue
                if not data:
                    self.peer_ended = True
                    rest = self.framer.finish() if not (self.wire and self.wire.cut) else []
                    self.end_told = not rest
                    return rest
                if data[0] == TLS and speaks_tls(data):
                    self.kick("this port does not speak TLS")
                    yield from sleep(0)  # here the handler ends
                messages = self.framer.receive_data(data)
                prefixes = len(messages) * len(self.prefix)
                if hub.timed:
                    self.account(len(data) + prefixes)
                if messages:
                    return messages if len(messages) < MOST and prefixes < MUCH else self.portion(messages)
        except OSError as error:  # the connection has failed, or the system had no memory for the wait
            self.failure = self.failure or error.strerror or str(error)
            self.end_told = True
            raise
        finally:
            self.receiving = False

    def tell(self, line: Text) -> None:
        """Send a line to this member alone, after what was published before and ahead of what is published later.

        A newline in it becomes a space.
        """
        text = one_line(line) + b"\n"
        if self.outbox.feed is None:
            return
        if not (self.hub.cluster and self.hub.cluster.tell(self, text)):
            self.queue(text)

    def queue(self, line: bytes) -> None:
        """A line for this member alone is due now."""
        if self.outbox.feed is None:
            return
        if self.sending == TOGETHER:
            self.become(APART)
        self.outbox.tell(line)
        if self.outbox.lag > self.hub.options.max_lag:
            self.kick(f"more than {self.hub.options.max_lag} bytes behind")

    def kick(self, reason: str, keep: bool = False) -> None:
        """Disconnect the member: cancel its handler, and tell it why, instead of all that was due to it.

        With `keep`, after all that was due.
        """
        if not self.reason:
            self.kicked = True
            self.dismiss(reason, keep)
            self.task.cancel()
            self.hub.insist(self, KICKED)

    def enter(self, room: Room | None) -> None:
        """Hear that room from now on; None: hear only what tell() says. What was already due comes first."""
        if self.outbox.feed is None:
            return
        self.stand_apart()
        before, self.room = self.room, room
        if before:
            del before.present[self]
        self.outbox.enter((room or self.hub.nowhere).feed)
        if room:
            room.present[self] = None
        if self.hub.cluster:
            if room:
                self.hub.cluster.enter(room, self)
            if before:
                self.hub.cluster.leave(before, self)

    # The receiving side.

    def wait(self, deadline: float | None) -> Coroutine[None]:
        """COROUTINE. Returns when there may be something to read, and --max-rate allows it. Raises TimedOut.

        --max-rate is kept on average. After a silence the first second's worth is free, because a paste is no flood. A
        member that says nothing for --idle-timeout is kicked here.
        """
        clock, idle_timeout = self.hub.kernel.clock, self.hub.options.idle_timeout
        if (early := self.paid - clock()) > 0:
            if deadline is not None and clock() + early > deadline:
                yield from sleep(max(0.0, deadline - clock()))
                raise TimedOut("no message came in time")
            yield from sleep(early)
        if self.wire and self.wire.pending:
            yield from sleep(0)
            return
        until = deadline
        if idle_timeout is not None and (until is None or self.heard_at + idle_timeout < until):
            until = self.heard_at + idle_timeout
        if self.failure:
            until = 0.0  # all that will ever come is there
        try:
            yield from readable(self.socket, None if until is None else max(0.0, until - clock()))
        except TimedOut:
            if self.failure:
                return
            if until == deadline:
                raise
            self.kick(f"silent for {idle_timeout:g} s")
            yield from sleep(0)  # here the handler ends

    def be_held(self, deadline: float | None) -> Coroutine[None]:
        """COROUTINE. Returns when it may be read from. Raises TimedOut, and OSError if the connection has failed.

        Meanwhile it notices a reset, and the end of the stream if nothing unread comes before it.
        """
        pace, clock = self.hub.pace, self.hub.kernel.clock
        while pace.held or self.overfed:
            left = None if deadline is None else deadline - clock()
            if left is not None and left <= 0:
                raise TimedOut("no message came in time")
            try:
                if self.overfed:
                    yield from self.drain(left)
                else:
                    yield from pace.released.wait(HELD if left is None else min(HELD, left))
            except TimedOut:
                state = "" if self.overfed or self.unread else look_at(self.socket)
                if state == RESET:
                    raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None
                if state == ENDED:
                    return

    def account(self, size: int) -> None:
        """Note that the member has said something now, which goes out as `size` bytes."""
        self.heard_at = self.hub.kernel.clock()
        if max_rate := self.hub.options.max_rate:
            self.paid = max(self.paid, self.heard_at - 1) + size / max_rate

    def portion(self, messages: list[bytes]) -> list[bytes]:
        """Return the first of these messages and keep the others, so that one step of a handler is bounded."""
        most = min(MOST, MUCH // (len(self.prefix) + 1) + 1)
        self.unread = messages[most:]
        return messages[:most]

    def read(self, most: int) -> bytes:
        """Receive at most so many bytes; b"" at the end of the stream. Raises OSError if the connection has failed."""
        try:
            data = (self.wire or self.socket).recv(most)
            if data or self.failure in PASSING:
                return data
        except BlockingIOError:
            if not self.failure:
                raise  # else nothing more will come
        except OSError as error:
            self.failure = error.strerror or str(error)
        finally:
            if self.wire and self.wire.unsent:
                self.stand_apart()  # so that spread() sends it
        raise ConnectionError(self.failure)

    def refuse(self) -> Coroutine[None]:
        """COROUTINE. Ends a handler that asks for messages after the end.

        One that ignores that and asks again waits here until it is dropped.
        """
        if not self.refused:
            self.refused = True
            raise Cancelled
        self.hub.insist(self, 0.0)
        yield from WaitQueue().wait()

    # The sending side.

    def become(self, state: str) -> None:
        """Change the state of the sending side: the one place that does."""
        room = self.hears()
        assert state != TOGETHER or self.sending == APART, "only what spread() has sent all may share the room's outbox"
        if self.sending == TOGETHER:
            del room.together[self]
        elif self.sending == APART:
            del self.hub.apart[self]
        elif self.sending == BEHIND:
            del self.hub.pace.behind[self]
        self.sending = state
        if state == TOGETHER:
            assert not self.outbox.due and self.outbox.place is room.outbox.place and not self.writer
            self.outbox = room.outbox
            room.together[self] = (self.wire or self.socket).send
        elif state == APART:
            if self.outbox is room.outbox:
                self.outbox = room.outbox.fork()
            self.hub.apart[self] = None
            self.hub.news.wake()
        elif state == BEHIND:
            self.hub.pace.behind[self] = self.hub.kernel.clock(), self.acknowledged()
        elif state == OVER:
            self.outbox = CLOSED
            if self.writer:
                self.writer.cancel()
        if self.drained:
            self.drained.wake_all()

    @property
    def overfed(self) -> bool:
        """So much is due to it that nothing is read from it: what it says would be answered with more."""
        return self.sending == BEHIND and self.outbox.lag > self.hub.options.max_lag // 4

    def drain(self, timeout: float | None) -> Coroutine[None]:
        """COROUTINE. Returns when some of what is due may have been sent. Raises TimedOut."""
        self.drained = self.drained or WaitQueue()
        yield from self.drained.wait(timeout)

    def hears(self) -> Room:
        """The room whose feed its outbox follows."""
        return self.room or self.hub.nowhere

    def acknowledged(self) -> int:
        """About how many bytes its peer has taken: where the system cannot tell, those that were sent."""
        acked = acknowledged(self.socket)
        return self.outbox.sent_size if acked is None else acked

    def stand_apart(self) -> None:
        """Give it an outbox of its own, if it shares one."""
        if self.sending == TOGETHER:
            self.become(APART)

    def dismiss(self, reason: str, keep: bool = False) -> None:
        """Note why the member ends. A line that says so is its last: instead of what is due or (`keep`) after it."""
        if self.reason:
            return
        self.reason = reason
        self.depart()
        if self.outbox.feed:
            last = one_line(f"* You are disconnected: {reason}.") + b"\n"
            self.stand_apart()
            if keep:
                self.outbox.tell(last)
            self.outbox.close(None if keep else last)

    def leave(self) -> None:
        """Send what is due, and nothing after it."""
        self.depart()
        if self.outbox.feed and not self.outbox.lag and not (self.wire and self.wire.unsent):
            self.become(OVER)
        elif self.outbox.feed:
            self.stand_apart()
            self.outbox.close()

    def depart(self) -> None:
        """Take the member out of its room."""
        if self.room and self in self.room.present:
            del self.room.present[self]
            if self.hub.cluster:
                self.hub.cluster.leave(self.room, self)

    def lose(self, error: OSError) -> None:
        """A send has failed: send no more. What the peer has said can still be read, up to the end."""
        self.failure = error.strerror or str(error)
        self.become(OVER)
        self.hub.insist(self, LOST)
        if self.receiving and isinstance(self.task.waits_for, ReadWait):
            self.task.wake()
