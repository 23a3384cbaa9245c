"""One connected client: its receiving side, and its one writer."""

from __future__ import annotations

import sys

from loop import TimedOut, WriteWait, readable, send, sleep

from .feed import Cursor
from .framing import Framer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from loop import Task
    from loop.traps import Coroutine

    from .feed import Segment
    from .room import Room

BATCH = 64 << 10  # bytes after which a batch gets no further segment


class Member:
    """A client as its handler sees it: receive() what it says, tell() it something; `prefix` goes before its messages.

    `name` is its address and port, for the journal. How it stands: `reason` is set when it is ending, `leaving` when
    its writer is to end after what is due, `cursor` is None when its writer has ended, `peer_ended` when its peer has.
    """

    __slots__ = (
        "socket", "host", "name", "prefix", "room", "framer", "cursor", "private", "private_size", "task", "writer",
        "reason", "paid", "leaving", "peer_ended", "lost",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, host: str, port: int, room: Room) -> None:
        self.socket = sock
        self.host = host
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.prefix = f"{host}: ".encode() if room.options.prefix else b""
        self.room = room
        self.framer = Framer()
        self.cursor: Cursor | None = Cursor(room.feed)  # None: it gets nothing any more
        self.private: list[tuple[Segment, bytes]] = []  # lines for it alone, and what of the feed they come before
        self.private_size = 0  # bytes in `private`
        self.task: Task
        self.writer: Task
        self.reason = ""  # why it ends
        self.paid = 0.0  # the time up to which its --max-rate is used
        self.leaving = False
        self.peer_ended = False
        self.lost = ""  # why its connection has failed, if it was a send that learned of it

    # The receiving side.

    def receive(self) -> Coroutine[list[bytes]]:
        """COROUTINE. Returns the messages that have arrived, at least one; an empty list at the end of the stream.

        An OSError, when the connection has failed, and what the server raises to end the member pass through here: let
        them pass. At the end of the stream a rest without separator comes first; the end itself can be read again.
        """
        options = self.room.options
        patience = None if self.peer_ended else options.idle_timeout  # who has ended its stream is not silent
        while True:
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
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                self.reason = self.reason or (error.strerror or str(error)).lower()
                raise
            if not data:
                self.reason, self.peer_ended = self.reason or "end of stream", True
                return self.framer.finish()
            messages = self.framer.feed(data)
            if options.max_rate:
                yield from self.pace(len(data) / options.max_rate)
            if messages:
                return messages

    def pace(self, cost: float) -> Coroutine[None]:
        """COROUTINE. Waits until what was read is within the rate, on average; `cost` is in seconds of it.

        The first second's worth after a silence is free: a paste is no flood.
        """
        now = self.room.clock()
        self.paid = max(self.paid, now - 1) + cost
        if self.paid > now:
            yield from sleep(self.paid - now)

    # The sending side.

    def tell(self, line: str | bytes) -> None:
        """Queue a line for this member alone: behind what was published before, in front of what is published later."""
        if self.cursor is None or self.leaving:
            return  # nothing reaches it any more
        line = (line.encode("utf-8", "replace") if isinstance(line, str) else line) + b"\n"
        self.private.append((self.room.feed.seal(), line))
        self.private_size += len(line)
        self.room.news.wake(self.writer)
        if self.private_size > self.room.options.max_lag:
            self.kick_if_behind()

    def due(self) -> bytes:
        """What is to be sent next, whole messages, and from now on counted as sent; b"" if there is nothing."""
        if self.cursor is None:
            return b""
        if not self.private:
            pieces = self.cursor.take(BATCH)
        else:
            mark = self.private[0][0]
            pieces = self.cursor.take(BATCH, mark)
            if self.cursor.segment is mark:
                lines = [line for place, line in self.private if place is mark]
                del self.private[: len(lines)]
                self.private_size -= sum(map(len, lines))
                pieces += lines
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # Its end.

    def leave(self) -> None:
        """What is due now is still sent, and nothing after it."""
        self.leaving = True
        if self.cursor:
            self.cursor.finish()
        self.room.news.wake(self.writer)

    def kick(self, reason: str) -> None:
        """Send the member away: its handler is ended, and it is told why."""
        if not self.reason:
            self.dismiss(reason)
            self.task.cancel()

    @property
    def lag(self) -> int:
        """How many bytes are due to it."""
        return self.private_size + (self.cursor.lag if self.cursor else 0)

    def kick_if_behind(self) -> None:
        """Send the member away if it is more than --max-lag behind, and that because its peer takes nothing."""
        most = self.room.options.max_lag
        if self.lag > most and isinstance(self.writer.waits_for, WriteWait):  # else it was not the writer's turn yet
            self.kick(f"more than {most} bytes behind")

    def dismiss(self, reason: str) -> None:
        """Note why the member ends, and tell it, instead of all that was due to it and all that is still said."""
        self.reason = reason
        self.private, self.private_size = [], 0
        if self.cursor:
            self.cursor = Cursor(self.room.feed)
            self.tell(f"* You are disconnected: {reason}.")
            self.leave()


def deliver(member: Member) -> Coroutine[None]:
    """COROUTINE. The member's one writer: whatever is due, as fast as the peer takes it."""
    stall_timeout = member.room.options.stall_timeout
    try:
        while True:
            if batch := member.due():
                yield from send(member.socket, batch, stall_timeout)
            elif member.leaving:
                return
            else:
                yield from member.room.news.wait()
    except TimedOut:
        member.kick(f"took nothing for {stall_timeout:g} s")
    except BrokenPipeError:
        pass  # the peer had ended its stream before it went
    except OSError as error:  # only recv ends the receiving side: what the peer had said is still there to be read
        member.lost = error.strerror or str(error)
    finally:
        member.cursor = None
