"""Running: a server on one core, the load generator on another, servers by turns, what is left on stderr."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

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
    """One workload for several servers, started by turns `rounds` times."""

    title: str
    servers: list[str]
    job: dict[str, Any]
    measures: list[Measure]
    rounds: int = 3

    def seconds(self) -> float:
        """About how long one run takes."""
        work = self.job.get("seconds", self.job.get("samples", 0) * self.job.get("clients", 1) * 6e-6)
        return 1.2 + float(work) + float(self.job.get("clients", 0)) / 2000


RATE = Measure("deliveries_per_s", "M deliveries/s", True, 1e-6)
COST = Measure("cpu_ns_per_delivery", "ns of CPU a delivery")
PEAK = Measure("memory_peak", "MiB at most", False, 1 / (1 << 20))
LATENCY = [
    Measure(f"{who}_{part}_us", f"us, {name} {label}")
    for who, name in (("echo", "own echo"), ("last", "last receiver"))
    for part, label in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"))
]
CHURN = [
    Measure("connections_per_s", "connections/s", True),
    Measure("cpu_us_per_connection", "us of CPU a connection"),
]
IDLE = [
    Measure("bytes_per_client", "KiB a client", False, 1 / (1 << 10)),
    Measure("idle_cpu_percent", "% of a core while idle"),
]
START = [Measure("over_bare_ms", "ms more than `python -c pass`"), Measure("start_ms", "ms in all")]

PYTHON_PEERS = [f"{loop}-{kind}" for kind in ("streams", "protocol", "batch") for loop in ("asyncio", "uvloop")]
ALL = ["limit", "chatsrv", *PYTHON_PEERS, "redis", "ncat"]
GREETERS = ["limit", "chatsrv", *PYTHON_PEERS]

TALK = {"title": "90 of 100 clients talk, a line at a time", "senders": 90, "burst": 1}
LOGGED = {"title": "fan-out, 100 clients, 64 B, journal to a file", "journal": True}


def fanout(clients: int, size: int, servers: list[str], seconds: float, rounds: int, **more: Any) -> Case:
    title = more.pop("title", f"fan-out, {clients} clients, {size} B")
    job = {"workload": "fanout", "clients": clients, "size": size, "seconds": seconds, **more}
    return Case(title, servers, job, [RATE, COST], rounds)


def latency(clients: int, servers: list[str], samples: int, rounds: int) -> Case:
    job = {"workload": "latency", "clients": clients, "size": 64, "samples": samples}
    return Case(f"one message to {clients} clients", servers, job, LATENCY, rounds)


def quick_plan() -> list[Case]:
    """Less than two minutes."""
    short = ["limit", "chatsrv", "asyncio-streams", "asyncio-batch", "uvloop-protocol", "redis"]
    return [
        fanout(10, 64, short[:2], 0.5, 3),
        fanout(100, 64, short, 0.5, 3),
        fanout(1000, 64, short[:2], 0.5, 3),
        fanout(100, 64, short[:4], 0.5, 3, **TALK),
        fanout(100, 64, ["limit", "chatsrv-journal"], 0.5, 3, **LOGGED),
        latency(100, short[:4], 300, 3),
        Case("connect, be greeted, close", short[:4], {"workload": "churn", "seconds": 0.5}, CHURN),
        Case("1000 idle clients", short[:3], {"workload": "idle", "clients": 1000, "seconds": 0.5}, IDLE, 1),
        Case("from exec to the greeting", ["chatsrv", "asyncio-streams"], {"workload": "start", "starts": 5}, START, 2),
    ]


def full_plan() -> list[Case]:
    """Some twenty minutes."""
    ours = ["limit", "chatsrv"]
    cases = [
        fanout(clients, size, ALL if size == 64 else ours, 1.5, 3)
        for clients in (10, 100, 1000, 5000)
        for size in (16, 64, 256, 1024)
    ]
    stuck = fanout(100, 64, GREETERS, 1.5, 3, stuck=1, title="fan-out, 100 clients, 64 B, and one that never reads")
    stuck.measures.append(PEAK)
    return [
        *cases,
        fanout(100, 64, ALL, 1.5, 3, **TALK),
        fanout(100, 64, ["limit", "chatsrv-journal"], 1.5, 3, **LOGGED),
        stuck,
        latency(100, ALL, 2000, 3),
        latency(1000, ALL, 1000, 3),
        Case("connect, be greeted, close", GREETERS, {"workload": "churn", "seconds": 1.5}, CHURN, 3),
        Case("10,000 idle clients", GREETERS, {"workload": "idle", "clients": 10_000, "seconds": 2}, IDLE, 3),
        Case("from exec to the greeting", ["chatsrv", *PYTHON_PEERS], {"workload": "start", "starts": 10}, START, 3),
    ]


def sweep_plan() -> list[Case]:
    """How it grows: with clients, with the rate of messages, with their size. The project's server alone."""
    servers = ["chatsrv"]
    sizes = [
        Measure("memory", "MiB", False, 1 / (1 << 20)),
        Measure("memory_peak", "MiB at most", False, 1 / (1 << 20)),
    ]
    cases = [
        fanout(clients, 64, servers, 2.0, 3, rate=rate)
        for rate in (10, 100, 1000, 0)
        for clients in (10, 30, 100, 300, 1000, 3000, 10_000)
    ]
    cases += [fanout(100, 64, servers, 2.0, 3, rate=rate) for rate in (30, 300, 3000, 10_000, 30_000, 100_000)]
    cases += [fanout(100, size, servers, 2.0, 3, rate=rate) for size in (16, 256, 1024) for rate in (1000, 0)]
    for case in cases:
        case.measures = [RATE, COST, *sizes]
        case.title += f", {case.job['rate']:,} messages/s" if case.job["rate"] else ", as fast as it goes"
    return cases


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
    running = Running(server, server_core, server.name == "chatsrv-journal")
    try:
        job = {**job, **running.job()}
        if own_core is not None:
            job["core"] = own_core
        command = [sys.executable, "-m", "tests.bench.load", json.dumps(job)]
        done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, timeout=TIMEOUT)
        if not done.stdout:
            raise RuntimeError(f"the load generator failed with {server.name}")
        result: dict[str, Any] = json.loads(done.stdout)
        if running.output and "lines" in result:
            result["journal_share"] = running.journal_lines() / result["lines"]
    except subprocess.TimeoutExpired:
        result = {"violation": f"not finished after {TIMEOUT:g} s"}
    finally:
        running.stop()
    return result


def start(server: Server, count: int) -> dict[str, Any]:
    """How long from exec to the greeting, and how long a Python that does nothing takes."""
    bare, whole = [], []
    for _ in range(count):
        began = time.perf_counter()
        subprocess.run([PYTHON, "-c", "pass"], check=True)
        bare.append(time.perf_counter() - began)
        began = time.perf_counter()
        running = Running(server)
        try:
            with socket.create_connection(("127.0.0.1", running.port), 10) as sock:
                greeting = sock.recv(1000)
            whole.append(time.perf_counter() - began)
        finally:
            running.stop()
        if not greeting.endswith(server.wire.greeting):
            return {"violation": f"this is no greeting: {greeting!r}"}
    both = [there - nothing for there, nothing in zip(whole, bare)]
    return {"start_ms": median(whole) * 1e3, "bare_ms": median(bare) * 1e3, "over_bare_ms": median(both) * 1e3}


def cores() -> tuple[int | None, int | None]:
    """One core for the server, another for the generator; None where processes cannot be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def row(case: Case, server: Server, results: list[dict[str, Any]]) -> dict[str, Any]:
    good = [result for result in results if "violation" not in result]
    found: dict[str, Any] = {"case": case.title, "job": case.job, "server": server.name}
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
