"""A room and its stream."""

from __future__ import annotations

from urllib.parse import quote

from .incoming import Foreign, Incoming, Loss, parse_id
from .outgoing import Outgoing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..room import Room
    from .incoming import Found
    from .outgoing import Entry, Place


class Whisper:
    """A line for one member alone. It waits until the member has got what comes before it, in all its rooms.

    `waiting` knows how many bytes wait for each member.
    """

    def __init__(
        self, member: Any, line: bytes, waits_for: list[tuple[Link, Entry, int]], waiting: dict[Any, int]
    ) -> None:
        self.member = member
        self.line = line
        self.waits_for = waits_for
        self.waiting = waiting
        waiting[member] = waiting.get(member, 0) + len(line)
        self.go_on()

    def go_on(self) -> None:
        """Wait for the next of `waits_for`; if there is none, pass the line on."""
        while self.waits_for:
            link, entry, at = self.waits_for.pop()
            if entry.number > link.outgoing.last_settled:
                entry.note(at, self)
                return
        self.waiting[self.member] -= len(self.line)
        if not self.waiting[self.member]:
            del self.waiting[self.member]
        self.member.queue(self.line)


class Link:
    """Writes what is said in the room to the stream, and appends what comes from the stream to the room's feed."""

    def __init__(self, room: Room, stream: str, node: str, number: int = 0) -> None:
        self.room = room
        self.stream = stream
        self.node = node.encode()
        others = stream if "{" in stream else f"{stream}:{{{stream}}}"  # in a Redis Cluster, they are with the stream
        self.keys = 4, stream, f"{others}:state", f"{others}:history", f"{others}:{node}"
        self.outgoing = Outgoing(number)
        self.incoming = Incoming()
        self.since: dict[Any, Place] = {}  # what was said, and has not come back, when a member came into the room
        self.checked = 0.0  # when it was last certain that nothing is missing
        self.losses = 0

    @property
    def looked(self) -> bool:
        """Whether it is known where the stream ended at first."""
        return self.incoming.cursor is not None

    # Members.

    def enter(self, member: Any) -> None:
        if self.outgoing.entries:
            self.since[member] = self.outgoing.end

    def waits_for(self, member: Any) -> tuple[Entry, int] | None:
        """What has to come back before the next line for this member alone may be told."""
        since = self.since.get(member, (0, 0)) if member in self.room.present else None
        return self.outgoing.last_said(member, since)

    # From the stream.

    def take(self, id: bytes, fields: list[bytes]) -> None:
        """Append an entry of the stream to the feed. Raises Astray."""
        epoch = self.incoming.position[0]
        self.append(self.incoming.take(parse_id(id), dict(zip(fields[::2], fields[1::2]))))
        if self.incoming.position[0] != epoch:
            self.outgoing.start_over()

    def take_nothing(self) -> None:
        """What was to be read has gone from the stream."""
        epoch = self.incoming.position[0]
        self.append(self.incoming.nothing())
        if self.incoming.position[0] != epoch:
            self.outgoing.start_over()

    def append(self, found: list[Found]) -> None:
        for what in found:
            if isinstance(what, Loss):
                self.losses += 1
                line = f"{what.missing} messages were lost here" if what.missing else "Messages may have been lost here"
                self.say(f"{line.lower()}: the stream was {'trimmed too soon' if what.missing else 'reset'}")
                self.inform(f"* {line}.")
            elif isinstance(what, Foreign):
                self.say("skipped an entry that no server has written")
            elif what.node == self.node and (settled := self.outgoing.came_back(what.number)):
                self.forget(settled[:-1])
                self.append_own(settled[-1], what.text)
            else:
                self.room.append(what.text)

    def append_own(self, entry: Entry, text: bytes) -> None:
        """Append what this node has written, and do what the notes say at their places in it."""
        done, but = 0, ()
        for at, note in [*entry.notes, (len(text), ())]:
            if at > done:
                self.room.append(text[done:at], but)
                done = at
            if isinstance(note, tuple):
                but = note
            else:
                note.go_on()

    def settle(self) -> None:
        """Forget what was lost on its way."""
        self.forget(self.outgoing.passed(self.incoming.position))
        if not self.outgoing.entries:
            self.since.clear()

    def forget(self, lost: list[Entry]) -> None:
        for entry in lost:
            for _, note in entry.notes:
                if not isinstance(note, tuple):
                    note.go_on()

    def inform(self, line: str) -> None:
        """A line for the members of this node alone."""
        self.room.append(line.encode() + b"\n")

    def say(self, what: str) -> None:
        self.room.hub.journal.say("cluster", what)

    def explain(self) -> str:
        """Its state, in a line."""
        (epoch, offset), (last_epoch, end) = self.incoming.position, self.incoming.end
        entries = len(self.outgoing.entries)
        behind = f"{end - offset} messages behind" if epoch == last_epoch else "behind"
        return (
            f"stream {self.stream}: read up to message {offset} of epoch {epoch.decode('ascii', 'replace')}, "
            f"{behind if self.incoming.behind else 'the end'}; "
            f"{entries} entries ({self.outgoing.size} bytes) have not come back; {self.losses} losses"
        )


def stream_name(stream: str, room: Room) -> str:
    """The name of a room's stream, if that of the first room is `stream`."""
    return stream if room is room.hub.first else f"{stream}:{quote(room.name, safe='', errors='replace')}"
