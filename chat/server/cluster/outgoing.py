"""What the members of this node have said in a room, until it comes back from the stream. Does no I/O."""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Position = tuple[bytes, int]  # epoch, offset
    Place = tuple[int, int]  # the number of an entry, bytes of its text

LARGEST = 64 << 10  # the most bytes of an entry, unless a single message is longer


class Entry:
    """Whole messages, under one number of this node. Messages are added until the entry is first sent.

    `notes` concern this node alone. Each is a place in the text, and what to do there when the entry has come back:

        (90, (ann, bob))   what follows byte 90 is not for ann and bob, up to the next note of this kind
        (120, whisper)     this Whisper has waited for the first 120 bytes and may go on
    """

    __slots__ = ("notes", "number", "position", "talkers", "text")

    def __init__(self, number: int) -> None:
        self.number = number
        self.text = bytearray()
        self.position: Position | None = None  # where it ends in the stream, as Redis has answered; None: to be written
        self.notes: list[tuple[int, Any]] = []
        self.talkers: dict[Any, int] = {}  # where the last message of each member ends; None stands for announcements

    @property
    def messages(self) -> int:
        return self.text.count(b"\n")

    def anew(self) -> Entry:
        """A copy without a position, to be written again."""
        entry = Entry(self.number)
        entry.text, entry.notes, entry.talkers = self.text, self.notes, self.talkers
        return entry

    def leave_out(self, but: tuple[Any, ...]) -> None:
        """The messages that are added next are not for these members."""
        last = next((note for _, note in reversed(self.notes) if isinstance(note, tuple)), ())
        if but != last:
            self.notes.append((len(self.text), but))

    def note(self, at: int, whisper: Any) -> None:
        """Let a Whisper go on when the first `at` bytes have come back, after earlier notes for the same place."""
        index = len(self.notes)
        while index and self.notes[index - 1][0] > at:
            index -= 1
        self.notes.insert(index, (at, whisper))


class Outgoing:
    """Entries in their order: the oldest are on their way to the stream and back, the youngest are to be written.

    The first entry gets `number` + 1. Redis refuses a number that this node has used in this stream before, perhaps in
    an earlier Outgoing, before the room was left. So `number` is the highest that this node has used in any stream.
    """

    def __init__(self, number: int = 0) -> None:
        self.entries: deque[Entry] = deque()
        self.number = number  # that of the youngest entry, even if it has come back
        self.sent = number  # the number of the youngest entry that was ever sent
        self.accepted = 0  # bytes of all entries ever
        self.settled = 0  # bytes of the entries that have left `entries`: they have come back, or they were lost

    @property
    def size(self) -> int:
        """How many bytes have not come back."""
        return self.accepted - self.settled

    @property
    def last_settled(self) -> int:
        """The number of the last entry that has left `entries`."""
        return self.entries[0].number - 1 if self.entries else self.number

    @property
    def end(self) -> Place:
        """The place after everything that has not come back."""
        return (self.number, len(self.entries[-1].text)) if self.entries else (self.number, 0)

    def publish(self, text: bytes, who: Any = None, but: tuple[Any, ...] = ()) -> None:
        """Accept whole messages. They stay together, in one entry, if that is possible."""
        self.accepted += len(text)
        at = 0
        while at < len(text):
            end = len(text)
            if end - at > LARGEST:
                end = text.rfind(b"\n", at, at + LARGEST) + 1 or text.index(b"\n", at) + 1
            if self.number == self.sent or len(self.entries[-1].text) + end - at > LARGEST:
                self.number += 1
                self.entries.append(Entry(self.number))
            entry = self.entries[-1]
            if but or entry.notes:
                entry.leave_out(but)
            entry.text += text[at:end]
            entry.talkers[who] = len(entry.text)
            at = end

    def last_said(self, who: Any, since: Place | None) -> tuple[Entry, int] | None:
        """The last message that a line for `who` alone has to wait for: its entry, and where in the text it ends.

        That is a message of `who` that has not come back, or an announcement after the place `since`.
        """
        for entry in reversed(self.entries):
            at = entry.talkers.get(who, 0)
            announced = entry.talkers.get(None, 0)
            if announced > at and since is not None and (entry.number, announced) > since:
                at = announced
            if at:
                return entry, at
        return None

    def due(self) -> list[Entry]:
        """What is to be written now."""
        return [entry for entry in self.entries if entry.position is None]

    def take_due(self) -> list[Entry]:
        """What is to be written now. These entries take no more messages."""
        self.sent = self.number
        return self.due()

    def sent_before(self) -> int:
        """How many of the messages that are to be written were sent before."""
        return sum(entry.messages for entry in self.due() if entry.number <= self.sent)

    def start_over(self) -> None:
        """From now on, all that has not come back is to be written again.

        The entries are copied: an answer to an earlier write may still come. It sets the position of an old copy only.
        """
        self.entries = deque(entry.anew() for entry in self.entries)

    def came_back(self, number: int) -> list[Entry]:
        """The entry of this number was read. Returns the entries up to it, of which all but the last one were lost."""
        settled = []
        while self.entries and self.entries[0].number <= number:
            settled.append(self.settle())
        return settled

    def passed(self, position: Position) -> list[Entry]:
        """The stream was read up to `position`. Returns the entries that must have been lost before it."""
        epoch, offset = position
        lost = []
        while self.entries and (place := self.entries[0].position) and place[0] == epoch and place[1] <= offset:
            lost.append(self.settle())
        return lost

    def settle(self) -> Entry:
        entry = self.entries.popleft()
        self.settled += len(entry.text)
        return entry
