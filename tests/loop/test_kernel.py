"""The kernel: one test for each scheduler hazard (16 is in test_poller.py), then what a task may count on.

Sockets are real, time is not: see Timeless.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import fcntl
import gc
import os
import select
import signal
import socket
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pairs import Pair, fill
from timeless import Timeless

import loop.poller
from loop import (
    Busy,
    Cancelled,
    Closed,
    Kernel,
    Park,
    ReadWait,
    Signals,
    Sleep,
    TimedOut,
    WaitQueue,
    WriteWait,
    accept,
    complain,
    explain,
    join,
    read,
    readable,
    recv,
    send,
    sleep,
    vital,
    writable,
)
from loop.poller import READ, WRITE, default_poller

if TYPE_CHECKING:
    from loop import Task
    from loop.traps import Coroutine

pytestmark = pytest.mark.usefixtures("no_descriptor_is_left")


def settle(kernel: Kernel) -> None:
    """Turn until nothing is ready any more; only then does the clock move, and this by a moment."""
    moment = kernel.spawn(sleep(1e-6), "settle")
    for _ in range(1000):
        kernel.turn()
        if moment.outcome is not None:
            return
    raise AssertionError("it never comes to rest")


def once(trap: ReadWait | WriteWait | Sleep | Park) -> Coroutine[None]:
    """COROUTINE. Asks the kernel for this one thing."""
    yield trap


def note(seen: list[Any], coroutine: Coroutine[Any]) -> Coroutine[None]:
    """COROUTINE. Writes down what comes of another: its value, or the type of what it raises."""
    try:
        seen.append((yield from coroutine))
    except Exception as error:
        seen.append(type(error))


# Hazards.


def test_hazard_01_a_reused_descriptor_number_wakes_the_right_task(kernel: Kernel, pair: Pair) -> None:
    """A socket is closed under its waiter, and the next one gets its number: each task hears of its own."""
    old, old_far = pair
    new, new_far = socket.socketpair()
    number = old.fileno()
    of_old: list[Any] = []
    of_new: list[Any] = []
    with old.dup(), new, new_far:  # the duplicate keeps the old one open
        kernel.spawn(note(of_old, recv(old, 100)))
        kernel.turn()
        kernel.close(old)
        with socket.socket(fileno=os.dup2(new.fileno(), number)) as reused:
            reused.setblocking(False)
            kernel.spawn(note(of_new, recv(reused, 100)))
            settle(kernel)
            assert (of_old, of_new) == ([Closed], [])
            old_far.send(b"for the old one")
            settle(kernel)
            assert of_new == []
            new_far.send(b"for the new one")
            settle(kernel)
            assert of_new == [b"for the new one"]


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="only epoll keeps what its number no longer stands for")
def test_hazard_02_a_registration_that_outlives_its_descriptor_costs_one_report(
    kernel: Kernel, world: Timeless, pair: Pair
) -> None:
    near, far = pair
    with near.dup():
        kernel.spawn(once(ReadWait(near)))
        kernel.turn()
        near.close()  # behind the kernel's back
        far.send(b"read by nobody, ever")
        settle(kernel)
        assert world.reports == 1


def test_hazard_02_closing_leaves_no_registration_behind(kernel: Kernel, world: Timeless, pair: Pair) -> None:
    near, far = pair
    with near.dup():
        waiter = kernel.spawn(note([], recv(near, 100)))
        kernel.turn()
        kernel.close(near)
        far.close()
        settle(kernel)
        assert (waiter.outcome, world.reports) == ("returned", 0)


def test_hazard_03_readiness_of_a_socket_closed_in_the_same_turn_reaches_nobody(
    kernel: Kernel, pair: Pair, another_pair: Pair
) -> None:
    """Two sockets are ready in one poll. The first task closes the other socket and waits on its number, used again."""
    (left, left_far), (right, right_far) = pair, another_pair
    quiet, quiet_far = socket.socketpair()
    woken: list[str] = []

    def first_come(mine: socket.socket, other: socket.socket) -> Coroutine[None]:
        yield ReadWait(mine)
        if mine.fileno() < 0:
            woken.append("too late")
            return
        number = other.fileno()
        kernel.close(other)
        with socket.socket(fileno=os.dup2(quiet.fileno(), number)) as reused:
            woken.append("first")
            yield ReadWait(reused)
            woken.append("by mistake")

    with quiet, quiet_far:
        tasks = [kernel.spawn(first_come(left, right)), kernel.spawn(first_come(right, left))]
        kernel.turn()
        left_far.send(b"x")
        right_far.send(b"x")
        settle(kernel)
        for task in tasks:
            task.cancel()
        settle(kernel)
    assert woken == ["first", "too late"]


def test_hazard_04_the_end_of_a_pipe_wakes_its_reader(kernel: Kernel) -> None:
    """Linux reports it as a hang-up alone, not as something to read."""
    seen: list[Any] = []
    read_end, write_end = os.pipe()
    kernel.spawn(note(seen, read(read_end, 100)))
    kernel.turn()
    os.close(write_end)
    kernel.run()
    os.close(read_end)
    assert seen == [b""]


def test_hazard_04_an_error_wakes_the_reader_and_the_writer(kernel: Kernel) -> None:
    """A refused connection: an error, room to write, nothing to read, says Linux."""
    with socket.socket() as nobody, socket.socket() as sock:
        nobody.bind(("127.0.0.1", 0))  # never listens
        sock.setblocking(False)
        assert sock.connect_ex(nobody.getsockname()) in (errno.EINPROGRESS, errno.ECONNREFUSED)
        reader = kernel.spawn(once(ReadWait(sock)))
        writer = kernel.spawn(once(WriteWait(sock)))
        kernel.run()
    assert (reader.outcome, writer.outcome) == ("returned", "returned")


def test_hazard_05_a_socket_that_is_always_ready_starves_nobody(kernel: Kernel, pair: Pair, another_pair: Pair) -> None:
    (near, far), (flooded, flood) = pair, another_pair
    flood.send(bytes(500))
    eaten: list[bytes] = []
    seen: list[bytes] = []

    def greedy() -> Coroutine[None]:
        for _ in range(500):
            eaten.append((yield from recv(flooded, 1)))

    kernel.spawn(greedy())
    kernel.spawn(note(seen, recv(near, 100)))
    kernel.turn()
    far.send(b"me too")
    kernel.turn()
    assert (len(eaten), seen) == (1, [b"me too"])


def test_hazard_05_tasks_that_keep_waking_each_other_starve_nobody(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    queue = WaitQueue()
    rounds: list[int] = []
    seen: list[bytes] = []

    def ping_pong() -> Coroutine[None]:
        for number in range(500):
            rounds.append(number)
            queue.wake()
            yield from queue.wait()

    kernel.spawn(ping_pong())
    kernel.spawn(ping_pong())
    kernel.spawn(note(seen, recv(near, 100)))
    kernel.turn()
    far.send(b"me too")
    kernel.turn()
    assert (len(rounds) <= 4, seen) == (True, [b"me too"])


def test_hazard_06_a_cancelled_task_leaves_its_wait_and_ends_everywhere(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    steps: list[Any] = []

    def called() -> Coroutine[None]:
        try:
            yield from recv(near, 100)
            steps.append("the call ran on")
        finally:
            steps.append("the call ends")

    def caller() -> Coroutine[None]:
        try:
            yield from called()
            steps.append("the caller ran on")
        except Exception:
            steps.append("an `except Exception` stopped it")
        finally:
            steps.append("the caller ends")

    task = kernel.spawn(caller())
    kernel.turn()
    task.cancel()
    kernel.spawn(note(steps, recv(near, 100)))  # in the same turn: the place is free
    settle(kernel)
    assert steps == ["the call ends", "the caller ends"]
    assert task.outcome == "cancelled"
    far.send(b"for the next waiter")
    settle(kernel)
    assert steps[2:] == [b"for the next waiter"]


def test_hazard_06_closing_a_socket_fails_both_of_its_waiters(kernel: Kernel, pair: Pair) -> None:
    near, _ = pair
    fill(near)
    seen: list[Any] = []
    kernel.spawn(note(seen, recv(near, 100, timeout=5)))
    kernel.spawn(note(seen, send(near, b"x", timeout=5)))
    kernel.turn()
    kernel.close(near)
    kernel.run()
    assert seen == [Closed, Closed]
    assert not kernel.readers and not kernel.writers


def test_hazard_07_a_task_cancelled_before_its_first_step_still_cleans_up(kernel: Kernel, pair: Pair) -> None:
    near, _ = pair
    steps: list[str] = []

    def owner() -> Coroutine[None]:
        try:
            steps.append("begins")
            yield from recv(near, 100)
            steps.append("runs on")
        finally:
            kernel.close(near)

    task = kernel.spawn(owner())
    task.cancel()
    kernel.run()
    assert (steps, task.outcome, near.fileno()) == (["begins"], "cancelled", -1)


@pytest.mark.parametrize("times", [1, 2])
def test_hazard_08_a_waiter_woken_and_cancelled_hands_the_wakeup_on(kernel: Kernel, times: int) -> None:
    queue = WaitQueue()
    first = kernel.spawn(once_woken(queue))
    second = kernel.spawn(once_woken(queue))
    kernel.turn()
    queue.wake()
    for _ in range(times):
        first.cancel()
    assert list(kernel.ready) == [first]  # in one place, once
    settle(kernel)
    assert (first.outcome, second.outcome) == ("cancelled", "returned")


def test_hazard_08_a_cancelled_waiter_takes_no_wakeup(kernel: Kernel) -> None:
    queue = WaitQueue()
    first = kernel.spawn(once_woken(queue))
    second = kernel.spawn(once_woken(queue))
    kernel.turn()
    first.cancel()
    queue.wake()
    settle(kernel)
    assert (first.outcome, second.outcome) == ("cancelled", "returned")


def once_woken(queue: WaitQueue) -> Coroutine[None]:
    yield from queue.wait()


def test_hazard_08_a_dropped_waiter_hands_the_wakeup_on(kernel: Kernel) -> None:
    queue = WaitQueue()
    first = kernel.spawn(once_woken(queue))
    second = kernel.spawn(once_woken(queue))
    kernel.turn()
    queue.wake()
    kernel.drop(first)
    settle(kernel)
    assert (first.outcome, second.outcome) == ("dropped", "returned")


@pytest.mark.parametrize("end", ["cancelled", "cancelled before it waits", "timed out", "dropped"])
def test_hazard_08_a_waiter_that_ends_unwoken_does_not_disturb_the_order(kernel: Kernel, end: str) -> None:
    """Were the next one woken in its place, it would find nothing, and wait again behind the others."""
    queue = WaitQueue()
    goods: list[str] = []
    taken: list[str] = []

    def consumer(name: str) -> Coroutine[None]:
        while not goods:
            yield from queue.wait()
        goods.pop()
        taken.append(name)

    first = kernel.spawn(note([], queue.wait(timeout=1e-7 if end == "timed out" else None)))
    others = [kernel.spawn(consumer(name)) for name in "ABC"]
    if end == "cancelled before it waits":
        kernel.ready.rotate(-1)  # after the others
        first.cancel()
    kernel.turn()
    if end == "cancelled":
        first.cancel()
    elif end == "dropped":
        kernel.drop(first)
    settle(kernel)
    assert first.outcome is not None
    for _ in others:
        goods.append("goods")
        queue.wake()
        settle(kernel)
    assert taken == ["A", "B", "C"]


def test_hazard_09_no_wakeup_is_lost_between_the_check_and_the_wait(kernel: Kernel) -> None:
    """The consumer finds nothing; the producer, next in the same turn, brings something and wakes the waiter."""
    queue = WaitQueue()
    goods: list[str] = []
    seen: list[str] = []

    def consumer() -> Coroutine[str]:
        while not goods:
            yield from queue.wait()
        return goods.pop()

    def producer() -> Coroutine[None]:
        goods.append("goods")
        queue.wake()
        yield from sleep(0)

    kernel.spawn(note(seen, consumer()))
    kernel.spawn(producer())
    kernel.run()
    assert seen == ["goods"]


def test_hazard_10_a_failing_task_is_reported_and_takes_nobody_along(
    kernel: Kernel, capfd: pytest.CaptureFixture[str]
) -> None:
    def unlucky() -> Coroutine[None]:
        yield from sleep(1)
        raise ValueError("no luck")

    seen: list[str] = []
    task = kernel.spawn(unlucky(), "unlucky")
    kernel.spawn(note(seen, join(task)))
    other = kernel.spawn(sleep(2))
    kernel.run()
    assert seen == ["failed"]
    assert other.outcome == "returned"
    said = capfd.readouterr().err
    assert "task unlucky failed" in said
    assert 'raise ValueError("no luck")' in said


@pytest.mark.parametrize("end", ["failed", "cancelled", "timed out", "refused"])
def test_hazard_11_nothing_keeps_the_locals_of_a_task_that_ended_by_an_exception(kernel: Kernel, end: str) -> None:
    """They go at once, not when the garbage collector comes by: among them may be a socket."""

    class Local:
        pass

    references: list[weakref.ref[Local]] = []

    def coroutine() -> Coroutine[None]:
        local = Local()
        references.append(weakref.ref(local))
        yield from sleep(1)
        if end == "timed out":
            yield from WaitQueue().wait(timeout=1)
        if end == "refused":
            yield None  # type: ignore[misc]
        if end == "cancelled":
            yield from sleep(1)
        raise ValueError

    gc.collect()
    gc.disable()
    try:
        task = kernel.spawn(coroutine())
        settle(kernel)
        if end == "cancelled":
            task.cancel()
        kernel.run()
        assert task.outcome is not None
        assert references[0]() is None
    finally:
        gc.enable()


def test_hazard_12_waiting_again_and_again_does_not_get_deeper(pair: Pair, another_pair: Pair) -> None:
    """Readiness that comes to nothing, many times."""
    (empty, _), (full, _) = pair, another_pair
    fill(full)
    for coroutine, trap in ((recv(empty, 100), ReadWait), (read(empty, 100), ReadWait), (send(full, b"x"), WriteWait)):
        for _ in range(50):
            assert type(next(coroutine)) is trap
        assert depth(coroutine) == 1


def test_hazard_12_no_wait_of_the_library_is_deep(kernel: Kernel, pair: Pair, another_pair: Pair) -> None:
    (near, _), (listener, out) = pair, another_pair
    fill(near)
    queue = WaitQueue()
    coroutines = [recv(near, 100), send(near, b"x"), accept(listener), writable(out), queue.wait(), sleep(1)]
    tasks = [kernel.spawn(coroutine) for coroutine in coroutines]
    tasks.append(kernel.spawn(join(tasks[0])))
    kernel.turn()
    assert max(depth(task.coroutine) for task in tasks) == 1


def depth(coroutine: Any) -> int:
    """How many generators stand one in another."""
    return 0 if coroutine is None else 1 + depth(coroutine.gi_yieldfrom)


def test_hazard_13_equal_deadlines_go_off_in_the_order_they_were_set(kernel: Kernel) -> None:
    woken: list[int] = []

    def sleeper(number: int) -> Coroutine[None]:
        yield from sleep(1)
        woken.append(number)

    for number in range(20):
        kernel.spawn(sleeper(number))
    kernel.run()
    assert woken == list(range(20))


def test_hazard_13_a_sleep_is_never_short_and_takes_no_spinning() -> None:
    """On the real clock: a poller that rounded down would be asked again and again."""
    calls: list[float | None] = []
    poller = default_poller()
    poll = poller.poll

    def counting(timeout: float | None) -> list[tuple[int, int]]:
        calls.append(timeout)
        return poll(timeout)

    poller.poll = counting  # type: ignore[method-assign]
    kernel = Kernel(poller)
    start = time.monotonic()
    kernel.spawn(sleep(0.0019))
    kernel.run()
    poller.close()
    assert time.monotonic() - start >= 0.0019
    assert len(calls) <= 3


def test_hazard_14_a_signal_ends_the_poll_it_comes_in() -> None:
    """Where the poll goes on instead, it is the guard that ends it, in its own good time."""
    kernel = Kernel()
    signals = Signals(signal.SIGALRM)
    seen: list[int] = []

    def waiter() -> Coroutine[None]:
        seen.extend((yield from signals.wait()))
        guard.cancel()

    guard = kernel.spawn(sleep(2))
    kernel.spawn(waiter())
    timer = signal.setitimer(signal.ITIMER_REAL, 0.01)
    kernel.run(until=guard)
    signals.close()
    signal.setitimer(signal.ITIMER_REAL, *timer)
    kernel.poller.close()
    assert (seen, guard.outcome) == ([signal.SIGALRM], "cancelled")


def test_hazard_15_a_second_task_may_not_wait_for_the_same_direction(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    first: list[Any] = []
    second: list[Any] = []
    kernel.spawn(note(first, recv(near, 100)), "the first")
    kernel.spawn(note(second, recv(near, 100)))
    settle(kernel)
    assert (first, second) == ([], [Busy])
    far.send(b"x")
    settle(kernel)
    assert first == [b"x"]


def test_hazard_15_one_may_read_while_another_writes(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    fill(near)
    seen: list[Any] = []
    kernel.spawn(note(seen, recv(near, 100)))
    writer = kernel.spawn(send(near, b"x"))
    settle(kernel)
    far.send(b"to the reader")
    settle(kernel)
    assert (seen, writer.outcome) == ([b"to the reader"], None)
    while writer.outcome is None:
        far.recv(65536)
        settle(kernel)


def test_hazard_17_a_blocking_descriptor_is_used_and_left_as_it_is(kernel: Kernel) -> None:
    """O_NONBLOCK belongs to the open file, so setting it on a standard stream would hit the shell's, too."""
    reader, writer = os.pipe()
    with open(reader, "rb", 0) as read_end, open(writer, "wb", 0) as write_end:
        flags = [fcntl.fcntl(end, fcntl.F_GETFL) for end in (read_end, write_end)]
        seen: list[Any] = []

        def both() -> Coroutine[bytes]:
            yield from writable(write_end)
            write_end.write(b"less than was asked for")
            return (yield from read(read_end, 1000))

        kernel.spawn(note(seen, both()))
        kernel.run()
        assert [fcntl.fcntl(end, fcntl.F_GETFL) for end in (read_end, write_end)] == flags
    assert seen == [b"less than was asked for"]


# What a kernel must not be put out by.


@pytest.mark.parametrize("last", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_exception_comes_out_of_run_and_ends_its_task(kernel: Kernel, last: type[BaseException]) -> None:
    def leaving() -> Coroutine[None]:
        yield from sleep(1)
        raise last

    seen: list[str] = []
    task = kernel.spawn(leaving())
    kernel.spawn(note(seen, join(task)))
    other = kernel.spawn(sleep(2))
    with pytest.raises(last):
        kernel.run()
    assert (task.outcome, task in kernel.tasks) == ("failed", False)
    kernel.run()  # takes up again what is left
    assert (seen, other.outcome) == (["failed"], "returned")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no groups of exceptions")
def test_cancelled_in_a_group_is_cancelled(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    """`except*` makes a group of what is raised in it, and a task may be cancelled there."""
    group: Any = vars(builtins)["BaseExceptionGroup"]

    def waits_and_raises(*errors: BaseException) -> Coroutine[None]:
        try:
            yield from sleep(1)
        except Cancelled as cancelled:
            raise group("", [group("", [cancelled]), *errors]) from None

    tasks = [kernel.spawn(waits_and_raises(), "alone"), kernel.spawn(waits_and_raises(ValueError("x")), "with another")]
    kernel.turn()
    for task in tasks:
        task.cancel()
    kernel.run()
    assert [task.outcome for task in tasks] == ["cancelled", "failed"]
    said = capfd.readouterr().err
    assert "task with another failed" in said and "task alone" not in said
    last = kernel.spawn(waits_and_raises(KeyboardInterrupt()))
    kernel.turn()
    last.cancel()
    with pytest.raises(group):
        kernel.run()
    assert last.outcome == "failed"


def test_a_failure_is_reported_even_if_nothing_can_be_imported(
    kernel: Kernel, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a descriptor left, for instance."""

    def unlucky() -> Coroutine[None]:
        yield from sleep(0)
        raise ValueError("no luck")

    monkeypatch.setitem(sys.modules, "traceback", None)
    kernel.spawn(unlucky(), "unlucky")
    kernel.run()
    assert capfd.readouterr().err == "task unlucky failed\nValueError('no luck')\n"


def test_run_within_a_task_is_refused(kernel: Kernel) -> None:
    other = kernel.spawn(sleep(1))

    def nested() -> Coroutine[None]:
        with pytest.raises(RuntimeError, match="did you mean `yield from join"):
            kernel.run(until=other)
        yield from join(other)

    task = kernel.spawn(nested())
    kernel.run()
    assert (task.outcome, other.outcome) == ("returned", "returned")


def test_a_socket_is_closed_even_if_the_system_complains(kernel: Kernel) -> None:
    """close(2) may fail with EIO or EINTR, which says nothing of the descriptor: it is gone."""

    class Complaining(socket.socket):
        def close(self) -> None:
            super().close()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    sock = Complaining()
    sock.setblocking(False)
    seen: list[Any] = []
    kernel.spawn(note(seen, recv(sock, 100)))
    kernel.turn()
    kernel.close(sock)
    kernel.run()
    assert (seen, sock.fileno()) == ([Closed], -1)


class Refusing(Timeless):
    """Fails to arm `refused` times, for `trouble`."""

    refused = 0
    trouble = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    def arm(self, fd: int, want: int) -> None:
        if self.refused:
            self.refused -= 1
            raise self.trouble
        super().arm(fd, want)


@pytest.fixture
def refusing() -> Iterator[Refusing]:
    world = Refusing()
    yield world
    world.close()


def test_what_cannot_be_armed_fails_in_its_own_task_and_can_be_tried_again(refusing: Refusing, pair: Pair) -> None:
    near, far = pair
    fill(near)
    kernel = Kernel(refusing, refusing.clock)
    seen: list[Any] = []
    writer = kernel.spawn(send(near, b"x"))
    kernel.turn()
    refusing.refused = 1
    kernel.spawn(note(seen, recv(near, 100, timeout=5)))
    settle(kernel)
    assert (seen, writer.outcome, kernel.readers) == ([OSError], None, {})
    kernel.spawn(note(seen, recv(near, 100, timeout=5)))
    far.send(b"now")
    settle(kernel)
    assert seen == [OSError, b"now"]
    while writer.outcome is None:
        far.recv(65536)
        settle(kernel)


@pytest.mark.parametrize("by", ["readiness", "cancelling", "time"])
@pytest.mark.parametrize("trouble", [OSError(errno.ENOSPC, "no room"), ValueError("closed")], ids=["memory", "closed"])
def test_nobody_waits_on_unarmed(refusing: Refusing, pair: Pair, by: str, trouble: Exception) -> None:
    """A reader and a writer on one descriptor: when one goes, the other has to be armed again, and that may fail."""
    near, far = pair
    fill(near)
    refusing.trouble = trouble  # type: ignore[assignment]
    kernel = Kernel(refusing, refusing.clock)
    seen: list[Any] = []
    kernel.spawn(note(seen, send(near, b"x")))
    reader = kernel.spawn(recv(near, 100, timeout=5))
    kernel.turn()
    refusing.refused = 1
    if by == "readiness":
        far.send(b"x")
    elif by == "cancelling":
        reader.cancel()
    kernel.run()
    assert seen == [type(trouble)]
    assert not kernel.readers and not kernel.writers


def test_time_that_the_program_stood_still_counts_against_nobody(kernel: Kernel, world: Timeless, pair: Pair) -> None:
    """Stopped in a poll, the process finds its time over and says that nothing is ready. Something is."""
    near, far = pair
    seen: list[Any] = []
    poll = world.poll

    def stopped(timeout: float | None) -> list[tuple[int, int]]:
        if not timeout:
            return poll(timeout)
        world.poll = poll  # type: ignore[method-assign]
        far.send(b"said meanwhile")
        world.now += 60
        return []

    world.poll = stopped  # type: ignore[method-assign]
    kernel.spawn(note(seen, recv(near, 100, timeout=4)))
    kernel.spawn(note(seen, WaitQueue().wait(timeout=4)))
    kernel.run()
    assert sorted(seen, key=str) == [TimedOut, b"said meanwhile"]


def test_a_stopped_process_takes_nobody_for_silent() -> None:
    """The same with a real process and a real signal."""
    near, far = socket.socketpair()
    near.setblocking(False)
    pid = os.fork()
    if pid == 0:  # a program that says what it got within half a second
        seen: list[Any] = []
        try:
            kernel = Kernel()
            kernel.spawn(note(seen, recv(near, 100, timeout=0.5)))
            kernel.spawn(sleep(0))
            kernel.turn()
            near.send(b"waits")
            kernel.run()
        finally:
            os._exit(seen != [b"said meanwhile"])
    with near, far:
        assert far.recv(100) == b"waits"
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        far.send(b"said meanwhile")
        time.sleep(0.7)
        os.kill(pid, signal.SIGCONT)
        assert os.waitpid(pid, 0)[1] == 0


def test_a_long_step_makes_nobody_silent_however_many_speak(
    kernel: Kernel, world: Timeless, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call to the system reports so and so many, and time is over for the others, too."""
    monkeypatch.setattr(loop.poller, "MOST", 3)
    pairs = [socket.socketpair() for _ in range(20)]
    seen: list[Any] = []

    def long_step() -> Coroutine[None]:
        yield from sleep(0)
        for _, far in pairs:
            far.send(b"x")
        world.now += 60

    for near, _ in pairs:
        near.setblocking(False)
        kernel.spawn(note(seen, recv(near, 100, timeout=4)))
    kernel.spawn(long_step())
    kernel.run()
    assert seen == [b"x"] * 20
    for near, far in pairs:
        near.close()
        far.close()


def test_what_a_forked_child_closes_stays_open_for_us(pair: Pair) -> None:
    """It has the same epoll: what it disarmed would be disarmed here."""
    near, far = pair
    kernel = Kernel()
    seen: list[Any] = []
    kernel.spawn(note(seen, recv(near, 100, timeout=2)))
    kernel.spawn(sleep(0))
    kernel.turn()
    pid = os.fork()
    if pid == 0:
        try:
            kernel.close(near)
        finally:
            os._exit(near.fileno() != -1)
    assert os.waitpid(pid, 0)[1] == 0
    far.send(b"still here")
    kernel.run()
    kernel.poller.close()
    assert seen == [b"still here"]


# Tasks.


def test_spawn_takes_a_generator_and_says_so(kernel: Kernel) -> None:
    with pytest.raises(TypeError, match="did you forget the call"):
        kernel.spawn(sleep)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a generator, not None"):
        kernel.spawn(None)  # type: ignore[arg-type]


def test_a_task_takes_its_first_step_in_the_next_turn(kernel: Kernel) -> None:
    steps: list[str] = []

    def parent() -> Coroutine[None]:
        kernel.spawn(child())
        steps.append("parent")
        yield from sleep(0)

    def child() -> Coroutine[None]:
        steps.append("child")
        yield from sleep(0)

    kernel.spawn(parent())
    assert steps == []
    kernel.turn()
    assert steps == ["parent"]
    kernel.turn()
    assert steps == ["parent", "child"]


def test_a_yielded_generator_is_answered_with_a_guess(kernel: Kernel) -> None:
    messages: list[str] = []

    def forgetful() -> Coroutine[None]:
        try:
            yield sleep(1)  # type: ignore[misc]
        except TypeError as error:
            messages.append(str(error))
        yield from sleep(1)  # and life goes on

    task = kernel.spawn(forgetful())
    kernel.run()
    assert messages == ["the generator sleep() was yielded, not run; did you mean `yield from sleep(...)`?"]
    assert task.outcome == "returned"


class Unnamed:
    def __repr__(self) -> str:
        raise AttributeError("no name yet")


class Unhashable(type):
    __hash__ = None  # type: ignore[assignment]


def nested(depth: int) -> list[object]:
    outer: list[object] = []
    for _ in range(depth):
        outer = [outer]
    return outer


@pytest.mark.parametrize(
    "what", [Unnamed(), Unhashable("Odd", (), {})(), nested(100_000)], ids=["unnamed", "odd", "deep"]
)
def test_an_object_that_cannot_even_be_shown_fails_the_task_that_yields_it(kernel: Kernel, what: object) -> None:
    def mistaken() -> Coroutine[None]:
        yield what  # type: ignore[misc]

    task = kernel.spawn(mistaken())
    other = kernel.spawn(sleep(0))
    kernel.run(until=other)
    assert other.outcome == "returned"
    kernel.run()
    assert task.outcome == "failed"


def test_any_other_yielded_object_is_answered_with_a_guess(kernel: Kernel) -> None:
    messages: list[str] = []

    def mistaken() -> Coroutine[None]:
        try:
            yield 42  # type: ignore[misc]
        except TypeError as error:
            messages.append(str(error))

    kernel.spawn(mistaken())
    kernel.run()
    assert messages == ["42 was yielded, which is no trap; did you mean `return`, or `yield from` a coroutine?"]


def test_a_timeout_in_the_past_is_over_at_once(kernel: Kernel, world: Timeless, pair: Pair) -> None:
    """So a program may wait several times up to one moment, without a look at whether that is over by now."""
    seen: list[Any] = []
    for coroutine in (
        recv(pair[0], 100, timeout=-1),
        WaitQueue().wait(-2.5),
        sleep(-3),
        readable(pair[1], -float("inf")),
    ):
        kernel.spawn(note(seen, coroutine))
    kernel.run()
    assert (seen, world.now) == ([TimedOut, None, TimedOut, TimedOut], 1000)  # in the order of their deadlines


@pytest.mark.parametrize("seconds", ["5", 1j])
@pytest.mark.parametrize("wait", ["recv", "send", "wait"])
def test_a_timeout_that_is_no_number_fails_its_task_only(kernel: Kernel, pair: Pair, wait: str, seconds: Any) -> None:
    kernel.spawn(sleep(0.001))  # the heap of timers has one already
    near, far = pair
    fill(near)
    queue = WaitQueue()
    seen: list[Any] = []
    coroutines = {
        "recv": recv(near, 100, timeout=seconds),
        "send": send(near, b"x", timeout=seconds),
        "wait": queue.wait(timeout=seconds),
    }
    kernel.spawn(note(seen, coroutines[wait]))
    settle(kernel)
    assert seen == [TypeError]
    far.send(b"x")
    queue.wake()
    kernel.close(near)
    settle(kernel)  # it stands nowhere any more


def test_waiting_on_a_closed_socket_is_answered_with_closed(kernel: Kernel, pair: Pair) -> None:
    near, _ = pair
    seen: list[Any] = []
    near.close()
    kernel.spawn(note(seen, recv(near, 100)))
    kernel.run()
    assert seen == [Closed]


def test_a_socket_may_be_closed_twice(kernel: Kernel, pair: Pair) -> None:
    kernel.close(pair[0])
    kernel.close(pair[0])


def test_what_is_closed_later_is_closed_after_the_last_step_of_the_turn(kernel: Kernel, pair: Pair) -> None:
    """So a task that waits for it meanwhile, in the same turn, gets Closed, too."""
    near, far = pair
    seen: list[Any] = []

    def closer() -> Coroutine[None]:
        kernel.close_later(near)
        kernel.close_later(far)
        yield from ()

    kernel.spawn(note(seen, recv(near, 100)))
    kernel.spawn(closer())
    kernel.spawn(note(seen, recv(far, 100)))
    kernel.turn()
    assert (seen, near.fileno(), far.fileno()) == ([], -1, -1)
    kernel.run()
    assert seen == [Closed, Closed]


def test_what_is_closed_later_is_closed_though_the_turn_ends_early(kernel: Kernel, pair: Pair) -> None:
    def closer() -> Coroutine[None]:
        kernel.close_later(pair[0])
        raise SystemExit(3)
        yield from ()

    kernel.spawn(closer())
    with pytest.raises(SystemExit):
        kernel.run()
    assert pair[0].fileno() == -1


def test_cancelling_a_task_that_has_ended_changes_nothing(kernel: Kernel) -> None:
    task = kernel.spawn(sleep(1))
    kernel.run()
    task.cancel()
    kernel.run()
    assert (task.outcome, task.error, list(kernel.ready)) == ("returned", None, [])


def test_a_task_that_cancels_itself_ends_at_its_next_trap(kernel: Kernel) -> None:
    steps: list[str] = []
    tasks: list[Task] = []

    def tired() -> Coroutine[None]:
        tasks[0].cancel()
        steps.append("goes on to its next trap")
        yield from sleep(1)
        steps.append("too far")

    tasks.append(kernel.spawn(tired()))
    kernel.run()
    assert (steps, tasks[0].outcome) == (["goes on to its next trap"], "cancelled")


def test_a_task_may_outlive_its_cancelling(kernel: Kernel) -> None:
    """Not advised, but it must not confuse the kernel."""

    def stubborn() -> Coroutine[None]:
        try:
            yield from sleep(10)
        except Cancelled:
            yield from sleep(1)

    task = kernel.spawn(stubborn())
    kernel.turn()
    task.cancel()
    kernel.run()
    assert task.outcome == "returned"


def test_join_tells_how_a_task_ended(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> Coroutine[None]:
        yield from sleep(1)
        raise ValueError

    queue = WaitQueue()
    tasks = [kernel.spawn(sleep(1)), kernel.spawn(fails()), kernel.spawn(queue.wait())]
    early: list[str] = []
    late: list[str] = []
    for task in tasks:
        kernel.spawn(note(early, join(task)))
        kernel.spawn(note(early, join(task)))  # any number may
    kernel.turn()
    tasks[2].cancel()
    kernel.run()
    for task in tasks:
        kernel.spawn(note(late, join(task)))
    kernel.run()
    assert sorted(early) == sorted(["returned", "failed", "cancelled"] * 2)
    assert late == ["returned", "failed", "cancelled"]


def test_join_has_a_timeout_and_the_task_goes_on(kernel: Kernel, world: Timeless) -> None:
    seen: list[Any] = []
    task = kernel.spawn(sleep(10))
    waiter = kernel.spawn(note(seen, join(task, timeout=3)))
    kernel.run(until=waiter)
    assert (seen, world.now, task.outcome) == ([TimedOut], 1003, None)
    kernel.run()
    assert task.outcome == "returned"


def test_dropping_ends_a_task_that_does_not_let_itself_be_ended(kernel: Kernel, pair: Pair) -> None:
    near, far = pair
    told: list[Any] = []

    def stubborn() -> Coroutine[None]:
        while True:
            try:
                yield from recv(near, 100, timeout=5)
            except BaseException as error:
                told.append(type(error))

    def caller() -> Coroutine[None]:
        yield from stubborn()

    seen: list[Any] = []
    task = kernel.spawn(caller(), "stubborn")
    kernel.spawn(note(seen, join(task)))
    kernel.turn()
    task.cancel()
    kernel.turn()
    kernel.drop(task)
    kernel.drop(task)  # has ended already
    assert set(told) == {Cancelled, GeneratorExit}
    assert not kernel.readers and not kernel.tasks.keys() & {task}
    far.send(b"for the next waiter")
    kernel.spawn(note(seen, recv(near, 100)))
    kernel.run()
    assert (task.outcome, sorted(map(str, seen))) == ("dropped", sorted(["dropped", str(b"for the next waiter")]))
    assert len(explain(task).splitlines()) == 1


@pytest.mark.parametrize("state", ["not begun", "ready", "waiting", "sleeping", "queued", "cancelled"])
def test_a_dropped_task_never_runs_again(kernel: Kernel, pair: Pair, state: str) -> None:
    near, _ = pair
    queue = WaitQueue()
    steps: list[str] = []
    waits = {"ready": sleep(0), "sleeping": sleep(1), "queued": queue.wait(timeout=1)}

    def task_to_drop() -> Coroutine[None]:
        try:
            yield from waits.get(state, recv(near, 100, timeout=1))
            steps.append("runs on")
        finally:
            kernel.close(near)

    task = kernel.spawn(task_to_drop())
    if state != "not begun":
        kernel.turn()
    if state == "cancelled":
        task.cancel()
    kernel.drop(task)
    assert (near.fileno() < 0) == (state != "not begun")
    queue.wake_all()
    kernel.run(until=kernel.spawn(sleep(2)))
    assert (task.outcome, steps, kernel.tasks, kernel.readers, queue.tasks) == ("dropped", [], {}, {}, {})


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("last", ["raises", "exits", "waits once more", "waits for ever"])
@pytest.mark.parametrize("called", [False, True], ids=["alone", "called"])
def test_whatever_a_dropped_task_does_about_it_is_swallowed(
    kernel: Kernel, capfd: pytest.CaptureFixture[str], last: str, called: bool
) -> None:
    """Nothing reaches its dropper, nor stderr; its locals go at once, and its caller's `finally` runs."""

    class Local:
        pass

    references: list[weakref.ref[Local]] = []
    steps: list[str] = []

    def handler() -> Coroutine[None]:
        local = Local()
        references.append(weakref.ref(local))
        while last == "waits for ever":
            with contextlib.suppress(GeneratorExit):
                yield from sleep(1)
        try:
            yield from sleep(1)
        except GeneratorExit:
            if last == "raises":
                raise ValueError from None
            if last == "exits":
                raise SystemExit(1) from None
            yield from sleep(1)

    def session() -> Coroutine[None]:
        try:
            yield from handler()
        except Exception:
            yield from sleep(1)  # it says why
        finally:
            steps.append("the caller ends")

    gc.collect()
    gc.disable()
    try:
        coroutine = session()
        task = kernel.spawn(coroutine if called else handler())
        kernel.turn()
        kernel.drop(task)
        assert (task.outcome, references[0]()) == ("dropped", None)
        kernel.run()
    finally:
        gc.enable()
    assert steps == ["the caller ends"] * called
    assert capfd.readouterr().err == ""


def test_a_task_may_drop_others_of_its_turn_but_not_itself(kernel: Kernel) -> None:
    """Those after it and before it in the ready queue, and the last one."""
    steps: list[str] = []
    tasks: list[Task] = []

    def dropper() -> Coroutine[None]:
        yield from sleep(0)
        for task in tasks:
            if task is not tasks[1]:
                kernel.drop(task)
        with pytest.raises(RuntimeError, match="cannot drop itself"):
            kernel.drop(tasks[1])
        yield from sleep(0)
        steps.append("goes on")

    def other() -> Coroutine[None]:
        yield from sleep(0)
        yield from sleep(0)
        steps.append("runs on")

    tasks += [kernel.spawn(other()), kernel.spawn(dropper()), kernel.spawn(other()), kernel.spawn(other())]
    kernel.run()
    assert (steps, [task.outcome for task in tasks]) == (["goes on"], ["dropped", "returned", "dropped", "dropped"])


# Time.


def test_the_next_turn_costs_no_timer(kernel: Kernel, world: Timeless) -> None:
    turns: list[int] = []

    def counter() -> Coroutine[None]:
        for number in range(3):
            yield from sleep(0)
            turns.append(number)

    task = kernel.spawn(counter())
    for number in range(4):
        assert (len(turns), kernel.timers) == (max(0, number - 1), [])
        kernel.turn()
    assert (turns, task.outcome, world.now) == ([0, 1, 2], "returned", 1000)


def test_a_task_that_waits_for_the_next_turn_can_be_cancelled(kernel: Kernel) -> None:
    task = kernel.spawn(sleep(0))
    kernel.turn()
    task.cancel()
    assert list(kernel.ready) == [task]
    kernel.run()
    assert task.outcome == "cancelled"


def test_timers_go_off_in_order_and_never_early(kernel: Kernel, world: Timeless) -> None:
    woken: list[tuple[float, float]] = []

    def sleeper(seconds: float) -> Coroutine[None]:
        yield from sleep(seconds)
        woken.append((seconds, world.now - 1000))

    for seconds in (3, 1, 2, 0):
        kernel.spawn(sleeper(seconds))
    kernel.run()
    assert woken == [(0, 0), (1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("answer", ["readiness", "wake", "wake_all"])
def test_a_timeout_that_was_not_reached_does_not_go_off_later(kernel: Kernel, pair: Pair, answer: str) -> None:
    near, far = pair
    queue, later = WaitQueue(), WaitQueue()
    seen: list[Any] = []

    def patient() -> Coroutine[None]:
        yield from note(seen, recv(near, 100, timeout=5) if answer == "readiness" else queue.wait(timeout=5))
        yield from note(seen, later.wait())

    task = kernel.spawn(patient())
    kernel.turn()
    if answer == "readiness":
        far.send(b"in time")
    elif answer == "wake":
        queue.wake()
    else:
        queue.wake_all()
    kernel.run(until=kernel.spawn(sleep(100)))
    assert seen == [b"in time" if answer == "readiness" else None]
    later.wake()
    kernel.run()
    assert (seen[1], task.outcome) == (None, "returned")


def test_a_timeout_that_was_not_reached_does_not_end_a_later_wait(kernel: Kernel, world: Timeless) -> None:
    """Also if somebody else keeps the kernel busy when it would have gone off."""
    queue = WaitQueue()
    seen: list[Any] = []

    def patient() -> Coroutine[None]:
        yield from queue.wait(timeout=5)
        yield from note(seen, queue.wait(timeout=5))
        seen.append(world.now)

    def busy() -> Coroutine[None]:
        for _ in range(20):
            yield from sleep(0)
            world.now += 1
            if world.now == 1003:
                queue.wake()

    kernel.spawn(patient())
    kernel.spawn(busy())
    kernel.run()
    assert seen == [TimedOut, 1008]


def test_a_timeout_that_was_not_reached_wakes_no_idle_kernel(kernel: Kernel, world: Timeless) -> None:
    queue = WaitQueue()
    for seconds in (5, 7, 9):
        kernel.spawn(queue.wait(timeout=seconds))
    kernel.turn()
    queue.wake_all()
    kernel.run(until=kernel.spawn(sleep(100)))
    assert world.calls == ["poll"] * 4  # for those that wait, for those that are woken, for 100 seconds, and to be sure


def test_a_timeout_leaves_the_descriptor(kernel: Kernel, world: Timeless, pair: Pair) -> None:
    near, far = pair
    seen: list[Any] = []

    def impatient() -> Coroutine[None]:
        yield from note(seen, recv(near, 100, timeout=5))
        seen.append(world.now)
        yield from note(seen, recv(near, 100, timeout=5))

    kernel.spawn(impatient())
    while len(seen) < 2:
        kernel.turn()
    far.send(b"later")
    kernel.run()
    assert seen == [TimedOut, 1005, b"later"]


def test_a_task_that_waits_again_and_again_does_not_pile_up_timers(kernel: Kernel, world: Timeless) -> None:
    queue = WaitQueue()
    seen: list[Any] = []

    def waiter() -> Coroutine[None]:
        for _ in range(500):
            yield from queue.wait(timeout=60)
        yield from note(seen, queue.wait(timeout=60))

    kernel.spawn(waiter())
    kernel.turn()
    for _ in range(500):
        queue.wake()
        kernel.turn()
        world.now += 0.1
        assert len(kernel.timers) < 200
    kernel.run()
    assert seen == [TimedOut]
    assert world.now == pytest.approx(1000 + 499 * 0.1 + 60)


def test_a_task_whose_timeouts_are_long_and_short_by_turns_does_not_pile_up_timers(kernel: Kernel) -> None:
    """A member with an hour to speak, which is slowed down for a moment after each message."""
    queue = WaitQueue()

    def waiter() -> Coroutine[None]:
        for _ in range(1000):
            yield from queue.wait(timeout=3600)
            yield from sleep(0.1)

    task = kernel.spawn(waiter())
    while task.outcome is None:
        queue.wake()
        kernel.turn()
    assert len(kernel.timers) < 300


def test_timers_of_ended_tasks_are_cleared_away(kernel: Kernel) -> None:
    queue = WaitQueue()
    alive = kernel.spawn(sleep(3600))
    for _ in range(1000):
        kernel.spawn(queue.wait(timeout=3600))
    kernel.turn()
    queue.wake_all()
    kernel.turn()
    assert list(kernel.tasks) == [alive]
    kernel.spawn(sleep(0))
    kernel.turn()
    assert len(kernel.timers) < 300
    kernel.run()
    assert alive.outcome == "returned"


# Wait queues.


def test_a_wait_queue_wakes_first_come_first(kernel: Kernel) -> None:
    queue = WaitQueue()
    woken: list[int] = []

    def waiter(number: int) -> Coroutine[None]:
        yield from queue.wait()
        woken.append(number)

    for number in range(4):
        kernel.spawn(waiter(number))
    kernel.turn()
    queue.wake()
    queue.wake()
    settle(kernel)
    assert woken == [0, 1]
    queue.wake_all()
    settle(kernel)
    assert woken == [0, 1, 2, 3]


def test_waking_nobody_is_nothing_and_is_not_remembered(kernel: Kernel) -> None:
    queue = WaitQueue()
    queue.wake()
    queue.wake_all()
    task = kernel.spawn(queue.wait())
    settle(kernel)
    assert task.outcome is None


def test_wake_all_wakes_all_that_wait_now(kernel: Kernel) -> None:
    """Who waits again is not woken again, or this would have no end."""
    queue = WaitQueue()
    rounds: list[int] = []

    def waiter() -> Coroutine[None]:
        while True:
            yield from queue.wait()
            rounds.append(1)

    kernel.spawn(waiter())
    kernel.spawn(waiter())
    kernel.turn()
    queue.wake_all()
    settle(kernel)
    assert len(rounds) == 2


def test_a_wait_queue_takes_time_by_the_number_of_its_waiters() -> None:
    """Not by its square: those at the front go, and the next one is not to be looked for behind all their places."""

    class Waiter:
        def __init__(self, queue: Any) -> None:
            self.queue = queue
            self.trap = Park(queue.tasks)
            self.queue.tasks[self] = None

        def wake(self) -> None:
            del self.queue.tasks[self]

    def seconds(count: int) -> float:
        queue: Any = WaitQueue()
        for _ in range(count):
            Waiter(queue)
        start = time.process_time()
        for _ in range(count):
            queue.wake()
        assert not queue.tasks
        return time.process_time() - start

    few, many = (min(seconds(count) for _ in range(3)) for count in (2_000, 32_000))
    assert many < 64 * few  # 16 times as long; 256 times, were it the square


def test_a_woken_waiter_that_finds_nothing_waits_on(kernel: Kernel) -> None:
    queue = WaitQueue()
    goods: list[str] = []
    taken: list[str] = []

    def consumer() -> Coroutine[None]:
        while not goods:
            yield from queue.wait()
        taken.append(goods.pop())

    tasks = [kernel.spawn(consumer()) for _ in range(3)]
    kernel.turn()
    goods.append("one for three")
    queue.wake_all()
    settle(kernel)
    assert (taken, [task.outcome for task in tasks]) == (["one for three"], ["returned", None, None])


def test_a_waiter_whose_time_runs_out_leaves_the_queue(kernel: Kernel) -> None:
    queue = WaitQueue()
    seen: list[Any] = []
    kernel.spawn(note(seen, queue.wait(timeout=1)))
    kernel.run()
    assert (seen, queue.tasks) == ([TimedOut], {})


# Running.


@pytest.mark.parametrize("by", ["readiness", "time"])
def test_whom_the_world_wakes_runs_before_whom_a_task_has_woken(
    kernel: Kernel, world: Timeless, pair: Pair, another_pair: Pair, by: str
) -> None:
    """So the server's one writer finds all that a turn's readers have brought, and sends it in one piece."""
    near, far = pair
    bell, rope = another_pair
    queue = WaitQueue()
    steps: list[str] = []

    def waker() -> Coroutine[None]:
        yield from recv(bell, 100)
        queue.wake()
        far.send(b"x")
        world.now += 5

    def woken() -> Coroutine[None]:
        yield from queue.wait()
        steps.append("woken by a task")

    def waiter() -> Coroutine[None]:
        yield from (recv(near, 100) if by == "readiness" else sleep(5))
        steps.append("woken by the world")

    for coroutine in waker(), woken(), waiter():
        kernel.spawn(coroutine)
    kernel.turn()
    rope.send(b"x")
    kernel.turn()
    assert steps == []
    kernel.turn()
    assert steps == ["woken by the world", "woken by a task"]


def test_an_idle_turn_makes_one_system_call(kernel: Kernel, world: Timeless) -> None:
    pairs = [socket.socketpair() for _ in range(50)]
    for near, far in pairs:
        kernel.spawn(recv(near, 100, timeout=3600))
        kernel.spawn(recv(far, 100))
    kernel.turn()
    world.calls.clear()
    for _ in range(5):
        kernel.spawn(sleep(0))  # somebody is there, but nothing is ready
        kernel.turn()
    assert world.calls == ["poll"] * 5
    for near, far in pairs:
        kernel.close(near)
        kernel.close(far)


def test_a_message_costs_one_call_to_wait_for_it(kernel: Kernel, world: Timeless, pair: Pair) -> None:
    near, far = pair

    def reader() -> Coroutine[None]:
        for _ in range(10):
            yield from recv(near, 100, timeout=5)

    kernel.spawn(reader())
    kernel.turn()
    for _ in range(10):
        far.send(b"x")
        kernel.turn()
    assert world.calls.count("arm") == 10


def test_what_nothing_can_wake_is_an_error_not_a_standstill(kernel: Kernel) -> None:
    task = kernel.spawn(WaitQueue().wait(), "forgotten")
    with pytest.raises(RuntimeError, match=r"nothing can wake these tasks any more: .*forgotten"):
        kernel.run()
    task.cancel()
    kernel.run()
    assert task.outcome == "cancelled"


def test_run_until_a_task_has_ended(kernel: Kernel) -> None:
    short, long = kernel.spawn(sleep(1)), kernel.spawn(sleep(2))
    kernel.run(until=short)
    assert (short.outcome, long.outcome) == ("returned", None)
    kernel.run(until=short)  # has ended already
    assert long.outcome is None
    kernel.run()
    assert long.outcome == "returned"


def test_stop_makes_run_return_after_the_turn(kernel: Kernel) -> None:
    steps: list[str] = []

    def stops() -> Coroutine[None]:
        kernel.stop()
        yield from sleep(0)
        steps.append("stops goes on")

    def other() -> Coroutine[None]:
        steps.append("the turn is finished")
        yield from sleep(0)

    kernel.spawn(stops())
    kernel.spawn(other())
    kernel.run()
    assert steps == ["the turn is finished"]
    kernel.run()  # takes it up again
    assert steps == ["the turn is finished", "stops goes on"]


def test_stop_before_run_makes_it_return_at_once(kernel: Kernel, world: Timeless) -> None:
    task = kernel.spawn(sleep(1))
    kernel.stop()
    kernel.run()
    assert (task.outcome, world.calls) == (None, [])
    kernel.run()
    assert task.outcome == "returned"


def test_running_without_tasks_returns_at_once(kernel: Kernel, world: Timeless) -> None:
    kernel.run()
    assert world.calls == []


def test_both_directions_may_be_reported_apart() -> None:
    """As kqueue does: for each direction one report, in one poll."""
    reports: list[list[tuple[int, int]]] = [[], [(5, READ), (5, WRITE)]]

    class Scripted(Timeless):
        def arm(self, fd: int, want: int) -> None:
            pass

        def poll(self, timeout: float | None) -> list[tuple[int, int]]:
            return reports.pop(0)

    world = Scripted()
    kernel = Kernel(world, world.clock)
    tasks = [kernel.spawn(once(ReadWait(5))), kernel.spawn(once(WriteWait(5)))]
    kernel.run()
    world.close()
    assert [task.outcome for task in tasks] == ["returned", "returned"]


# What it says about itself.


def test_a_task_says_what_it_waits_for(kernel: Kernel, pair: Pair) -> None:
    near, _ = pair
    task = kernel.spawn(recv(near, 100), "reader")
    waits = [task.waits_for]
    kernel.turn()
    waits.append(type(task.waits_for))
    task.cancel()
    waits.append(task.waits_for)
    kernel.run()
    waits.append(task.waits_for)
    assert waits == [None, ReadWait, None, None]
    assert repr(task) == "<task reader>"


def test_explain_shows_where_each_coroutine_of_a_task_stands(kernel: Kernel, pair: Pair) -> None:
    near, _ = pair

    def talk() -> Coroutine[None]:
        yield from recv(near, 100, timeout=5)

    task = kernel.spawn(talk(), "member 7")
    assert explain(task).splitlines()[0] == "member 7: ready"
    kernel.turn()
    lines = explain(task).splitlines()
    assert lines[0] == f"member 7: ReadWait fd {near.fileno()}, timeout 5"
    assert [line.split()[0] for line in lines[1:]] == ["talk", "recv"]
    task.cancel()
    kernel.run()
    assert len(explain(task).splitlines()) == 1


def test_explain_needs_neither_a_directory_nor_a_readable_name(kernel: Kernel, tmp_path: Path) -> None:
    """A handler in a folder whose name is no UTF-8, and a working directory that is gone."""
    program = compile("def odd():\n    yield from sleep(1)", os.fsdecode(b"/tmp/caf\xe9.py"), "exec")
    names: dict[str, Any] = {"sleep": sleep}
    exec(program, names)
    task = kernel.spawn(names["odd"](), "odd")
    kernel.turn()
    before = os.getcwd()
    os.chdir(tmp_path)
    tmp_path.rmdir()
    try:
        lines = explain(task).splitlines()
    finally:
        os.chdir(before)
    assert lines[1] == "    odd at /tmp/caf\\udce9.py:2"
    assert lines[2].startswith("    sleep at loop/stream.py:")
    "\n".join(lines).encode()


def test_vital_begins_anew_after_an_error_of_the_system(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    troubles = [OSError(errno.ENOMEM, "no memory"), OSError(errno.ENOSPC, "no room")]
    begun: list[float] = []

    def write_journal() -> Coroutine[None]:
        begun.append(kernel.clock() - 1000)
        yield from sleep(1)
        if troubles:
            raise troubles.pop(0)

    task = kernel.spawn(vital(write_journal, "the journal", pause=2))
    kernel.run()
    assert (task.outcome, begun) == ("returned", [0, 3, 6])
    assert capfd.readouterr().err.splitlines() == [
        "the journal failed, and starts again: no memory",
        "the journal failed, and starts again: no room",
    ]


def test_vital_ends_the_run_after_a_mistake(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    def write_journal() -> Coroutine[None]:
        yield from sleep(1)
        raise ValueError("a mistake")

    task = kernel.spawn(vital(write_journal, "the journal"))
    kernel.spawn(sleep(100))
    with pytest.raises(SystemExit) as end:
        kernel.run()
    assert (end.value.code, task.outcome) == (1, "failed")
    said = capfd.readouterr().err
    assert said.startswith("the journal failed\nTraceback") and said.endswith("ValueError: a mistake\n")


def test_vital_can_be_cancelled(kernel: Kernel) -> None:
    task = kernel.spawn(vital(WaitQueue().wait, "the journal"))
    kernel.turn()
    task.cancel()
    kernel.run()
    assert task.outcome == "cancelled"


def test_what_would_change_a_terminal_is_an_escape_on_stderr(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    """What a peer has said may be in an exception or in the name of a task."""

    def failing() -> Coroutine[None]:
        yield from sleep(0)
        raise ValueError("\x1b[2J \x9b3m \r \u202e \ud800 \u00e9")

    task = kernel.spawn(failing(), "of \x1b]0;title\x07")
    assert explain(task).startswith("of \\x1b]0;title\\x07: ")
    kernel.run()
    said = capfd.readouterr().err
    assert said.startswith("task of \\x1b]0;title\\x07 failed\nTraceback")
    assert said.endswith("\nValueError: \\x1b[2J \\x9b3m \\r \\u202e \\ud800 \u00e9\n")


@pytest.mark.timeout(30)
def test_complaining_to_a_terminal_that_nobody_reads_never_waits() -> None:
    """A terminal counts as writable while there is room for one byte, and makes two of each newline."""
    stderr = os.dup(2)
    master, slave = os.openpty()
    try:
        os.dup2(slave, 2)
        for number in range(3000):
            complain(f"line {number}:\t{'x' * (number % 100)}")
        assert os.read(master, 7) == b"line 0:"
    finally:
        os.dup2(stderr, 2)
        for fd in stderr, master, slave:
            os.close(fd)


def test_complaining_never_waits_and_never_raises() -> None:
    """Stderr is a pipe that is read, then one that is full, then one whose reader has gone, then nothing at all."""
    stderr = os.dup(2)
    reader, writer = os.pipe()
    try:
        os.dup2(writer, 2)
        complain("a word")
        assert os.read(reader, 100) == b"a word\n"
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        os.set_blocking(writer, True)
        complain("nobody hears this")
        os.close(reader)
        complain("nor this")
        os.close(2)
        complain("nor this")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(writer)
