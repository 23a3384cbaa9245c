"""How far a stream was read, and what its next entry means there. Does no I/O.

See script.py for positions, epochs, marks and histories.
"""

from __future__ import annotations

from typing import NamedTuple, Union

Id = tuple[int, int]
Position = tuple[bytes, int]  # epoch, offset


class Words(NamedTuple):
    """Whole messages, which a node has written under this number."""

    node: bytes
    number: int
    text: bytes


class Loss(NamedTuple):
    """`missing` messages are missing here. None: perhaps some are, and it is not known how many."""

    missing: int | None


class Foreign:
    """An entry that no server can have written."""


Found = Union[Words, Loss, Foreign]
NODES = 1000  # whose last numbers are remembered


class Astray(Exception):
    """An entry of another epoch, whose mark was not seen. look() tells whether the mark can still be read."""


class History:
    """The epochs before this one, the last one first: where each ended, and whether something was lost then."""

    def __init__(self, epoch: bytes, text: bytes) -> None:
        """Raises ValueError if no script has written this."""
        past = [item.split(b" ") for item in text.split(b",") if item]
        self.epoch = epoch
        self.past = [(epoch, whole(offset), lost == b"1") for epoch, offset, lost in past]
        self.root = self.past[-1][0] if self.past else epoch

    def missing(self, position: Position, end: Position) -> int | None:
        """How many messages there are between a position and one in a later epoch; None if that is not certain.

        It is not certain if something was lost in between, or if Redis does not have what was read up to `position`.
        """
        between = end[0] == self.epoch
        for epoch, offset, lost in self.past:
            if between and lost:
                return None
            if between and epoch == position[0]:
                return end[1] - position[1] if position[1] <= offset else None
            between = between or epoch == end[0]
        return None

    def lacks(self, position: Position) -> bool:
        """Whether this history lacks what was read up to `position`, and no mark says so yet."""
        for epoch, offset, lost in self.past:
            if lost:
                return False
            if epoch == position[0]:
                return position[1] > offset
        return True


class Incoming:
    """How far one reader has read one stream. The first look() puts it at the end."""

    def __init__(self) -> None:
        self.cursor: Id | None = None  # the last entry that was read
        self.position: Position = b"", 0  # up to its end
        self.roots: set[bytes] = set()  # first epochs: of this stream, and of those that were before it
        # What Redis said last:
        self.last: Id = 0, 0  # the stream's last entry
        self.end: Position = b"", 0  # up to its end
        self.history = History(b"", b"")  # before its epoch
        self.claim = b""  # what is to be said to Redis: it has lost something, in this epoch
        self.heard: dict[bytes, int] = {}  # the last number of each node; those that spoke last are at the end
        self.sure = False  # after Astray: there is no more to be known about what comes next
        self.told = False  # the last thing that was found is a loss of an unknown number

    @property
    def behind(self) -> bool:
        """Whether there is more to be read, as far as known."""
        return self.cursor is not None and self.cursor < self.last

    def look(self, end: Position, last: Id, mark: Id, history: History) -> None:
        """Redis says where the stream ends, where the epoch's mark is, and what came before that."""
        self.end, self.last, self.history, self.claim = end, last, history, b""
        epoch, offset = self.position
        if self.cursor is None:
            self.position, self.cursor = end, last
            self.roots.add(history.root)
            return
        if end[0] != epoch and mark <= self.cursor:  # ids have fallen: from here it would never be read
            self.cursor = just_before(mark)
        lost = offset > end[1] if end[0] == epoch else history.root in self.roots and history.lacks(self.position)
        if lost:  # this is said until the history has it, for Redis may lose that, too
            self.claim = end[0]

    def take(self, id: Id, fields: dict[bytes, bytes]) -> list[Found]:
        """Step past this entry and return what it brings. Raises Astray before it does."""
        try:
            end = fields[b"epoch"], whole(fields[b"end"])
            if b"history" in fields:
                found = self.take_mark(end, History(end[0], fields[b"history"]))
            else:
                found = self.take_words(end, Words(fields[b"node"], whole(fields[b"number"]), fields[b"text"]))
        except (KeyError, ValueError):
            found = self.nothing() if self.behind and self.last < id else []
            self.cursor = id
            return [*found, Foreign()]
        self.cursor, self.sure = id, False
        return found

    def take_mark(self, end: Position, history: History) -> list[Found]:
        before = self.position
        if end[0] == before[0]:
            return []
        self.position = end
        self.roots.add(history.root)
        return self.lose(history.missing(before, end))

    def take_words(self, end: Position, words: Words) -> list[Found]:
        epoch, offset = self.position
        start = end[1] - words.text.count(b"\n")
        if start < 0 or not words.text.endswith(b"\n"):
            raise ValueError
        if end[0] != epoch:
            if not self.sure:
                raise Astray
            missing = self.history.missing(self.position, (end[0], start))
        elif end[1] <= offset:
            return []
        else:
            missing = start - offset if start >= offset else None
        self.position = end
        found = self.lose(missing)
        last = self.heard.pop(words.node, 0)
        self.heard[words.node] = max(last, words.number)
        if len(self.heard) > NODES:
            del self.heard[next(iter(self.heard))]
        if words.number > last:  # else Redis has forgotten this number, and taken the entry again
            found.append(words)
            self.told = False
        return found

    def nothing(self) -> list[Found]:
        """Nothing can be read, although Redis has said that there is more: it was deleted."""
        before, self.position, self.cursor = self.position, self.end, self.last
        if before[0] == self.end[0]:
            return self.lose(self.end[1] - before[1])
        self.roots.add(self.history.root)
        return self.lose(self.history.missing(before, self.end))

    def lose(self, missing: int | None) -> list[Found]:
        if missing == 0 or (missing is None and self.told):
            return []
        self.told = missing is None
        return [Loss(missing)]


def whole(digits: bytes) -> int:
    """A number that Lua can count with."""
    if not digits.isdigit() or len(digits) > 15:
        raise ValueError
    return int(digits)


def just_before(id: Id) -> Id:
    ms, count = id
    return (ms, count - 1) if count else (ms - 1, (1 << 64) - 1)


def parse_id(text: bytes) -> Id:
    ms, _, count = text.partition(b"-")
    return int(ms), int(count)
