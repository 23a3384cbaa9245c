"""The kernel: who runs next, and who waits for what.

Almost nothing interesting happens here. Tasks in the ready queue run one after the other, each until it yields a trap;
the kernel notes what the task waits for and turns to the next. When readiness, time or another task answers the trap,
the task is ready again. There is one thread: between two yields a task has the whole program to itself.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from types import GeneratorType

from .diagnose import report
from .poller import READ, WRITE, default_poller
from .task import NOTHING_YET, Busy, Cancelled, Closed, Task, TimedOut
from .traps import Park, ReadWait, Sleep, WriteWait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket
    from typing import Any, Callable, NoReturn

    from .poller import Poller
    from .traps import Coroutine, Wait


class Kernel:
    """Runs tasks. `poller` and `clock` (seconds, monotonic) are where the world comes in; tests bring their own."""

    def __init__(self, poller: Poller | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.poller = poller or default_poller()
        self.clock = clock
        self.tasks: dict[Task, None] = {}  # all that have not ended, oldest first
        self.ready: deque[Task] = deque()
        self.readers: dict[int, Task] = {}  # who waits to read which descriptor
        self.writers: dict[int, Task] = {}
        self.timers: list[tuple[float, int, Task]] = []  # a heap; the serial keeps equal times from comparing tasks
        self.serial = count()
        self.stopping = False
        # How each trap is carried out, and how that is undone
        self.traps: dict[type, tuple[Callable[[Task, Any], None], Callable[[Task], None]]] = {
            ReadWait: (partial(self.wait_for, self.readers, READ), partial(self.leave, self.readers)),
            WriteWait: (partial(self.wait_for, self.writers, WRITE), partial(self.leave, self.writers)),
            Sleep: (lambda task, trap: None, lambda task: None),  # its timer is all there is to it
            Park: (park, unpark),
        }

    # Plain calls: what cannot block.

    def spawn(self, coroutine: Coroutine[Any], name: str = "") -> Task:
        """Make a task of a coroutine; its first step comes in the next turn. Raises TypeError if it is no generator."""
        if not isinstance(coroutine, GeneratorType):
            raise TypeError(f"spawn() takes a generator, not {coroutine!r}; did you forget the call or a `yield from`?")
        task = Task(coroutine, name or coroutine.__name__, self.ready)
        self.tasks[task] = None
        self.ready.append(task)
        return task

    def close(self, sock: socket) -> None:
        """Close a socket somebody may wait on: whoever waits gets Closed. The only way such a socket is closed.

        A descriptor's number is used again at once, so its waiters and its arming must be gone before it is.
        """
        fd = sock.fileno()
        if fd >= 0:
            for waiting in (self.readers, self.writers):
                if fd in waiting:
                    waiting[fd].wake(error=Closed("closed by another task"))
            self.poller.forget(fd)
        sock.close()

    def drop(self, task: Task) -> None:
        """End a task that does not let itself be ended: close its coroutine, whatever that does about it.

        The last resort, after cancel(), and the only place where a waiting coroutine is closed: one that goes on
        waiting nevertheless is never resumed, and its `finally` may not run. Not for the task that runs.
        """
        if task.outcome is not None:
            return
        coroutine: Any = task.coroutine
        if coroutine.gi_running:
            raise RuntimeError(f"{task.name} cannot drop itself")
        if task.undo is not None:
            task.undo(task)
            task.undo = task.timer = None
        self.end(task, "dropped")
        complain_about, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None  # of coroutines within
        try:
            for _ in range(10):  # a caller within may take it for a mistake of what it called, and go on itself
                try:
                    coroutine.close()
                    break
                except BaseException:
                    pass
            del coroutine, task.coroutine  # what it still holds goes now
        finally:
            sys.unraisablehook = complain_about

    def run(self, until: Task | None = None) -> None:
        """Turn until the task `until` has ended, no task is left, or stop() was called.

        Raises RuntimeError if all tasks wait for each other: nothing could wake them.
        """
        self.stopping = False
        while self.tasks and not self.stopping and (until is None or until.outcome is None):
            self.turn()

    def stop(self) -> None:
        """Make run() return after this turn, whatever still waits."""
        self.stopping = True

    # The turn.

    def turn(self) -> None:
        """Collect all readiness, move what is due, then run one step of each task that is ready by now.

        Those that the world wakes run first: a task that another task has woken then finds all that this turn brings.
        What becomes ready meanwhile runs in the next turn: nobody keeps the others from the poller.
        """
        readers, writers, ready = self.readers, self.writers, self.ready
        ready_before = len(ready)
        for fd, readiness in self.poller.poll(self.patience()):
            if readiness & READ and fd in readers:
                readers.pop(fd).make_ready()
            if readiness & WRITE and fd in writers:
                writers.pop(fd).make_ready()
            if fd in readers or fd in writers:
                self.rearm(fd)  # readiness disarms the descriptor, and somebody still waits for the other direction
        if self.timers:
            self.expire(self.clock())
        ready.rotate(-ready_before)
        for _ in range(len(ready)):
            self.step(ready.popleft())

    def step(self, task: Task) -> None:
        """Resume a task, run it to its next trap, and carry that out.

        An Exception ends this task only. Whatever else it raises, Cancelled excepted, comes out of run().
        """
        if task.outcome is not None:
            return  # it was dropped while it was ready
        error = task.error
        try:
            if error is None or task.trap is NOTHING_YET:  # it must begin, or its `finally` counts not; the error stays
                trap = next(task.coroutine)
            else:
                task.error = None
                trap = task.coroutine.throw(error)
        except StopIteration:
            self.end(task, "returned")
        except Cancelled:
            self.end(task, "cancelled")
        except Exception:
            self.end(task, "failed")
            report(f"task {task.name} failed")
        else:
            task.trap = trap
            if task.error is not None or (type(trap) is Sleep and trap.timeout == 0):
                self.ready.append(task)  # it was cancelled meanwhile, or the next turn is all it asks for
                return
            try:
                carry_out, undo = self.traps.get(type(trap)) or refuse(trap)
                if trap.timeout is not None:
                    self.set_timer(task, trap.timeout)
                carry_out(task, trap)
                task.undo = undo
            except Exception as refusal:
                task.error = refusal
                task.timer = None
                self.ready.append(task)
        finally:
            error = None  # its traceback refers to this frame: in a circle, a dead task's locals would outlive it

    def end(self, task: Task, outcome: str) -> None:
        task.outcome = outcome
        task.error = None
        del self.tasks[task]
        for joiner in list(task.joiners):
            joiner.wake()

    # Descriptors.

    def wait_for(self, waiting: dict[int, Task], direction: int, task: Task, trap: Wait) -> None:
        fd = trap.fd
        if fd in waiting:
            raise Busy(f"{waiting[fd].name} already waits for this direction of descriptor {fd}")
        if fd < 0:
            raise Closed("this socket is closed")  # its fileno() is -1 then
        self.poller.arm(fd, direction | (READ if fd in self.readers else 0) | (WRITE if fd in self.writers else 0))
        waiting[fd] = task

    def leave(self, waiting: dict[int, Task], task: Task) -> None:
        del waiting[task.trap.fd]
        self.rearm(task.trap.fd)

    def rearm(self, fd: int) -> None:
        """Arm for who is left. A descriptor that was closed behind our back must not end more than its own tasks."""
        try:
            self.poller.arm(fd, (READ if fd in self.readers else 0) | (WRITE if fd in self.writers else 0))
        except OSError:
            pass

    # Time.

    def set_timer(self, task: Task, timeout: float) -> None:
        """Let the task's trap run out in `timeout` seconds.

        A timer counts as long as it is its task's. Most never go off: their task is woken before and has another one,
        or none. They stay where they are until it is their turn, or until there are too many of them.
        """
        if not timeout >= 0:
            raise ValueError(f"a timeout is a number of seconds, not {timeout}")  # NaN would block the heap
        task.timer = (self.clock() + timeout, next(self.serial), task)
        heappush(self.timers, task.timer)

    def expire(self, now: float) -> None:
        """Answer the traps whose time has run out."""
        if len(self.timers) > 2 * len(self.tasks) + 100:
            self.timers = [timer for timer in self.timers if timer[2].timer is timer]
            heapify(self.timers)
        while self.timers and self.timers[0][0] <= now:
            timer = heappop(self.timers)
            task = timer[2]
            if task.timer is timer:
                task.wake(None if isinstance(task.trap, Sleep) else TimedOut("nothing happened in time"))

    def patience(self) -> float | None:
        """How long the poller may wait, in seconds: not at all if a task is ready, for ever if nothing is timed."""
        if self.ready:
            return 0
        while self.timers and self.timers[0][2].timer is not self.timers[0]:
            heappop(self.timers)
        if self.timers:
            return min(max(0, self.timers[0][0] - self.clock()), 86400)  # the systems' limits are in weeks
        if not self.readers and not self.writers:
            # Waiting would be for ever, and look like a program that hangs
            raise RuntimeError(f"nothing can wake these tasks any more: {list(self.tasks)}")
        return None


def park(task: Task, trap: Park) -> None:
    trap.tasks[task] = None


def unpark(task: Task) -> None:
    del task.trap.tasks[task]


def refuse(trap: object) -> NoReturn:
    """Say why a task may have yielded something that is no trap."""
    if isinstance(trap, GeneratorType):
        name = trap.__name__
        raise TypeError(f"the generator {name}() was yielded, not run; did you mean `yield from {name}(...)`?")
    raise TypeError(f"{trap!r} was yielded, which is no trap; did you mean `return`, or `yield from` a coroutine?")
