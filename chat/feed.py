"""The one shared feed and its cursors.

What all are to read is laid down once, in one order. Each reader has a cursor, a place in the feed; the feed doesn't
know its cursors. So appending costs the same for any number of readers, and readers far behind share what they have yet
to read. What every cursor has passed is freed by itself: a segment knows only the next one, so nothing but the cursors
before it keeps it alive.
"""

from __future__ import annotations


class Segment:
    """A stretch of the feed. Once sealed, it has its bytes and a next one; until then it is the open one, the last."""

    __slots__ = ("data", "next")

    data: bytes
    next: Segment


class Feed:
    """An endless sequence of bytes, appended at one end and read by cursors."""

    def __init__(self) -> None:
        self.end = 0  # how many bytes were ever appended
        self.sealed = 0  # how many of them are in sealed segments
        self.width = 1  # how many appends went into the segment that was sealed last
        self.last = Segment()  # the open one
        self.fresh: list[bytes] = []  # appended, but not yet in a segment

    def append(self, data: bytes) -> None:
        """Add whole messages, behind what was appended before."""
        self.fresh.append(data)
        self.end += len(data)

    def seal(self) -> Segment:
        """Put what is fresh into one segment, so that readers get it in one piece; return the open one behind it."""
        if self.fresh:
            sealed, self.last = self.last, Segment()
            sealed.data = self.fresh[0] if len(self.fresh) == 1 else b"".join(self.fresh)
            sealed.next = self.last
            self.sealed = self.end
            self.width = len(self.fresh)
            self.fresh.clear()
        return self.last

    def cursor(self) -> Cursor:
        """A cursor at the end: its reader gets what comes from now on."""
        return Cursor(self)


class Cursor:
    """One reader's place in a feed."""

    __slots__ = ("feed", "segment", "place", "stop")

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.segment = feed.seal()
        self.place = feed.end  # how many bytes had been appended before this place; tells the lag
        self.stop: Segment | None = None

    @property
    def lag(self) -> int:
        """How many bytes of the feed this reader has not taken yet."""
        return self.feed.end - self.place

    def take(self, enough: int, mark: Segment | None = None) -> list[bytes]:
        """Return what comes next and step behind it: whole segments, until there are `enough` bytes of them.

        Goes no further than to the segment `mark`. An empty list means that there is nothing new. The bytes are the
        feed's own, not a copy.
        """
        taken: list[bytes] = []
        if self.place == self.feed.end:
            return taken
        end = self.stop or self.feed.seal()
        segment = self.segment
        while segment is not end and segment is not mark and enough > 0:
            taken.append(segment.data)
            self.place += len(segment.data)
            enough -= len(segment.data)
            segment = segment.next
        self.segment = segment
        return taken

    def finish(self) -> None:
        """What is there now is still to be read, and nothing after it."""
        if self.stop is None:
            self.stop = self.feed.seal()
