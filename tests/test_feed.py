"""The feed against a naive model of it: one string, and for each cursor a place in it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chat.feed
from chat.feed import Cursor, Feed

OPERATION = st.one_of(
    st.tuples(st.just("append"), st.binary(min_size=1, max_size=9).map(lambda text: text + b"\n")),
    st.tuples(st.just("cursor"), st.just(0)),
    st.tuples(st.just("take"), st.integers(0, 9), st.integers(1, 60)),
    st.tuples(st.just("mark"), st.integers(0, 9)),
    st.tuples(st.just("finish"), st.integers(0, 9)),
    st.tuples(st.just("drop"), st.integers(0, 9)),
)


@pytest.fixture
def living(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many segments there are, in a list of one."""
    count = [0]

    class Counted(chat.feed.Segment):
        __slots__ = ()

        def __init__(self) -> None:
            count[0] += 1
            super().__init__()

        def __del__(self) -> None:
            count[0] -= 1

    monkeypatch.setattr(chat.feed, "Segment", Counted)
    yield count


@given(st.lists(OPERATION, max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_operations_in_any_order(operations: list[tuple[str, ...]]) -> None:
    """What each cursor has taken is always a slice of all that was appended, from where it began to where it is."""
    feed = Feed()
    whole = b""
    borders = {0}  # where a message may end
    cursors: list[Cursor] = []
    begun: list[int] = []  # where each began, in `whole`
    taken: list[bytes] = []
    stops: list[int | None] = []
    for name, *arguments in operations:
        if name == "append":
            feed.append(arguments[0])  # type: ignore[arg-type]
            whole += arguments[0]  # type: ignore[operator]
            borders.add(len(whole))
        elif name == "cursor":
            cursors.append(feed.cursor())
            begun.append(len(whole))
            taken.append(b"")
            stops.append(None)
        elif cursors:
            number = int(arguments[0]) % len(cursors)
            cursor = cursors[number]
            place = begun[number] + len(taken[number])
            end = len(whole) if stops[number] is None else stops[number]
            if name == "finish":
                cursor.finish()
                stops[number] = end
            elif name == "drop":
                for items in (cursors, begun, taken, stops):
                    del items[number]
                continue
            elif name == "mark":  # no further than a segment that is still to come
                mark = feed.seal()
                feed.append(b"later\n")
                pieces = cursor.take(1 << 20, mark)
                assert b"".join(pieces) == whole[place:end]
                taken[number] += b"".join(pieces)
                whole += b"later\n"
                borders.add(len(whole))
            else:
                enough = int(arguments[1])
                pieces = cursor.take(enough)
                got = b"".join(pieces)
                assert got == whole[place : place + len(got)]
                assert len(got) >= min(enough, end - place)  # type: ignore[operator]
                assert sum(map(len, pieces[:-1])) < enough, "it took another segment than was needed"
                assert place + len(got) in borders and place + len(got) <= end  # type: ignore[operator]
                taken[number] += got
            assert cursor.lag == len(whole) - begun[number] - len(taken[number])
    for cursor, start, got, stop in zip(cursors, begun, taken, stops):
        assert got + b"".join(cursor.take(1 << 20)) == whole[start:stop]
        assert cursor.take(1 << 20) == []
    assert feed.end == len(whole)


def test_history_is_not_replayed() -> None:
    feed = Feed()
    feed.append(b"before\n")
    cursor = feed.cursor()
    assert cursor.take(1 << 20) == [] and cursor.lag == 0
    feed.append(b"after\n")
    assert cursor.take(1 << 20) == [b"after\n"]


def test_a_burst_is_one_piece_and_the_same_bytes_for_all() -> None:
    feed = Feed()
    cursors = [feed.cursor() for _ in range(3)]
    for number in range(1000):
        feed.append(b"%d\n" % number)
    pieces = [cursor.take(1) for cursor in cursors]
    assert [len(piece) for piece in pieces] == [1, 1, 1]
    assert len(pieces[0][0]) == feed.end
    assert pieces[0][0] is pieces[1][0] is pieces[2][0], "readers share the bytes"


def test_taking_stops_when_it_is_enough() -> None:
    feed = Feed()
    cursor = feed.cursor()
    for text in b"one\n", b"two\n", b"three\n":
        feed.append(text)
        feed.seal()
    assert cursor.take(1) == [b"one\n"]
    assert cursor.take(5) == [b"two\n", b"three\n"]


def test_appending_touches_no_cursor() -> None:
    """It costs the same for any number of readers: not a line of Python runs for one of them."""

    def lines_run(readers: int) -> int:
        feed = Feed()
        kept = [feed.cursor() for _ in range(readers)]
        count = 0

        def trace(*_: object) -> Any:
            nonlocal count
            count += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for _ in range(10):
                feed.append(b"text\n")
        finally:
            sys.settrace(before)
        assert all(cursor.lag == 50 for cursor in kept)
        return count

    assert lines_run(1) == lines_run(1000)


def test_what_all_have_passed_is_freed(living: list[int]) -> None:
    feed = Feed()
    fast, slow = feed.cursor(), feed.cursor()
    for number in range(100):
        feed.append(b"%d\n" % number)
        fast.take(1 << 20)
    assert living == [101], "the slow reader needs them all"
    taken = slow.take(20)
    assert living == [101 - len(taken)]
    slow.take(1 << 20)
    assert living == [1], "the open one is left"


def test_without_readers_nothing_is_kept(living: list[int]) -> None:
    feed = Feed()
    for _ in range(100):
        feed.append(b"text\n")
        feed.seal()
    assert living == [1]
    feed.cursor()
    assert living == [1]


def test_a_very_long_chain_is_freed_without_recursion(living: list[int]) -> None:
    """A reader goes that was far behind; each of them is held by the one before it only."""
    number = 300_000
    feed = Feed()
    slow = feed.cursor()
    for _ in range(number):
        feed.append(b"text\n")
        feed.seal()
    assert living == [number + 1] and slow.lag == 5 * number
    gc.disable()
    try:
        del slow
        assert living == [1], "freed at once, by counting references"
    finally:
        gc.enable()


def test_finish_holds_at_the_first_call() -> None:
    feed = Feed()
    cursor = feed.cursor()
    feed.append(b"due\n")
    cursor.finish()
    feed.append(b"too late\n")
    cursor.finish()
    assert cursor.take(1 << 20) == [b"due\n"] and cursor.take(1 << 20) == []
