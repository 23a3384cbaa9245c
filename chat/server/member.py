"""One connected client: what it says, and what is sent to it."""

from __future__ import annotations

import sys
from collections import deque

from loop import TimedOut, WriteWait, readable, send, sleep

from ..framing import Framer
from .feed import Cursor
from .room import encoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Union

    from loop import Task
    from loop.traps import Coroutine

    from .room import Room

    Due = tuple[int, Union[bytes, bytearray]]

BATCH = 64 << 10  # bytes after which a batch gets nothing more
NOTHING: deque[Due] = deque()  # put aside; for all alike, because even an empty one takes 600 bytes


class Member:
    """A client as its handler sees it: receive() what it says, tell() it something; `prefix` goes before its messages.

    `name` is its address and port, for the journal.

    What is sent to it: while it has caught up with the feed, the room's spread() sends it the news. Else it has a
    writer of its own, and a cursor until it leaves. With none of these, nothing reaches it any more.
    """

    __slots__ = (
        "socket", "host", "name", "prefix", "room", "framer", "cursor", "private", "private_size", "task", "writer",
        "reason", "paid", "peer_ended", "lost",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, host: str, port: int, room: Room) -> None:
        self.socket = sock
        self.host = host
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.prefix = f"{host}: ".encode() if room.options.prefix else b""
        self.room = room
        self.framer = Framer()
        self.task: Task
        self.writer: Task | None = None
        self.cursor: Cursor | None = None
        self.private = NOTHING  # what goes to it alone, and the places in the feed this comes before
        self.private_size = 0  # bytes in `private`
        self.reason = ""  # why it ends, once that is certain
        self.paid = 0.0  # the time up to which its --max-rate is used
        self.peer_ended = False
        self.lost = ""  # why its connection has failed

    # The receiving side.

    def receive(self) -> Coroutine[list[bytes]]:
        """COROUTINE. Returns the messages that have arrived, at least one; an empty list at the end of the stream.

        An OSError, when the connection has failed, and what the server raises to end the member pass through here: let
        them pass. At the end of the stream a rest without separator comes first; the end itself can be read again.
        """
        options = self.room.options
        patience = None if self.peer_ended else options.idle_timeout  # who has ended its stream is not silent
        while True:
            if options.max_rate:
                yield from self.pay()
            try:
                yield from readable(self.socket, patience)  # not recv(): the share is what it is only then
            except TimedOut:
                self.dismiss(f"silent for {options.idle_timeout:g} s")
                raise
            while self.room.held:
                yield from self.room.released.wait()
            try:
                data = self.socket.recv(min(self.room.share(), options.max_rate or sys.maxsize))
                if not data and self.lost:  # TCP tells an error once, and after that the end of the stream
                    raise ConnectionError(self.lost)
            except BlockingIOError:
                continue
            except OSError as error:
                self.lost = error.strerror or str(error)
                raise
            if not data:
                self.peer_ended = True
                return self.framer.finish()
            if options.max_rate:
                self.paid = max(self.paid, self.room.kernel.clock() - 1) + len(data) / options.max_rate
            if messages := self.framer.feed(data):
                return messages

    def pay(self) -> Coroutine[None]:
        """COROUTINE. Waits until what was read so far is within --max-rate, on average.

        The first second's worth after a silence is free: a paste is no flood.
        """
        early = self.paid - self.room.kernel.clock()
        if early > 0:
            yield from sleep(early)

    # The sending side.

    @property
    def reachable(self) -> bool:
        """Whether what is said from now on will be sent to it."""
        return self.cursor is not None or self in self.room.caught_up

    def tell(self, line: str | bytes) -> None:
        """Queue a line for this member alone: after what was published before, before what is published later."""
        if self.reachable:
            self.fall_behind()
            self.put_aside(encoded(line) + b"\n")
            if self.private_size > self.room.options.max_lag:
                self.kick_if_behind()

    def put_aside(self, data: bytes) -> None:
        """Add to what goes to it alone, before what is published later."""
        place = self.room.feed.end
        if self.private and self.private[-1][0] == place:
            lines = self.private[-1][1]
            lines += data  # in place: it is a bytearray until the member leaves
        else:
            self.private = self.private or deque()
            self.private.append((place, bytearray(data)))
        self.private_size += len(data)

    def begin(self) -> None:
        """Forget what was due; what is said from now on is for it, and nothing that was said before."""
        self.room.caught_up.pop(self, None)
        self.private, self.private_size = NOTHING, 0
        self.write_from(Cursor(self.room.feed, late=True))

    def fall_behind(self, rest: bytes | memoryview = b"") -> None:
        """Give it a writer of its own, if it had caught up; `rest` is what it did not take of what was sealed last."""
        if self in self.room.caught_up:
            del self.room.caught_up[self]
            self.write_from(Cursor(self.room.feed), rest)

    def write_from(self, cursor: Cursor, rest: bytes | memoryview = b"") -> None:
        self.cursor = cursor
        if self.writer is None:
            self.writer = self.room.kernel.spawn(deliver(self, rest), self.name)

    def due(self) -> Coroutine[bytes]:
        """COROUTINE. Returns what is to be sent next, whole messages; b"" once it has caught up, or got its last."""
        while self.private or (self.cursor and self.cursor.place != self.room.feed.sealed):
            if batch := b"".join(self.take()):
                return batch
            yield from sleep(0)  # what comes next is not sealed yet
        return b""

    def take(self) -> list[bytes | bytearray]:
        """What comes next, in its order, until there are BATCH bytes of it; from now on it counts as sent."""
        taken: list[bytes | bytearray] = []
        size = 0
        while size < BATCH:
            if self.private and (not self.cursor or self.cursor.place == self.private[0][0]):
                taken.append(self.private.popleft()[1])
                self.private_size -= len(taken[-1])
                size += len(taken[-1])
                continue
            mark = self.private[0][0] if self.private else self.room.feed.end
            pieces = self.cursor.take(BATCH - size, mark) if self.cursor else []
            if not pieces:
                break
            taken += pieces
            size += sum(map(len, pieces))
        return taken

    # Its end.

    def leave(self) -> None:
        """What is due now is still sent, and nothing after it. It is put aside: the feed need not be kept for it."""
        if self.room.feed.fresh:
            self.fall_behind()
        self.room.caught_up.pop(self, None)
        if self.cursor:
            due: deque[Due] = deque()
            for place, lines in [*self.private, (self.room.feed.end, b"")]:
                due.extend((place, piece) for piece in [*self.cursor.take_all(place), lines] if piece)
            self.private = due
            self.private_size = sum(len(piece) for _, piece in due)
            self.cursor = None

    def mute(self) -> None:
        """Nothing is sent any more."""
        self.room.caught_up.pop(self, None)
        self.private, self.private_size = NOTHING, 0
        self.cursor = None
        if self.writer:
            self.writer.cancel()

    def send_failed(self, error: OSError) -> None:
        """Only recv ends the receiving side: what the peer had said is still there to be read."""
        self.mute()
        if not isinstance(error, BrokenPipeError):  # that is no failure: the peer had ended its stream before it went
            self.lost = error.strerror or str(error)

    def kick(self, reason: str) -> None:
        """Send the member away: its handler is ended, and it is told why."""
        if not self.reason:
            self.dismiss(reason)
            self.task.cancel()

    def dismiss(self, reason: str) -> None:
        """Note why the member ends, and tell it, instead of all that was due to it and all that is still said."""
        self.reason = reason
        if self.reachable:
            self.begin()
            self.tell(f"* You are disconnected: {reason}.")
            self.leave()

    @property
    def lag(self) -> int:
        """How many bytes are due to it."""
        return self.private_size + (self.cursor.lag if self.cursor else 0)

    def kick_if_behind(self) -> None:
        """Send the member away if it is more than --max-lag behind, and that because its peer takes nothing."""
        most = self.room.options.max_lag
        if self.writer and self.lag > most and isinstance(self.writer.waits_for, WriteWait):  # else it may catch up yet
            self.kick(f"more than {most} bytes behind")


def deliver(member: Member, rest: bytes | memoryview) -> Coroutine[None]:
    """COROUTINE. The writer of a member that has not caught up: `rest`, and whatever is due, as fast as it is taken."""
    stall_timeout = member.room.options.stall_timeout
    try:
        while batch := rest or (yield from member.due()):
            yield from send(member.socket, batch, stall_timeout)
            rest = b""
        if member.cursor:
            member.room.caught_up[member] = None
    except TimedOut:
        member.kick(f"took nothing for {stall_timeout:g} s")
    except OSError as error:
        member.send_failed(error)
    finally:
        member.writer = member.cursor = None
        member.private, member.private_size = NOTHING, 0
