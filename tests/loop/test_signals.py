"""Signals are one more thing to read."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

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
        seen += yield from signals.wait()


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


def test_signals_before_the_wait_are_not_lost(kernel: Kernel, signals: Signals) -> None:
    seen: list[int] = []
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    run(kernel, kernel.spawn(listen(signals, seen)))
    assert seen == [signal.SIGUSR1, signal.SIGUSR1, signal.SIGUSR2]


def test_one_signal_after_the_other(kernel: Kernel, signals: Signals) -> None:
    seen: list[int] = []
    task = kernel.spawn(listen(signals, seen))
    for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGUSR2):
        run(kernel, kernel.spawn(kill(number)))
        kernel.turn()
    run(kernel, task)
    assert seen == [signal.SIGUSR1, signal.SIGUSR1, signal.SIGUSR2]


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
    assert len(seen) < 1000
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
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == []
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
