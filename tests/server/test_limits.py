"""Limits that hold: which client is disconnected, when, what it is told, and that no other notices."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from chatting import (
    HERE,
    MIB,
    PATIENCE,
    PREFIX,
    SMALL,
    Chatsrv,
    Client,
    Crowd,
    Start,
    Visitor,
    all_of,
    check_oracle,
    handler,
    linux,
    memory,
    tagged,
)

from loop import recv, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from loop.traps import Coroutine


def told(reason: str) -> bytes:
    """The line that goes before the end."""
    return f"* You are disconnected: {reason}.\n".encode()


def test_a_client_that_comes_when_the_server_is_full_is_told_and_closed(chatsrv: Start) -> None:
    server = chatsrv("--max-clients", "3")
    inside = [server.client() for _ in range(3)]
    for _ in range(20):
        assert Client(server.port).everything() == told("the server is full")
    server.terminated("the server is full", 20)
    inside.pop(0).close()
    server.terminated("end of stream")
    inside.append(server.client())
    inside[-1].say("room again")
    for client in inside:
        client.expect(PREFIX + b"room again")


def test_a_refused_client_that_stays_is_closed_all_the_same(chatsrv: Start) -> None:
    server = chatsrv("--max-clients", "1")
    server.client()
    server.clients.append(Client(server.port))  # neither reads nor closes
    server.terminated("the server is full")


@linux
def test_one_address_gets_no_more_than_its_share(chatsrv: Start) -> None:
    server = chatsrv("--max-per-ip", "2")
    inside = [server.client() for _ in range(2)]
    assert Client(server.port).everything() == told(f"too many connections from {HERE}")
    inside.append(server.client(source="127.0.0.2"))
    server.terminated(f"too many connections from {HERE}")
    inside.pop(0).close()
    server.terminated("end of stream")
    inside.append(server.client())
    inside[-1].say("in")
    for client in inside:
        client.expect(PREFIX + b"in")


def test_a_silent_client_is_disconnected_and_a_talking_one_is_not(chatsrv: Start, crowd: Crowd) -> None:
    server = chatsrv("--idle-timeout", "2")
    start = time.monotonic()
    silent, talker = crowd.enter(server.port, "silent", "talker")
    talking = crowd.kernel.spawn(talker.talk(1_000_000, pause=0.02))
    crowd.run(silent.to_the_end())
    assert time.monotonic() >= start + 2
    assert silent.heard.endswith(told("silent for 2 s"))
    server.terminated("silent for 2 s")
    assert len(server.over()) == 1
    talking.cancel()
    crowd.run(talker.talk(1), talker.leave())
    check_oracle(talker.heard, {"silent": silent.heard}, {"talker": talker.said})


def test_a_client_that_takes_nothing_is_disconnected_and_delays_nobody(chatsrv: Start, crowd: Crowd) -> None:
    server = chatsrv("--quiet", "--stall-timeout", "1", "--max-lag", "64M")
    observer, talker = crowd.enter(server.port, "observer", "talker")
    (stuck,) = crowd.enter(server.port, "stuck", buffer=SMALL)
    observer.listen()
    crowd.run(talker.talk(8000, padding=1000))
    crowd.until(lambda: server.over("took nothing for 1 s") or server.over("connection timed out"))  # TCP_USER_TIMEOUT
    assert len(server.over()) == 1
    crowd.run(stuck.to_the_end(), talker.leave(), observer.leave())
    heard = {"talker": talker.heard, "stuck": stuck.heard}
    check_oracle(observer.heard, heard, {"talker": 8000}, torn=["stuck"])
    assert 0 < heard["stuck"].count(b"\n") < 8000


def test_a_client_that_falls_too_far_behind_is_told_and_disconnected(chatsrv: Start, crowd: Crowd) -> None:
    server = chatsrv("--quiet", "--max-lag", "1M")
    observer, talker = crowd.enter(server.port, "observer", "talker")
    wakes_up, stays_away = crowd.enter(server.port, "wakes up", "stays away", buffer=SMALL)
    observer.listen()
    crowd.run(talker.talk(10_000, padding=1000))
    crowd.until(lambda: len(observer.heard) > 10_000_000)  # so both others were kicked: all is read again
    for visitor in wakes_up, stays_away:  # through so small a window, a megabyte takes long
        visitor.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
    crowd.run(wakes_up.to_the_end())
    crowd.until(lambda: len(server.over("more than 1048576 bytes behind")) == 2)
    assert wakes_up.heard.endswith(told("more than 1048576 bytes behind"))
    crowd.run(stays_away.to_the_end(), talker.leave(), observer.leave())
    heard = {visitor.name: visitor.heard for visitor in (talker, wakes_up, stays_away)}
    check_oracle(observer.heard, heard, {"talker": 10_000}, torn=["stays away"])
    assert 0 < heard["wakes up"].count(b"\n") < 10_000


def read_at(rate: float, visitor: Visitor, seconds: float) -> Coroutine[None]:
    """COROUTINE. Read so many bytes a second, no more."""
    start, taken = time.monotonic(), 0
    while (passed := time.monotonic() - start) < seconds:
        if (due := int(passed * rate) - taken) > 0:
            data = yield from recv(visitor.sock, due, PATIENCE)
            if not data:
                return  # it was sent away
            taken += len(data)
        else:
            yield from sleep(0.01)


def is_waited_for(server: Chatsrv, crowd: Crowd, reader: Visitor) -> bool:
    """Whether the server keeps a reader of 3 MB a second. Skips the test if this process stood still meanwhile."""
    late = 0.0

    def watch() -> Coroutine[None]:
        nonlocal late
        while True:
            before = time.monotonic()
            yield from sleep(0.01)
            late = max(late, time.monotonic() - before)

    watcher = crowd.kernel.spawn(watch())
    crowd.run(read_at(3_000_000, reader, 3))
    watcher.cancel()
    if server.over() and late > 0.1:
        pytest.skip("this machine is too busy: the reader itself was slow")
    return not server.over()


def test_a_client_that_takes_a_little_all_the_time_does_not_take_nothing(chatsrv: Start, crowd: Crowd) -> None:
    """The system says that there is room only when a slow reader has made a megabyte of it."""
    server = chatsrv("--quiet", "--stall-timeout", "1", "--max-lag", "64M")
    (talker,) = crowd.enter(server.port, "talker")
    (slow,) = crowd.enter(server.port, "slow", buffer=SMALL)
    crowd.run(talker.talk(8000, padding=1000))
    crowd.run(read_at(50_000, slow, 3))
    assert not server.over()


def test_a_client_that_reads_over_a_megabyte_a_second_is_waited_for(chatsrv: Start, crowd: Crowd) -> None:
    server = chatsrv("--quiet", "--max-lag", "1M")
    talker, reader = crowd.enter(server.port, "talker", "reader")
    flood = crowd.kernel.spawn(talker.talk(1_000_000, padding=1000))
    assert is_waited_for(server, crowd, reader)
    flood.cancel()


@pytest.mark.more
def test_so_is_one_that_others_tell_more_than_it_reads(chatsrv: Start, crowd: Crowd, tmp_path: Path) -> None:
    """Ten members flood one with private lines."""
    tell = handler(tmp_path, "for message in messages:", "    room.members[0].tell(message)")
    server = chatsrv("--quiet", "--max-lag", "1M", "--handler", tell)
    reader, *talkers = crowd.enter(server.port, "reader", *(f"talker{number}" for number in range(10)))
    floods = [crowd.kernel.spawn(talker.talk(100_000, padding=1000)) for talker in talkers]
    assert is_waited_for(server, crowd, reader)
    for flood in floods:
        flood.cancel()


@linux
def test_a_hundred_stuck_clients_cost_one_backlog(chatsrv: Start, crowd: Crowd) -> None:
    server = chatsrv("--quiet", "--max-lag", "64M", "--stall-timeout", "off")
    observer, talker = crowd.enter(server.port, "observer", "talker")
    crowd.run(talker.talk(100), observer.listen_up_to(tagged("talker", 99)))
    observer.listen()
    before = memory(server.pid)
    grown = []
    for _ in "again", "and again":
        stuck = crowd.enter(server.port, *(f"stuck{number}" for number in range(100)), buffer=SMALL)
        crowd.run(talker.talk(13_000, padding=1000))
        last = tagged("talker", talker.said - 1, 1000)
        crowd.until(lambda: observer.heard.endswith(last))  # noqa: B023
        grown.append(memory(server.pid) - before)
        for visitor in stuck[2:]:
            visitor.reset()
        streams = {visitor.name: visitor.heard for visitor in stuck[:2]}
        crowd.run(*(visitor.listen_up_to(last) for visitor in stuck[:2]))
        assert check_oracle(observer.heard, streams, {"talker": talker.said}) == 2 * 13_000
        for visitor in stuck[:2]:
            visitor.close()
    assert 8 * MIB < grown[0] < 24 * MIB  # the system's own buffers, some MiB each, take the rest
    assert grown[1] < grown[0] + 4 * MIB  # and when they are gone, it is free again


def test_a_flood_is_slowed_and_loses_nothing_and_delays_nobody(chatsrv: Start, crowd: Crowd) -> None:
    server = chatsrv("--quiet", "--max-rate", "100k")
    observer, flooder, neighbour = crowd.enter(server.port, "observer", "flooder", "neighbour")
    observer.listen()
    start = time.monotonic()
    flood = crowd.kernel.spawn(flooder.talk(250, padding=1000))  # 2.5 times what is read in a second
    crowd.until(lambda: observer.heard)
    for number in range(5):
        crowd.run(neighbour.talk(1))
        crowd.until(lambda: tagged("neighbour", number) in neighbour.heard)  # noqa: B023
    crowd.run(all_of([flood]), flooder.leave(), neighbour.leave())
    assert observer.heard.find(b"<neighbour 4>") < observer.heard.find(b"<flooder 249>")
    assert time.monotonic() - start >= 1.4  # the first second's worth is free
    crowd.run(observer.leave())
    heard = {"flooder": flooder.heard, "neighbour": neighbour.heard}
    check_oracle(observer.heard, heard, {"flooder": 250, "neighbour": 5})
    server.terminated("end of stream", 3)


def test_a_paste_is_no_flood(chatsrv: Start) -> None:
    server = chatsrv("--max-rate", "100k", "--no-prefix")
    client = server.client()
    lines = [b"line %d of what was pasted" % number for number in range(5000)]
    client.say(*lines)
    client.expect(*lines)
    assert not server.over()


def test_what_is_within_the_rate_is_not_slowed(chatsrv: Start) -> None:
    server = chatsrv("--max-rate", "1k", "--no-prefix")
    start = time.monotonic()
    for _ in range(8):
        client = server.client()
        client.say(b"." * 1000)  # a second's worth
        client.expect(b"." * 1000)
    assert time.monotonic() - start < 6


FAMILY = "\U0001f469\u200d\U0001f467"  # two emoji, joined into one


@pytest.mark.parametrize(
    ("where", "said", "heard"),
    [("chat.handlers.chat:chat", FAMILY, FAMILY), ("chat.handlers.rooms:rooms", "/join inn", "is here, in inn")],
)
def test_no_descriptor_is_needed_to_go_on_talking(chatsrv: Start, where: str, said: str, heard: str) -> None:
    """To import a module only when it is needed takes one."""
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)); "
    limited += "os.execvp(sys.argv[1], sys.argv[1:])"
    server = chatsrv("--handler", where, "--max-clients", "100", through=[sys.executable, "-c", limited])
    client = server.client()
    with ExitStack() as others:
        for _ in range(30):
            others.enter_context(socket.create_connection((HERE, server.port)))
        server.complaints.expect("cannot accept connections: Too many open files")
        client.say(said)
        client.wait_for(heard.encode())
    server.finish(complaint="cannot accept connections")
