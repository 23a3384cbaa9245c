"""The kernel: which task runs next, and what each of them waits for.

In a turn, the kernel asks the poller which descriptors are ready, wakes the tasks whose time has run out, and lets each
task that is ready take one step: to its next trap. The kernel carries the trap out, by noting what the task waits for,
and goes on to the next task. There is one thread: between two yields a task has the whole program to itself.
"""

from __future__ import annotations

import time
from heapq import heapify, heappop, heappush
from itertools import count
from types import GeneratorType

from .bare import deque
from .diagnose import report
from .poller import READ, WRITE, Poller, default_poller
from .task import NOTHING_YET, Busy, Closed, Task, TimedOut, without_cancelled
from .traps import Any, Coroutine, Park, ReadWait, Sleep, Stream, WriteWait, guess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

RETURNED: Any = object()  # what next() gives once a coroutine has returned: to raise StopIteration would take longer


class Kernel:
    """Runs tasks. `poller` and `clock` (seconds, monotonic) connect it to the system; tests bring their own.

    Do not call its methods from signal handlers or other threads: a poll that is going on would not notice.
    """

    def __init__(self, poller: Poller | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.poller = poller or default_poller()
        self.clock = clock
        self.tasks: dict[Task, None] = {}  # all that have not ended, oldest first
        self.ready: deque[Task] = deque()
        # The tasks that wait to read or write a descriptor. Each descriptor in these tables is armed. A report may
        # disarm it for both directions. Then it is armed again if the other table still has it.
        self.readers: dict[int, Task] = {}
        self.writers: dict[int, Task] = {}
        self.timers: list[tuple[float, int, Task]] = []  # a heap; the serial number keeps it from comparing tasks
        self.closing: list[Stream] = []  # sockets to be closed at the end of this turn
        self.serial = count()
        self.running = self.stopping = False
        self.traps: dict[type, tuple[Callable[..., object], Callable[[Task], object]]] = {  # how to carry out and undo
            ReadWait: (self.wait_for, self.leave),
            WriteWait: (self.wait_for, self.leave),
            Sleep: (lambda task, trap: None, lambda task: None),  # its timer does all
            Park: (self.park, self.unpark),
        }

    # Plain calls.

    def spawn(self, coroutine: Coroutine[object], name: str = "") -> Task:
        """Make a task of a coroutine that no other task has. Its first step comes in the next turn.

        Raises TypeError if `coroutine` is no generator.
        """
        if not isinstance(coroutine, GeneratorType):
            raise TypeError(f"spawn() takes a generator, not {coroutine!r}; did you forget the call or a `yield from`?")
        task = Task(coroutine, name or coroutine.__name__, self.ready)
        self.tasks[task] = None
        self.ready.append(task)
        return task

    def close(self, sock: Stream) -> None:
        """Close a socket; tasks that wait for it get Closed. Nothing else may close a socket for which a task can wait.

        First wakes the tasks and disarms the descriptor: after closing, its number may be another file's.
        """
        fd = sock.fileno()
        if fd >= 0:
            if fd in self.readers:
                self.readers[fd].wake(error=Closed("closed by another task"))
            if fd in self.writers:
                self.writers[fd].wake(error=Closed("closed by another task"))
            self.poller.forget(fd)
        try:
            sock.close()
        except OSError:
            pass  # the error is about what was sent before; the descriptor is closed nevertheless

    def close_later(self, sock: Stream) -> None:
        """Close a socket at the end of this turn at the latest, together with others.

        This is for speed. The system has much to do for each close, and that drives Python's code and data out of the
        processor's caches. If a socket cannot wait so long, or if no turn follows, call close_collected().
        """
        self.closing.append(sock)

    def close_collected(self) -> None:
        """Close the sockets that close_later() was given."""
        for sock in self.closing:
            self.close(sock)
        self.closing.clear()

    def drop(self, task: Task) -> None:
        """End a task that cancel() does not end."""
        if task.outcome is not None:
            return
        if task.coroutine.gi_running:
            raise RuntimeError(f"{task.name} cannot drop itself")
        if task.undo is not None:
            task.wake()  # takes the task out of where it waits; step() will skip it
        self.end(task, "dropped")
        task.abandon()

    def run(self, until: Task | None = None) -> None:
        """Run turns until the task `until` has ended, no task is left, or stop() was called.

        Raises RuntimeError if all tasks wait for each other, so that nothing could wake them, or if a task calls run().
        """
        if self.running:
            raise RuntimeError("run() inside a task; did you mean `yield from join(task)`?")
        self.running = True
        try:
            while self.tasks and not self.stopping and (until is None or until.outcome is None):
                self.turn()
        finally:
            self.running = self.stopping = False
            self.close_collected()  # if an exception has ended the last turn early

    def stop(self) -> None:
        """Make run() return after this turn, even if tasks still wait.

        If no run() is going on, the next one returns at once.
        """
        self.stopping = True

    # The turn.

    def turn(self) -> None:
        """Collect all readiness, wake tasks whose time has run out, run one step of each ready task, close sockets.

        Tasks that were ready before the poll run last, so they find what all others have done in this turn. A task that
        becomes ready while others run takes its step in the next turn. Otherwise tasks that keep waking each other
        would keep us from polling.
        """
        readers, writers, ready = self.readers, self.writers, self.ready
        ready_before = len(ready)
        now = self.clock()
        for fd, readiness in self.poller.poll(self.time_to_wait(now)):
            if readiness & READ and fd in readers:
                readers.pop(fd).make_ready()
            if readiness & WRITE and fd in writers:
                writers.pop(fd).make_ready()
            if fd in readers or fd in writers:
                self.rearm(fd)  # the report may have disarmed both directions, and a task still waits for the other one
        if self.timers:
            self.expire(now)
        ready.rotate(-ready_before)  # those that were ready before the poll go last
        for _ in range(len(ready)):
            self.step(ready.popleft())
        if self.closing:
            self.close_collected()

    def step(self, task: Task) -> None:
        """Resume a task, run it to its next trap, and carry this trap out."""
        if task.outcome is not None:
            return  # the task was dropped while it was ready
        error = task.error
        try:
            if error is None or task.trap is NOTHING_YET:
                trap = next(task.coroutine, RETURNED)  # a task gets no error before its first `yield`
            else:
                task.error = None
                trap = task.coroutine.throw(error)
        except StopIteration:  # from throw()
            self.end(task, "returned")
        except BaseException as raised:
            self.fail(task, raised)
        else:
            if trap is RETURNED:
                return self.end(task, "returned")
            task.trap = trap
            kind = type(trap)
            if task.error is not None or (kind is Sleep and trap.timeout == 0):
                self.ready.append(task)  # cancelled while new or running; or it only asks for the next turn
                return
            try:
                if kind not in self.traps:
                    raise TypeError(guess(trap))
                carry_out, undo = self.traps[kind]
                if trap.timeout is not None:
                    self.set_timer(task, trap.timeout)
                carry_out(task, trap)
                task.undo = undo
            except Exception as refusal:  # the task does not wait: its `yield` raises this
                task.error = refusal
                task.timer = None
                self.ready.append(task)
        finally:
            # The error's traceback refers to this frame. If the frame went on to refer to the error, the two would keep
            # each other alive, and with them the variables of the task.
            error = None

    def fail(self, task: Task, error: BaseException) -> None:
        """End a task that has raised. An Exception is reported, Cancelled is not; anything else comes out of run()."""
        rest = without_cancelled(error)
        self.end(task, "cancelled" if rest is None else "failed")
        if isinstance(rest, Exception):
            report(f"task {task.name} failed")  # prints the error that step() is handling
        elif rest is not None:
            raise rest

    def end(self, task: Task, outcome: str) -> None:
        task.outcome = outcome
        task.error = None
        del self.tasks[task]
        if task.joiners:
            for joiner in list(task.joiners):
                joiner.wake()

    # Descriptors.

    def wait_for(self, task: Task, trap: ReadWait | WriteWait) -> None:
        fd, waiting, other, direction = trap.fd, self.readers, self.writers, READ
        if type(trap) is WriteWait:
            waiting, other, direction = other, waiting, WRITE
        if fd in waiting:
            raise Busy(f"{waiting[fd].name} already waits for this direction of descriptor {fd}")
        if fd < 0:
            raise Closed("this socket is closed")  # its fileno() is -1 then
        self.poller.arm(fd, (READ | WRITE) if fd in other else direction)
        waiting[fd] = task

    def leave(self, task: Task) -> None:
        waiting = self.readers if type(task.trap) is ReadWait else self.writers
        del waiting[task.trap.fd]
        self.rearm(task.trap.fd)

    def rearm(self, fd: int) -> None:
        """Arm a descriptor for the tasks that still wait for it, or disarm it. If that fails, they get the error."""
        try:
            self.poller.arm(fd, (READ if fd in self.readers else 0) | (WRITE if fd in self.writers else 0))
        except (OSError, ValueError) as error:  # no memory, or the descriptor or the poller is closed
            for waiting in (self.readers, self.writers):
                if fd in waiting:
                    waiting[fd].error = error
                    waiting.pop(fd).make_ready()  # not wake(): its undo, leave(), would call rearm() again

    # Other tasks.

    def park(self, task: Task, trap: Park) -> None:
        trap.tasks[task] = None

    def unpark(self, task: Task) -> None:
        del task.trap.tasks[task]

    # Time.

    def set_timer(self, task: Task, timeout: float) -> None:
        """Wake the task in `timeout` seconds (negative: as 0), if nothing else wakes it before.

        Most timers never go off, because their task is woken before. Such a timer stays in the heap, but is ignored,
        because it is not its task's `timer` any more. It is removed when its time has come, or when there are too many
        like it.
        """
        if not (timeout >= 0 or timeout < 0):  # NaN would block the heap; what cannot be compared raises TypeError here
            raise ValueError(f"a timeout is a number of seconds, not {timeout}")
        task.timer = (self.clock() + timeout, next(self.serial), task)
        heappush(self.timers, task.timer)

    def expire(self, now: float) -> None:
        """Wake the tasks whose time had run out by `now`, the moment before the poll.

        If a task's time ran out during the poll, one more poll comes before it is woken. So an answer that came while
        this process stood still is not missed.
        """
        if len(self.timers) > 2 * len(self.tasks) + 100:
            self.timers = [timer for timer in self.timers if timer[2].timer is timer]
            heapify(self.timers)
        while self.timers and self.timers[0][0] <= now:
            timer = heappop(self.timers)
            task = timer[2]
            if task.timer is timer:
                task.wake(None if isinstance(task.trap, Sleep) else TimedOut("nothing happened in time"))

    def time_to_wait(self, now: float) -> float | None:
        """How long the poller may wait, in seconds: 0 if a task is ready, None (for ever) if there is no timer."""
        if self.ready:
            return 0
        while self.timers and self.timers[0][2].timer is not self.timers[0]:
            heappop(self.timers)
        if self.timers:
            return min(max(0, self.timers[0][0] - now), 86400)  # a day, which every system accepts
        if not self.readers and not self.writers:
            # A wait that nothing can end would look like a program that hangs
            raise RuntimeError(f"nothing can wake these tasks any more: {list(self.tasks)}")
        return None
