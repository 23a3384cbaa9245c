"""A room and its stream."""

from __future__ import annotations

from urllib.parse import quote

from ...escape import harmless
from .incoming import Foreign, Incoming, Loss, parse_id
from .outgoing import Outgoing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..room import Room
    from .incoming import Found
    from .outgoing import Entry, Place


class Whisper:
    """A line for one member alone. It waits until the member has got what was said before this line, in all rooms.

    `waits_for`: the places in entries that have to come back first, each with its link. `waiting`: for each member, the
    bytes of all its lines that wait.
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
        """Wait for one of the places that are left in `waits_for`; if there is none, give the line to the member."""
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
    """A room and its stream: what is to be written to the stream, and how far the stream was read."""

    def __init__(self, room: Room, stream: str, node: str, number: int = 0) -> None:
        self.room = room
        self.stream = stream
        self.node = node.encode()
        # Braces, because a Redis Cluster would keep keys with the same text in braces on one machine.
        # A stream that has braces already gets an empty part instead: no room's stream has a name with "::".
        others = f"{stream}:" if "{" in stream else f"{stream}:{{{stream}}}"
        self.keys = 4, stream, f"{others}:state", f"{others}:history", f"{others}:{node}"
        self.outgoing = Outgoing(number)
        self.incoming = Incoming()
        self.entered_at: dict[Any, Place] = {}  # for each member, where `outgoing` ended when it entered
        self.checked = 0.0  # when Redis last named the end of the stream, or an entry came
        self.losses = 0  # how many times members were told of a loss

    @property
    def looked(self) -> bool:
        """Whether the stream can be read: the first look() has said where to begin."""
        return self.incoming.cursor is not None

    # Members.

    def enter(self, member: Any) -> None:
        if self.outgoing.entries:
            self.entered_at[member] = self.outgoing.end

    def waits_for(self, member: Any) -> tuple[Entry, int] | None:
        """What has to come back from this stream before the next line for this member alone; None: nothing."""
        entered_at = self.entered_at.get(member, (0, 0)) if member in self.room.present else None
        return self.outgoing.last_said(member, entered_at)

    # From the stream.

    def take(self, id: bytes, fields: list[bytes]) -> None:
        """Append to the feed what an entry of the stream brings. Raises Astray."""
        epoch = self.incoming.position[0]
        self.append(self.incoming.take(parse_id(id), dict(zip(fields[::2], fields[1::2]))))
        if self.incoming.position[0] != epoch:
            self.outgoing.start_over()

    def skip_to_end(self) -> None:
        """Step to the end that Redis has named: all entries up to there were deleted. Tell members of the loss."""
        epoch = self.incoming.position[0]
        self.append(self.incoming.skip_to_end())
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
        """Append an entry of this node to the feed, and do what its notes say at their places in the text."""
        done, but = 0, ()  # the text is appended up to `done`; what comes next is not for the members in `but`
        for at, note in [*entry.notes, (len(text), ())]:
            if at > done:
                self.room.append(text[done:at], but)
                done = at
            if isinstance(note, tuple):
                but = note
            else:
                note.go_on()

    def settle(self) -> None:
        """Forget the entries that were lost: the stream was read up to their positions, and they were not there."""
        self.forget(self.outgoing.passed(self.incoming.position))
        if not self.outgoing.entries:
            self.entered_at.clear()

    def forget(self, lost: list[Entry]) -> None:
        """Let the lines go on that wait for these entries, which will not come back."""
        for entry in lost:
            for _, note in entry.notes:
                if not isinstance(note, tuple):
                    note.go_on()

    def inform(self, line: str) -> None:
        """Show a line to those members of the room that are on this node."""
        self.room.append(line.encode() + b"\n")

    def say(self, what: str) -> None:
        self.room.hub.journal.say("cluster", harmless(what))

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
    """The name of a room's stream: `stream` for the first room, and a name that begins with `stream` for the others."""
    return stream if room is room.hub.first else f"{stream}:{quote(room.name, safe='', errors='surrogatepass')}"
