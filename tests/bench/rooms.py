"""What many rooms cost in a cluster: processor time of Redis and of the nodes for a message, latency, memory.

    python -m tests.bench.rooms [--rooms 10 100 1000] [--rate 500] [--seconds 4]

Two nodes; in each room a client on each. Those on the first node talk, one at a time, in rooms picked at random.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import socket
import sys
import time
from pathlib import Path
from statistics import median

from .cluster import HERE, running

HANDLER = "--handler", "tests.bench.handlers:rooms"
TEXT = 64  # bytes of a message, its newline included


def cpu(pid: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """KiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def enter(port: int, room: int) -> socket.socket:
    sock = socket.create_connection((HERE, port), timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(b"room%d\n" % room)
    while not sock.recv(1000).endswith(b"\n"):
        pass
    return sock


def talk(talkers: list[socket.socket], ears: list[socket.socket], rate: float, seconds: float) -> list[float]:
    """So many messages a second; returns how long each took, in seconds."""
    poller = select.epoll()
    number = {sock.fileno(): index for index, sock in enumerate(ears)}
    for sock in ears:
        poller.register(sock, select.EPOLLIN)
    said: dict[int, list[float]] = {}
    took: list[float] = []
    chance = random.Random(1)
    begin = time.perf_counter()
    count = 0
    while (now := time.perf_counter()) < begin + seconds or (said and now < begin + seconds + 10):
        if now < begin + seconds and now >= begin + count / rate:
            room = chance.randrange(len(ears))
            talkers[room].sendall(b"x" * (TEXT - 1) + b"\n")
            said.setdefault(room, []).append(now)
            count += 1
        for fd, _ in poller.poll(0.001):
            room = number[fd]
            for _ in range(len(ears[room].recv(1 << 16)) // TEXT):
                took.append(time.perf_counter() - said[room].pop(0))
            if not said[room]:
                del said[room]
    poller.close()
    return took


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rooms")
    parser.add_argument("--rooms", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    print(f"{options.rate:g} messages a second; processor time for a message, in microseconds")
    print("rooms   Redis  says it  hears it   median ms  p99 ms   idle: Redis  node   KiB a room: Redis  node")
    for rooms in options.rooms:
        with running(2, True, True, HANDLER) as processes:
            pids = [process.pid for process, _ in processes]
            ports = [port for _, port in processes]
            before = [resident(pid) for pid in pids]
            socks = [[enter(port, room) for room in range(rooms)] for port in ports[1:]]
            time.sleep(2)
            grown = [(resident(pid) - size) / rooms for pid, size in zip(pids, before)]
            start = [cpu(pid) for pid in pids]
            time.sleep(10)
            idle = [(cpu(pid) - was) * 10 for pid, was in zip(pids, start)]
            start = [cpu(pid) for pid in pids]
            took = sorted(talk(socks[0], socks[1], options.rate, options.seconds))
            each = [(cpu(pid) - was) / len(took) * 1e6 for pid, was in zip(pids, start)]
            print(f"{rooms:5} {each[0]:7.0f} {each[1]:8.0f} {each[2]:9.0f} {median(took) * 1000:11.2f} "
                  f"{took[len(took) * 99 // 100] * 1000:7.1f} {idle[0]:11.1f} % {idle[1]:3.1f} % "
                  f"{grown[0]:18.1f} {grown[1]:5.1f}")  # fmt: skip
            for sock in [sock for side in socks for sock in side]:
                sock.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
