"""loop/ beside asyncio, uvloop, trio and curio: the processor time of what they all do, and the memory of what waits.

    python -m tests.bench.loops     one table; loops that are not installed are left out

Each loop has a process of its own, and the best of ROUNDS counts.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

from loop import Kernel, Task, WaitQueue, join, recv, send, sleep

from .report import figure

LOOPS = ("loop", "asyncio", "uvloop", "trio", "curio")
ROUNDS = 5
TIMES = 5000  # that something is done in a round
PARKED = 20_000  # tasks
DELAYS = [number * 7 % 50 / 1000 for number in range(50)]  # seconds, in no order
Work = Callable[[], Any]  # begins a coroutine


class Ours:
    """What is measured, as generators. many() runs `work` in so many tasks, and waits until all have ended."""

    def run(self, operation: Callable[[int], Any], times: int) -> None:
        self.kernel = Kernel()
        try:
            self.kernel.run(until=self.kernel.spawn(operation(times)))
        finally:
            self.kernel.poller.close()

    def many(self, times: int, work: Work) -> Any:
        tasks: list[Task] = [self.kernel.spawn(work()) for _ in range(times)]
        for task in tasks:
            yield from join(task)

    def switch(self, times: int) -> Any:
        for _ in range(times):
            yield from sleep(0)

    def spawn(self, times: int) -> Any:
        yield from self.many(times, lambda: sleep(0))

    def timers(self, times: int) -> Any:
        delays = cycle(DELAYS)
        yield from self.many(times, lambda: sleep(next(delays)))

    def echo(self, times: int) -> Any:
        near, far = pair()
        answering = self.kernel.spawn(self.answer(far))
        for _ in range(times):
            yield from send(near, b"x")
            yield from recv(near, 100)
        near.shutdown(socket.SHUT_WR)
        yield from join(answering)
        self.kernel.close(near)
        self.kernel.close(far)

    def answer(self, far: socket.socket) -> Any:
        while data := (yield from recv(far, 100)):
            yield from send(far, data)

    def park(self, times: int) -> Any:
        queue = WaitQueue()
        waiting: list[None] = []

        def work() -> Any:
            waiting.append(None)
            if len(waiting) < times:
                yield from queue.wait()
            else:
                note_memory()
                queue.wake_all()

        yield from self.many(times, work)


class Theirs:
    """The same as async functions. What differs from loop to loop, the subclass says."""

    def __init__(self, library: Any) -> None:
        self.library = library

    def run(self, operation: Callable[[int], Any], times: int) -> None:
        self.library.run(operation, times)

    async def many(self, times: int, work: Work) -> None:
        raise NotImplementedError

    async def wake_all(self, event: Any) -> None:
        event.set()

    def io(self) -> tuple[Any, Any, Callable[[Any, int], Any], Callable[[Any, bytes], Any]]:
        """Two sockets that are connected, and what receives from them and sends to them."""
        wrap = getattr(self.library.socket, "from_stdlib_socket", None) or self.library.io.Socket
        near, far = map(wrap, pair())
        return near, far, lambda sock, most: sock.recv(most), lambda sock, data: sock.send(data)

    async def switch(self, times: int) -> None:
        for _ in range(times):
            await self.library.sleep(0)

    async def spawn(self, times: int) -> None:
        await self.many(times, lambda: self.library.sleep(0))

    async def timers(self, times: int) -> None:
        delays = cycle(DELAYS)
        await self.many(times, lambda: self.library.sleep(next(delays)))

    async def echo(self, times: int) -> None:
        near, far, recv, send = self.io()

        async def ask() -> None:
            for _ in range(times):
                await send(near, b"x")
                await recv(near, 100)
            await close(near)

        async def answer() -> None:
            while data := await recv(far, 100):
                await send(far, data)
            await close(far)

        sides = iter([ask(), answer()])
        await self.many(2, lambda: next(sides))

    async def park(self, times: int) -> None:
        event = self.library.Event()
        waiting: list[None] = []

        async def work() -> None:
            waiting.append(None)
            if len(waiting) < times:
                await event.wait()
            else:
                note_memory()
                await self.wake_all(event)

        await self.many(times, work)


class Asyncio(Theirs):
    def __init__(self, library: Any) -> None:
        super().__init__(importlib.import_module("asyncio"))
        self.runner = library.run

    def run(self, operation: Callable[[int], Any], times: int) -> None:
        self.runner(operation(times))

    async def many(self, times: int, work: Work) -> None:
        for task in [self.library.create_task(work()) for _ in range(times)]:
            await task

    def io(self) -> tuple[Any, Any, Callable[[Any, int], Any], Callable[[Any, bytes], Any]]:
        running = self.library.get_running_loop()
        return *pair(), running.sock_recv, running.sock_sendall


class Trio(Theirs):
    async def many(self, times: int, work: Work) -> None:
        async with self.library.open_nursery() as nursery:
            for _ in range(times):
                nursery.start_soon(work)


class Curio(Theirs):
    async def many(self, times: int, work: Work) -> None:
        for task in [await self.library.spawn(work()) for _ in range(times)]:
            await task.join()

    async def wake_all(self, event: Any) -> None:
        await event.set()


async def close(sock: Any) -> None:
    if closing := sock.close():  # curio's is a coroutine
        await closing


def pair() -> tuple[socket.socket, socket.socket]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


memory: list[int] = []  # bytes, each time when all tasks were waiting


def note_memory() -> None:
    memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))


def measure(name: str, times: int = TIMES, parked: int = PARKED) -> dict[str, float]:
    """What it costs: microseconds, and bytes."""
    kinds = {"asyncio": Asyncio, "uvloop": Asyncio, "trio": Trio, "curio": Curio}
    one: Any = Ours() if name == "loop" else kinds[name](importlib.import_module(name))
    operations = {
        "let others run, µs": one.switch,
        "a task, from spawn to join, µs": one.spawn,
        "a byte there and back over a socket pair, µs": one.echo,
        "a task that sleeps, among others, µs": one.timers,
    }
    found = {}
    for what, operation in operations.items():
        one.run(operation, 100)
        took = []
        for _ in range(ROUNDS):
            began = time.process_time()
            one.run(operation, times)
            took.append(time.process_time() - began)
        found[what] = min(took) / times * 1e6
    one.run(one.park, 1)
    one.run(one.park, parked)
    found["a task that waits, bytes"] = (memory[-1] - memory[-2]) / parked
    return found


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    names = [name for name in LOOPS if importlib.util.find_spec(name)]
    command = [sys.executable, "-m", "tests.bench.loops"]
    rows = [json.loads(subprocess.run([*command, name], stdout=subprocess.PIPE, check=True).stdout) for name in names]
    print("| | " + " | ".join(names) + " |\n|---|" + "--:|" * len(names))
    for what in rows[0]:
        print(f"| {what} | " + " | ".join(figure(row[what]) for row in rows) + " |")


if __name__ == "__main__":
    main()
