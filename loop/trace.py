"""A kernel that writes down what each task does: a timeline for ui.perfetto.dev or chrome://tracing.

    ./chatsrv --trace FILE                       the server
    python3 -m loop.trace SCRIPT [ARGUMENT ...]  any program that makes a Kernel; writes trace.json

A task is a track. A step is named after the function in which the task goes on. Between two steps stands what the task
waits for, and then "ready": from when it was woken until its step begins. An arrow leads to a step from whatever woke
its task: the poller, a timer, or a step of another task. The kernel has a track, too: "poll", while there is nothing to
do, and "wake", while it makes tasks ready. The file is written at the end and whenever SIGUSR2 comes. Only the last
steps are kept, so a program can be traced for months. Tracing costs time: with 20 members, a message takes the server
310 microseconds of the processor instead of 230; with two members, 100 instead of 60.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, Callable

from .diagnose import complain
from .kernel import Kernel
from .task import Task

if TYPE_CHECKING:
    from .poller import Poller

    Event = dict[str, Any]
    Clock = Callable[[], float]

STEPS = 10_000  # some 8 MB in the file, and a quarter of a second to write it
KERNEL = 1  # the kernel's track; viewers draw it first, because the `pid` of all events is the same number


class Step:
    """A step of a task, and the wait before it. Made before the wait begins, and filled in as these things happen."""

    __slots__ = "cause end name number outcome place ready since stack start waits_for waker".split()

    def __init__(self, number: int, name: str) -> None:
        self.number, self.name = number, name  # the task's track, and its name
        self.ready = self.start = self.end = 0.0  # all times are seconds of the kernel's clock; 0: not yet
        self.outcome: str | None = None  # of the task, if this was its last step
        self.waker: int | None = None  # the track of the task that made it ready, if a task did
        self.cause = ""  # what made it ready: "poll", "timer" or "task"

    def wait(self, task: Task, now: float) -> Step:
        """The wait begins."""
        self.since = now
        self.waits_for = f"{type(task.trap).__name__} {getattr(task.trap, 'fd', '')}".rstrip()
        self.stack, self.place = stack_of(task.coroutine)
        return self


class ReadyQueue(deque[Task]):
    """Every task that is woken passes through here."""

    def __init__(self, notice: Callable[[Task], None]) -> None:
        self.notice = notice

    def append(self, task: Task) -> None:
        self.notice(task)
        super().append(task)


class TracedPoller:
    """A poller that notes when it was asked, and when it answered."""

    def __init__(self, poller: Poller, kernel: TracedKernel) -> None:
        self.poller, self.kernel = poller, kernel
        self.arm, self.forget, self.close = poller.arm, poller.forget, poller.close

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        # Several polls without a step between them are drawn as one
        self.kernel.asked = self.kernel.asked or self.kernel.clock()
        found = self.poller.poll(timeout)
        self.kernel.answered = self.kernel.clock()
        self.kernel.cause = "poll"
        return found


class TracedKernel(Kernel):
    """A kernel that keeps its last `most` steps. In every turn, it calls the `counters`, and draws what they return."""

    def __init__(self, poller: Poller | None = None, clock: Clock = time.monotonic, most: int = STEPS) -> None:
        super().__init__(poller, clock)
        self.poller = TracedPoller(self.poller, self)
        self.ready = ReadyQueue(self.notice)
        self.numbers = count(KERNEL + 1)
        self.coming: dict[Task, Step] = {}  # of each task that has not ended, the next step
        self.steps: deque[Step] = deque(maxlen=most)
        # For each turn: when the poller was asked, when it answered, when the first step began; the counters' values
        self.turns: deque[tuple[float, float, float, dict[str, float]]] = deque(maxlen=most)
        # The ready tasks are those in the queue, and the one that is just being resumed
        self.counters: dict[str, Callable[[], float]] = {"ready tasks": lambda: 1 + len(self.ready)}
        self.asked = self.answered = 0.0
        self.cause = ""  # "poll" or "timer", while that makes tasks ready
        self.running_track: int | None = None  # the track of the task that takes a step now
        self.path = ""  # of the file
        self.seconds = float("inf")  # only the last so many seconds are written to it
        self.wanted = False  # whether SIGUSR2 has asked for the file

    def notice(self, task: Task) -> None:
        """A task becomes ready."""
        now = self.clock()
        if task not in self.coming:
            self.coming[task] = Step(next(self.numbers), task.name).wait(task, now)
        step = self.coming[task]
        step.ready = now
        step.waker, step.cause = (KERNEL, self.cause) if self.cause else (self.running_track, "task")

    def run(self, until: Task | None = None) -> None:
        try:
            super().run(until)
        finally:
            if self.path:
                self.save()

    def turn(self) -> None:
        super().turn()
        self.cause = ""
        if self.wanted:
            self.wanted = False
            self.save()

    def expire(self, now: float) -> None:
        self.cause = "timer"
        super().expire(now)

    def step(self, task: Task) -> None:
        step = self.coming.get(task)
        if step is None:  # the task was ended while it was ready
            return super().step(task)
        now = step.start = self.clock()
        if self.cause:  # the turn's first step
            self.cause = ""
            counts = {name: counter() for name, counter in self.counters.items()}
            self.turns.append((self.asked, self.answered, now, counts))
            self.asked = 0.0
        self.running_track = step.number
        following = self.coming[task] = Step(step.number, step.name)
        try:
            super().step(task)
        finally:
            self.running_track = None
            step.end = self.clock()
            step.outcome = task.outcome
            self.steps.append(step)
            following.wait(task, step.end)

    def end(self, task: Task, outcome: str) -> None:
        super().end(task, outcome)
        self.coming.pop(task, None)

    def write_to(self, path: str, seconds: float = float("inf")) -> None:
        """At the end of run(), and after SIGUSR2, write what is kept, or the last `seconds` of it, to this file."""
        self.path, self.seconds = path, seconds
        if signal.getsignal(signal.SIGUSR2) != signal.SIG_IGN:
            signal.signal(signal.SIGUSR2, lambda *_: setattr(self, "wanted", True))

    def save(self) -> None:
        """Write the file, in the Chrome trace event format; complain if that is not possible."""
        text = ",\n".join(map(json.dumps, self.events()))
        try:
            with open(self.path, "w", encoding="utf-8") as file:
                file.write(f'{{"displayTimeUnit": "ms", "traceEvents": [\n{text}\n]}}\n')
        except OSError as error:
            complain(f"cannot write {self.path}: {error.strerror}")

    def events(self) -> Iterator[Event]:
        """Chrome's trace events, with times in microseconds since the first step."""
        now = self.clock()
        steps = [step for step in self.steps if step.start >= now - self.seconds]
        origin = steps[0].start if steps else now

        def microseconds(moment: float) -> float:
            return round((max(moment, origin) - origin) * 1e6, 3)

        def piece(track: int, kind: str, name: str, begin: float, end: float, **details: Any) -> Iterator[Event]:
            start, length = microseconds(begin), round(microseconds(end) - microseconds(begin), 3)
            if length > 0 or kind == "step":
                yield event("X", track, name, ts=start, dur=length, cat=kind, args=details)

        yield event("M", KERNEL, "process_name", args={"name": os.path.basename(sys.argv[0])})
        names = {KERNEL: "kernel", **{step.number: step.name for step in (*steps, *self.coming.values())}}
        for number, name in names.items():
            yield event("M", number, "thread_name", args={"name": name})
        drawn: dict[str, float] = {}
        for asked, answered, done, counts in self.turns:
            if done >= origin:
                yield from piece(KERNEL, "turn", "poll", asked, answered)
                yield from piece(KERNEL, "turn", "wake", answered, done)
                for name, value in counts.items():
                    if drawn.get(name) != value:
                        drawn[name] = value
                        yield event("C", KERNEL, name, ts=microseconds(done), args={"now": value})
        for serial, step in enumerate((*steps, *self.coming.values())):
            start = step.start or now
            # After sleep(0), `ready` was noted within the step before, and `since` only at the end of that step
            ready = max(step.ready, step.since) if step.ready else start
            yield from piece(step.number, "wait", step.waits_for, step.since, ready)
            yield from piece(step.number, "wait", "ready", ready, start)
            if not step.start:
                continue
            details = {"stack": " > ".join(step.stack), "at": step.place, "outcome": step.outcome}
            yield from piece(step.number, "step", step.stack[-1], start, step.end, **details)
            if step.waker not in (None, step.number) and step.ready > origin:
                yield event("s", step.waker, step.cause, id=serial, ts=microseconds(step.ready), cat="wake")
                yield event("f", step.number, step.cause, id=serial, ts=microseconds(start), cat="wake", bp="e")


def event(kind: str, track: int | None, name: str, **more: object) -> Event:
    return {"ph": kind, "pid": KERNEL, "tid": track, "name": name, **more}


def stack_of(coroutine: Any) -> tuple[list[str], str]:
    """The functions of a `yield from` chain, outermost first, and the place where the last one stands."""
    names = [coroutine.__qualname__]
    while hasattr(coroutine.gi_yieldfrom, "gi_frame"):
        coroutine = coroutine.gi_yieldfrom
        names.append(coroutine.__qualname__)
    line = coroutine.gi_frame.f_lineno if coroutine.gi_frame else 0
    return names, f"{coroutine.gi_code.co_filename}:{line}"


def main() -> None:
    """`python3 -m loop.trace`: run a script whose kernel is a traced one."""
    import runpy

    import loop.kernel

    class Kept(TracedKernel):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self.write_to("trace.json")

    del sys.argv[0]
    try:
        with open(sys.argv[0]), open("trace.json", "a"):
            pass  # both can be opened
    except IndexError:
        sys.exit("usage: python3 -m loop.trace SCRIPT [ARGUMENT ...]")
    except OSError as error:
        sys.exit(f"loop.trace: cannot open {error.filename}: {error.strerror}")
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    loop.Kernel = loop.kernel.Kernel = Kept  # type: ignore[misc]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
