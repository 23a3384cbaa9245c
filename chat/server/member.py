"""One connected client, as its handler sees it, and its sending side: what is due to it, and its end."""

from __future__ import annotations

from loop import ReadWait, WaitQueue

from ..framing import NEWLINE
from .misuse import wrong
from .outbox import Feed, Outbox
from .peer import acknowledged
from .receiving import Receiver
from .room import Room, encoded, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from loop import Task
    from loop.traps import Coroutine

    from .room import Hub, Text
    from .wire import Wire

KICKED = 1.0  # seconds in which the handler of a kicked member has to end
LOST = 10.0  # seconds for a handler to read what is left, when nothing can be sent to its member

# The states of a member's sending side. `sending` holds one of them; only become() changes it.
NEW = "new"  # its task has not begun, or its handshake goes on: nothing is sent to it yet
TOGETHER = "together"  # it has caught up and shares its room's outbox; spread() sends to it
APART = "apart"  # it has an outbox of its own, which spread() sends in its next round
BEHIND = "behind"  # it does not take all: a task of its own, deliver(), sends what is in its outbox
OVER = "over"  # nothing is sent to it any more

CLOSED = Outbox(Feed())  # the outbox of all members that are OVER
CLOSED.close()


class Member(Receiver):
    """A client as its handler sees it: receive() what it says, tell() it something. Handlers may set attributes.

    `name` is its address and port, `host` its address; `prefix` is put before what it says; `room` is the room it
    hears.
    """

    __slots__ = (
        "name", "host", "room", "task", "__dict__",
        "room_or_nowhere", "sending", "outbox", "progress",
        "reason", "handled",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, host: str, port: int, hub: Hub, wire: Wire | None = None) -> None:
        Receiver.__init__(self, sock, f"{host}: ".encode() if hub.options.prefix else b"", hub, wire)
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.host = host
        self.room: Room | None = None
        self.task: Task  # runs its handler
        # The sending side.
        self.room_or_nowhere = hub.nowhere  # the room whose feed it follows: `room`, or hub.nowhere if that is None
        self.sending = NEW  # its state
        self.outbox = hub.nowhere.outbox
        self.progress: WaitQueue | None = None  # wait_for_progress() waits here
        # Its end.
        self.reason = ""  # why it ends, once that is certain
        self.handled = False  # whether its handler has ended

    # For handlers.

    def tell(self, line: Text) -> None:
        """Send a line to this member alone, after all that was published so far and before all that is published later.

        A newline in it becomes a space.
        """
        text = (line if type(line) is bytes and NEWLINE not in line else one_line(line)) + b"\n"
        # If the line must wait for what comes back from Redis, cluster.tell() keeps it, and returns True.
        if not (self.hub.cluster and self.outbox.feed and self.hub.cluster.tell(self, text)):
            self.queue(text)

    def queue(self, line: bytes) -> None:
        """Make a line due to this member alone."""
        if (self.sending == TOGETHER and self.room_or_nowhere.pass_on(self, line)) or self.outbox.feed is None:
            return
        self.stand_apart()
        self.outbox.tell(line)
        most = self.hub.options.max_lag
        if self.sending == BEHIND:
            # Up to twice --max-lag, Pace decides: it kicks this member if its peer takes too little, or
            # stops all reading.
            self.hub.pace.count(len(line))
            most *= 2
        if self.outbox.lag() > most:
            self.kick(f"more than {self.hub.options.max_lag} bytes behind")

    def kick(self, reason: Text, keep: bool = False) -> None:
        """Disconnect the member: cancel its handler, discard what is due to it, and tell it why.

        With `keep`, what is due is sent first.
        """
        if not isinstance(reason, str):
            reason = encoded(reason, "the reason of a kick").decode("utf-8", "replace")
        if not self.reason:
            self.kicked = True
            self.dismiss(reason or "kicked", keep)
            self.task.cancel()
            self.hub.insist(self, KICKED)

    def enter(self, room: Room | None) -> None:
        """Hear that room from now on; None: hear only what it is told. What was already due comes first."""
        if room is not None and not isinstance(room, Room):
            hint = f"did you mean room.other({room!r})?" if isinstance(room, str) else ""
            raise wrong("enter() takes a room or None", room, hint)
        if self.reason or self.handled:  # it has been taken out of its room already
            self.room = room
            return
        room_or_nowhere = room or self.hub.nowhere
        # A new member shares the room's outbox at once, unless something is due to the others that is not due to it.
        at_once = self.sending == NEW and room_or_nowhere.quiet()
        if not at_once and self.sending in (NEW, TOGETHER):
            self.become(APART)  # while self.room_or_nowhere is still the old one, which become() needs
        before, self.room, self.room_or_nowhere = self.room, room, room_or_nowhere
        if before:
            del before.present[self]
        if room:
            room.present[self] = None
        if at_once:
            self.become(TOGETHER)
        elif self.sending != OVER:
            self.outbox.enter(room_or_nowhere.feed)
        if self.hub.cluster:
            if room:
                self.hub.cluster.enter(room, self)
            if before:
                self.hub.cluster.leave(before, self)

    def __repr__(self) -> str:
        return f"<member {self.name}>"

    # The sending side.

    def become(self, state: str) -> None:
        """Change the state of the sending side. Nothing else changes it.

        A member that was TOGETHER leaves `room.together` here, and one that becomes TOGETHER joins it.
        """
        room = self.room_or_nowhere
        line = b""  # its line in room.told, if it has one there
        if self.sending == TOGETHER:
            del room.together[self]
            line = room.told.pop(self, line)
        elif self.sending == APART:
            del self.hub.apart[self]
        elif self.sending == BEHIND:
            del self.hub.pace.behind[self]
        self.sending = state
        if state == TOGETHER:
            # The member can share the room's outbox only if nothing is due to it, nor to those that share the outbox
            # already. enter() checks this for a NEW member; for an APART one, send_news() has sent to the rooms first.
            assert not self.outbox.own and not self.writer and room.outbox.place is room.feed.last
            self.outbox = room.outbox
            room.together[self] = self.wire or self.socket.fileno()
            if self.wire:
                self.hub.wired = True
        elif state == APART:
            if self.outbox is room.outbox:
                self.outbox = room.outbox.fork()
            if line:
                self.outbox.tell(line)
            self.hub.apart[self] = None
            self.hub.news.wake()
        elif state == BEHIND:
            self.hub.pace.behind[self] = self.hub.kernel.clock(), self.acknowledged()
        elif state == OVER:
            self.outbox = CLOSED
            if self.writer:
                self.writer.cancel()
        if self.progress:
            self.progress.wake_all()

    def lag(self) -> int:
        """How many bytes are due to the member."""
        if self.sending == TOGETHER and self in self.room_or_nowhere.told:
            return len(self.room_or_nowhere.told[self])
        return self.outbox.lag()

    @property
    def overfed(self) -> bool:
        """Whether so much is due to the member that nothing may be read from it: answers would add to what is due."""
        return self.sending == BEHIND and self.outbox.lag() > self.hub.options.max_lag // 4

    def wait_for_progress(self, timeout: float | None) -> Coroutine[None]:
        """COROUTINE. Waits until the member's state changes, or it is no longer overfed. Raises TimedOut."""
        self.progress = self.progress or WaitQueue()
        yield from self.progress.wait(timeout)

    def acknowledged(self) -> int:
        """About how many bytes its peer has taken; where the system cannot tell, how many were sent."""
        acked = acknowledged(self.socket)
        return self.outbox.sent_size if acked is None else acked

    def stand_apart(self) -> None:
        """Give the member an outbox of its own, if it shares one."""
        if self.sending == TOGETHER:
            self.become(APART)
        elif self.outbox is self.hub.nowhere.outbox:  # it is NEW
            self.outbox = self.outbox.fork()

    def dismiss(self, reason: str, keep: bool = False) -> None:
        """Note why the member ends. Discard what is due to it, unless `keep` is true, and tell it why."""
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
        """Let nothing more become due; what is due is still sent."""
        self.depart()
        if self.outbox.feed and not self.lag() and not (self.wire and self.wire.unsent):
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
        """A send has failed: send nothing more. What the peer has said can still be read, up to the end."""
        self.failure = error.strerror or str(error)
        self.become(OVER)
        self.hub.insist(self, LOST)
        if self.receiving and isinstance(self.task.waits_for, ReadWait):
            # The send has got the system's only report of the error. So the poller might never wake receive().
            self.task.wake()
