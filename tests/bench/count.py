"""How many system calls a server makes, and instructions it executes, for the same work: no busy machine disturbs that.

strace counts the ones. valgrind counts the others in user space: what Python does for a message, and nothing of what
the system does for a call. So they tell whether a change saves work, even a hundredth of it. How much that is of the
whole, processor time tells.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from .load import PATIENCE
from .oracle import Violation
from .report import figure
from .servers import Running, Server, find
from .turns import Process

LINE = b"%063d\n" % 0
ROUNDS = 10, 40  # what the second run has more than the first one is what counts: start and end fall out


@dataclass(frozen=True)
class Exchange:
    """In each round, some clients say some lines each, and all hear them; without lines, all come and go."""

    name: str
    clients: int
    senders: int
    lines: int
    job: dict[str, Any] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        return "connection" if not self.lines else "line told" if self.job.get("handler") == "tell" else "line"

    @property
    def units(self) -> int:
        """How many of them a round has."""
        lines = self.senders * self.lines
        return {"connection": self.clients, "line told": self.clients * lines, "line": lines}[self.unit]


EXCHANGES = [
    Exchange("fanout-10", 10, 10, 64),
    Exchange("fanout-100", 100, 10, 64),
    Exchange("talk", 100, 90, 4),
    Exchange("journal", 100, 10, 64, {"journal": True}),
    Exchange("tell", 100, 1, 1, {"handler": "tell"}),
    Exchange("rooms", 100, 10, 64, {"handler": "rooms", "rooms": 10}),
    Exchange("churn", 32, 0, 0),
]


def count(servers: list[str], only: list[str]) -> Iterator[str]:
    """A line of text for each exchange and server, as they come. Raises ValueError for what there is not."""
    chosen = [exchange for exchange in EXCHANGES if not only or exchange.name in only]
    if unknown := set(only) - {exchange.name for exchange in chosen}:
        raise ValueError(f"nothing is counted for {', '.join(sorted(unknown))}")
    for exchange in chosen:
        first: dict[str, float] = {}
        for server in find(servers)[0]:
            run_once(server, exchange)
            found = {
                what: counted(server, exchange, tool) for what, tool in TOOLS.items() if shutil.which(tool.program)
            }
            if not found:
                raise ValueError("there is neither strace nor valgrind, which count")
            first = first or found
            told = [
                f"{figure(value)} {what}" + ("" if found is first else f" ({figure(value / first[what])} x)")
                for what, value in found.items()
            ]
            yield f"{exchange.name}: {server.name}: {', '.join(told)} a {exchange.unit}"


@dataclass(frozen=True)
class Tool:
    """A program that runs another and counts; `total` finds the sum in what it writes to {log}."""

    program: str
    flags: str
    total: str


TOOLS = {
    "system calls": Tool("strace", "-f -c -o {log}", r"\s+([\d,]+)(?:\s+\d+)?\s+total"),
    "instructions": Tool(
        "valgrind",
        "--tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null --log-file={log}",
        r"I\s+refs:\s+([\d,]+)",
    ),
}


def counted(server: Server, exchange: Exchange, tool: Tool, rounds: tuple[int, int] = ROUNDS) -> float:
    """What the server does for a unit of the exchange."""
    few, many = (whole(server, exchange, tool, number) for number in rounds)
    return (many - few) / (rounds[1] - rounds[0]) / exchange.units


def run_once(server: Server, exchange: Exchange) -> None:
    """Python compiles files that have changed. This must not be counted."""
    running = Running(server, exchange.job)
    try:
        play(running, exchange, 1)
    finally:
        running.stop()


def whole(server: Server, exchange: Exchange, tool: Tool, rounds: int) -> int:
    """What the server does from its start to its end, with so many rounds of talk."""
    with tempfile.NamedTemporaryFile("r") as log:
        command = [tool.program, *tool.flags.format(log=log.name).split(), *server.command]
        running = Running(replace(server, command=command), exchange.job, environment={"PYTHONHASHSEED": "0"})
        try:
            play(running, exchange, rounds)
            os.kill(running.pid, signal.SIGTERM)
            running.process.wait(PATIENCE)
        finally:
            running.stop()
        found = re.search(tool.total, log.read())
        if not found:
            raise RuntimeError(f"{tool.program} has counted nothing for {server.name}")
        return int(found[1].replace(",", ""))


def play(running: Running, exchange: Exchange, rounds: int) -> None:
    talk = converse if exchange.lines else come_and_go
    talk(running, exchange, rounds)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The server finds all there that was done meanwhile, so that it always has the same before it."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.01)
    yield
    os.kill(pid, signal.SIGCONT)


def converse(running: Running, exchange: Exchange, rounds: int) -> None:
    wire = running.server.wire
    socks = join(running, exchange)
    share = exchange.clients // exchange.job.get("rooms", 1)
    due = exchange.senders * exchange.lines * (len(wire.hear_head) + len(LINE)) * share
    for _ in range(rounds):
        with stopped(running.pid):
            for sock in socks[: exchange.senders]:
                sock.sendall(LINE * exchange.lines)
        hear(socks, due)
    for sock in socks:
        sock.close()


def come_and_go(running: Running, exchange: Exchange, rounds: int) -> None:
    process = Process(running.pid)
    for _ in range(rounds):
        socks = join(running, exchange)
        before = process.descriptors() - len(socks)
        with stopped(running.pid):
            for sock in socks:
                sock.close()
        end = time.monotonic() + PATIENCE
        while process.descriptors() > before:
            if time.monotonic() > end:
                raise Violation("the server keeps descriptors of connections that were closed")
            time.sleep(0.002)


def join(running: Running, exchange: Exchange) -> list[socket.socket]:
    """Connect, and take the greetings."""
    wire, rooms = running.server.wire, exchange.job.get("rooms", 1)
    with stopped(running.pid):
        socks = [socket.create_connection(("127.0.0.1", running.port), PATIENCE) for _ in range(exchange.clients)]
        for number, sock in enumerate(socks):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if rooms > 1:
                sock.sendall(wire.filled(wire.choose, 0, number % rooms))
    for sock in socks:
        heard = b"?"
        while heard and not heard.endswith(wire.greeting):
            heard = sock.recv(1 << 10)
        if not heard:
            raise Violation("a connection was closed instead of greeted")
    return socks


def hear(socks: list[socket.socket], due: int) -> None:
    """Take `due` bytes, by all together."""
    poller = select.epoll()
    by_number = {sock.fileno(): sock for sock in socks}
    for number in by_number:
        poller.register(number, select.EPOLLIN)
    while due > 0:
        events = poller.poll(PATIENCE)
        if not events:
            raise Violation(f"{due} bytes have not come")
        for number, _ in events:
            due -= len(by_number[number].recv(1 << 20))
    poller.close()
