"""The benchmark's command line.

python -m tests.bench fanout --clients 100 --size 64 --server chatsrv,limit --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from statistics import median
from typing import Any

from .servers import PROJECT, Running, Server, find


def cores() -> tuple[int | None, int | None]:
    """One core for the server, another for the generator; None where processes cannot be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def run(server: Server, job: dict[str, Any], journal: bool = False) -> dict[str, Any]:
    """Start the server, put the load on it, stop it. The generator's result."""
    server_core, own_core = cores()
    running = Running(server, server_core, journal)
    try:
        job = {**job, **running.job()}
        if own_core is not None:
            job["core"] = own_core
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.load", json.dumps(job)],
            cwd=PROJECT, stdout=subprocess.PIPE, timeout=300,
        )  # fmt: skip
    finally:
        running.stop()
    if not done.stdout:
        raise RuntimeError("the load generator failed")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("workload", choices=["fanout", "latency", "churn", "idle"])
    parser.add_argument("--server", default="chatsrv,limit")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stuck", type=int, default=0)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--journal", action="store_true")
    options = parser.parse_args()
    servers, missing = find(options.server.split(","))
    for reason in missing:
        print("left out:", reason)
    job = {key: getattr(options, key) for key in ("workload", "clients", "size", "seconds", "stuck", "samples", "rate")}
    results: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
    for _ in range(options.rounds):
        for server in servers:
            result = run(server, job, options.journal)
            if "violation" in result:
                print(f"{server.name}: VIOLATION: {result['violation']}")
                return 1
            results[server.name].append(result)
    for name, runs in results.items():
        print(name)
        for key in runs[0]:
            if key in ("server", "generator"):
                print(f"    {key:24}{median(share(result[key]) for result in runs):14.0%}")
            else:
                values = [result[key] for result in runs]
                print(f"    {key:24}{median(values):14,.1f}   {min(values):,.1f} .. {max(values):,.1f}")
    return 0


def share(busy: dict[str, float]) -> float:
    """How much of a core a process wanted: what it used, and what it waited for because of others on this machine."""
    return (busy["used"] + busy["waited"]) / busy["wall"]


if __name__ == "__main__":
    sys.exit(main())
