"""The journal: a slow reader like others, whatever stdout is."""

from __future__ import annotations

import errno
import os
import re
import select
from collections.abc import Iterator

import pytest
from chatting import Start
from timeless import Timeless

import chat.server.journal
from chat.server.journal import Journal
from loop import Kernel
from loop.task import Task


class Sink:
    """An output that takes so many bytes of each write, or raises, as `takes` says; then everything."""

    def __init__(self) -> None:
        self.ours, self.theirs = os.pipe()
        self.text = b""
        self.takes: list[int | OSError] = []

    def fileno(self) -> int:
        return self.theirs

    def write(self, data: memoryview) -> int | None:
        taken = self.takes.pop(0) if self.takes else len(data)
        if isinstance(taken, OSError):
            raise taken
        self.text += data[:taken]
        return min(taken, len(data))

    def close(self) -> None:
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def output() -> Iterator[Sink]:
    output = Sink()
    yield output
    output.close()


def writing(kernel: Kernel, journal: Journal) -> Task:
    return kernel.spawn(journal.write(), "journal")


def turn(kernel: Kernel, times: int = 10) -> None:
    for _ in range(times):
        if kernel.tasks and (kernel.ready or kernel.writers or kernel.timers):
            kernel.turn()


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_was_cut_by_a_full_disk_does_not_spoil_the_next(
    kernel: Kernel, output: Sink, capfd: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(output)
    writing(kernel, journal)
    output.takes = [len("chatsrv one\nchats"), full()]
    for word in "one", "two", "three":
        journal.say("chatsrv", word)
    turn(kernel)
    journal.say("chatsrv", "four")
    turn(kernel)
    left_out = b"(2 lines were left out here: they could not be written in time)"
    assert output.text.split(b"\n") == [b"chatsrv one", b"chats", left_out, b"chatsrv four", b""]
    assert capfd.readouterr().err.count("\n") == 1


def test_lines_that_are_left_out_are_counted_however_often_writing_fails(kernel: Kernel, output: Sink) -> None:
    journal = Journal(output)
    writing(kernel, journal)
    output.takes = [4, full(), full(), 1, full(), full(), 3]
    for number in range(3):
        journal.say("chatsrv", str(number))
        turn(kernel)
    journal.say("chatsrv", "last")
    turn(kernel)
    missing = sum(map(int, re.findall(rb"^\((\d+) lines", output.text, re.MULTILINE)))
    written = re.findall(rb"^chatsrv (.*)$", output.text, re.MULTILINE)
    assert 0 < missing == 4 - len(written)
    assert output.text.endswith(b"\nchatsrv last\n")


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOSPC])
def test_a_system_that_cannot_tell_when_there_is_room_costs_no_line(
    kernel: Kernel, world: Timeless, output: Sink, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    arm = world.arm
    failures = [OSError(number, os.strerror(number)) for _ in range(3)]

    def failing(fd: int, want: int) -> None:
        if want and failures:
            raise failures.pop()
        arm(fd, want)

    monkeypatch.setattr(world, "arm", failing)
    output.takes = [0, 0, 0]
    journal = Journal(output)
    task = writing(kernel, journal)
    journal.say("chatsrv", "is heard")
    turn(kernel, 20)
    assert task.outcome is None and not failures
    assert output.text == b"chatsrv is heard\n"


def test_nobody_waits_for_what_cannot_be_written_any_more(kernel: Kernel, output: Sink) -> None:
    journal = Journal(output)
    task = writing(kernel, journal)
    output.takes = [BrokenPipeError(errno.EPIPE, "Broken pipe")]
    journal.say("chatsrv", "one")
    journal.say("chatsrv", "two")
    flush = kernel.spawn(journal.flush(5))
    turn(kernel)
    assert (task.outcome, flush.outcome) == ("returned", "returned")
    journal.say("chatsrv", "three")
    assert not journal.waiting and not journal.size


def test_the_last_lines_are_written_without_the_kernel(output: Sink) -> None:
    journal = Journal(output)
    output.takes = [5, 0, 7]
    for number in range(100):
        journal.say("chatsrv", str(number))
    journal.finish()
    assert output.text == b"".join(b"chatsrv %d\n" % number for number in range(100))


def test_the_last_lines_do_not_wait_for_a_reader_that_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat.server.journal, "LAST_WAIT", 0.01)
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with open(ours, "rb"), open(theirs, "wb", buffering=0) as pipe:
        journal = Journal(pipe)
        journal.say("chatsrv", "." * 1_000_000)
        journal.finish()
        assert not select.select([], [pipe], [], 0)[1], "it has given up too early"


def test_the_last_lines_do_not_wait_for_a_reader_that_dawdles(output: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat.server.journal, "LAST_TIME", 0.01)
    journal = Journal(output)
    journal.say("chatsrv", "." * 100_000)
    output.takes = [1] * 100_000
    journal.finish()
    assert 0 < len(output.text) < 100_000


def test_a_time_stands_before_each_line(kernel: Kernel, output: Sink) -> None:
    journal = Journal(output, timestamps=True)
    writing(kernel, journal)
    journal.say("chatsrv", "begins")
    journal.messages("127.0.0.1:5", [b"one", b"two"])
    turn(kernel)
    lines = output.text.decode().splitlines()
    assert [line[20:] for line in lines] == ["chatsrv begins", "127.0.0.1:5 > one", "127.0.0.1:5 > two"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line[:20]) for line in lines)


def test_times_are_a_matter_of_a_flag(chatsrv: Start) -> None:
    server = chatsrv("--timestamps")
    server.client().say("hello")
    assert server.journal
    server.journal.expect("> hello")
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:", line) for line in server.journal.lines())
