"""Signals are one more thing to read."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from chatting import PATIENCE, ROOT

from loop import Kernel, Signals, sleep

if TYPE_CHECKING:
    from loop import Task
    from loop.traps import Coroutine

pytestmark = pytest.mark.usefixtures("no_descriptor_is_left")


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.poller.close()


@pytest.fixture
def signals() -> Iterator[Signals]:
    signals = Signals(signal.SIGUSR1, signal.SIGUSR2)
    yield signals
    signals.close()


def run(kernel: Kernel, task: Task) -> None:
    """Until the task has ended; two seconds at most."""
    guard = kernel.spawn(sleep(2))
    while task.outcome is None and guard.outcome is None:
        kernel.turn()


def listen(signals: Signals, seen: list[int]) -> Coroutine[None]:
    """COROUTINE. Writes down the signals that come, until SIGUSR2 has come."""
    while signal.SIGUSR2 not in seen:
        numbers = yield from signals.wait()
        assert numbers
        seen += numbers


def kill(*numbers: int) -> Coroutine[None]:
    """COROUTINE. Sends them to this process, a turn later."""
    yield from sleep(0)
    for number in numbers:
        os.kill(os.getpid(), number)


def test_hazard_14_a_signal_wakes_the_task_that_waits_for_it(kernel: Kernel, signals: Signals) -> None:
    seen: list[int] = []
    kernel.spawn(kill(signal.SIGUSR2))
    run(kernel, kernel.spawn(listen(signals, seen)))
    assert seen == [signal.SIGUSR2]


def test_signals_before_the_wait_are_not_lost_and_each_is_told_once(kernel: Kernel, signals: Signals) -> None:
    seen: list[int] = []
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    run(kernel, kernel.spawn(listen(signals, seen)))
    assert seen == [signal.SIGUSR1, signal.SIGUSR2]


def test_one_signal_after_the_other(kernel: Kernel, signals: Signals) -> None:
    seen: list[int] = []
    task = kernel.spawn(listen(signals, seen))
    for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGUSR2):
        count = len(seen)
        run(kernel, kernel.spawn(kill(number)))
        while len(seen) == count:
            kernel.turn()
    run(kernel, task)
    assert seen == [signal.SIGUSR1, signal.SIGUSR1, signal.SIGUSR2]


@pytest.mark.parametrize("whose", ["a handler's", "a child's"])
def test_only_signals_that_were_asked_for_and_came_to_this_process(
    kernel: Kernel, signals: Signals, whose: str
) -> None:
    """The interpreter writes others to the same socket, and a child writes there, too."""
    seen: list[int] = []
    handled: list[int] = []
    task = kernel.spawn(listen(signals, seen))
    kernel.spawn(sleep(0))
    kernel.turn()
    if whose == "a handler's":
        before = signal.signal(signal.SIGWINCH, lambda number, frame: handled.append(number))
        os.kill(os.getpid(), signal.SIGWINCH)
        signal.signal(signal.SIGWINCH, before)
        assert handled
    else:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGUSR1, lambda number, frame: os._exit(0))
            signal.set_wakeup_fd(signals.writer.fileno(), warn_on_full_buffer=False)  # as it is until the fork is over
            os.kill(os.getpid(), signal.SIGUSR1)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
    for _ in range(5):
        kernel.spawn(sleep(0))
        kernel.turn()
    assert (seen, task.outcome) == ([], None)
    run(kernel, kernel.spawn(kill(signal.SIGUSR2)))
    run(kernel, task)
    assert seen == [signal.SIGUSR2]


def test_a_child_has_its_signals_to_itself(signals: Signals) -> None:
    """So it can be ended at any time, be it just born, and that ends nobody else."""
    left, right = socket.socketpair()
    with left, right:
        for born in [True] + [False] * 20:
            pid = os.fork()
            if pid == 0:
                try:
                    left.send(b"x")
                    left.settimeout(5)
                    left.recv(1)
                finally:
                    os._exit(1)
            if born:
                assert right.recv(1) == b"x"
            os.kill(pid, signal.SIGUSR2)
            assert os.waitpid(pid, 0)[1] == signal.SIGUSR2
    assert not signals.caught


def test_a_signal_that_is_ignored_stays_ignored(kernel: Kernel) -> None:
    """As nohup wants it of SIGHUP, and a shell of SIGINT for what it starts in the background."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        signals = Signals(signal.SIGUSR1, signal.SIGUSR2)
        seen: list[int] = []
        task = kernel.spawn(listen(signals, seen))
        kernel.spawn(kill(signal.SIGUSR1, signal.SIGUSR2))
        run(kernel, task)
        signals.close()
        assert seen == [signal.SIGUSR2]
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("impossible", [signal.SIGKILL, 12345])
def test_signals_that_cannot_be_caught_change_nothing(impossible: int) -> None:
    before = signal.getsignal(signal.SIGUSR1), signal.set_wakeup_fd(-1)
    with pytest.raises((OSError, ValueError)):
        Signals(signal.SIGUSR1, impossible)
    assert (signal.getsignal(signal.SIGUSR1), signal.set_wakeup_fd(-1)) == before


def test_closing_again_changes_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    """Also in a child that is forked later."""
    signals = Signals(signal.SIGUSR1)
    signals.close()
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN), signal.set_wakeup_fd(pair[0].fileno())
    try:
        signals.close()
        pid = os.fork()
        if pid == 0:
            os._exit(signal.getsignal(signal.SIGUSR1) is not signal.SIG_IGN)
        assert os.waitpid(pid, 0)[1] == 0
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
        assert signal.set_wakeup_fd(-1) == pair[0].fileno()
    finally:
        signal.signal(signal.SIGUSR1, before[0])
        signal.set_wakeup_fd(before[1])


def test_a_flood_of_signals_blocks_nobody(kernel: Kernel, signals: Signals, capfd: pytest.CaptureFixture[str]) -> None:
    """More than the socket holds: what does not fit is dropped without a word, and the rest arrives."""
    signals.writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    for _ in range(1000):
        os.kill(os.getpid(), signal.SIGUSR1)
    seen: list[int] = []
    task = kernel.spawn(listen(signals, seen))
    for _ in range(1000):
        kernel.spawn(sleep(0))
        kernel.turn()
    kernel.spawn(kill(signal.SIGUSR2))
    run(kernel, task)
    assert set(seen) == {signal.SIGUSR1, signal.SIGUSR2}
    assert capfd.readouterr().err == ""


def test_close_puts_everything_back() -> None:
    def mine(number: int, frame: object) -> None:
        seen.append(number)

    seen: list[int] = []
    left, right = socket.socketpair()
    left.setblocking(False)
    handler_before = signal.signal(signal.SIGUSR1, mine)
    wakeup_before = signal.set_wakeup_fd(left.fileno())
    try:
        signals = Signals(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is not mine
        signals.close()
        assert signal.getsignal(signal.SIGUSR1) is mine
        assert signal.set_wakeup_fd(left.fileno()) == left.fileno()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == [signal.SIGUSR1]
    finally:
        signal.set_wakeup_fd(wakeup_before)
        signal.signal(signal.SIGUSR1, handler_before)
        left.close()
        right.close()


def test_a_program_that_does_not_close_it_ends_well() -> None:
    program = "import signal; from loop import Signals; signals = Signals(signal.SIGTERM)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, b"")
