"""One turn of the kernel: where its tasks are before it, in it and after it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from timeless import Timeless

from loop import Kernel, WaitQueue, recv, sleep
from loop.traps import Park, Sleep

from . import moves
from .moves import Moment

if TYPE_CHECKING:
    from loop import Task
    from loop.traps import Coroutine

ROWS = {
    "readers": "wait for a descriptor",
    "timers": "wait for a time",
    "a wait queue": "wait for each other",
    "ready": "a queue, first in front",
    "running": "one at a time",
}


class PlacesKernel(Kernel):
    """A kernel that notes where all tasks are when something has happened."""

    moments: list[Moment]
    now_running: Task | None = None

    def note(self, *what: str) -> None:
        places: dict[str, list[str]] = {row: [] for row in ROWS}
        for task in self.tasks:
            if task is self.now_running:
                places["running"].append(task.name)
            elif task in self.readers.values():
                places["readers"].append(task.name)
            elif isinstance(task.waits_for, Sleep):
                places["timers"].append(task.name)
            elif isinstance(task.waits_for, Park):
                places["a wait queue"].append(task.name)
        places["ready"] = [task.name for task in self.ready]
        self.moments.append(Moment(what, places))

    def expire(self, now: float) -> None:
        self.note("poll()", "two reports")
        super().expire(now)
        self.note("expire()", "it is time")

    def step(self, task: Task) -> None:
        self.now_running = task
        self.note("step()", task.name)
        super().step(task)
        self.now_running = None


def run() -> list[Moment]:
    """Let four tasks come to their waits, let two messages arrive and time pass, and watch one turn."""
    world = Timeless()
    kernel = PlacesKernel(world, world.clock)
    kernel.moments = []
    news = WaitQueue()
    pairs = {name: socket.socketpair() for name in ("ann", "ben")}

    def reader(sock: socket.socket) -> Coroutine[None]:
        while (yield from recv(sock, 100)):
            news.wake()

    def waiter() -> Coroutine[None]:
        while True:
            yield from news.wait()

    def ticker() -> Coroutine[None]:
        while True:
            yield from sleep(1)

    coroutines: dict[str, Any] = {name: reader(near) for name, (near, _) in pairs.items()}
    for name, coroutine in {**coroutines, "clock": ticker(), "spread": waiter()}.items():
        kernel.spawn(coroutine, name)
    for near, _ in pairs.values():
        near.setblocking(False)
    Kernel.turn(kernel)
    kernel.moments.clear()
    kernel.note("before", "all wait")
    for _, far in pairs.values():
        far.send(b"hi\n")
    world.now += 1
    kernel.turn()
    kernel.note("after", "next: poll()")
    for near, far in pairs.values():
        kernel.close(near)
        far.close()
    world.close()
    return kernel.moments


def draw() -> str:
    words = "spread was woken by ann's step. It is ready, but runs in the next turn, after the poller was asked again."
    title, opening = "One turn: each task is in exactly one place", "From left to right, where each of four tasks is."
    return moves.picture(run(), ROWS, title, opening, words, ann="blue", ben="orange", clock="green", spread="violet")
