"""What has not come back from the stream: whatever happens, in any order, each message is written and settled once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chat.server.cluster import outgoing
from chat.server.cluster.outgoing import Entry, Outgoing


def texts(queue: Outgoing) -> list[bytes]:
    return [bytes(entry.text) for entry in queue.entries]


def test_what_gathers_is_one_entry_until_it_is_sent() -> None:
    queue = Outgoing()
    queue.publish(b"a\n")
    queue.publish(b"b\n")
    (entry,) = queue.take_due()
    queue.publish(b"c\n")
    assert texts(queue) == [b"a\nb\n", b"c\n"] and entry.messages == 2
    assert [entry.number for entry in queue.due()] == [1, 2]
    entry.position = b"e", 2
    assert [entry.number for entry in queue.due()] == [2]


def test_sent_and_not_answered_is_due() -> None:
    """After a cut. But it takes no more messages: it may have arrived."""
    queue = Outgoing()
    queue.publish(b"a\n")
    queue.take_due()
    queue.publish(b"b\n")
    queue.start_over()
    assert [bytes(entry.text) for entry in queue.due()] == [b"a\n", b"b\n"]
    assert queue.sent_before() == 1


def test_an_answer_to_what_was_started_over_is_not_believed() -> None:
    queue = Outgoing()
    queue.publish(b"a\n")
    (old,) = queue.take_due()
    queue.start_over()
    old.position = b"e", 1
    queue.passed((b"e", 1))
    assert queue.size == 2 and queue.due()


def test_read_before_it_was_answered() -> None:
    queue = Outgoing()
    queue.publish(b"a\n")
    (entry,) = queue.take_due()
    queue.came_back(1)
    assert not queue.size and queue.last_settled == 1
    entry.position = b"e", 1
    queue.passed((b"e", 1))
    assert not queue.entries


@pytest.mark.parametrize("position", [(b"e", 2), (b"f", 9)])
def test_not_passed_yet_or_in_another_epoch(position: tuple[bytes, int]) -> None:
    queue = Outgoing()
    queue.publish(b"a\n")
    (entry,) = queue.take_due()
    entry.position = b"e", 3
    queue.passed(position)
    assert queue.entries
    queue.passed((b"e", 3))
    assert not queue.entries


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=20), max_size=20))
def test_entries_are_bounded(published: list[list[int]]) -> None:
    """Nothing is larger than it may be but a single message, and what is said at once stays together if it can."""
    whole = [b"".join(b"x" * size + b"\n" for size in sizes) for sizes in published]
    queue = Outgoing()
    most, outgoing.LARGEST = outgoing.LARGEST, 40
    try:
        for text in whole:
            queue.publish(text)
    finally:
        outgoing.LARGEST = most
    written = texts(queue)
    assert b"".join(written) == b"".join(whole)
    for text in written:
        assert text.endswith(b"\n") and (len(text) <= 40 or text.count(b"\n") == 1)
    for text in whole:
        assert len(text) > 40 or any(text in entry for entry in written)
    assert queue.size == len(b"".join(whole))


class AgainstAModel(RuleBasedStateMachine):
    """A Redis that takes entries in their order and refuses numbers it has had, and a reader of what it has taken."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Outgoing()
        self.said: list[bytes] = []
        self.stream: list[tuple[int, bytes]] = []
        self.flying: list[Entry] = []
        self.read = 0

    @rule(count=st.integers(1, 3))
    def publish(self, count: int) -> None:
        messages = [b"%d\n" % (len(self.said) + number) for number in range(count)]
        self.said += messages
        self.queue.publish(b"".join(messages))

    @precondition(lambda self: not self.flying)
    @rule()
    def send(self) -> None:
        self.flying = self.queue.take_due()

    @precondition(lambda self: self.flying)
    @rule(answered=st.booleans())
    def arrive(self, answered: bool) -> None:
        """The first on its way; the answer may be lost."""
        entry = self.flying.pop(0)
        last = self.stream[-1][0] if self.stream else 0
        assert entry.number <= last + 1
        if entry.number > last:
            self.stream.append((entry.number, bytes(entry.text)))
        if answered:
            entry.position = b"e", len(self.stream)
            self.queue.passed((b"e", self.read))
        else:
            self.cut()

    @rule()
    def cut(self) -> None:
        self.flying = []
        self.queue.start_over()

    @precondition(lambda self: self.read < len(self.stream))
    @rule(trimmed=st.booleans())
    def follow(self, trimmed: bool) -> None:
        """Reads the next entry, or it is gone and so is told as lost."""
        number, _ = self.stream[self.read]
        self.read += 1
        if not trimmed:
            self.queue.came_back(number)
        self.queue.passed((b"e", self.read))

    @invariant()
    def nothing_is_forgotten(self) -> None:
        """What is not in the stream is in the queue, and what was read and answered is not."""
        written = b"".join(text for _, text in self.stream)
        waiting = b"".join(texts(self.queue))
        everything = b"".join(self.said)
        assert everything.startswith(written) and everything.endswith(waiting)
        assert len(written) + len(waiting) >= len(everything)
        assert self.queue.size == len(waiting)
        assert self.queue.accepted == len(everything)

    def teardown(self) -> None:
        """Without further trouble, all of it comes back."""
        if self.flying:
            self.cut()
        self.send()
        while self.flying:
            self.arrive(True)
        while self.read < len(self.stream):
            self.follow(False)
        assert not self.queue.entries and self.queue.size == 0
        assert b"".join(text for _, text in self.stream) == b"".join(self.said)


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(stateful_step_count=40)
