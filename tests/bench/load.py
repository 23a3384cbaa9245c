"""The load generator: one process, one core, many clients.

    python -m tests.bench.load '{"workload": "fanout", "port": 3100, "pids": [123], "clients": 100, ...}'

It works when it is its turn (turns.py), and prints its result as one line of JSON. Plain epoll and as little as
possible for each client, because it must not be what is measured: receivers that are not sampled have the system throw
away what has come (MSG_TRUNC, Linux), so no byte of it is copied. The result tells how busy it was and how busy the
server.
"""

from __future__ import annotations

import errno
import gc
import json
import operator
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

from .oracle import Cycles, Framed, Receiver, Verifier, Violation, Wire
from .secure import Secured
from .turns import Job, Process, Turns

DISCARD = getattr(socket, "MSG_TRUNC", 0) if sys.platform == "linux" else 0
TRASH = bytearray(1 << 22)
CONNECTING = 128  # connections under way at once
MEMORY = 384 << 20  # bytes on their way to all clients together: fewer than what makes Linux thrifty with TCP's memory
MOST = 1 << 20  # bytes on their way to one client: far fewer than the server's --max-lag
CHUNK = 32 << 10  # bytes a sender says at once
PER_ADDRESS = 8000  # connections from one source address: there are no more than some 28,000 ports
BIND_ADDRESS_NO_PORT = 24  # Linux: choose the port at connect, when the destination is known
GENTLE = 4  # lines at a time for clients that tear more of them
WARMING = 10.0  # seconds for finding out how much may be on its way
PATIENCE = 60.0  # seconds without any progress, then the run has failed


# Clients.


def begin(port: int, number: int = 0) -> socket.socket:
    """A socket on its way to the server; `number` spreads them over source addresses."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if number >= PER_ADDRESS:
        sock.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
        sock.bind((f"127.0.0.{1 + number // PER_ADDRESS % 250}", 0))
    error = sock.connect_ex(("127.0.0.1", port))
    if error not in (0, errno.EINPROGRESS):
        raise OSError(error, os.strerror(error))
    return sock


def connect(job: Job, count: int, says: Sequence[bytes] = (b"",), greeting: bytes = b"") -> list[socket.socket]:
    """Connect `count` clients, let each say what comes next in `says`, round and round, and wait for its greeting.

    Where there is none, they come one by one, each when the server has accepted the one before.
    """
    server = Process(*job["pids"])
    descriptors = server.descriptors()
    poller = select.epoll()
    heard: dict[int, bytes] = {}
    waiting: dict[int, int] = {}  # descriptors, and which client each is
    socks: list[socket.socket] = []
    connected = 0
    last = time.monotonic()
    while connected < count:
        while len(waiting) < (CONNECTING if greeting else 1) and len(socks) < count:
            sock = begin(job["port"], len(socks))
            say = says[len(socks) % len(says)]
            waiting[sock.fileno()] = len(socks)
            heard[sock.fileno()] = b""
            socks.append(sock)
            poller.register(sock, select.EPOLLIN if greeting and not say else select.EPOLLOUT)
        for fd, mask in poller.poll(1.0):
            sock, say = socks[waiting[fd]], says[waiting[fd] % len(says)]
            if mask == select.EPOLLOUT:  # connected
                if say:
                    sock.send(say)
                if greeting:
                    poller.modify(fd, select.EPOLLIN)
                    continue
            else:
                data = sock.recv(1 << 16)
                if not data:
                    raise Violation("a connection was closed instead of greeted")
                heard[fd] += data
                if not heard[fd].endswith(greeting):
                    continue
            poller.unregister(fd)
            del waiting[fd]
            connected += 1
            last = time.monotonic()
            while not greeting and server.descriptors() < descriptors + connected:
                if time.monotonic() - last > PATIENCE:
                    raise Violation(f"the server has not accepted a client within {PATIENCE:g} s")
                time.sleep(0.0005)
        if time.monotonic() - last > PATIENCE:
            raise Violation(f"{len(waiting)} clients got no greeting within {PATIENCE:g} s")
    poller.close()
    return socks


class Audience:
    """All clients of one run, and what they have got. Lists are indexed by descriptor, which is quicker than a dict.

    If there are rooms, clients and senders are dealt out to them in turn.
    """

    def __init__(self, job: Job, wire: Wire, senders: int) -> None:
        self.wire = wire
        self.count = count = job["clients"]
        self.rooms = rooms = job.get("rooms", 1)
        self.cycles = Cycles(wire, senders, job["size"], rooms)
        says = [wire.filled(wire.choose, 0, room) for room in range(rooms)] if "rooms" in job else [wire.subscribe]
        if wire.frames:
            browsers = connect({**job, "port": job["web_port"]}, count - senders, says, wire.greeting)
            self.hearing = connect(job, senders, greeting=wire.greeting) + browsers
            wrapped: dict[socket.socket, Receiver] = {sock: Framed(sock) for sock in browsers}
        elif wire.secure:
            secured = [Secured(job["web_port"], wire.greeting) for _ in range(count - senders)]
            self.hearing = connect(job, senders, greeting=wire.greeting) + [client.sock for client in secured]
            wrapped = {client.sock: client for client in secured}
        else:
            wrapped, self.hearing = {}, connect(job, count, says, wire.greeting)
        self.saying = connect(job, senders) if wire.apart else self.hearing[:senders]
        self.stuck = connect(job, job.get("stuck", 0), says, wire.greeting)  # these never read
        self.said = [0] * senders  # bytes
        self.heard = 0  # bytes, by all clients that count
        top = max(sock.fileno() for sock in self.hearing + self.saying) + 1
        self.got = [1 << 62] * top  # bytes; those that don't count are always ahead
        self.recv: list[Any] = [None] * top
        self.sampled: dict[int, tuple[Receiver, Verifier]] = {}
        self.poller = select.epoll()
        for sock in {*self.hearing, *self.saying}:
            self.recv[sock.fileno()] = wrapped.get(sock, sock).recv_into
            self.poller.register(sock, select.EPOLLIN)
        for sock in self.hearing:
            self.got[sock.fileno()] = 0
        for room in range(rooms):
            members = self.hearing[room::rooms]
            for sock in members[0], members[len(members) // 2], members[-1]:
                self.sampled[sock.fileno()] = wrapped.get(sock, sock), Verifier(self.cycles)

    def collect(self, timeout: float) -> int:
        """Take what has arrived; returns how many had something."""
        events = self.poller.poll(timeout, len(self.got))
        heard = 0
        got, recv, sampled = self.got, self.recv, self.sampled
        for fd, _ in events:
            try:
                if fd in sampled:
                    sock, oracle = sampled[fd]
                    taken = oracle.receive(sock)
                else:
                    taken = recv[fd](TRASH, 1 << 22, DISCARD)
            except BlockingIOError:
                continue  # of a frame, there is only the head
            if not taken:
                raise Violation("the server closed a client's connection")
            got[fd] += taken
            if got[fd] < 1 << 62:
                heard += taken
        self.heard += heard
        return len(events)

    def say(self, index: int, most: int) -> int:
        """Let a sender say whole lines, up to `most` bytes; returns how many were taken, which need not be whole."""
        cycle, size = self.cycles.said[index], self.cycles.say_size
        place = self.said[index] % len(cycle)
        end = min(place + most, len(cycle))
        try:
            taken = self.saying[index].send(memoryview(cycle)[place : end - end % size])
        except BlockingIOError:
            return 0
        self.said[index] += taken
        return taken

    def due(self) -> list[int]:
        """How many bytes each client of a room hears, once it hears all that was said."""
        lines = [sum(self.said[room :: self.rooms]) // self.cycles.say_size for room in range(self.rooms)]
        return [count * self.cycles.hear_size for count in lines]

    def settle(self) -> None:
        """Let all begun lines be ended, and all that was said be heard."""
        members = [len(self.hearing[room :: self.rooms]) for room in range(self.rooms)]
        size = self.cycles.say_size
        last = time.monotonic()
        while True:
            begun = [index for index, said in enumerate(self.said) if said % size]
            for index in begun:
                self.say(index, -self.said[index] % size)
            missing = sum(map(operator.mul, members, self.due())) - self.heard
            if missing <= 0 and not begun:
                return
            if self.collect(0.001 if begun else 1.0):
                last = time.monotonic()
            elif time.monotonic() - last > PATIENCE:
                raise Violation(f"clients have not got {missing} bytes of what was said")

    def finish(self) -> int:
        """Let all that was said be heard, and check it. How many lines that were."""
        self.settle()
        size, expected = self.cycles.say_size, self.due()
        due = {sock.fileno(): expected[number % self.rooms] for number, sock in enumerate(self.hearing)}
        if any(self.got[fd] != size for fd, size in due.items()):
            raise Violation("a client has got more than what was said, or less")
        for room in range(self.rooms):
            oracles = [self.sampled[sock.fileno()][1] for sock in self.hearing[room :: self.rooms]
                       if sock.fileno() in self.sampled]  # fmt: skip
            heard = [said // size if sender % self.rooms == room else 0 for sender, said in enumerate(self.said)]
            for oracle in oracles:
                oracle.finish()
                if oracle.next != heard:
                    raise Violation("one sender's lines are missing, and another's came twice")
            if len({oracle.order for oracle in oracles}) != 1:
                raise Violation("two clients heard the same lines in different orders")
        return sum(self.said) // size


# Workloads.


def fanout(job: Job, wire: Wire, turns: Turns) -> Job:
    """Some clients talk, all hear: as much as the server takes, `burst` lines at a time, or `rate` lines a second."""
    audience = Audience(job, wire, min(job.get("senders", 10), job["clients"]))
    burst = job.get("burst", 0)
    if wire.gentle:
        burst = min(burst, GENTLE) or GENTLE
    pace = Pace(job["rate"], audience.cycles.say_size, turns.now()) if job.get("rate") else None
    talk = Flood(audience, turns.server, pace) if pace or not burst else Window(audience, burst)
    warm = turns.now() + job.get("warm", 0.5)
    flow(audience, talk, turns, lambda now: now > (warm if talk.adapt() else warm + WARMING))
    start = audience.heard
    while turns.server.wall < job["seconds"] or audience.heard == start:  # a busy machine may take longer
        with turns.next():
            talk.begin()
            flow(audience, talk, turns, turns.over)
    deliveries = (audience.heard - start) / audience.cycles.hear_size
    return {
        "deliveries_per_s": deliveries / turns.server.wall,
        "cpu_ns_per_delivery": turns.server.used / deliveries * 1e9,
        "window": talk.window,
        "memory": turns.server.memory(),
        "memory_peak": turns.server.memory("VmHWM"),
        "lines": audience.finish(),
    }


def flow(audience: Audience, talk: Window | Flood, turns: Turns, over: Callable[[float], bool]) -> None:
    """Talk and hear until it is over, and all that was said is heard."""
    last = turns.now()
    while not over(now := turns.now()):
        talk.say(now)
        events = audience.collect(0.001)
        talk.heard(events)
        if events:
            last = now
        elif now - last > PATIENCE:
            raise Violation(f"nothing arrived for {PATIENCE:g} s")
    audience.settle()


class Window:
    """Each sender says a line as soon as one that it said is heard: it has `burst` lines on their way.

    What it heard is counted, not read: of all its room says, its share is what it says itself.
    """

    def __init__(self, audience: Audience, burst: int) -> None:
        senders, rooms = len(audience.said), audience.rooms
        self.audience = audience
        most = max(4, min(MOST, MEMORY // audience.count) // audience.cycles.hear_size // senders)
        self.most = min(burst, most)
        self.burst = 1
        self.window = self.most * senders * audience.cycles.hear_size  # bytes
        room_sizes = [len(range(sender % rooms, senders, rooms)) for sender in range(senders)]
        self.ears = [sock.fileno() for sock in audience.hearing[:senders]]
        self.shares = [size * audience.cycles.hear_size for size in room_sizes]  # bytes, for a line of each in the room

    def say(self, now: float) -> None:
        audience, size = self.audience, self.audience.cycles.say_size
        for sender, (ear, share) in enumerate(zip(self.ears, self.shares)):
            said = audience.said[sender]
            free = self.burst + audience.got[ear] // share - said // size
            if free > 0:
                audience.say(sender, free * size - said % size)

    def heard(self, events: int) -> None:
        """What it needs to know, the audience knows."""

    def adapt(self) -> bool:
        """Before the figures count: few lines at first, so that a slow server is soon done with them."""
        self.burst = min(self.most, 1 + self.audience.got[self.ears[0]] // self.shares[0])
        return True

    def begin(self) -> None:
        """A turn that counts."""
        self.burst = self.most


class Flood:
    """All senders say as much as the server takes, or lines at a `pace`.

    What is on its way is bounded, by what the slowest client has not got yet: so much that the server never waits, and
    so little that nobody falls far behind. That bound finds itself: it grows until the server works for some time
    (30 ms, and 40 us for each client) to bring all of it to everybody, and the figures count from then on.
    """

    def __init__(self, audience: Audience, server: Process, pace: Pace | None) -> None:
        self.audience = audience
        self.server = server
        self.pace = pace
        self.ratio = audience.cycles.hear_size / audience.cycles.say_size
        self.least = len(audience.said) * audience.cycles.hear_size
        self.window = 4 * self.least
        self.most = max(self.window, min(MOST, MEMORY // audience.count))
        self.enough = 0.03 + 40e-6 * audience.count  # seconds of the server's work
        self.sent = self.mark = 0.0
        self.mark_time = server.times()[0]
        self.settled = False
        self.floor = self.turn = self.events = 0  # `floor`: bytes that everybody has got

    def say(self, now: float) -> None:
        audience, said = self.audience, self.audience.said
        size, senders = audience.cycles.say_size, len(said)
        self.sent = sum(said) * self.ratio
        chunk = size if self.pace else min(CHUNK, max(size, int(self.window / self.ratio / senders)))
        for _ in range(self.pace.due(now, sum(said)) if self.pace else senders):
            if self.sent + chunk * self.ratio > self.floor + self.window and self.sent > self.floor:
                break
            self.turn = (self.turn + 1) % senders
            self.sent += audience.say(self.turn, chunk - said[self.turn] % size) * self.ratio

    def heard(self, events: int) -> None:
        self.events += events
        if self.events * 8 >= self.audience.count or not events:
            self.events = 0
            self.floor = min(self.audience.got)

    def adapt(self) -> bool:
        """Before the figures count: find the window. Returns whether it is found."""
        if self.floor >= self.mark:
            work = self.server.times()[0]
            self.settled = self.window == self.most or work - self.mark_time > self.enough
            if not self.settled:
                self.window = min(self.most, self.window * 2)
            elif work - self.mark_time > 5 * self.enough:
                self.window = max(self.least, self.window // 2)
            self.mark, self.mark_time = self.sent, work
        return self.settled or self.pace is not None

    def begin(self) -> None:
        """A turn that counts: everybody has got all."""
        self.floor = min(self.audience.got)


class Pace:
    """So many lines a second."""

    def __init__(self, rate: float, size: int, began: float) -> None:
        self.rate = rate
        self.size = size
        self.began = began

    def due(self, now: float, said: int) -> int:
        """How many more lines should have been said by now."""
        return ceil((now - self.began) * self.rate) - said // self.size


def latency(job: Job, wire: Wire, turns: Turns) -> Job:
    """One message at a time: how long until its sender has it, and until the last client has. Polls all the time."""
    audience = Audience(job, wire, 1)
    for _ in range(job["samples"] // 10):
        exchange(audience)
    start = audience.heard
    times: list[tuple[float, float]] = []
    while len(times) < job["samples"]:
        with turns.next():
            exchange(audience)  # the first one does not count: others have had the processor's caches
            times.append(exchange(audience))
            while len(times) < job["samples"] and not turns.over(turns.now()):
                times.append(exchange(audience))
    deliveries = (audience.heard - start) / audience.cycles.hear_size
    result: Job = {"cpu_ns_per_delivery": turns.server.used / deliveries * 1e9, "lines": audience.finish()}
    for name, sample in zip(("echo", "last"), map(sorted, zip(*times))):
        for label, part in ("p50", 0.5), ("p99", 0.99), ("p999", 0.999):
            result[f"{name}_{label}_us"] = sample[min(len(sample) - 1, int(part * len(sample)))] * 1e6
    return result


def exchange(audience: Audience) -> tuple[float, float]:
    """One message to all: seconds until its sender has it, and until the last client has."""
    own = audience.hearing[0].fileno()
    size = audience.cycles.hear_size
    expected, due = audience.got[own] + size, audience.heard + audience.count * size
    echo = 0.0
    begun = now = time.perf_counter()
    audience.say(0, audience.cycles.say_size)
    while audience.heard < due:
        heard = audience.heard
        audience.collect(0)
        now = time.perf_counter()
        if audience.heard > heard:
            if not echo and audience.got[own] >= expected:
                echo = now - begun
        elif now - begun > PATIENCE:
            raise Violation(f"a message had not come after {PATIENCE:g} s")
    return echo, now - begun


def churn(job: Job, wire: Wire, turns: Turns) -> Job:
    """Connect, be greeted, close, again and again, with 32 connections under way at any time."""
    warm = turns.now() + 0.3
    come_and_go(job, wire, turns, lambda now: now > warm)
    done = 0
    while turns.server.wall < job["seconds"] or not done:
        with turns.next():
            done += come_and_go(job, wire, turns, turns.over)
    return {
        "connections_per_s": done / turns.server.wall,
        "cpu_us_per_connection": turns.server.used / done * 1e6,
    }


def come_and_go(job: Job, wire: Wire, turns: Turns, over: Callable[[float], bool]) -> int:
    """Until it is over, and the server has closed all connections. How many there were."""
    poller = select.epoll()
    waiting: dict[int, socket.socket] = {}
    descriptors = turns.server.descriptors()
    done = 0
    now = last = turns.now()
    while waiting or not over(now):
        while len(waiting) < 32 and not over(now):
            sock = begin(job["port"])
            waiting[sock.fileno()] = sock
            poller.register(sock, select.EPOLLIN)
        events = poller.poll(1.0)
        for fd, _ in events:
            sock = waiting.pop(fd)
            data = sock.recv(1 << 10)
            if not data.endswith(wire.greeting):
                raise Violation(f"this is no greeting: {data!r}")
            sock.close()
            done += 1
        now = turns.now()
        if events:
            last = now
        elif now - last > PATIENCE:
            raise Violation(f"nobody was greeted for {PATIENCE:g} s")
    poller.close()
    while turns.server.descriptors() > descriptors:
        if turns.now() - last > PATIENCE:
            raise Violation("the server keeps descriptors of connections that were closed")
        time.sleep(0.0005)
    return done


def idle(job: Job, wire: Wire, turns: Turns) -> Job:
    """Clients that do nothing: what the server's memory grows by for each, and the processor time it uses meanwhile."""
    before = turns.server.memory()
    clients: list[Any]
    if wire.secure:
        clients = [Secured(job["web_port"], wire.greeting) for _ in range(job["clients"])]
    else:
        clients = connect(job, job["clients"], [wire.subscribe], wire.greeting)
    time.sleep(0.5)
    with turns.next():
        time.sleep(job["seconds"])
    result = {
        "bytes_per_client": (turns.server.memory() - before) / len(clients),
        "idle_cpu_percent": 100 * turns.server.used / turns.server.wall,
    }
    if not wire.apart:  # they are all still there
        clients[0].send(b"still there?\n")
        poller = select.epoll()
        waiting = {sock.fileno(): sock for sock in clients}
        for sock in clients:
            poller.register(sock, select.EPOLLIN)
        while waiting:
            events = poller.poll(PATIENCE, len(clients))
            if not events:
                raise Violation(f"{len(waiting)} clients did not hear what was said after the silence")
            for fd, _ in events:
                heard = waiting[fd].recv_into(TRASH, 100)
                if TRASH[:heard] != b"127.0.0.1: still there?\n":
                    raise Violation("a client heard something else than what was said")
                poller.unregister(fd)
                del waiting[fd]
    return result


WORKLOADS: dict[str, Callable[[Job, Wire, Turns], Job]] = {
    "fanout": fanout,
    "latency": latency,
    "churn": churn,
    "idle": idle,
}


def main() -> int:
    job = json.loads(sys.argv[1])
    if job["core"] is not None:
        os.sched_setaffinity(0, {job["core"]})
    raise_descriptor_limit()
    gc.disable()
    told: Any = {key: value.encode() if isinstance(value, str) else value for key, value in job["wire"].items()}
    wire = Wire(**told)
    try:
        turns = Turns(job)
        result = WORKLOADS[job["workload"]](job, wire, turns)
        result.update(server=turns.server.busy(), generator=turns.own.busy())
    except (Violation, OSError) as violation:
        result = {"violation": str(violation)}
    print(json.dumps(result))
    return 1 if "violation" in result else 0


def raise_descriptor_limit() -> None:
    """As many as this process may have."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
