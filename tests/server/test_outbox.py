"""Outboxes against a naive model: for each reader, the list of messages it should get."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.server.outbox import OVERHEAD, Feed, Outbox

TEXT = st.binary(max_size=9).map(lambda text: text.replace(b"\n", b"") + b"\n")
WHO = st.integers(0, 9)
OPERATION = st.one_of(
    st.tuples(st.just("append"), WHO, TEXT),
    st.tuples(st.just("seal"), WHO),
    st.tuples(st.just("open"), WHO),
    st.tuples(st.just("fork"), WHO),
    st.tuples(st.just("tell"), WHO, TEXT),
    st.tuples(st.just("take"), WHO, st.integers(1, 3 * OVERHEAD), st.integers(0, 30)),
    st.tuples(st.just("skip"), WHO),
    st.tuples(st.just("enter"), WHO, WHO),
    st.tuples(st.just("close"), WHO, st.none() | TEXT),
    st.tuples(st.just("drop"), WHO),
)
EVERYTHING = sys.maxsize


class Reader:
    """An outbox, and what the model says of it: what is due, in order, and what has gone out."""

    def __init__(self, outbox: Outbox, feed: int, due: list[bytes]) -> None:
        self.outbox = outbox
        self.feed: int | None = feed
        self.due = due
        self.out = b""

    @property
    def cut(self) -> bool:
        return bool(self.out) and not self.out.endswith(b"\n")

    def send(self, count: int, enough: int) -> None:
        """Take something, and send at most `count` bytes of it."""
        piece = self.outbox.take(enough)
        sent = min(count, len(piece))
        self.outbox.sent(piece, sent)
        data = bytes(piece)
        due = b"".join(self.due)
        assert due.startswith(data), f"it took {data!r} where {due!r} is due"
        assert not data or data.endswith(b"\n"), "it took a part of a message"
        self.out += data[:sent]
        rest = due[sent:]
        self.due = [rest] if rest else []


@given(st.lists(OPERATION, max_size=80))
def test_any_operations_in_any_order_over_many_outboxes(operations: list[tuple[Any, ...]]) -> None:
    feeds = [Feed(), Feed()]
    readers = [Reader(Outbox(feed), number, []) for number, feed in enumerate(feeds)]
    for name, who, *arguments in operations:
        reader = readers[who % len(readers)] if readers else None
        if name == "append":
            number = who % 2
            feeds[number].append(arguments[0])
            for other in readers:
                if other.feed == number:
                    other.due.append(arguments[0])
        elif name == "seal":
            feeds[who % 2].seal()
        elif name == "open":
            readers.append(Reader(Outbox(feeds[who % 2]), who % 2, []))
        elif reader is None:
            continue
        elif name == "fork":
            if reader.outbox.feed and not reader.outbox.own:
                readers.append(Reader(reader.outbox.fork(), reader.feed or 0, list(reader.due)))
        elif name == "tell":
            if reader.feed is not None:
                reader.outbox.tell(arguments[0])
                reader.due.append(arguments[0])
        elif name == "take":
            enough, count = arguments
            if reader.feed is not None:
                feeds[reader.feed].seal()
            reader.send(count, enough)
        elif name == "skip":
            if reader.feed is not None:
                reader.outbox.pull()
                feeds[reader.feed].append(b"for the others\n")
                for other in readers:
                    if other.feed == reader.feed and other is not reader:
                        other.due.append(b"for the others\n")
                reader.outbox.skip()
        elif name == "enter":
            if reader.feed is not None:
                reader.feed = arguments[0] % 2
                reader.outbox.enter(feeds[reader.feed])
        elif name == "close":
            if reader.feed is not None:
                last = arguments[0]
                reader.outbox.close(last)
                reader.feed = None
                if last is not None:
                    due = b"".join(reader.due)
                    reader.due = [due[: due.index(b"\n") + 1] if reader.cut else b"", last]
        elif name == "drop":
            readers.remove(reader)
        for reader in readers:
            lag = reader.outbox.lag()
            size = len(b"".join(reader.due))
            assert size <= lag <= size + OVERHEAD * (len(reader.due) + 40)
    for feed in feeds:
        feed.seal()
    for reader in readers:
        while b"".join(reader.due):
            reader.send(EVERYTHING, 1)
        assert reader.outbox.empty and reader.outbox.lag() == 0 and not reader.cut


# Single properties, by name.


def test_a_line_for_one_stands_between_what_all_hear() -> None:
    feed = Feed()
    one, other = Outbox(feed), Outbox(feed)
    feed.append(b"first\n")
    one.tell(b"for you\n")
    feed.append(b"second\n")
    feed.seal()
    assert one.take(EVERYTHING) == b"first\nfor you\nsecond\n"
    assert other.take(EVERYTHING) == b"first\nsecond\n"


def test_what_was_due_in_one_room_comes_before_what_is_said_in_the_next() -> None:
    here, there = Feed(), Feed()
    reader = Outbox(here)
    there.append(b"too early\n")
    here.append(b"here\n")
    reader.enter(there)
    here.append(b"too late\n")
    there.append(b"there\n")
    there.seal()
    assert reader.take(EVERYTHING) == b"here\nthere\n"


def test_history_is_not_replayed() -> None:
    feed = Feed()
    feed.append(b"before\n")
    reader = Outbox(feed)
    feed.append(b"after\n")
    assert reader.take(EVERYTHING) == b"", "nothing is sealed yet"
    feed.seal()
    assert reader.take(EVERYTHING) == b"after\n"


def test_a_last_line_lets_only_the_message_begun_pass() -> None:
    feed = Feed()
    reader = Outbox(feed)
    feed.append(b"one\ntwo\nthree\n")
    feed.seal()
    piece = reader.take(EVERYTHING)
    reader.sent(piece, 5)
    reader.close(b"goodbye\n")
    feed.append(b"four\n")
    feed.seal()
    assert reader.take(EVERYTHING) == b"wo\ngoodbye\n"
    reader = Outbox(feed)
    feed.append(b"one\ntwo\n")
    feed.seal()
    piece = reader.take(EVERYTHING)
    reader.sent(piece, 4)
    reader.close(b"goodbye\n")
    assert reader.take(EVERYTHING) == b"goodbye\n", "no message was begun"


def test_readers_share_the_bytes() -> None:
    feed = Feed()
    readers = [Outbox(feed) for _ in range(3)]
    text = b"text " * 100 + b"\n"
    feed.append(text)
    feed.seal()
    assert all(reader.take(1) is text for reader in readers), "what is appended alone is not even copied once"
    feed.append(text)
    for reader in readers:
        reader.close()
    assert all(reader.take(1) is text for reader in readers), "not for those that go, either"


def test_taking_stops_when_it_is_enough() -> None:
    feed = Feed()
    reader = Outbox(feed)
    for text in b"one\n", b"two\n", b"three\n":
        feed.append(text)
        feed.seal()
    assert reader.take(1) == b"one\n"
    assert reader.take(5 + OVERHEAD) == b"two\nthree\n"
    assert reader.take(1) == b""


def test_appending_touches_no_reader() -> None:
    """It costs the same for any number of readers: not a line of Python runs for one of them."""

    def lines_run(readers: int) -> int:
        feed = Feed()
        kept = [Outbox(feed) for _ in range(readers)]
        count = 0

        def trace(*_: object) -> Any:
            nonlocal count
            count += 1
            return trace

        gc.disable()  # what it calls is Python, too
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for _ in range(10):
                feed.append(b"text\n")
                feed.seal()
        finally:
            sys.settrace(before)
            gc.enable()
        assert all(reader.lag() == 10 * (5 + OVERHEAD) for reader in kept)
        return count

    assert lines_run(1) == lines_run(1000)


def test_telling_many_lines_costs_the_same_each() -> None:
    """Every segment is looked at once for a reader, however often it is told something in between."""
    steps = []
    for count in 200, 800:
        feed = Feed()
        reader = Outbox(feed)
        lines = 0

        def trace(*_: object) -> Any:
            nonlocal lines
            lines += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for _ in range(count):
                feed.append(b"x\n")
                reader.tell(b"y\n")
            while not reader.empty:
                reader.take(1 << 10)
        finally:
            sys.settrace(before)
        steps.append(lines)
    assert steps[1] < 4.2 * steps[0]


def test_many_lines_for_one_are_few_pieces() -> None:
    reader = Outbox(Feed())
    for _ in range(100_000):
        reader.tell(b"\n")
    assert len(reader.own) < 10 and reader.lag() < 110_000


@pytest.mark.parametrize("text", [b"\n", b"12345678901: x\n", b"x" * 1023 + b"\n"])
def test_the_lag_is_about_what_it_costs_to_keep(text: bytes) -> None:
    """A reader is stuck behind small segments, one a turn. Measured: within a factor of 2."""
    gc.collect()
    tracemalloc.start()
    try:
        feed = Feed()
        stuck = Outbox(feed)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5000):
            feed.append(bytes(bytearray(text)))  # a new object, as it comes from a socket
            feed.seal()
        used = tracemalloc.get_traced_memory()[0] - before
        assert stuck.lag() / 2 < used < stuck.lag() * 2
        stuck.close()
        used = tracemalloc.get_traced_memory()[0] - before
        assert used < stuck.lag(), "less, once it is to go: no segments"
    finally:
        tracemalloc.stop()


# What all have read is freed.


def test_what_all_have_passed_is_freed(living: list[int]) -> None:
    feed = Feed()
    fast, slow = Outbox(feed), Outbox(feed)
    for number in range(100):
        feed.append(b"%d\n" % number)
        feed.seal()
        fast.take(EVERYTHING)
    assert living == [101], "the slow reader needs them all"
    slow.take(1)
    assert living == [100]
    slow.take(EVERYTHING)
    assert living == [1], "the open one is left"


def test_a_closed_outbox_keeps_nothing_of_the_feed_but_what_is_due(living: list[int]) -> None:
    feed = Feed()
    slow = Outbox(feed)
    feed.append(b"due\n")
    feed.seal()
    slow.close()
    for _ in range(100):
        feed.append(b"later\n")
        feed.seal()
    assert living == [1]
    assert slow.take(EVERYTHING) == b"due\n"


def test_without_readers_nothing_is_kept(living: list[int]) -> None:
    feed = Feed()
    for _ in range(100):
        feed.append(b"text\n")
        feed.seal()
    assert living == [1]


def test_a_very_long_chain_is_freed_without_recursion(living: list[int]) -> None:
    """A reader goes that was far behind; each segment is held by the one before it only."""
    number = 300_000
    feed = Feed()
    slow = Outbox(feed)
    for _ in range(number):
        feed.append(b"text\n")
        feed.seal()
    assert living == [number + 1]
    gc.disable()
    try:
        del slow
        assert living == [1], "freed at once, by counting references"
    finally:
        gc.enable()
