"""A contest: several servers are up at once, each with its load generator, and the generators take turns.

A machine's speed changes within seconds. Servers whose turns are short all meet the same changes.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from typing import Any

from .servers import PROJECT, Job, Running, Server

SLICE = 0.1, 500e-6  # seconds of a turn, and for each client more; then all that was said has still to be heard
TIMEOUT = 150.0  # seconds for a turn

Result = dict[str, Any]  # a generator's, or {"violation": why there is none}


class Contender:
    """A server with its load generator. When it has had all of its turns, there is a `result`, and it is stopped."""

    def __init__(self, server: Server, job: Job) -> None:
        server_core, own_core = cores()
        self.result: Result = {}
        self.running = Running(server, job, server_core)
        job = {**job, **self.running.job(), "core": own_core}
        command = [sys.executable, "-m", "tests.bench.load", json.dumps(job)]
        self.generator = subprocess.Popen(
            command, bufsize=0, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def turn(self) -> None:
        """Let it have a turn."""
        try:
            answer = self.answer()
            if answer == b"\n":
                return
            result: Result = json.loads(answer)
            if self.running.output and "lines" in result and self.running.server.name != "limit":
                result["journal_share"] = self.running.journal_lines() / result["lines"]
        except (BrokenPipeError, json.JSONDecodeError):
            result = {"violation": "the load generator failed"}
        except TimeoutError as error:
            result = {"violation": str(error)}
        self.stop()
        self.result = result

    def answer(self) -> bytes:
        """What the generator says when it has had a turn: a line; less if it has ended. Raises TimeoutError."""
        assert self.generator.stdin and self.generator.stdout
        self.generator.stdin.write(b"!")
        line, end = b"", time.monotonic() + TIMEOUT
        while not line.endswith(b"\n"):
            if not select.select([self.generator.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"no answer within {TIMEOUT:g} s")
            data = self.generator.stdout.read(1 << 16)
            if not data:
                break
            line += data
        return line

    def stop(self) -> None:
        with self.generator:  # closes its pipes
            self.generator.kill()
        self.running.stop()


def contest(servers: list[Server], job: Job) -> dict[str, Result]:
    """Put the load on each of them, by turns in this order; the results by the servers' names."""
    if len(servers) > 1:
        job = {"slice": SLICE[0] + SLICE[1] * job.get("clients", 0), **job}
    contenders: list[Contender] = []
    try:
        for server in servers:
            contenders.append(Contender(server, job))
        while waiting := [contender for contender in contenders if not contender.result]:
            for contender in waiting:
                contender.turn()
    finally:
        for contender in contenders:
            if not contender.result:
                contender.stop()
    return {contender.running.server.name: contender.result for contender in contenders}


def cores() -> tuple[int | None, int | None]:
    """One core for the server, another for the generator; None where processes cannot be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]
