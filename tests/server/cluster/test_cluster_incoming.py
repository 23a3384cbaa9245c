"""How far a stream was read: each kind of gap, and each thing that is not one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.server.cluster import incoming
from chat.server.cluster.incoming import (
    Astray,
    Foreign,
    Found,
    History,
    Id,
    Incoming,
    Loss,
    Words,
    just_before,
    parse_id,
)

UNKNOWN = Loss(None)


def words(epoch: str, end: int, number: int, text: str = "hi\n", node: str = "n") -> dict[bytes, bytes]:
    return {
        b"epoch": epoch.encode(), b"end": b"%d" % end, b"node": node.encode(), b"number": b"%d" % number,
        b"text": text.encode(),
    }  # fmt: skip


def mark(epoch: str, end: int, history: str) -> dict[bytes, bytes]:
    return {b"epoch": epoch.encode(), b"end": b"%d" % end, b"history": history.encode()}


def look(reader: Incoming, epoch: str, offset: int, history: str, last: Id, mark: Id) -> None:
    reader.look((epoch.encode(), offset), last, mark, History(epoch.encode(), history.encode()))


def said(number: int, text: str = "hi\n") -> Words:
    return Words(b"n", number, text.encode())


def reader(history: str = "") -> Incoming:
    """One that has read up to 10 in e1."""
    reader = Incoming()
    look(reader, "e1", 10, history, (100, 0), (50, 0))
    assert reader.position == (b"e1", 10) and reader.cursor == (100, 0) and not reader.behind
    return reader


def take(reader: Incoming, *entries: dict[bytes, bytes], first: int = 101) -> list[Found]:
    return [found for number, entry in enumerate(entries) for found in reader.take((first + number, 0), entry)]


def test_one_after_the_other() -> None:
    it = reader()
    assert take(it, words("e1", 12, 1, "a\nb\n"), words("e1", 13, 2)) == [said(1, "a\nb\n"), said(2)]
    assert it.position == (b"e1", 13) and it.cursor == (102, 0)


def test_a_gap_is_counted() -> None:
    assert take(reader(), words("e1", 15, 7, "a\nb\n")) == [Loss(3), said(7, "a\nb\n")]


def test_a_gap_at_the_end_is_counted() -> None:
    it = reader()
    look(it, "e1", 14, "", (104, 0), (50, 0))
    assert it.behind
    assert it.skip_to_end() == [Loss(4)]
    assert it.position == (b"e1", 14) and not it.behind


def test_what_is_said_meanwhile_is_no_gap() -> None:
    it = reader()
    look(it, "e1", 12, "", (102, 0), (50, 0))
    assert take(it, words("e1", 11, 1)) == [said(1)] and it.behind
    assert take(it, words("e1", 12, 2), first=102) == [said(2)] and not it.behind
    assert take(it, words("e1", 13, 3), first=103) == [said(3)] and not it.behind


@pytest.mark.parametrize(
    "fields",
    [
        {}, {b"text": b"hi\n"}, {**words("e1", 11, 1), b"text": b"hi"}, {**words("e1", 11, 1), b"number": b"x"},
        {**words("e1", 11, 1), b"end": b"-1"}, {**words("e1", 11, 1), b"end": b"9" * 5000},
        {**words("e1", 11, 1), b"end": "٣".encode()}, words("e1", 0, 1),
        mark("e2", 10, "e1"), mark("e2", 10, "e1 x 0"),
    ],
)  # fmt: skip
def test_what_no_server_has_written(fields: dict[bytes, bytes]) -> None:
    """It hides no gap, and makes none."""
    it = reader()
    (found,) = it.take((101, 0), fields)
    assert isinstance(found, Foreign)
    assert it.cursor == (101, 0) and it.position == (b"e1", 10)
    assert take(it, words("e1", 14, 1), first=102) == [Loss(3), said(1)]


def test_a_foreign_entry_behind_the_gap_does_not_hide_it() -> None:
    it = reader()
    look(it, "e1", 14, "", (104, 0), (50, 0))
    loss, foreign = it.take((105, 0), {})
    assert loss == Loss(4) and isinstance(foreign, Foreign)
    assert it.cursor == (105, 0) and it.position == (b"e1", 14)


def test_heard_before_is_left_out() -> None:
    it = reader()
    take(it, words("e1", 11, 5))
    assert take(it, words("e1", 12, 5), words("e1", 13, 4), words("e1", 14, 6)) == [said(6)]


def test_only_so_many_nodes_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "NODES", 3)
    it = reader()
    for number in range(10):
        take(it, words("e1", 11 + 2 * number, 1, node=f"{number}"), words("e1", 12 + 2 * number, number + 1))
    assert set(it.heard) == {b"8", b"9", b"n"} and it.heard[b"n"] == 10


# Epochs.


def test_an_epoch_that_continues_is_no_gap() -> None:
    it = reader()
    assert take(it, mark("e2", 10, "e1 10 0"), words("e2", 11, 1)) == [said(1)]
    assert it.position == (b"e2", 11)


def test_an_epoch_that_continues_later() -> None:
    assert take(reader(), mark("e2", 13, "e1 13 0"), words("e2", 14, 1)) == [Loss(3), said(1)]


def test_epochs_that_were_missed() -> None:
    assert take(reader(), mark("e4", 17, "e3 17 0,e2 15 0,e1 12 0"), words("e4", 18, 1)) == [Loss(7), said(1)]


@pytest.mark.parametrize("history", ["e1 10 1", "e2 10 0,e1 10 1", "e2 10 1,e1 10 0"])
def test_told_by_others_that_something_is_lost(history: str) -> None:
    it = reader()
    assert take(it, mark("e3", 10, history), words("e3", 11, 1)) == [UNKNOWN, said(1)]
    look(it, "e3", 11, history, (102, 0), (101, 0))
    assert not it.loss_in


def test_redis_has_lost_what_was_read() -> None:
    """It says so, once."""
    it = reader()
    look(it, "e3", 9, "e2 9 0,e1 8 0", (103, 0), (103, 0))
    assert it.loss_in == b"e3"
    look(it, "e4", 9, "e3 9 1,e2 9 0,e1 8 0", (104, 0), (104, 0))
    assert not it.loss_in
    entries = mark("e2", 8, "e1 8 0"), words("e2", 9, 1), mark("e3", 9, "e2 9 0,e1 8 0")
    assert take(it, *entries) == [UNKNOWN, said(1)]
    look(it, "e4", 9, "e3 9 1,e2 9 0,e1 8 0", (104, 0), (104, 0))
    assert not it.loss_in
    assert take(it, mark("e4", 9, "e3 9 1,e2 9 0,e1 8 0"), first=104) == [UNKNOWN]
    assert not it.behind


def test_redis_has_lost_that_it_has_lost_something() -> None:
    """The same copy takes over once more, before anybody has read the mark. So it has to be told again."""
    it = reader()
    look(it, "e2", 9, "e1 9 0", (103, 0), (103, 0))
    assert it.loss_in == b"e2"
    look(it, "e3", 9, "e2 9 1,e1 9 0", (104, 0), (104, 0))
    assert it.loss_in == b""
    look(it, "f2", 9, "e1 9 0", (105, 0), (105, 0))
    assert it.loss_in == b"f2"


def test_redis_has_lost_the_whole_epoch() -> None:
    it = reader("d1 5 0")
    look(it, "e2", 3, "d1 3 0", (103, 0), (103, 0))
    assert it.loss_in == b"e2"
    look(it, "e3", 3, "e2 3 1,d1 3 0", (104, 0), (104, 0))
    assert not it.loss_in
    assert take(it, mark("e2", 3, "d1 3 0"), mark("e3", 3, "e2 3 1,d1 3 0"), first=103) == [UNKNOWN]


def test_somebody_else_has_said_so() -> None:
    it = reader()
    look(it, "e3", 8, "e2 8 1,e1 8 0", (102, 0), (102, 0))
    assert not it.loss_in
    assert take(it, mark("e2", 8, "e1 8 0"), mark("e3", 8, "e2 8 1,e1 8 0")) == [UNKNOWN]


def test_a_loss_within_an_epoch() -> None:
    it = reader()
    look(it, "e1", 8, "", (90, 0), (50, 0))
    assert it.loss_in == b"e1"
    look(it, "e2", 8, "e1 8 1", (101, 0), (101, 0))
    assert not it.loss_in
    assert take(it, mark("e2", 8, "e1 8 1")) == [UNKNOWN]


def test_a_new_stream() -> None:
    """All see that it is one: nobody has to say so."""
    it = reader()
    look(it, "f1", 0, "", (101, 0), (101, 0))
    assert not it.loss_in
    assert take(it, mark("f1", 0, ""), words("f1", 1, 1)) == [UNKNOWN, said(1)]


def test_back_to_the_stream_before_that() -> None:
    """Somebody may have missed that there was a new one."""
    it = reader()
    take(it, mark("f1", 0, ""))
    look(it, "e2", 9, "e1 9 0", (90, 0), (90, 0))
    assert it.loss_in == b"e2"


def test_no_mark_is_taken_twice() -> None:
    it = reader()
    assert take(it, mark("e1", 3, "e0 3 1"), words("e1", 5, 1), words("e1", 11, 2)) == [said(2)]


@pytest.mark.parametrize(("history", "loss"), [("e2 20 0,e1 15 0", Loss(19)), ("e2 20 1,e1 15 0", UNKNOWN)])
def test_a_mark_that_was_trimmed(history: str, loss: Loss) -> None:
    """First it is looked for: it may be before the cursor."""
    it = reader()
    with pytest.raises(Astray):
        it.take((110, 0), words("e3", 30, 9))
    assert it.cursor == (100, 0)
    look(it, "e3", 30, history, (110, 0), (105, 0))
    it.asked = True
    assert it.cursor == (100, 0)
    assert take(it, words("e3", 30, 9), words("e3", 31, 10), first=110) == [loss, said(9), said(10)]


def test_the_mark_of_an_epoch_in_between_was_trimmed() -> None:
    it = reader()
    look(it, "e3", 30, "e2 30 0,e1 12 0", (112, 0), (111, 0))
    it.asked = True
    assert take(it, words("e2", 30, 9), first=110) == [Loss(19), said(9)]


def test_ids_have_fallen() -> None:
    it = reader()
    look(it, "e2", 12, "e1 10 0", (32, 0), (30, 7))
    assert it.cursor == (30, 6) and it.behind
    assert take(it, mark("e2", 10, "e1 10 0"), words("e2", 12, 1, "a\nb\n"), first=31) == [said(1, "a\nb\n")]


@pytest.mark.parametrize(("history", "loss"), [("e1 10 0", Loss(2)), ("e1 9 0", UNKNOWN), ("", UNKNOWN)])
def test_everything_is_gone_of_a_new_epoch(history: str, loss: Loss) -> None:
    it = reader()
    look(it, "e2", 12, history, (32, 0), (30, 0))
    assert it.skip_to_end() == [loss]
    assert it.position == (b"e2", 12) and not it.behind


def test_ids() -> None:
    assert parse_id(b"12-3") == (12, 3)
    assert just_before((12, 3)) == (12, 2)
    assert just_before((12, 0)) == (11, 18446744073709551615)


# One history, as the script writes it; readers that begin anywhere; entries that disappear.


@given(
    sizes=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    start=st.integers(0, 30),
    gone=st.sets(st.integers(0, 30)),
    foreign=st.sets(st.integers(0, 30)),
    looks=st.sets(st.integers(0, 30)),
)
def test_whatever_disappears_is_counted(
    sizes: list[int], start: int, gone: set[int], foreign: set[int], looks: set[int]
) -> None:
    """What is heard and what was lost is all there was, in its order. A size of 0 is a mark."""
    entries, ends, histories = [], [], []
    marks: list[Id] = []
    epoch, offset, history = "e", 0, ""
    for at, size in enumerate(sizes):
        if size:
            text = "".join(f"{offset + i}\n" for i in range(size))
            offset += size
            fields = words(epoch, offset, at + 1, text)
        else:
            history = f"{epoch} {offset} 0" + (f",{history}" if history else "")
            epoch = f"e{at}"
            fields = mark(epoch, offset, history)
        entries.append(fields)
        ends.append(offset)
        histories.append((epoch, history))
        marks.append((100 + at, 0) if not size else marks[-1] if marks else (1, 0))

    def ask(at: int) -> None:
        look(it, histories[at][0], ends[at], histories[at][1], (100 + at, 0), marks[at])

    it = Incoming()
    start = min(start, len(entries) - 1)
    ask(start)
    found: list[Found] = []
    for at in range(start + 1, len(entries)):
        if at in foreign:
            found += it.take((99 + at, 5), {b"odd": b"entry"})
        if at not in gone:
            try:
                found += it.take((100 + at, 0), entries[at])
            except Astray:
                ask(at)
                it.asked = True
                found += it.take((100 + at, 0), entries[at])
        if at in looks:  # there is silence
            ask(at)
            found += it.skip_to_end() if it.behind else []
    offset = ends[start]
    for what in found:
        if isinstance(what, Loss):
            assert what.missing
            offset += what.missing
        elif isinstance(what, Words):
            for line in what.text.split():
                assert int(line) == offset
                offset += 1
    last = max((at for at in range(start, len(entries)) if at in looks or at not in gone), default=start)
    assert offset == ends[max(start, last)]
