"""Running: a server on one core, the load generator on another, servers by turns, what is left on stderr."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .load import Process
from .servers import PROJECT, PYTHON, Running, Server, find

TIMEOUT = 300.0  # seconds for one run


@dataclass
class Measure:
    """One figure of a run. `scale`: what it is multiplied by to be shown in `unit`."""

    key: str
    unit: str
    more_is_better: bool = False
    scale: float = 1.0


@dataclass
class Case:
    """One workload for several servers, started by turns `rounds` times; `name` is for the command line."""

    name: str
    title: str
    servers: list[str]
    job: dict[str, Any]
    measures: list[Measure]
    rounds: int = 3

    def seconds(self) -> float:
        """About how long one run takes."""
        work = self.job.get("seconds", self.job.get("samples", 0) * self.job.get("clients", 1) * 6e-6)
        return 1.2 + float(work) + float(self.job.get("clients", 0)) / 2000


def carry_out(cases: list[Case]) -> list[dict[str, Any]]:
    """Run all of it; a row for each case and server, with the values of all rounds."""
    progress = Progress(cases)
    rows = []
    for case in cases:
        servers, missing = find(case.servers)
        progress.leave_out(case, missing)
        results: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
        for number in range(case.rounds):
            for server in servers if number % 2 == 0 else servers[::-1]:
                progress.show(case, server, number)
                if not (results[server.name] and "violation" in results[server.name][-1]):
                    results[server.name].append(run(server, case.job))
                progress.done(case)
        rows += [row(case, server, results[server.name]) for server in servers]
    progress.end()
    return rows


def run(server: Server, job: dict[str, Any]) -> dict[str, Any]:
    """Start the server, put the load on it, stop it. The generator's result, or {"violation": why there is none}."""
    if job.get("clients", 0) > server.most:
        return {"violation": f"takes no more than {server.most} clients"}
    if job["workload"] == "start":
        return start(server, job["starts"])
    server_core, own_core = cores()
    running = Running(server, job, server_core)
    try:
        job = {**job, **running.job()}
        if own_core is not None:
            job["core"] = own_core
        command = [sys.executable, "-m", "tests.bench.load", json.dumps(job)]
        done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, timeout=TIMEOUT)
        if not done.stdout:
            raise RuntimeError(f"the load generator failed with {server.name}")
        result: dict[str, Any] = json.loads(done.stdout)
        if running.output and "lines" in result and server.name != "limit":
            result["journal_share"] = running.journal_lines() / result["lines"]
    except subprocess.TimeoutExpired:
        result = {"violation": f"not finished after {TIMEOUT:g} s"}
    finally:
        running.stop()
    return result


def start(server: Server, count: int) -> dict[str, Any]:
    """From exec to the greeting, and a Python that does nothing: how long, and how much processor time."""
    found: dict[str, list[float]] = {"start_ms": [], "over_bare_ms": [], "cpu_ms_over_bare": []}
    for _ in range(count):
        began, used = time.perf_counter(), children_used()
        subprocess.run([PYTHON, "-c", "pass"], check=True)
        bare, bare_used = time.perf_counter() - began, children_used() - used
        began = time.perf_counter()
        running = Running(server, {})
        try:
            with socket.create_connection(("127.0.0.1", running.port), 10) as sock:
                greeting = sock.recv(1000)
            whole, whole_used = time.perf_counter() - began, Process(running.pid).times()[0]
        finally:
            running.stop()
        if not greeting.endswith(server.wire.greeting):
            return {"violation": f"this is no greeting: {greeting!r}"}
        found["start_ms"].append(whole * 1e3)
        found["over_bare_ms"].append((whole - bare) * 1e3)
        found["cpu_ms_over_bare"].append((whole_used - bare_used) * 1e3)
    return {key: median(values) for key, values in found.items()}


def children_used() -> float:
    """Seconds of processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def cores() -> tuple[int | None, int | None]:
    """One core for the server, another for the generator; None where processes cannot be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def row(case: Case, server: Server, results: list[dict[str, Any]]) -> dict[str, Any]:
    good = [result for result in results if "violation" not in result]
    found: dict[str, Any] = {"name": case.name, "case": case.title, "job": case.job, "server": server.name}
    if len(good) < len(results):
        found["violation"] = results[-1]["violation"]
    found["values"] = {
        measure.key: [result[measure.key] for result in good] for measure in case.measures if measure.key in good[0]
    } if good else {}  # fmt: skip
    for name in ("server", "generator"):
        if good and name in good[0]:
            found[f"{name}_busy"] = round(median(share(result[name]) for result in good), 3)
            found[f"{name}_kept_waiting"] = round(
                median(result[name]["waited"] / result[name]["wall"] for result in good), 3
            )
    if good and "journal_share" in good[0]:
        found["journal_share"] = round(min(result["journal_share"] for result in good), 4)
    return found


def share(busy: dict[str, float]) -> float:
    """How much of a core a process wanted: what it used, and what it waited for because of others on this machine."""
    return (busy["used"] + busy["waited"]) / busy["wall"]


@dataclass
class Progress:
    """One line on stderr: what runs, and how long all of it will still take."""

    cases: list[Case]
    began: float = field(default_factory=time.monotonic)
    finished: float = 0.0  # of what was expected, in seconds

    def __post_init__(self) -> None:
        self.expected = sum(case.seconds() * case.rounds * len(case.servers) for case in self.cases)

    def show(self, case: Case, server: Server, number: int) -> None:
        pace = (time.monotonic() - self.began) / self.finished if self.finished else 1.0
        left = (self.expected - self.finished) * pace
        text = f"{self.finished / self.expected:4.0%}, {left / 60:.0f} min {left % 60:.0f} s left: "
        self.write(f"{text}{case.title}: {server.name} ({number + 1} of {case.rounds})")

    def write(self, text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{text[:110]:110}")
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def done(self, case: Case) -> None:
        self.finished += case.seconds()

    def leave_out(self, case: Case, missing: list[str]) -> None:
        self.expected -= case.seconds() * case.rounds * len(missing)

    def end(self) -> None:
        self.write(f"done in {time.monotonic() - self.began:.0f} s")
        if sys.stderr.isatty():
            sys.stderr.write("\n")
