"""The kernel: who runs next, and who waits for what.

Almost nothing interesting happens here. Tasks in the ready queue run one after the other, each until it yields a trap;
the kernel notes what the task waits for and turns to the next. When readiness, time or another task answers the trap,
the task is ready again. There is one thread: between two yields a task has the whole program to itself.
"""

from __future__ import annotations

import time
from collections import deque
from heapq import heapify, heappop, heappush
from itertools import count
from types import GeneratorType

from .diagnose import report
from .poller import READ, WRITE, default_poller
from .task import Busy, Cancelled, Closed, Task, TimedOut
from .traps import Park, ReadWait, Sleep, WriteWait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, Protocol

    from .poller import Poller
    from .traps import Coroutine, HasFileno

    class Closable(HasFileno, Protocol):
        def close(self) -> None: ...


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
        self.stale = 0  # how many of the timers count no more; see set_timer
        self.stopping = False
        # How each trap is carried out, and how that is undone
        self.traps: dict[type, tuple[Callable[[Task, Any], None], Callable[[Task], None]]] = {
            ReadWait: (self.wait_to_read, self.leave_readers),
            WriteWait: (self.wait_to_write, self.leave_writers),
            Sleep: (self.sleep, self.leave_nothing),
            Park: (self.park, self.leave_queue),
        }

    # Plain calls: what cannot block.

    def spawn(self, coroutine: Coroutine[Any], name: str = "") -> Task:
        """Make a task of a coroutine. It takes its first step in the next turn."""
        if not isinstance(coroutine, GeneratorType):
            raise TypeError(f"spawn() takes a generator, not {coroutine!r}; did you forget the call or a `yield from`?")
        task = Task(coroutine, name or coroutine.__name__, self.ready)
        self.tasks[task] = None
        self.ready.append(task)
        return task

    def close(self, sock: Closable) -> None:
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

    def run(self, until: Task | None = None) -> None:
        """Turn until the task `until` has ended, no task is left, or stop() was called."""
        self.stopping = False
        while self.tasks and not self.stopping and (until is None or until.outcome is None):
            self.turn()

    def stop(self) -> None:
        """Make run() return after this turn, whatever still waits."""
        self.stopping = True

    # The turn.

    def turn(self) -> None:
        """Collect all readiness, move what is due, then run one step of each task that is ready by now.

        What becomes ready meanwhile runs in the next turn: nobody keeps the others from the poller.
        """
        for fd, ready in self.poller.poll(self.patience()):
            reader = self.readers.get(fd) if ready & READ else None
            writer = self.writers.get(fd) if ready & WRITE else None
            if reader is not None:
                del self.readers[fd]
                resume(reader)
            if writer is not None:
                del self.writers[fd]
                resume(writer)
            if fd in self.readers or fd in self.writers:
                self.rearm(fd)  # readiness disarms the descriptor, and somebody still waits for the other direction
        if self.timers:
            self.expire(self.clock())
        ready_queue = self.ready
        for _ in range(len(ready_queue)):
            self.step(ready_queue.popleft())

    def step(self, task: Task) -> None:
        """Resume a task, run it to its next trap, and carry that out.

        What a task raises ends this task only, KeyboardInterrupt and SystemExit excepted.
        """
        error, task.error = task.error, None
        try:
            if error is None:
                trap = task.coroutine.send(None)
            elif task.started:
                trap = task.coroutine.throw(error)
            else:  # its `finally` counts only once it has begun: it gets to its first trap before it learns
                trap = task.coroutine.send(None)
                task.error = error
        except StopIteration:
            self.end(task, "returned")
        except Cancelled:
            self.end(task, "cancelled")
        except Exception:
            self.end(task, "failed")
            report(f"task {task.name} failed")
        else:
            task.started = True
            task.trap = trap
            if task.error is not None:  # it was cancelled meanwhile: that is the answer to whatever it asks for
                self.ready.append(task)
                return
            try:
                carry_out, undo = self.traps.get(type(trap)) or refuse(trap)
                if trap.timeout is not None:
                    self.set_deadline(task, trap.timeout)
                carry_out(task, trap)
                task.undo = undo
            except Exception as refusal:
                task.error = refusal
                task.deadline = None
                self.ready.append(task)

        finally:
            error = None  # its traceback refers to this frame: in a circle, a dead task's locals would outlive it

    def patience(self) -> float | None:
        """How long the poller may wait, in seconds: not at all if a task is ready, for ever if nothing is timed."""
        if self.ready or self.stopping:
            return 0
        if self.timers:
            return min(max(0, self.timers[0][0] - self.clock()), 86400)  # the systems' limits are in weeks
        if not self.readers and not self.writers:
            # Waiting would be for ever, and look like a program that hangs
            raise RuntimeError(f"nothing can wake these tasks any more: {list(self.tasks)}")
        return None

    # Each trap: how it is carried out, and how that is undone.

    def wait_to_read(self, task: Task, trap: ReadWait) -> None:
        self.wait_for(self.readers, task, trap.fd)

    def leave_readers(self, task: Task) -> None:
        del self.readers[task.trap.fd]
        self.rearm(task.trap.fd)

    def wait_to_write(self, task: Task, trap: WriteWait) -> None:
        self.wait_for(self.writers, task, trap.fd)

    def leave_writers(self, task: Task) -> None:
        del self.writers[task.trap.fd]
        self.rearm(task.trap.fd)

    def sleep(self, task: Task, trap: Sleep) -> None:
        """Nothing but its deadline."""

    def leave_nothing(self, task: Task) -> None:
        """The deadline goes with every waking."""

    def park(self, task: Task, trap: Park) -> None:
        trap.tasks[task] = None

    def leave_queue(self, task: Task) -> None:
        del task.trap.tasks[task]

    # Descriptors.

    def wait_for(self, waiting: dict[int, Task], task: Task, fd: int) -> None:
        if fd in waiting:
            raise Busy(f"{waiting[fd].name} already waits for this direction of descriptor {fd}")
        if fd < 0:
            raise Closed("this socket is closed")  # its fileno() is -1 then
        waiting[fd] = task
        try:
            self.arm(fd)
        except BaseException:
            del waiting[fd]
            raise

    def arm(self, fd: int) -> None:
        self.poller.arm(fd, (READ if fd in self.readers else 0) | (WRITE if fd in self.writers else 0))

    def rearm(self, fd: int) -> None:
        """Arm for who is left. A descriptor that was closed behind our back must not end more than its own tasks."""
        try:
            self.arm(fd)
        except OSError:
            pass

    # Time.

    def set_deadline(self, task: Task, timeout: float) -> None:
        """Let the task's trap run out in `timeout` seconds.

        Most deadlines are never reached: the task is woken and waits anew, with a later one. So a task keeps the timer
        it has if that comes no later, and expire() sets it anew when it goes off too early. That leaves one timer a
        task instead of one a wait.
        """
        task.deadline = deadline = self.clock() + timeout
        if task.timer is None or deadline < task.timer:
            self.drop_timer(task)
            self.set_timer(task, deadline)

    def set_timer(self, task: Task, moment: float) -> None:
        """Look at the task's deadline at that moment. A timer counts as long as it is its task's latest."""
        task.timer = moment
        heappush(self.timers, (moment, next(self.serial), task))

    def drop_timer(self, task: Task) -> None:
        """Make the task's timer stale. Nothing is taken out of the middle of a heap, but most may be thrown away."""
        if task.timer is not None:
            task.timer = None
            self.stale += 1
            if self.stale > 100 and self.stale > len(self.timers) // 2:
                self.timers = [timer for timer in self.timers if timer[2].timer == timer[0]]
                heapify(self.timers)
                self.stale = 0

    def expire(self, now: float) -> None:
        """Answer the traps whose deadline has come."""
        while self.timers and self.timers[0][0] <= now:
            moment, _, task = heappop(self.timers)
            if task.timer != moment:
                self.stale -= 1
                continue
            task.timer = None
            if task.deadline is not None and task.deadline > now:
                self.set_timer(task, task.deadline)
            elif task.deadline is not None:
                task.wake(None if isinstance(task.trap, Sleep) else TimedOut("nothing happened in time"))

    def end(self, task: Task, outcome: str) -> None:
        task.outcome = outcome
        task.error = task.deadline = None
        del self.tasks[task]
        self.drop_timer(task)
        if task.joiners is not None:
            task.joiners.wake_all()


def resume(task: Task) -> None:
    """Make ready whom a descriptor's readiness has taken out of its table: task.wake() without the undo."""
    task.undo = task.deadline = None
    task.ready_queue.append(task)


def refuse(trap: object) -> NoReturn:
    """Say why a task may have yielded something that is no trap."""
    if isinstance(trap, GeneratorType):
        name = trap.__name__
        raise TypeError(f"the generator {name}() was yielded, not run; did you mean `yield from {name}(...)`?")
    raise TypeError(f"{trap!r} was yielded, which is no trap; did you mean `return`, or `yield from` a coroutine?")
