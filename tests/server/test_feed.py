"""The feed against a naive model of it: one string, and for each cursor a place in it."""

from __future__ import annotations

import gc
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chat.server.feed import Cursor, Feed

OPERATION = st.one_of(
    st.tuples(st.just("append"), st.binary(min_size=1, max_size=9).map(lambda text: text + b"\n")),
    st.tuples(st.just("seal")),
    st.tuples(st.just("cursor"), st.booleans()),
    st.tuples(st.just("take"), st.integers(0, 9), st.integers(1, 60), st.integers(0, 9)),
    st.tuples(st.just("drop"), st.integers(0, 9)),
)
ENDLESS = sys.maxsize


@given(st.lists(OPERATION, max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_operations_in_any_order(operations: list[tuple[Any, ...]]) -> None:
    """What each cursor has taken is always a slice of all that was sealed, from where it began to where it is."""
    feed = Feed()
    whole = b""
    sealed = 0
    borders = [0]  # where a message may end
    cursors: list[Cursor] = []
    begun: list[int] = []  # where each began, in `whole`
    taken: list[bytes] = []
    for name, *arguments in operations:
        if name == "append":
            feed.append(arguments[0])
            whole += arguments[0]
            borders.append(len(whole))
        elif name == "seal" and feed.fresh:
            assert feed.seal() == whole[sealed:]
            sealed = len(whole)
        elif name == "cursor":
            late = arguments[0]
            cursors.append(Cursor(feed, late))
            begun.append(len(whole) if late else sealed)
            taken.append(b"")
        elif cursors and name in ("take", "drop"):
            number = arguments[0] % len(cursors)
            cursor = cursors[number]
            if name == "drop":
                for items in (cursors, begun, taken):
                    del items[number]
                continue
            place = begun[number] + len(taken[number])
            enough, further = arguments[1:]
            at = next((at for at, border in enumerate(borders) if border >= place), 0)
            stop = borders[min(at + further, len(borders) - 1)]
            pieces = cursor.take(enough, stop)
            got = b"".join(pieces)
            assert all(pieces)
            assert got == whole[place : place + len(got)]
            assert place + len(got) <= max(place, min(stop, sealed))
            assert len(got) >= min(enough, min(stop, sealed) - place)
            assert sum(map(len, pieces[:-1])) < enough, "it took another segment than was needed"
            assert place + len(got) in borders
            taken[number] += got
            assert cursor.place == place + len(got)
            assert cursor.lag == len(whole) - cursor.place
    feed.seal()
    for cursor, start, got in zip(cursors, begun, taken):
        assert got + b"".join(cursor.take(1 << 20, ENDLESS)) == whole[start:]
        assert cursor.take(1 << 20, ENDLESS) == []
    assert feed.end == feed.sealed == len(whole)


def test_history_is_not_replayed() -> None:
    feed = Feed()
    feed.append(b"before\n")
    early, late = Cursor(feed), Cursor(feed, late=True)
    feed.append(b"after\n")
    assert late.take(1 << 20, ENDLESS) == [], "nothing is sealed yet"
    feed.seal()
    assert late.take(1 << 20, ENDLESS) == [b"after\n"]
    assert early.take(1 << 20, ENDLESS) == [b"before\nafter\n"]


def test_a_burst_is_one_piece_and_the_same_bytes_for_all() -> None:
    feed = Feed()
    cursors = [Cursor(feed) for _ in range(3)]
    for number in range(1000):
        feed.append(b"%d\n" % number)
    feed.seal()
    pieces = [cursor.take(1, ENDLESS) for cursor in cursors]
    assert [len(piece) for piece in pieces] == [1, 1, 1]
    assert len(pieces[0][0]) == feed.end
    assert pieces[0][0] is pieces[1][0] is pieces[2][0], "readers share the bytes"


def test_what_is_appended_alone_is_not_copied() -> None:
    feed = Feed()
    text = b"text\n"
    feed.append(text)
    assert feed.seal() is text


def sealed_one_by_one(*texts: bytes) -> tuple[Feed, Cursor]:
    feed = Feed()
    cursor = Cursor(feed)
    for text in texts:
        feed.append(text)
        feed.seal()
    return feed, cursor


def test_taking_stops_when_it_is_enough() -> None:
    _, cursor = sealed_one_by_one(b"one\n", b"two\n", b"three\n")
    assert cursor.take(1, ENDLESS) == [b"one\n"]
    assert cursor.take(5, ENDLESS) == [b"two\n", b"three\n"]


def test_taking_goes_no_further_than_asked_even_inside_a_segment() -> None:
    _, cursor = sealed_one_by_one(b"one\n", b"two\nthree\n", b"four\n")
    assert cursor.take(1 << 20, 8) == [b"one\n", b"two\n"]
    assert cursor.take(1 << 20, 8) == []
    assert cursor.take(1 << 20, ENDLESS) == [b"three\n", b"four\n"]


def test_appending_touches_no_cursor() -> None:
    """It costs the same for any number of readers: not a line of Python runs for one of them."""

    def lines_run(readers: int) -> int:
        feed = Feed()
        kept = [Cursor(feed) for _ in range(readers)]
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
    fast, slow = Cursor(feed), Cursor(feed)
    for number in range(100):
        feed.append(b"%d\n" % number)
        feed.seal()
        fast.take(1 << 20, ENDLESS)
    assert living == [101], "the slow reader needs them all"
    taken = slow.take(20, ENDLESS)
    assert living == [101 - len(taken)]
    slow.take(1 << 20, ENDLESS)
    assert living == [1], "the open one is left"


def test_without_readers_nothing_is_kept(living: list[int]) -> None:
    feed = Feed()
    for _ in range(100):
        feed.append(b"text\n")
        feed.seal()
    assert living == [1]
    Cursor(feed)
    assert living == [1]


def test_a_very_long_chain_is_freed_without_recursion(living: list[int]) -> None:
    """A reader goes that was far behind; each of them is held by the one before it only."""
    number = 300_000
    feed = Feed()
    slow = Cursor(feed)
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
