"""The world outside: the real process under everything that happens to servers. The numbers are those of HAZARDS."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chatting import (
    HERE,
    LINUX,
    MIB,
    PATIENCE,
    PREFIX,
    RUDE,
    SMALL,
    Client,
    Crowd,
    Start,
    Visitor,
    all_of,
    check_oracle,
    cpu_seconds,
    descriptors,
    enter_network_of,
    free_port,
    handler,
    left_out,
    linux,
    memory,
    needs_strace,
    tagged,
)
from faults import Fault, strace
from more import every

from loop import recv, send, sleep

ENDING = b"* You are disconnected: the server is ending.\n"

if TYPE_CHECKING:
    from loop.traps import Coroutine


def converse(*clients: Client, text: bytes) -> None:
    """One says something, all of them hear it."""
    clients[0].say(text)
    for client in clients:
        client.wait_for(text)


# Where the journal goes.


def test_a_journal_nobody_reads_stops_nobody_and_says_later_what_was_left_out(chatsrv: Start, crowd: Crowd) -> None:
    """Hazard 30: a print that blocks stops a server after 64 kB."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as reader:
        server = chatsrv(port=free_port(), stdout=write_end)
        os.close(write_end)
        (talker,) = crowd.enter(server.port, "talker")
        crowd.run(talker.talk(12_000, padding=1000))
        crowd.run(talker.leave())
        check_oracle(talker.heard, {}, {"talker": 12_000})
        journal = b""
        while b"<talker 2000>" not in journal:  # now there is room again
            journal += os.read(reader.fileno(), 1 << 16)
        (late,) = crowd.enter(server.port, "late")
        crowd.run(late.talk(1), late.leave())
        while b"<late 0>" not in journal:
            journal += os.read(reader.fileno(), 1 << 16)
        server.finish()
        text = (journal + reader.read()).decode()
    assert left_out(text) > 1000
    kept = text.count("\n") - text.count("lines were left out here")
    assert kept + left_out(text) == 1 + 3 * 2 + 12_000 + 1  # port, three connections, messages


def test_an_end_with_a_journal_nobody_reads(chatsrv: Start) -> None:
    """Hazards 30 and 37: the exit does not wait for a reader either."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb"):
        server = chatsrv(port=free_port(), stdout=write_end)
        os.close(write_end)
        client = server.client()
        client.say(*(b"." * 1000 for _ in range(200)))
        client.expect(*(PREFIX + b"." * 1000 for _ in range(200)))
        server.finish()


def test_complaints_nobody_reads(chatsrv: Start, tmp_path: Path) -> None:
    """Hazard 30: `./chatsrv 2>&1 | less`, and more tracebacks than the pipe takes."""
    fragile = handler(
        tmp_path,
        "room.publish(member, messages)",
        "if messages != [b'hello']:",
        "    raise ValueError('.' * 1000)",
    )
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb"):
        joined = ["sh", "-c", 'exec "$@" 2>&1', "sh"]
        server = chatsrv("--handler", fragile, port=free_port(), stdout=write_end, through=joined)
        os.close(write_end)
        for _ in range(100):
            client = server.client()
            client.say("fail")
            assert client.everything() == PREFIX + b"fail\n* You are disconnected: its handler failed.\n"
        converse(server.client(), server.client(), text=b"hello")
        server.finish()


def test_a_journal_piped_into_head(chatsrv: Start) -> None:
    """Hazard 30: `./chatsrv | head -1`."""
    with subprocess.Popen(["head", "-1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as head:
        assert head.stdin and head.stdout
        server = chatsrv(port=free_port(), stdout=head.stdin.fileno())
        head.stdin.close()
        assert head.stdout.read().endswith(b" listens on port %d\n" % server.port)
    converse(server.client(), server.client(), text=b"nobody writes this down")
    server.complaints.expect("Broken pipe")
    converse(server.client(), server.client(), text=b"nor this")
    server.finish(complaint="the journal on stdout cannot be written (Broken pipe); the chat goes on")


@linux
def test_a_journal_on_a_full_disk(chatsrv: Start) -> None:
    """Hazard 30: /dev/full."""
    with open("/dev/full", "wb") as full:
        server = chatsrv(port=free_port(), stdout=full.fileno())
    converse(server.client(), server.client(), text=b"nobody writes this down")
    server.complaints.expect("No space left")
    converse(server.client(), server.client(), text=b"nor this")
    server.finish(complaint="the journal on stdout cannot be written (No space left on device); the chat goes on")


@linux
@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_hazard_18_a_server_started_with_closed_descriptors(chatsrv: Start, closed: str) -> None:
    """A socket would get the number 1, and the journal with it."""
    server = chatsrv(port=free_port(), stdout=subprocess.DEVNULL, through=["sh", "-c", f'exec "$@" {closed}', "sh"])
    converse(server.client(), server.client(), text=b"nobody writes this down")
    assert os.readlink(f"/proc/{server.pid}/fd/1") == os.devnull


# Not enough descriptors.


def descriptors_up_to(soft: int, hard: int) -> Callable[[], None]:
    """For a process to call before it becomes the server."""
    return partial(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))


@linux
def test_out_of_descriptors(chatsrv: Start, crowd: Crowd) -> None:
    """Accept fails for as long as there are no descriptors. Clients that are in must not notice, nor the processor."""
    server = chatsrv("--max-clients", "1000", preexec_fn=descriptors_up_to(40, 40))
    crowd_outside = [crowd.visitor(f"v{number}") for number in range(80)]
    entering = [crowd.kernel.spawn(visitor.enter(server.port)) for visitor in crowd_outside]
    crowd.until(lambda: server.complaints.lines("cannot accept connections"))
    crowd.until(lambda: sum(bool(v.heard) for v in crowd_outside) > 25)
    crowd.until(lambda: len(server.journal.lines("accepted")) == sum(bool(v.heard) for v in crowd_outside))  # type: ignore[union-attr]
    inside = [visitor for visitor in crowd_outside if visitor.heard]
    assert 25 < len(inside) < 40
    before, start = cpu_seconds(server.pid), time.monotonic()
    rounds = 0
    while time.monotonic() < start + 2:
        for visitor in inside[:2]:
            crowd.run(visitor.talk(1))
        last = tagged(inside[1].name, rounds)
        crowd.until(lambda: last in inside[0].heard)  # noqa: B023
        rounds += 1
        crowd.run(sleep(0.2))
    assert (cpu_seconds(server.pid) - before) / (time.monotonic() - start) < 0.05
    while inside:
        for visitor in inside:
            crowd.run(visitor.leave())
        crowd_outside = [visitor for visitor in crowd_outside if visitor not in inside]
        crowd.until(lambda: len([v for v in crowd_outside if v.heard]) >= min(len(crowd_outside), 25))  # noqa: B023
        inside = [visitor for visitor in crowd_outside if visitor.heard]
    assert all(task.outcome == "returned" for task in entering)
    server.terminated("end of stream", 80)
    server.finish(complaint="cannot accept connections: Too many open files; still trying")


@linux
def test_the_descriptor_limit_leaves_room_to_refuse(chatsrv: Start) -> None:
    """By default, --max-clients is what the limit allows, less a reserve: a client that comes too late is told so."""
    server = chatsrv(preexec_fn=descriptors_up_to(20, 40))
    inside = [server.client() for _ in range(8)]
    for _ in range(72):
        assert Client(server.port).everything() == b"* You are disconnected: the server is full.\n"
    converse(*inside, text=b"we are eight")


# Rude clients.


def test_five_thousand_connect_and_reset(chatsrv: Start) -> None:
    """Hazards 26 and 28: a peer that is gone before it is accepted, or greeted, costs nothing but its own lines."""
    server = chatsrv()
    client = server.client()
    for number in range(1, 5001):
        sock = socket.create_connection((HERE, server.port), 15)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RUDE)
        sock.close()
        if number % 500 == 0:  # no faster than they are accepted: a full backlog makes connect() wait for a second
            server.accepted(number + 1)
    server.terminated(count=5000)
    converse(client, text=b"was something?")
    if LINUX:
        assert descriptors(server.pid) < 16


@linux
def test_what_was_said_before_a_reset_is_heard(chatsrv: Start) -> None:
    """Hazard 22: the greeting fails, yet what the peer had sent is still there to be read. (BSD throws it away.)"""
    server = chatsrv("--no-prefix")
    client = server.client()
    for number in range(300):
        rude = socket.create_connection((HERE, server.port), 15)
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RUDE)
        rude.send(b"last words %d\n" % number)
        rude.close()
    assert {client.line() for _ in range(300)} == {b"last words %d" % number for number in range(300)}


def test_four_hundred_clients_that_send_anything_and_end_anyhow(chatsrv: Start, crowd: Crowd) -> None:
    """Hazards 22, 26, 29, 32. The seed is in the failure's output."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    server = chatsrv()
    a, b = crowd.enter(server.port, "a", "b")
    a.listen()
    b.listen()

    def rave(visitor: Visitor) -> Coroutine[None]:
        try:
            yield from visitor.enter(server.port)
            for _ in range(dice.randrange(4)):
                yield from send(visitor.sock, dice.randbytes(dice.choice((1, 10, 1000, 5000))))
                yield from sleep(dice.choice((0, 0.01)))
            if dice.random() < 0.3:
                yield from visitor.leave()
            elif dice.random() < 0.5:
                visitor.reset()
        except OSError:
            pass
        visitor.close()

    crowd.run(*(rave(crowd.visitor(f"v{number}")) for number in range(400)))
    crowd.until(lambda: len(server.over()) == 400)
    crowd.run(a.talk(1), b.leave(), a.leave())
    longer, shorter = sorted((bytes(a.heard), bytes(b.heard)), key=len, reverse=True)
    assert longer.startswith(shorter)
    assert all(line.startswith(PREFIX) for line in longer.split(b"\n")[1:-1])


def test_telnets_interrupt_is_bytes(chatsrv: Start) -> None:
    """Hazard 32: Ctrl-C in telnet."""
    server = chatsrv()
    client = server.client()
    client.send(b"\xff\xf4\xff\xfd\x06\n")
    client.expect(PREFIX + b"\xff\xf4\xff\xfd\x06")


def test_a_thousand_half_lines(chatsrv: Start, crowd: Crowd, many_descriptors: None) -> None:
    """Hazard 33: a line that is not complete is held, costs next to nothing, and is whole in the end."""
    server = chatsrv()
    (observer,) = crowd.enter(server.port, "observer")
    visitors = crowd.enter(server.port, *(f"v{number}" for number in range(1000)))
    for visitor in [observer, *visitors[1::2]]:
        visitor.listen()
    lines = {visitor: tagged(visitor.name, 0, 100) for visitor in visitors}
    crowd.run(*(send(visitor.sock, lines[visitor][:50]) for visitor in visitors))
    crowd.run(*(send(visitor.sock, lines[visitor][50:]) for visitor in visitors[:500]))
    crowd.until(lambda: observer.heard.count(b"<") == 500)
    for visitor in visitors[::2]:
        visitor.reset()
    crowd.run(*(send(visitor.sock, lines[visitor][50:]) for visitor in visitors[501::2]))
    crowd.until(lambda: observer.heard.count(b"<") == 750)
    crowd.run(*(visitor.leave() for visitor in visitors[1::2]), observer.leave())
    said = {visitor.name: 1 for visitor in [*visitors[:500], *visitors[501::2]]}
    streams = {visitor.name: visitor.heard for visitor in visitors[1::2]}
    assert check_oracle(observer.heard, streams, said) == 500 * 750  # what a reset leaves unfinished is no message


def test_a_line_of_100_megabytes(chatsrv: Start, crowd: Crowd) -> None:
    """Hazard 33: a line without an end passes through in parts; nobody keeps it."""
    server = chatsrv("--quiet", "--no-prefix")
    (visitor,) = crowd.enter(server.port, "visitor")
    piece = bytes(range(32, 127)) * 1000  # 95,000 bytes: no multiple of 1024
    total = 100_000_000 // len(piece) * len(piece)

    heard = 0

    def talk() -> Coroutine[None]:
        for said in range(0, total, len(piece)):
            yield from send(visitor.sock, piece)
            while said - heard > 4 * MIB:  # a client that reads too slowly is disconnected
                yield from sleep(0.001)
        yield from send(visitor.sock, b"\n")

    def hear() -> Coroutine[None]:
        nonlocal heard
        rest = b""
        while b"\n" not in rest:
            rest += yield from recv(visitor.sock, 1 << 10)
        rest = rest.partition(b"\n")[2]  # the greeting
        while heard < total:
            *parts, rest = (rest + (yield from recv(visitor.sock, 1 << 20))).split(b"\n")
            for part in parts:
                assert len(part) == 1024 or heard + len(part) == total
                at = heard % len(piece)
                assert part == (piece[at : at + 1024] + piece)[: len(part)]
                heard += len(part)
        assert rest == b""

    before = memory(server.pid) if LINUX else 0
    crowd.run(talk(), hear())
    if LINUX:
        assert memory(server.pid) - before < 32 * MIB


LISTENER = """
import socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
while data := sock.recv(1 << 20):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
"""


def test_frozen_clients(chatsrv: Start, crowd: Crowd, tmp_path: Path) -> None:
    """Clients that stop and go on miss nothing; those that stay stopped are disconnected; no other notices."""
    server = chatsrv("--quiet", "--max-lag", "13M")  # more than is said at once below, and much less than twice that
    observer, talker = crowd.enter(server.port, "observer", "talker")
    observer.listen()
    files = [tmp_path / name for name in ("thawed", "frozen")]
    processes = []
    try:
        for path in files:
            with path.open("wb") as out:
                process = subprocess.Popen([sys.executable, "-c", LISTENER, str(server.port)], stdout=out)
            processes.append(process)
        thawed, frozen = processes
        crowd.until(lambda: all(path.stat().st_size for path in files))
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        crowd.run(talker.talk(12_000, padding=1000))
        crowd.until(lambda: observer.heard.endswith(tagged("talker", 11_999, 1000)))
        thawed.send_signal(signal.SIGCONT)
        crowd.until(lambda: files[0].stat().st_size == len(observer.heard))
        crowd.run(talker.talk(12_000, padding=1000))
        crowd.until(lambda: observer.heard.endswith(tagged("talker", 23_999, 1000)))
        frozen.send_signal(signal.SIGCONT)
        crowd.until(lambda: server.over("more than 13631488 bytes behind"))
        crowd.run(talker.leave(), observer.leave())
        server.process.send_signal(signal.SIGTERM)
        assert thawed.wait(PATIENCE) == frozen.wait(PATIENCE) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    streams = {path.name: path.read_bytes() for path in files}
    assert check_oracle(observer.heard, streams, {"talker": 24_000}) > 24_000
    assert streams["thawed"].endswith(tagged("talker", 23_999, 1000) + ENDING)
    assert streams["frozen"].endswith(b"\n* You are disconnected: more than 13631488 bytes behind.\n")


@linux
def test_a_reset_of_a_client_that_is_not_read_from_keeps_nobody_busy(chatsrv: Start) -> None:
    """Hazard 23: an error cannot be masked; a lasting registration reported it 266,168 times in 0.2 s."""
    server = chatsrv("--max-rate", "1024")
    client = server.client()
    client.send(b"." * 2500)
    client.expect(b"127.0.0.1: ....", starts=True)
    before = cpu_seconds(server.pid)
    client.reset()
    server.terminated()  # when the rest has been read, at a kilobyte a second
    assert cpu_seconds(server.pid) - before < 0.1


def test_a_client_kicked_while_it_talks_still_learns_why(chatsrv: Start) -> None:
    """Hazard 29: closing with unread input sends a reset, which can destroy what was just sent."""
    server = chatsrv("--max-clients", "1")
    server.client()
    for _ in range(30):
        client = Client(server.port)
        for _ in range(10):
            client.send(b"." * 10_000)
        assert client.everything() == b"* You are disconnected: the server is full.\n"


# A system that fails.


FAULTS = {
    "accept4:error=ECONNABORTED:when=2+2": "",
    "accept4:error=EAGAIN:when=1+3": "",
    "accept4:error=EPROTO:when=1+2": "",
    "accept4:error=EMFILE:when=2..4": "cannot accept connections: Too many open files; still trying",
    "accept4:error=ENOBUFS:when=3..4": "cannot accept connections: No buffer space available; still trying",
    "recvfrom:error=EAGAIN:when=1+2": "",
    "recvfrom:error=EINTR:when=1+3": "",
    "recvfrom:error=ECONNRESET:when=9": "",
    "recvfrom:error=ETIMEDOUT:when=14": "",
    "send:error=EAGAIN:when=1+2": "",
    "send:error=EINTR:when=1+3": "",
    "send:error=EPIPE:when=17": "",
    "send:error=ECONNRESET:when=31": "",
    "send:error=ENOBUFS:when=25": "",
    "epoll_wait:error=EINTR:when=2+3": "",
    "journal:error=EINTR:when=2+2": "",
    "journal:error=EAGAIN:when=1..9+2": "",
    "journal:error=ENOSPC:when=3": "the journal on stdout cannot be written (No space left on device); "
    "the chat goes on",
}


@needs_strace
@pytest.mark.parametrize(
    "fault", every(3, FAULTS), ids=lambda fault: fault.replace(":error=", "-").replace(":when=", "-")
)
def test_a_system_call_that_fails_costs_at_most_the_one_connection(
    chatsrv: Start, crowd: Crowd, tmp_path: Path, fault: str
) -> None:
    if subprocess.run([*strace("close:error=EIO:when=1000"), "true"], capture_output=True).returncode:
        pytest.skip("this strace cannot inject faults here")
    server = chatsrv()
    early = not fault.startswith("send")  # a fault of sends is about the sockets that are there already
    if early:
        injecting = Fault(server.pid, fault, tmp_path / "trace")
    visitors = crowd.enter(server.port, *(f"v{number}" for number in range(10)))
    if not early:
        injecting = Fault(server.pid, fault, tmp_path / "trace")
    for visitor in visitors:
        visitor.listen()
    for number in range(5):
        crowd.run(*(say_if_possible(visitor) for visitor in visitors))
        crowd.until(lambda: sum(heard_round(visitor, visitors, number) for visitor in visitors) >= 9)  # noqa: B023
    order = max((visitor.heard for visitor in visitors), key=len)
    check_oracle(order, {visitor.name: visitor.heard for visitor in visitors}, torn=[v.name for v in visitors])
    assert sum(visitor.heard == order for visitor in visitors) >= 9
    assert injecting.over()
    crowd.close()
    server.finish(complaint=FAULTS[fault])


def heard_round(visitor: Visitor, visitors: list[Visitor], number: int) -> bool:
    """Whether this client has heard message `number` of all that are still there."""
    present = [other for other in visitors if other.listening and other.listening.outcome is None]
    return all(tagged(other.name, number) in visitor.heard for other in present)


def say_if_possible(visitor: Visitor) -> Coroutine[None]:
    try:
        yield from visitor.say(1)
    except OSError:
        pass


# The end.


def test_an_end_under_load_delivers_what_was_accepted(chatsrv: Start, crowd: Crowd) -> None:
    """Also to clients that are far behind, if they read now."""
    server = chatsrv("--max-lag", "64M")
    visitors = crowd.enter(server.port, *(f"v{number}" for number in range(10)))
    behind = crowd.enter(server.port, "behind", "behind, too")

    def chatter(visitor: Visitor) -> Coroutine[None]:
        try:
            while True:
                yield from visitor.talk(30, padding=500)
        except OSError:
            pass

    talking = [crowd.kernel.spawn(chatter(visitor)) for visitor in visitors]
    crowd.until(lambda: len(visitors[0].heard) > 8 * MIB)
    server.process.send_signal(signal.SIGTERM)
    crowd.run(*(visitor.to_the_end() for visitor in [*visitors, *behind]), all_of(talking))
    crowd.until(lambda: server.process.poll() is not None)
    first, *others = (visitor.heard for visitor in [*visitors, *behind])
    check_oracle(first, {str(number): heard for number, heard in enumerate(others)})
    assert len({bytes(heard[-600:]) for heard in (first, *others)}) == 1
    server.finish(complaint=None)  # on a slow machine, it says what takes time
    assert server.journal
    journal = server.journal.text()
    assert journal.count(" > <v") + left_out(journal) >= first.count(b"<v")


def test_the_server_ends_though_a_client_does_not_read(chatsrv: Start, crowd: Crowd) -> None:
    """Hazard 37: the others are not kept waiting, and everything is over after five seconds."""
    server = chatsrv("--quiet", "--stall-timeout", "off")
    reader, talker = crowd.enter(server.port, "reader", "talker")
    crowd.enter(server.port, "stuck", buffer=SMALL)
    reader.listen()
    crowd.run(talker.talk(8000, padding=1000))
    crowd.run(talker.leave())
    start = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    crowd.run(reader.to_the_end())
    assert reader.heard.endswith(tagged("talker", 7999, 1000) + ENDING)
    assert server.process.poll() is None
    assert server.wait() == 0
    assert time.monotonic() - start >= 5
    server.finish(complaint="still delivering what is due")
    assert len(server.over("the server is ending")) == 2


def test_a_restart_on_the_same_port_with_fifty_connected(chatsrv: Start) -> None:
    port = 0
    for number in signal.SIGTERM, signal.SIGKILL, signal.SIGTERM:
        server = chatsrv(port=port)
        port = server.port
        clients = [server.client() for _ in range(50)]
        converse(*clients, text=b"here we are")
        server.process.send_signal(number)
        if number == signal.SIGTERM:
            for client in clients:
                client.everything()
            assert server.process.wait(15) == 0
        else:
            server.process.wait(15)
            server.finished = True


# A network that fails.


@linux
@pytest.mark.skipif(not (shutil.which("unshare") and shutil.which("ip")), reason="unshare or ip is not installed")
def test_a_peer_that_vanishes_with_data_on_its_way_is_noticed(chatsrv: Start) -> None:
    """Hazard 24: keepalive does not run while data is unacknowledged; TCP_USER_TIMEOUT does."""
    if subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode:
        pytest.skip("making a network namespace is not permitted here")
    in_a_network = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    server = chatsrv("--stall-timeout", "1", through=in_a_network)

    def loopback(state: str) -> None:
        subprocess.run(["ip", "link", "set", "lo", state], check=True)

    home = os.getpid()
    with open(f"/proc/{home}/ns/net") as namespace:
        if not enter_network_of(server.pid):
            pytest.skip("entering a network namespace is not permitted here")
        try:
            vanished, talker = server.client(), server.client()
            server.process.send_signal(signal.SIGSTOP)
            talker.say("is anybody there?")
            loopback("down")
            server.process.send_signal(signal.SIGCONT)
            server.terminated(count=2)
            loopback("up")
            converse(server.client(), server.client(), text=b"the net is back")
            vanished.close()
            server.finish()
        finally:
            ctypes.CDLL(None).setns(namespace.fileno(), 0x40000000)
