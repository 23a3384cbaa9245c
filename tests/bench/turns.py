"""Turns: what a load generator needs to take them, and to measure nothing but them.

A generator is given a turn by a byte on its stdin. It answers with a line on its stdout: an empty one when the turn is
over, or its result when it has measured enough. In its first turn, it connects its clients and warms the server up.
When a turn is over, all that was said has been heard: no server works in another's turn, or keeps the system's memory.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Job = dict[str, Any]


class Process:
    """What a process uses, from each `begin` to the next `end`; or several together, the first of which is the server.

    `used` and `waited` are seconds on a core, and waiting for one because of others on this machine, of `wall`.
    """

    def __init__(self, *pids: int) -> None:
        self.pids = pids
        self.wall = self.used = self.waited = 0.0

    def begin(self) -> None:
        self.began = (time.perf_counter(), *self.times())

    def end(self) -> None:
        wall, used, waited = self.began
        self.wall += time.perf_counter() - wall
        used_now, waited_now = self.times()
        self.used += used_now - used
        self.waited += waited_now - waited

    def times(self) -> tuple[float, float]:
        """Seconds on a core, and waiting for one, of all threads, since the process was started."""
        used = waited = 0
        for task in (f"/proc/{pid}/task/{thread}" for pid in self.pids for thread in os.listdir(f"/proc/{pid}/task")):
            with open(f"{task}/schedstat") as file:
                fields = file.read().split()
            used += int(fields[0])
            waited += int(fields[1])
        return used / 1e9, waited / 1e9

    def busy(self) -> dict[str, float]:
        return {"wall": self.wall, "used": self.used, "waited": self.waited}

    def memory(self, field: str = "VmRSS") -> int:
        """Bytes; VmHWM is the most there were."""
        total = 0
        for pid in self.pids:
            with open(f"/proc/{pid}/status") as file:
                total += next(int(line.split()[1]) << 10 for line in file if line.startswith(field + ":"))
        return total

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pids[0]}/fd"))


class Turns:
    """A load generator's own turns, and what its server and itself use in them."""

    def __init__(self, job: Job) -> None:
        """Waits for the first turn."""
        self.slice = job.get("slice") or job.get("seconds", math.inf)  # seconds; alone, all in one turn
        self.server, self.own = Process(*job["pids"]), Process(os.getpid())
        self.away = 0.0  # seconds of others' turns
        self.end = math.inf
        self.wait()

    def wait(self) -> None:
        if not os.read(0, 1):
            sys.exit("nobody gives turns any more")

    def now(self) -> float:
        """Seconds, by a clock that stands while it is another's turn."""
        return time.perf_counter() - self.away

    def over(self, now: float) -> bool:
        """Whether this turn should end."""
        return now >= self.end

    @contextmanager
    def next(self) -> Iterator[None]:
        """End this turn and wait for the next one, which is measured."""
        gone = time.perf_counter()
        os.write(1, b"\n")
        self.wait()
        self.away += time.perf_counter() - gone
        self.own.begin()
        self.server.begin()
        self.end = self.now() + self.slice
        yield
        self.server.end()
        self.own.end()
