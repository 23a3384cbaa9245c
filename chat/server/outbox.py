"""What is due to each member, and in which order. Plain objects: no sockets, no tasks.

All that is said in a room is appended once, in one order, to the room's feed. The feed is a chain of segments, of which
the last one is still open; *sealing* completes it. A member's place in the feed is the start of the first segment not
sent to it yet. So a place always lies between two messages. To get the place of this moment, seal the feed.

A segment refers only to the next one. So it is kept alive only by members that have not passed it yet. Python frees
what all have passed, and members that are far behind share what is still due to them.
"""

from __future__ import annotations

from loop.bare import deque

from ..framing import NEWLINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    Piece = Union[bytes, bytearray, memoryview]

OVERHEAD = 130  # bytes a segment takes beside its data: itself, its data's header, `start` (CPython, 64 bits)
MERGE = 16 << 10  # bytes of lines for one member that are put together into one piece


class Segment:
    """A piece of the feed, whole messages. Once sealed, it has its `data` and a `next` segment."""

    __slots__ = ("data", "next", "start")

    data: bytes
    next: Segment

    def __init__(self, start: int) -> None:
        self.start = start  # the feed's size where this segment begins


class Feed:
    """An endless sequence of messages, appended at one end."""

    __slots__ = ("size", "last", "fresh")

    def __init__(self) -> None:
        self.size = 0  # bytes ever appended, with what the segments cost
        self.last = Segment(0)  # the open segment: the place after all that is sealed
        self.fresh: list[bytes] = []  # what is in the open segment

    def append(self, text: bytes) -> None:
        """Add whole messages, with their newlines."""
        self.fresh.append(text)
        self.size += len(text)

    def seal(self) -> Segment:
        """Complete the open segment, and return the place after all that was appended."""
        if self.fresh:
            self.last.data = self.fresh[0] if len(self.fresh) == 1 else b"".join(self.fresh)
            self.fresh = []
            self.size += OVERHEAD
            self.last.next = Segment(self.size)
            self.last = self.last.next
        return self.last


class Outbox:
    """What is due to one member: the pieces in `own`, then the feed from `place` on. Once closed, it has no feed.

    Several members that are at the same place and have nothing of their own can share an outbox.
    """

    __slots__ = ("feed", "place", "own", "own_size", "sent_size", "cut")

    def __init__(self, feed: Feed) -> None:
        """Only what is appended to `feed` from now on is due."""
        self.feed: Feed | None = feed
        self.place = feed.seal()
        self.own: deque[Piece] = deque()
        self.own_size = 0  # bytes of `own`, with the cost of each piece
        self.sent_size = 0  # bytes that sent() has counted
        self.cut = False  # whether the last byte that was sent was inside a message

    def lag(self) -> int:
        """About how many bytes it takes to keep what is due."""
        return self.own_size + (self.feed.size - self.place.start if self.feed else 0)

    @property
    def empty(self) -> bool:
        """Whether take() would return nothing. What is in the feed's open segment does not count."""
        return not self.own and (self.feed is None or self.place is self.feed.last)

    # What comes in.

    def tell(self, line: bytes) -> None:
        """Add a line for this member alone, between what the feed has by now and what will be appended to it."""
        self.pull()
        if self.own and isinstance(self.own[-1], bytearray) and len(self.own[-1]) < MERGE:
            self.own[-1] += line
            self.own_size += len(line)
        else:
            self.add(bytearray(line))

    def enter(self, feed: Feed) -> None:
        """Follow another feed from now on. What is due from the old one stays due."""
        self.pull()
        self.feed, self.place = feed, feed.seal()

    def skip(self) -> None:
        """Leave out what the feed has by now."""
        if self.feed:
            self.place = self.feed.seal()

    def pull(self) -> None:
        """Move what is due from the feed into `own`. The pieces are the feed's own bytes, not copies."""
        if self.feed:
            end = self.feed.seal()
            while self.place is not end:
                self.add(self.place.data)
                self.place = self.place.next

    def close(self, last: bytes | None = None) -> None:
        """Let nothing more become due. `last` replaces all that is due, except the rest of a message that has begun."""
        if last is None:
            self.pull()
        else:
            rest = b""
            if self.cut:
                piece = bytes(self.own[0])  # the rest of the message that was cut, and perhaps other messages
                rest = piece[: piece.find(b"\n") + 1]
            self.own.clear()
            self.own_size = 0
            self.add(rest + last)
        if self.feed:
            self.feed = None
            del self.place  # a place keeps alive all that comes after it

    def add(self, piece: Piece) -> None:
        self.own.append(piece)
        self.own_size += len(piece) + OVERHEAD

    # What goes out.

    def take(self, enough: int) -> Piece:
        """Return what comes next: whole pieces, until they have `enough` bytes; b"" if nothing is due.

        The caller has to report by sent() how much of it was sent.
        """
        pieces: list[Piece] = []
        while enough > 0:
            if self.own:
                piece = self.own.popleft()
                self.own_size -= len(piece) + OVERHEAD
            elif self.feed and self.place is not self.feed.last:
                piece = self.place.data
                self.place = self.place.next
            else:
                break
            pieces.append(piece)
            enough -= len(piece) + OVERHEAD
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def sent(self, piece: Piece, count: int) -> None:
        """Of `piece`, from take(), `count` bytes were sent. The rest is due again, before everything else."""
        self.sent_size += count
        if count:
            self.cut = piece[count - 1] != NEWLINE
        if count < len(piece):
            self.own.appendleft(memoryview(piece)[count:])
            self.own_size += len(piece) - count + OVERHEAD

    def fork(self) -> Outbox:
        """Another outbox at the same place in the feed, for a member that has shared this one so far."""
        other = Outbox.__new__(Outbox)
        other.feed, other.place = self.feed, self.place
        other.own, other.own_size, other.sent_size, other.cut = deque(), 0, 0, False
        return other
