"""What a cluster costs: deliveries a second and latency, beside a single server and Redis's own PUBLISH.

    python -m tests.bench.cluster [--clients 40] [--seconds 2] [--rounds 3]

Everything runs on this machine: Redis, the nodes, and the load. With fewer cores than processes, more nodes mean less
for each; what is measured then is the price of the way through Redis, not what more machines would bring.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

PROJECT = Path(__file__).resolve().parent.parent.parent
HERE = "127.0.0.1"
SIZE = 64  # bytes of a message, its newline included
CHUNK = 100  # messages that a sender says at once
WINDOW = 8  # chunks of a sender that may be on their way
SENDERS = 10
PINGS = 400
PUBSUB = "redis pub/sub"


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((HERE, port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextlib.contextmanager
def running(
    nodes: int, cluster: bool, redis: bool, flags: tuple[str, ...] = ()
) -> Iterator[list[tuple[subprocess.Popen[bytes], int]]]:
    """Start what is wanted; gives the processes and their ports: Redis first, if it is wanted, then the nodes."""
    started: list[tuple[subprocess.Popen[bytes], int]] = []

    def start(*command: str) -> int:
        with socket.create_server((HERE, 0)) as probe:
            port = int(probe.getsockname()[1])
        process = subprocess.Popen([*command, "--port", str(port)], cwd=PROJECT, stdout=subprocess.DEVNULL)
        started.append((process, port))
        wait_for_port(port)
        return port

    try:
        url: list[str] = []
        if redis:
            limits = "--client-output-buffer-limit", "pubsub 0 0 0"
            port = start("redis-server", "--bind", HERE, "--save", "", "--dir", tempfile.gettempdir(), *limits)
            url = ["--cluster", f"redis://{HERE}:{port}"] if cluster else []
        for _ in range(nodes):
            start(sys.executable, str(PROJECT / "chatsrv"), "--host", HERE, "--no-prefix", "--quiet", *url, *flags)
        yield started
    finally:
        for process, _ in reversed(started):
            process.kill()
            process.wait()


class Manner:
    """How one talks to what is measured."""

    def __init__(self, pubsub: bool) -> None:
        self.pubsub = pubsub
        text = b"x" * (SIZE - 1)
        if pubsub:
            self.say = b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nchat\r\n$%d\r\n%s\r\n" % (len(text), text)
            self.heard = len(b"*3\r\n$7\r\nmessage\r\n$4\r\nchat\r\n$%d\r\n%s\r\n" % (len(text), text))
        else:
            self.say = text + b"\n"
            self.heard = SIZE

    def connect(self, port: int) -> socket.socket:
        """A client that hears."""
        sock = socket.create_connection((HERE, port), timeout=10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.pubsub:
            sock.sendall(b"SUBSCRIBE chat\r\n")
            greeting = b":1\r\n"
        else:
            greeting = b"\n"
        data = b""
        while not data.endswith(greeting):
            data += sock.recv(1000)
        return sock

    def speaker(self, sock: socket.socket, port: int) -> socket.socket:
        """Speaks for a client that hears: PUBLISH needs a connection of its own."""
        return socket.create_connection((HERE, port), timeout=10) if self.pubsub else sock


def deliveries(ports: list[int], wire: Manner, clients: int, seconds: float) -> float:
    """Messages heard a second, by all clients together; the senders, spread over the nodes, go as fast as they hear."""
    socks = [wire.connect(ports[number % len(ports)]) for number in range(clients)]
    speakers = [wire.speaker(sock, ports[number % len(ports)]) for number, sock in enumerate(socks[:SENDERS])]
    chunk = wire.say * CHUNK
    heard = dict.fromkeys((sock.fileno() for sock in socks), 0)
    by_fd = {sock.fileno(): sock for sock in socks}
    poller = select.epoll()
    for fd in by_fd:
        poller.register(fd, select.EPOLLIN)
    answers = select.epoll()
    for sock in {*socks, *speakers}:
        sock.setblocking(False)
    if wire.pubsub:
        for speaker in speakers:
            answers.register(speaker.fileno(), select.EPOLLIN)
    speaking = {speaker.fileno(): speaker for speaker in speakers}
    said = [0] * len(speakers)
    rests = [b""] * len(speakers)
    trash = bytearray(1 << 20)
    began = time.perf_counter()
    start = began + 0.5  # the first half second warms up
    base = 0
    while (now := time.perf_counter()) < start + seconds:
        if not base and now >= start:
            base, measured = sum(heard.values()), now
        for number, speaker in enumerate(speakers):
            everything = heard[socks[number].fileno()] // wire.heard  # what all have said and this one has heard
            if not rests[number] and said[number] - everything // len(speakers) < WINDOW * CHUNK:
                rests[number] = chunk
                said[number] += CHUNK
            if rests[number]:
                with contextlib.suppress(BlockingIOError):
                    rests[number] = rests[number][speaker.send(rests[number]) :]
        for fd, _ in poller.poll(0.01):
            with contextlib.suppress(BlockingIOError):
                heard[fd] += by_fd[fd].recv_into(trash, 0, getattr(socket, "MSG_TRUNC", 0))
        for fd, _ in answers.poll(0):
            speaking[fd].recv_into(trash)
    total = sum(heard.values()) - base
    for sock in {*socks, *speakers}:
        sock.close()
    poller.close()
    answers.close()
    return total / wire.heard / (time.perf_counter() - measured)


def latency(ports: list[int], wire: Manner) -> tuple[float, float]:
    """Seconds from saying something to hearing it on the last node: the median, and what one in a hundred takes."""
    ear = wire.connect(ports[-1])
    mouth = wire.speaker(wire.connect(ports[0]), ports[0])
    took = []
    for _ in range(PINGS):
        began = time.perf_counter()
        mouth.sendall(wire.say)
        left = wire.heard
        while left:
            left -= len(ear.recv(left))
        took.append(time.perf_counter() - began)
        time.sleep(0.001)
    ear.close()
    mouth.close()
    return median(took), sorted(took)[PINGS * 99 // 100]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cluster")
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not shutil.which("redis-server"):
        print("The cluster is not measured: redis-server is not installed.")
        return 0
    cases = [(PUBSUB, 0, False), ("one server alone", 1, False)]
    cases += [(f"cluster of {nodes}", nodes, True) for nodes in (1, 2, 4)]
    print(f"{options.clients} clients, {SENDERS} of them send {SIZE} bytes at a time; {os.cpu_count()} cores for all")
    print(f"{'':18} {'deliveries/s':>14} {'median ms':>10} {'p99 ms':>8}")
    for name, nodes, cluster in cases:
        rates, medians, tails = [], [], []
        for _ in range(options.rounds):
            wire = Manner(name == PUBSUB)
            with running(nodes, cluster, cluster or wire.pubsub) as processes:
                ports = [port for _, port in processes][-nodes:] if nodes else [processes[0][1]]
                half, tail = latency(ports, wire)
                rates.append(deliveries(ports, wire, options.clients, options.seconds))
            medians.append(half)
            tails.append(tail)
        print(f"{name:18} {median(rates):14,.0f} {median(medians) * 1000:10.3f} {median(tails) * 1000:8.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
