"""The load generator: one process, one core, many clients.

    python -m tests.bench.load '{"workload": "fanout", "port": 3100, "clients": 100, ...}'

It prints its result as one line of JSON. Plain epoll and as little as possible for each client, because it must not be
what is measured: receivers that are not sampled have the system throw away what has come (MSG_TRUNC, Linux), so no byte
of it is copied. The result tells how busy it was and how busy the server.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from .oracle import Cycles, Oracle, Violation, Wire

DISCARD = getattr(socket, "MSG_TRUNC", 0) if sys.platform == "linux" else 0
TRASH = bytearray(1 << 22)
UNUSED = 1 << 62
CONNECTING = 128  # connections under way at once
MEMORY = 384 << 20  # bytes that may be on their way to all clients together: below what makes the system's TCP thrifty
MOST = 1 << 20  # bytes that may be on their way to one client: far from the server's --max-lag
CHUNK = 32 << 10  # bytes a sender says at once
BIND_ADDRESS_NO_PORT = 24  # Linux: choose the port at connect, when the destination is known
PATIENCE = 60.0  # seconds without any progress, then the run has failed


class Busy:
    """How much of a core a process has used, and how long it waited for one, since this object was made."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.began = time.perf_counter()
        self.start = self.read()

    def read(self) -> tuple[float, float]:
        """Seconds on a core, and waiting for one, of all threads."""
        used = waited = 0
        try:
            for thread in os.listdir(f"/proc/{self.pid}/task"):
                with open(f"/proc/{self.pid}/task/{thread}/schedstat") as file:
                    fields = file.read().split()
                used += int(fields[0])
                waited += int(fields[1])
        except OSError:  # not Linux
            return 0.0, 0.0
        return used / 1e9, waited / 1e9

    def since(self) -> dict[str, float]:
        used, waited = self.read()
        wall = time.perf_counter() - self.began
        return {"wall": wall, "used": used - self.start[0], "waited": waited - self.start[1]}


class Clients:
    """Connections to the server, in one epoll. Lists are indexed by descriptor, which is quicker than a dict."""

    def __init__(self, port: int, wire: Wire) -> None:
        self.port = port
        self.wire = wire
        self.poller = select.epoll()
        self.sockets: dict[int, socket.socket] = {}

    def add(self, count: int, spread: bool = False, subscribe: bytes = b"") -> list[socket.socket]:
        """Connect `count` clients and wait for their greetings. `spread`: from many source addresses."""
        added = []
        waiting: dict[int, tuple[socket.socket, bytes]] = {}
        poller = select.epoll()
        last = time.monotonic()
        while len(added) + len(waiting) < count or waiting:
            while len(waiting) < CONNECTING and len(added) + len(waiting) < count:
                sock = begin(self.port, len(added) + len(waiting) if spread else 0)
                waiting[sock.fileno()] = sock, b""
                poller.register(sock, select.EPOLLOUT if subscribe else select.EPOLLIN)
            for fd, mask in poller.poll(1.0):
                sock, heard = waiting[fd]
                if mask & select.EPOLLOUT:
                    sock.send(subscribe)
                    poller.modify(fd, select.EPOLLIN)
                    continue
                data = sock.recv(1 << 16)
                if not data:
                    raise Violation("a connection was closed instead of greeted")
                heard += data
                waiting[fd] = sock, heard
                if heard.endswith(self.wire.greeting):
                    poller.unregister(fd)
                    del waiting[fd]
                    added.append(sock)
                    last = time.monotonic()
            if time.monotonic() - last > PATIENCE:
                raise Violation(f"{len(waiting)} clients got no greeting within {PATIENCE:g} s")
        poller.close()
        for sock in added:
            self.sockets[sock.fileno()] = sock
            self.poller.register(sock, select.EPOLLIN)
        return added

    def close(self) -> None:
        for sock in self.sockets.values():
            sock.close()
        self.sockets.clear()


def begin(port: int, number: int = 0) -> socket.socket:
    """A socket on its way to the server; `number` spreads them over source addresses, 8000 each."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if number >= 8000:
        sock.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
        sock.bind((f"127.0.0.{1 + number // 8000}", 0))
    error = sock.connect_ex(("127.0.0.1", port))
    if error not in (0, errno.EINPROGRESS):
        raise OSError(error, os.strerror(error))
    return sock


def fanout(job: dict[str, Any], wire: Wire) -> dict[str, Any]:
    """Senders say as much as the server takes; everybody hears it all. Deliveries a second.

    How much is on its way is bounded, by what the slowest client has not got yet: enough that the server never waits,
    little enough that nobody falls far behind. The bound finds itself: it grows while the server brings a full one to
    everybody within 30 ms, and shrinks when that takes more than 150 ms.
    """
    count, size, seconds = job["clients"], job["size"], job["seconds"]
    cycles = Cycles(wire, min(10, count), size)
    clients = Clients(job["port"], wire)
    hearing = clients.add(count, subscribe=wire.subscribe)
    saying = clients.add(len(cycles.said)) if wire.subscribe else hearing[: len(cycles.said)]
    for _ in range(job.get("stuck", 0)):  # these never read
        stuck = clients.add(1, subscribe=wire.subscribe)[0]
        clients.poller.unregister(stuck)
    top = max(clients.sockets) + 1
    got = [UNUSED] * top
    takes: list[Callable[..., int]] = [
        clients.sockets[fd].recv_into if fd in clients.sockets else len for fd in range(top)
    ]
    for sock in hearing:
        got[sock.fileno()] = 0
    sampled = {sock.fileno(): (sock, Oracle(cycles)) for sock in (hearing[0], hearing[count // 2], hearing[-1])}
    replies = {sock.fileno() for sock in saying} if wire.subscribe else set()

    ratio = cycles.hear_size / cycles.say_size
    most = min(MOST, MEMORY // count)
    window = min(most, len(saying) * 4 * cycles.hear_size)
    streams = [memoryview(said * 2) for said in cycles.said]
    length = len(cycles.said[0])
    said = [0] * len(saying)  # bytes
    sent = 0.0  # bytes that everybody should have got by what was said
    floor = 0  # bytes that everybody has got
    mark, mark_time = 0.0, time.perf_counter()
    total = 0  # bytes got by all together
    since = turn = 0
    stopping = False
    start: dict[str, Any] = {}
    result: dict[str, Any] = {}
    warm_until = time.perf_counter() + job.get("warm", 0.5)
    last = time.perf_counter()
    poll = clients.poller.poll
    while True:
        now = time.perf_counter()
        if not stopping:
            chunk = max(1, min(CHUNK, int(window / ratio / len(saying))) // cycles.say_size) * cycles.say_size
            for _ in range(len(saying)):
                if sent - floor + chunk * ratio > window and sent > floor:
                    break
                turn = (turn + 1) % len(saying)
                place = said[turn] % length
                try:
                    taken = saying[turn].send(streams[turn][place : place + chunk - place % cycles.say_size])
                except BlockingIOError:
                    continue
                said[turn] += taken
                sent += taken * ratio
        events = poll(0.001, top)
        for fd, _ in events:
            if fd in sampled:
                sock, oracle = sampled[fd]
                taken = oracle.receive(sock)
            else:
                taken = takes[fd](TRASH, 1 << 22, DISCARD)
                if fd in replies:
                    continue
            if not taken:
                raise Violation("the server closed a client's connection")
            got[fd] += taken
            total += taken
        since += len(events)
        if since * 8 >= count or not events:
            since = 0
            floor = min(got)
        if floor >= mark:
            if now - mark_time < 0.03:
                window = min(most, window * 2)
            elif now - mark_time > 0.15:
                window = max(len(saying) * cycles.hear_size, window // 2)
            mark, mark_time = sent, now
        if events:
            last = now
        elif now - last > PATIENCE:
            raise Violation(f"nothing arrived for {PATIENCE:g} s; {sent - floor:g} bytes are missing")
        if not start:
            if now > warm_until:
                start = {"total": total, "time": now, "server": Busy(job["pid"]), "own": Busy(os.getpid())}
        elif not result and now - start["time"] >= seconds:
            server, own = start["server"].since(), start["own"].since()
            delivered = (total - start["total"]) / cycles.hear_size
            result = {
                "deliveries_per_s": delivered / (now - start["time"]),
                "deliveries_per_cpu_s": delivered / server["used"] if server["used"] else None,
                "server": server,
                "generator": own,
                "window": window,
            }
            stopping = True
            for index, sock in enumerate(saying):  # to the end of a line, so that all that was said is complete
                rest = -said[index] % cycles.say_size
                place = said[index] % length
                sock.setblocking(True)
                sock.settimeout(PATIENCE)
                sock.sendall(streams[index][place : place + rest])
                sock.setblocking(False)
                said[index] += rest
            expected = sum(said) // cycles.say_size * cycles.hear_size
        if stopping and min(got) >= expected:
            break
    heard = [got[sock.fileno()] for sock in hearing]
    if any(bytes_got != expected for bytes_got in heard):
        raise Violation(f"{expected} bytes were said, but clients got {min(heard)} to {max(heard)}")
    for _, oracle in sampled.values():
        oracle.finish()
        if oracle.next != [bytes_said // cycles.say_size for bytes_said in said]:
            raise Violation("a sender's lines are missing at the end")
    if len({oracle.order for _, oracle in sampled.values()}) != 1:
        raise Violation("two clients heard the same lines in different orders")
    result["checked_lines"] = sum(sum(oracle.next) for _, oracle in sampled.values())
    clients.close()
    return result


WORKLOADS = {"fanout": fanout}


def main() -> int:
    job = json.loads(sys.argv[1])
    if "core" in job and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job["core"]})
    raise_limit()
    gc.disable()
    wire = Wire(**{key: value.encode() if isinstance(value, str) else value for key, value in job["wire"].items()})
    try:
        result = WORKLOADS[job["workload"]](job, wire)
    except Violation as violation:
        result = {"violation": str(violation)}
    print(json.dumps(result))
    return 1 if "violation" in result else 0


def raise_limit() -> None:
    """As many descriptors as this process may have."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
