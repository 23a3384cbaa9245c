"""One descriptor, two waiters: what the kernel's tables say, and for what the poller is armed."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from timeless import Timeless

from loop import Kernel, recv, send
from loop.poller import READ, WRITE

from . import moves
from .moves import Moment

if TYPE_CHECKING:
    from loop import Task
    from loop.traps import Coroutine

READERS, WRITERS, READY, ARMED = "readers[fd]", "writers[fd]", "ready", "the poller"
ROWS = {READERS: "wants to read", WRITERS: "wants to write", READY: "can run", ARMED: "is armed for"}


class ArmedKernel(Kernel):
    """A kernel that notes who waits, and its own poller's face: what that is armed for."""

    def __init__(self, world: Timeless, fd: int) -> None:
        super().__init__(self, world.clock)  # type: ignore[arg-type]
        self.world, self.fd = world, fd
        self.armed = 0
        self.moments: list[Moment] = []

    def arm(self, fd: int, want: int) -> None:
        self.world.arm(fd, want)
        self.armed = want

    def forget(self, fd: int) -> None:
        self.world.forget(fd)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        found = self.world.poll(timeout)
        if found:
            self.armed = 0
            self.note("poll()", f"({', '.join(f'fd, {words(ready)}' for _, ready in found)})")
        return found

    def step(self, task: Task) -> None:
        super().step(task)
        self.note("step()", task.name)

    def rearm(self, fd: int) -> None:
        super().rearm(fd)
        self.note("rearm()", "who is left")

    def note(self, *what: str) -> None:
        places = {
            READERS: [task.name for task in self.readers.values()],
            WRITERS: [task.name for task in self.writers.values()],
            READY: [task.name for task in self.ready],
        }
        self.moments.append(Moment(what, places, {ARMED: words(self.armed)}))


def words(want: int) -> str:
    return {0: "nothing", READ: "READ", WRITE: "WRITE", READ | WRITE: "both"}[want]


def run() -> list[Moment]:
    """Let one task read a socket and another write to it, whose buffer is full; then something arrives."""
    world = Timeless()
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    kernel = ArmedKernel(world, near.fileno())

    def reader() -> Coroutine[None]:
        while (yield from recv(near, 100)):
            pass

    def writer() -> Coroutine[None]:
        yield from send(near, b"more")

    try:
        while True:
            near.send(bytes(1000))
    except BlockingIOError:
        pass
    for coroutine in reader(), writer():
        kernel.spawn(coroutine)
    kernel.turn()
    far.send(b"hi\n")
    kernel.turn()
    try:
        while far.recv(1 << 20):
            pass
    except BlockingIOError:
        pass
    kernel.turn()
    moments = kernel.moments[: 1 + [moment.what[0] for moment in kernel.moments].index("rearm()", 4)]
    kernel.close(near)
    far.close()
    world.close()
    return moments


def draw() -> str:
    words = "A report disarms the descriptor for both, so the kernel arms it again for whoever is left."
    title = "One descriptor, two waiters, one registration"
    return moves.picture(run(), ROWS, title, "From left to right.", words, reader="blue", writer="orange")
