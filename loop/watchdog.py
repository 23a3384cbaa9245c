"""Reports a step that takes too long, while it lasts.

A task that computes, or blocks in a system call, stops all tasks and the kernel, too. Signal handlers still run. So
while the program is busy, a timer of the system sends SIGALRM twice a second. If two of these signals come in the same
step, the step is too long. The watchdog is a poller around another one, to count the turns: a turn has one poll. If
a signal finds the program waiting in a poll, the timer stops until that poll has returned.
"""

from __future__ import annotations

import atexit
import os
import time

from .bare import signal
from .diagnose import complain, line_of
from .kernel import Kernel
from .poller import Poller
from .signals import Signals
from .task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Callable

TICK = 0.5  # seconds


class Watchdog:
    """A poller, around `poller`, that sees how long steps take. If other code handles SIGALRM, nothing is reported.

    `ends` are the signals that ask the program to end; `signals` catches them. If a long step keeps the program from
    obeying the first, the next one ends the process with status 1. (Signals within a second count as one.)
    """

    def __init__(self, poller: Poller, signals: Signals, *ends: int) -> None:
        self.poller = poller
        self.arm, self.forget, self.close = poller.arm, poller.forget, poller.close
        self.signals = signals
        self.turn = 0
        # A step is known by its turn and its task, because a task takes one step in a turn.
        self.step_seen = 0, 0  # the step that the last tick found
        self.step_reported = 0, 0  # the step that was reported last
        self.first_end = 0.0  # when the first ending signal of all came
        # The latest turn with ending signals, and when that turn's first one came. Both change in one assignment,
        # because another signal can come between two assignments.
        self.end_seen = 0, 0.0
        self.before_exit: Callable[[], object] | None = None  # called before end() ends the process
        self.polling = False
        self.to_start = False  # whether poll() has to start the ticks
        if signal.getsignal(signal.SIGALRM) is signal.SIG_DFL:
            self.to_start = True
            signal.signal(signal.SIGALRM, self.tick)
            atexit.register(set_ticking, 0)  # a tick without a handler would end the process
        for number in signals.replaced.keys() & ends:
            signal.signal(number, self.end)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        self.polling = True
        found = self.poller.poll(timeout)
        self.polling = False
        self.turn += 1
        if self.to_start:
            self.to_start = False
            if signal.getsignal(signal.SIGALRM) == self.tick:  # other code may handle the signal by now
                set_ticking(TICK)
        return found

    def tick(self, number: int, frame: FrameType | None) -> None:
        self.signals.dismiss(number)
        task, where = running(frame)
        step = self.turn, id(task)
        if self.polling:
            set_ticking(0)
            self.to_start = True
        elif self.step_seen != step:
            self.step_seen = step
        elif self.step_reported != step:
            self.step_reported = step
            complain(f"no other task can run while this takes its time:\n{where}")

    def end(self, number: int, frame: FrameType | None) -> None:
        """Note an ending signal. If the program does not obey, end the process.

        This function must be quick: other signals interrupt it, and many of them would make a slow one recurse.
        """
        self.signals.catch(number, frame)
        now = time.monotonic()
        self.first_end = self.first_end or now
        turn, since = self.end_seen
        if turn != self.turn:
            since = now
            self.end_seen = self.turn, now
        is_another = now > self.first_end + 1
        hangs = self.step_reported[0] == self.turn or now > since + 1
        if is_another and hangs and not self.polling:
            complain(f"ended by signal {number}, in the middle of this:\n{running(frame)[1]}")
            try:
                if self.before_exit:
                    self.before_exit()
            finally:
                os._exit(1)


def set_ticking(seconds: float) -> None:
    """Have a tick every `seconds`, or none for 0. If the system refuses that, the program goes on unwatched."""
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    except OSError:
        pass


def running(frame: FrameType | None) -> tuple[Task | None, str]:
    """The task that runs, if any; and a text that names it and its innermost functions."""
    lines: list[str] = []
    ours = [function.__code__.co_filename for function in (running, Signals.catch)]
    while frame and frame.f_code is not Kernel.step.__code__:
        if frame.f_code.co_filename not in ours:  # a signal can come in the handler of another signal
            lines.append(line_of(frame))
        frame = frame.f_back
    task = frame.f_locals["task"] if frame else None
    return task, "\n".join([str(task or "no task"), *reversed(lines[:10])])
