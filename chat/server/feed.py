"""The one shared feed and its cursors.

What all are to read is laid down once, in one order. A reader has a cursor, a place in the feed; the feed doesn't know
its cursors. So appending costs the same for any number of readers, and readers far behind share what they have yet to
read. What every cursor has passed is freed by itself: a segment knows only the next one, so nothing but the cursors
before it keeps it alive.

A place is a number: how many bytes were appended before it.
"""

from __future__ import annotations

import sys


class Segment:
    """A stretch of the feed. Once sealed, it has its bytes and a next one; until then it is the open one, the last."""

    __slots__ = ("data", "next", "start")

    data: bytes
    next: Segment

    def __init__(self, start: int) -> None:
        self.start = start  # its place


class Feed:
    """An endless sequence of bytes, appended at one end and read by cursors."""

    def __init__(self) -> None:
        self.end = 0  # the place after everything
        self.last = Segment(0)  # the open one
        self.fresh: list[bytes] = []  # what was appended and is not sealed yet

    @property
    def sealed(self) -> int:
        """The place up to which cursors can read."""
        return self.last.start

    def append(self, data: bytes) -> None:
        """Add whole messages, after what was appended before."""
        self.fresh.append(data)
        self.end += len(data)

    def unsealed(self) -> bytes:
        """What is fresh, in one piece: the same for all who ask."""
        if len(self.fresh) > 1:
            self.fresh = [b"".join(self.fresh)]
        return self.fresh[0] if self.fresh else b""

    def seal(self) -> bytes:
        """Put what is fresh into one segment, for cursors to read; returns it."""
        sealed, self.last = self.last, Segment(self.end)
        sealed.data = self.unsealed()
        sealed.next = self.last
        self.fresh = []
        return sealed.data


class Cursor:
    """One reader's place in a feed: at first, the end of what is sealed, or of everything if it is to be `late`."""

    __slots__ = ("feed", "place", "segment")

    def __init__(self, feed: Feed, late: bool = False) -> None:
        self.feed = feed
        self.segment = feed.last
        self.place = feed.end if late else feed.sealed

    @property
    def lag(self) -> int:
        """How many bytes of the feed this reader has not taken yet."""
        return self.feed.end - self.place

    def take(self, enough: int, stop: int) -> list[bytes]:
        """Return what comes next and step past it: segment by segment, until there are `enough` bytes.

        Goes no further than to the place `stop`, which is between two messages, nor than to what is sealed. An empty
        list means that there is nothing. Whole segments are the feed's own bytes, not a copy.
        """
        taken: list[bytes] = []
        stop = min(stop, self.feed.sealed)
        while self.place < stop and enough > 0:
            segment = self.segment
            piece = segment.data[self.place - segment.start : stop - segment.start]
            if piece:  # there is none in front of a place that was late
                taken.append(piece)
            enough -= len(piece)
            self.place += len(piece)
            if self.place == segment.next.start:
                self.segment = segment.next
        return taken

    def take_all(self, stop: int) -> list[bytes]:
        """Return everything before the place `stop`, what is not sealed yet included, and step past it."""
        taken = self.take(sys.maxsize, stop)
        if self.place < stop:
            sealed = self.feed.sealed
            taken.append(self.feed.unsealed()[self.place - sealed : stop - sealed])
            self.place = stop
        return taken
