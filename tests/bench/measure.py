"""Measuring: each case in rounds, in each of which all of its servers are measured, and what is left on stderr."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .contest import Result, contest
from .servers import PYTHON, Job, Running, Server, find
from .turns import Process


@dataclass
class Measure:
    """One figure of a run. `scale`: what it is multiplied by to be shown in `unit`."""

    key: str
    unit: str
    more_is_better: bool = False
    scale: float = 1.0


@dataclass
class Case:
    """One workload for several servers, `rounds` times; `name` is for the command line."""

    name: str
    title: str
    servers: list[str]
    job: Job
    measures: list[Measure]
    rounds: int = 3

    def seconds(self) -> float:
        """About how long a round takes, for each server."""
        work = self.job.get("seconds", self.job.get("samples", 0) * self.job.get("clients", 1) * 6e-6)
        return 1.2 + float(work) + float(self.job.get("clients", 0)) / 2000


def carry_out(cases: list[Case]) -> list[dict[str, Any]]:
    """Run all of it; a row for each case and server, with the values of all rounds."""
    progress = Progress(cases)
    rows = []
    for case in cases:
        servers, missing = find(case.servers)
        progress.leave_out(case, missing)
        results: dict[str, list[Result]] = {server.name: [] for server in servers}
        for number in range(case.rounds):
            progress.show(case, number)
            first = number % (len(servers) or 1)
            good = [
                server
                for server in servers[first:] + servers[:first]
                if not any("violation" in result for result in results[server.name])
            ]
            for name, result in measure(good, case.job).items():
                results[name].append(result)
            progress.done(case, len(servers))
        rows += [row(case, server, results[server.name]) for server in servers]
    progress.end()
    return rows


def measure(servers: list[Server], job: Job) -> dict[str, Result]:
    """Put the load on each of these servers, once; the results by their names."""
    results = {
        server.name: {"violation": f"takes no more than {server.most} clients"}
        for server in servers
        if job.get("clients", 0) > server.most
    }
    able = [server for server in servers if server.name not in results]
    if job["workload"] == "start":
        return start(able, job["starts"])
    for group in [[server] for server in able] if job["workload"] == "idle" else [able]:
        results.update(contest(group, job))
    return results


def start(servers: list[Server], count: int) -> dict[str, Result]:
    """From exec to the greeting, and a Python that does nothing: how long, and how much processor time; by turns."""
    starts: dict[str, list[Result]] = {server.name: [] for server in servers}
    for _ in range(count):
        for server in servers:
            starts[server.name].append(start_once(server))
    results = {}
    for name, found in starts.items():
        wrong = [result for result in found if "violation" in result]
        results[name] = wrong[0] if wrong else {key: median(result[key] for result in found) for key in found[0]}
    return results


def start_once(server: Server) -> Result:
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
    return {
        "start_ms": whole * 1e3,
        "over_bare_ms": (whole - bare) * 1e3,
        "cpu_ms_over_bare": (whole_used - bare_used) * 1e3,
    }


def children_used() -> float:
    """Seconds of processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def row(case: Case, server: Server, results: list[Result]) -> dict[str, Any]:
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

    def show(self, case: Case, number: int) -> None:
        pace = (time.monotonic() - self.began) / self.finished if self.finished else 1.0
        left = (self.expected - self.finished) * pace
        text = f"{self.finished / self.expected:4.0%}, {left / 60:.0f} min {left % 60:.0f} s left: "
        self.write(f"{text}{case.title} ({number + 1} of {case.rounds})")

    def write(self, text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{text[:110]:110}")
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def done(self, case: Case, servers: int) -> None:
        self.finished += case.seconds() * servers

    def leave_out(self, case: Case, missing: list[str]) -> None:
        self.expected -= case.seconds() * case.rounds * len(missing)

    def end(self) -> None:
        self.write(f"done in {time.monotonic() - self.began:.0f} s")
        if sys.stderr.isatty():
            sys.stderr.write("\n")
