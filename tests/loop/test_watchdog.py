"""A step that takes too long is told of while it lasts. Each program is a process of its own: it hangs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loop.watchdog import running

pytestmark = [pytest.mark.usefixtures("no_descriptor_is_left"), pytest.mark.timeout(60)]
ROOT = Path(__file__).parents[2]
Start = Callable[[str], "subprocess.Popen[str]"]

BEGINNING = """
import os, signal, socket, sys, time
import loop.watchdog
from loop import Kernel, Signals, WaitQueue, Watchdog, explain, sleep
from loop.poller import default_poller

loop.watchdog.TICK = 0.2

class Counting:
    def __init__(self, poller):
        self.poller, self.polls = poller, 0
        self.arm, self.forget, self.close = poller.arm, poller.forget, poller.close
    def poll(self, timeout):
        self.polls += 1
        return self.poller.poll(timeout)

def obey():
    while True:
        print(*map(int, (yield from signals.wait())), flush=True)

def start(*ends):
    global signals, kernel, counting, watchdog
    signals = Signals(signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    counting = Counting(default_poller())
    watchdog = Watchdog(counting, signals, *ends)
    kernel = Kernel(watchdog)
    kernel.spawn(obey(), "signals")

def run(*coroutines):
    tasks = [kernel.spawn(coroutine, f"member {number}") for number, coroutine in enumerate(coroutines)]
    for task in tasks:
        kernel.run(until=task)
"""
HANGS = {
    "sleeps": "time.sleep(60)",
    "spins": "while True: pass",
    "receives": "here, there = socket.socketpair(); here.recv(1)",
    "asks": "input()",
}

HUNG = "no other task can run while this takes its time:"


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs a program that begins with BEGINNING."""
    programs = []

    def start(text: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", BEGINNING + text]
        programs.append(subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()
        program.communicate()


def lines(file: object, count: int) -> list[str]:
    """So many lines, without the numbers of those that they speak of."""
    return [re.sub(r":\d+\n", "", file.readline()).rstrip("\n") for _ in range(count)]  # type: ignore[attr-defined]


def test_the_handler_of_another_signal_is_no_place_in_which_a_step_hangs() -> None:
    scope: dict[str, Any] = {"running": running, "here": sys._getframe}
    exec(compile("def tick(): return running(here())", running.__code__.co_filename, "exec"), scope)
    _, told = scope["tick"]()
    assert "tick" not in told and told.splitlines()[-1].split()[0] == sys._getframe().f_code.co_name


def test_a_step_that_hangs_is_told_of_with_its_place_and_a_second_signal_ends_it(start: Start) -> None:
    """Whatever it hangs in. Signals within a second are one and the same: a terminal and a supervisor may both send."""
    programs = [
        start(
            f"""
start(signal.SIGINT, signal.SIGTERM)

def called():
    yield from sleep(0.1)
    {hang}

def handler():
    yield from called()

run(handler())
"""
        )
        for hang in HANGS.values()
    ]
    for program in programs:
        assert lines(program.stderr, 4) == [
            HUNG,
            "<task member 0>",
            "    handler at <string>",
            "    called at <string>",
        ]
    for program in programs:
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGUSR1:
            program.send_signal(number)
    time.sleep(1.1)
    for program in programs:
        program.send_signal(signal.SIGUSR1)  # ends nothing
        assert program.poll() is None
        program.send_signal(signal.SIGTERM)
    for program in programs:
        assert lines(program.stderr, 5) == [  # once a step: it had gone on for another second
            f"ended by signal {int(signal.SIGTERM)}, in the middle of this:",
            "<task member 0>",
            "    handler at <string>",
            "    called at <string>",
            "",
        ]
        assert program.wait() == 1


def test_a_step_that_ends_after_all_leaves_signals_to_the_program(start: Start) -> None:
    program = start(
        """
start(signal.SIGINT)

def handler():
    yield from sleep(0.1)
    time.sleep(0.8)
    print("goes on", flush=True)
    yield from sleep(30)

run(handler())
"""
    )
    assert lines(program.stderr, 1) == [HUNG]
    program.send_signal(signal.SIGINT)
    assert lines(program.stdout, 2) == ["goes on", str(int(signal.SIGINT))]
    time.sleep(1.1)
    for _ in range(2):
        program.send_signal(signal.SIGINT)
        assert lines(program.stdout, 1) == [str(int(signal.SIGINT))]


def test_many_short_steps_are_no_long_one(start: Start) -> None:
    """They make a long turn, which is nobody's fault."""
    program = start(
        """
start()

def short():
    for _ in range(2):
        yield from sleep(0)
        time.sleep(0.05)

run(*[short() for _ in range(16)])
"""
    )
    assert program.communicate()[1] == ""


def test_an_idle_program_is_left_alone_and_a_busy_one_is_not_asked_each_turn(start: Start) -> None:
    program = start(
        """
start()
setitimer, tick, calls = signal.setitimer, watchdog.tick, []

def counted(*values):
    calls.append(values)
    return setitimer(*values)

signal.setitimer = counted
signal.signal(signal.SIGALRM, lambda *arguments: (calls.append(arguments), tick(*arguments)))

def busy():
    end = time.monotonic() + 0.9
    while time.monotonic() < end:
        yield from sleep(0)

def idle():
    yield from sleep(0.5)
    polls, count = counting.polls, len(calls)
    yield from sleep(1.5)
    print(counting.polls - polls, len(calls) - count)

run(busy())
print(counting.polls > 1000, len(calls) < 20)
run(idle())
"""
    )
    out, said = program.communicate()
    assert said == ""
    busy, idle = out.splitlines()
    assert busy == "True True"
    polls, calls = map(int, idle.split())
    assert polls <= 4 and calls <= 4  # where there was time for seven ticks


def test_a_program_that_handles_sigalrm_keeps_it(start: Start) -> None:
    program = start(
        """
signal.signal(signal.SIGALRM, lambda number, frame: print("mine", flush=True))
start(signal.SIGINT)

def handler():
    yield from sleep(0.1)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    time.sleep(1)

run(handler())
"""
    )
    assert program.communicate() == ("mine\n", "")


def test_without_sigalrm_a_second_signal_still_ends_a_long_step(start: Start) -> None:
    """What a module sets for itself after the start is its own."""
    program = start(
        """
start(signal.SIGTERM)
signal.signal(signal.SIGALRM, lambda number, frame: print("mine", flush=True))

def handler():
    yield from sleep(0.1)
    print("hangs", flush=True)
    while True:
        time.sleep(0.1)

run(handler())
"""
    )
    lines(program.stdout, 1)
    while program.poll() is None:
        os.kill(program.pid, signal.SIGTERM)
        time.sleep(0.1)
    out, said = program.communicate()
    assert program.returncode == 1 and "in the middle of this" in said and "handler at" in said
    assert out == ""


def test_a_signal_that_is_ignored_ends_nothing(start: Start) -> None:
    program = start(
        """
signal.signal(signal.SIGINT, signal.SIG_IGN)
start(signal.SIGINT, signal.SIGTERM)

def handler():
    yield from sleep(0.1)
    time.sleep(3)

run(handler())
"""
    )
    lines(program.stderr, 1)
    for _ in range(2):
        os.kill(program.pid, signal.SIGINT)
        time.sleep(1.1)
    program.communicate()
    assert program.returncode == 0


def test_it_does_not_tick_when_the_interpreter_ends(start: Start) -> None:
    """Which takes signal handlers away, and without one SIGALRM ends the process."""
    program = start(
        """
import atexit
atexit.register(lambda: print(*signal.getitimer(signal.ITIMER_REAL)))
start()

def busy():
    yield from sleep(0.01)

run(busy())
print(signal.getitimer(signal.ITIMER_REAL)[1])
"""
    )
    assert program.communicate() == ("0.2\n0.0 0.0\n", "")
    assert program.returncode == 0
