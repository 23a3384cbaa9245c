"""How far a stream was read, and what its next entry means. Does no I/O.

script.py says what positions, epochs, marks and histories are. For example, we have read up to the position (a, 10),
and the next entry has two messages. If its position is

    (a, 12)   Words: none is missing, because 12 - 2 is 10
    (a, 15)   Loss(3), then Words: the entry begins at 15 - 2, which is 13
    (a, 10)   nothing: these messages were read before
    (a, 11)   Loss(None), then Words: they overlap, so Redis has lost something and gone on
    (b, 12)   Astray: epoch b has begun, but we have not read its mark

After Astray, Session.look() asks Redis, and follow() sets `asked`. If Redis still has the mark, the mark comes next. If
not, the same entry comes again; now we take it, and the history of epoch b says how many messages are missing.
"""

from __future__ import annotations

from typing import NamedTuple, Union

Id = tuple[int, int]
Position = tuple[bytes, int]  # epoch; offset: how many messages were ever written


class Words(NamedTuple):
    """Whole messages, which a node has written as its entry of this number."""

    node: bytes
    number: int
    text: bytes


class Loss(NamedTuple):
    """`missing` messages are missing here. None: nobody knows how many, perhaps none."""

    missing: int | None


class Foreign:
    """An entry that no server can have written."""


Found = Union[Words, Loss, Foreign]
NODES = 1000  # the most nodes whose last numbers are in `heard`


class Astray(Exception):
    """An entry of an epoch whose mark was not read. Session.look() finds out whether the mark can still be read."""


class History:
    """The epochs before `epoch`, the latest one first: (name, offset at its end, whether it ended with a loss)."""

    def __init__(self, epoch: bytes, text: bytes) -> None:
        """Raises ValueError if no script has written this."""
        past = [item.split(b" ") for item in text.split(b",") if item]
        self.epoch = epoch
        self.past = [(epoch, whole(offset), lost == b"1") for epoch, offset, lost in past]
        self.root = self.past[-1][0] if self.past else epoch

    def missing(self, position: Position, end: Position) -> int | None:
        """How many messages there are from `position` to `end`, which is in a later epoch; None if that is not certain.

        It is not certain if an epoch in between ended with a loss, or if Redis does not have all up to `position`.
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
        """Whether Redis has lost some of what was read up to `position`, and its history shows no loss since then."""
        for epoch, offset, lost in self.past:
            if lost:
                return False
            if epoch == position[0]:
                return position[1] > offset
        return True


class Incoming:
    """How far this node has read one stream. Reading begins where the stream ends at the first look()."""

    def __init__(self) -> None:
        self.cursor: Id | None = None  # the id of the last entry that was read
        self.position: Position = b"", 0  # the position of that entry
        self.roots: set[bytes] = set()  # the oldest epoch of each history that was read: see script.py
        # What Redis said at the last look():
        self.last: Id = 0, 0  # the id of the stream's last entry
        self.end: Position = b"", 0  # the position of that entry
        self.history = History(b"", b"")  # the epochs before that of `end`
        self.loss_in = b""  # the epoch in which Redis has lost what was read here, to be told to Redis; b"": none
        self.heard: dict[bytes, int] = {}  # the last number of each node; those that spoke last are at the end
        self.asked = False  # whether Redis was asked after Astray: then the next entry is taken, even without its mark
        self.loss_told = False  # whether what was found last is Loss(None): a second one in a row would say nothing new

    @property
    def behind(self) -> bool:
        """Whether there is more to be read, as far as known."""
        return self.cursor is not None and self.cursor < self.last

    def look(self, end: Position, last: Id, mark: Id, history: History) -> None:
        """Take what Redis says: position and id of the last entry, the id of its epoch's mark, and its history."""
        self.end, self.last, self.history, self.loss_in = end, last, history, b""
        epoch, offset = self.position
        if self.cursor is None:
            self.position, self.cursor = end, last
            self.roots.add(history.root)
            return
        if end[0] != epoch and mark <= self.cursor:  # the mark has a lower id than `cursor`: go back to read it
            self.cursor = just_before(mark)
        lost = offset > end[1] if end[0] == epoch else history.root in self.roots and history.lacks(self.position)
        if lost:  # Redis can lose this note, too, so Redis is told until its history shows the loss
            self.loss_in = end[0]

    def take(self, id: Id, fields: dict[bytes, bytes]) -> list[Found]:
        """Step past this entry and return what it brings. Raises Astray without stepping past it."""
        try:
            end = fields[b"epoch"], whole(fields[b"end"])
            if b"history" in fields:
                found = self.take_mark(end, History(end[0], fields[b"history"]))
            else:
                found = self.take_words(end, Words(fields[b"node"], whole(fields[b"number"]), fields[b"text"]))
        except (KeyError, ValueError):
            found = self.skip_to_end() if self.behind and self.last < id else []
            self.cursor = id
            return [*found, Foreign()]
        self.cursor, self.asked = id, False
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
            if not self.asked:
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
        if words.number > last:  # otherwise Redis has forgotten this number and taken the entry twice
            found.append(words)
            self.loss_told = False
        return found

    def skip_to_end(self) -> list[Found]:
        """Step to the end that Redis has named: all entries up to there were deleted. Return the loss."""
        before, self.position, self.cursor = self.position, self.end, self.last
        if before[0] == self.end[0]:
            return self.lose(self.end[1] - before[1])
        self.roots.add(self.history.root)
        return self.lose(self.history.missing(before, self.end))

    def lose(self, missing: int | None) -> list[Found]:
        if missing == 0 or (missing is None and self.loss_told):
            return []
        self.loss_told = missing is None
        return [Loss(missing)]


def whole(digits: bytes) -> int:
    """The number that these digits are. Raises ValueError for more digits than Lua can count with exactly."""
    if not digits.isdigit() or len(digits) > 15:
        raise ValueError
    return int(digits)


def just_before(id: Id) -> Id:
    ms, count = id
    return (ms, count - 1) if count else (ms - 1, (1 << 64) - 1)


def parse_id(text: bytes) -> Id:
    ms, _, count = text.partition(b"-")
    return int(ms), int(count)
