"""What keeps the server fast, as counts: nothing here looks at a clock.

A real server runs in this process on real sockets, which count the calls that are made on them.
"""

from __future__ import annotations

import gc
import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import pytest
from bench import handlers
from bench.count import TOOLS, Exchange, counted
from bench.servers import chatsrv
from chatting import ROOT
from more import only_with_more

from chat.framing import LIMIT, Framer, Messages
from chat.handlers.chat import chat
from chat.server.flags import Options
from chat.server.journal import Journal
from chat.server.server import Server
from loop import Kernel
from loop.bare import Socket
from loop.poller import default_poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chat.server.loading import Handler
    from chat.server.member import Member
    from chat.server.room import Room
    from loop import Coroutine

GREETING = b"Welcome to the chat: each line you send goes to everybody here.\n"
PREFIX = b"127.0.0.1: "


class CountingSocket(socket.socket):
    """A socket that counts calls in `calls`; what it accepts counts there too."""

    __slots__ = ("calls",)
    calls: Counter[str]

    def accept(self) -> tuple[CountingSocket, Any]:
        self.calls["accept"] += 1
        fd, address = self._accept()  # type: ignore[attr-defined]
        sock = CountingSocket(self.family, self.type, self.proto, fileno=fd)
        sock.calls = self.calls
        return sock, address

    def recv(self, *arguments: Any) -> bytes:
        self.calls["recv"] += 1
        return super().recv(*arguments)

    def send(self, *arguments: Any) -> int:
        self.calls["send"] += 1
        return super().send(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        self.calls["send"] += 1
        return super().sendmsg(*arguments)


class CountingPoller:
    """The system's poller; polling never waits for long, so that a turn is one step of a test."""

    def __init__(self, calls: Counter[str]) -> None:
        self.calls = calls
        self.poller = default_poller()
        self.close = self.poller.close

    def arm(self, fd: int, want: int) -> None:
        self.calls["arm"] += 1
        self.poller.arm(fd, want)

    def forget(self, fd: int) -> None:
        self.calls["forget"] += 1
        self.poller.forget(fd)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        self.calls["poll"] += 1
        return self.poller.poll(0.01 if timeout is None else min(timeout, 0.01))


class Host:
    """A server, its clients, and the calls the server has made; those on sockets, if they are to be `counted`."""

    def __init__(self, handler: Handler = chat, counted: bool = True, quiet: bool = True) -> None:
        self.calls: Counter[str] = Counter()
        listener = CountingSocket(socket.AF_INET) if counted else Socket(socket.AF_INET)
        self.writing = mock.patch("chat.server.sending.write", self.write)
        if isinstance(listener, CountingSocket):
            listener.calls = self.calls
            self.writing.start()
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        listener.setblocking(False)
        self.listener = listener
        self.kernel = Kernel(CountingPoller(self.calls))
        self.output = open(os.devnull, "wb", buffering=0)  # noqa: SIM115
        self.journal = Journal(self.output, quiet=quiet)
        if quiet:
            self.journal.say = lambda who, what: None  # type: ignore[method-assign]
        self.server = Server(self.kernel, [listener], self.journal, Options(), handler)
        self.kernel.spawn(self.server.run(), "server")
        self.clients: list[socket.socket] = []
        self.settle()

    def write(self, fd: int, data: bytes) -> int:
        self.calls["send"] += 1
        return os.write(fd, data)

    def settle(self) -> None:
        """Turn until nothing happens any more."""
        for _ in range(10_000):
            before = self.calls - Counter({"poll": self.calls["poll"]})
            self.kernel.turn()
            if before == self.calls - Counter({"poll": self.calls["poll"]}) and not self.kernel.ready:
                return
        raise AssertionError("the server does not come to rest")

    def join(self, count: int) -> None:
        """Connect clients, and take their greetings."""
        fresh = [socket.create_connection(self.listener.getsockname(), timeout=5) for _ in range(count)]
        self.settle()
        for client in fresh:
            assert client.recv(1 << 16).startswith(b"Welcome")
        self.clients += fresh

    def during(self) -> Counter[str]:
        """The calls the server makes until it rests."""
        before = self.calls.copy()
        self.settle()
        return self.calls - before

    def close(self) -> None:
        if isinstance(self.listener, CountingSocket):
            self.writing.stop()
        for member in list(self.server.connections):
            member.socket.close()
        for sock in [*self.clients, self.listener]:
            sock.close()
        self.output.close()
        self.kernel.poller.close()

    def python_calls(self) -> int:
        """The calls of functions, Python's own included, that the server makes until it rests."""
        calls = 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        gc.collect()
        gc.disable()  # the ends of other tests' worlds don't count
        turn = self.kernel.turn

        def counted_turn() -> None:
            sys.setprofile(count)
            try:
                turn()
            finally:
                sys.setprofile(None)

        self.kernel.turn = counted_turn  # type: ignore[method-assign]
        try:
            self.settle()
        finally:
            self.kernel.turn = turn  # type: ignore[method-assign]
            gc.enable()
        return calls


@pytest.fixture
def world() -> Iterator[Host]:
    world = Host()
    yield world
    world.close()


def take(client: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        data = client.recv(size - len(got))
        assert data
        got += data
    return got


@pytest.mark.parametrize("clients", [1, 20, 100])
@pytest.mark.parametrize("messages", [1, 300])
def test_a_burst_costs_a_send_for_each_client_however_many_messages_it_has(
    world: Host, clients: int, messages: int
) -> None:
    world.join(clients)
    lines = [b"message %d" % number for number in range(messages)]
    world.clients[0].sendall(b"".join(line + b"\n" for line in lines))
    calls = world.during()
    assert calls["send"] == clients
    assert calls["recv"] == 1
    expected = b"".join(PREFIX + line + b"\n" for line in lines)
    for client in world.clients:
        assert take(client, len(expected)) == expected


def test_what_all_say_in_one_turn_costs_a_send_for_each_client(world: Host) -> None:
    world.join(50)
    for number, client in enumerate(world.clients):
        client.sendall(b"from %02d\n" % number)
    calls = world.during()
    assert calls["send"] == 50, "50 messages to 50 clients must not be 2500 sends"
    assert calls["recv"] == 50
    assert len({take(client, 50 * len(PREFIX + b"from 00\n")) for client in world.clients}) == 1


def test_a_message_costs_one_arming_and_few_polls(world: Host) -> None:
    world.join(20)
    world.clients[0].sendall(b"hi\n")
    calls = world.during()
    assert calls["arm"] == 1, "only the socket that was read is armed anew"
    assert calls["poll"] <= 4  # it is found, it is spread, nobody is ready, and one more of the test's own


def test_a_member_that_publishes_message_by_message_counts_as_one_talker(world: Host) -> None:
    world.join(1)
    room, hub = world.server.hub.first, world.server.hub
    (member,) = room.members
    alone = hub.pace.share()
    for _ in range(1000):
        room.publish(member, [b"x"])
    world.settle()
    assert hub.pace.share() == alone


def test_what_is_published_as_it_was_received_is_never_split() -> None:
    passed_on: list[list[bytes]] = []

    def handler(member: Member, room: Room) -> Coroutine[None]:
        member.tell("Welcome")
        while messages := (yield from member.receive()):
            room.publish(member, messages)
            passed_on.append(messages)

    world = Host(handler, quiet=False)
    try:
        world.join(1)
        world.clients[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for text in b"one\ntwo\n", b"and so on\n" * 200, b"in two", b" pieces\nand more\n", b"more\n":
            world.clients[0].sendall(text)
            world.settle()
        texts = [messages.text for messages in passed_on if isinstance(messages, Messages)]
    finally:
        world.close()
    assert texts == [b"one\ntwo\n", b"and so on\n" * 200, b"in two pieces\nand more\n", b"more\n"]


def test_an_idle_turn_makes_one_system_call(world: Host) -> None:
    world.join(100)
    before = world.calls.copy()
    world.kernel.turn()
    assert world.calls - before == Counter(poll=1)


def test_connecting_costs_few_calls(world: Host) -> None:
    """accept, greet, wait for both directions: what a connection cannot do without."""
    world.join(1)
    fresh = [socket.create_connection(world.listener.getsockname(), timeout=5) for _ in range(50)]
    world.clients += fresh
    calls = world.during()
    assert calls["send"] == 50
    assert calls["recv"] == 0
    assert calls["arm"] <= 50 + 3
    assert calls["accept"] <= 50 + 3


class Touched:
    """A member that counts how often it is looked at."""

    times = 0

    @property
    def outbox(self) -> Touched:
        Touched.times += 1
        return self

    def lag(self) -> int:
        return 0

    def acknowledged(self) -> int:
        return 0

    def kick(self, reason: str) -> None:
        raise AssertionError("it is not behind")


def test_publish_touches_no_member_but_to_look_for_laggards_once_a_mebibyte(world: Host) -> None:
    world.join(1)
    hub, room = world.server.hub, world.server.hub.first
    (member,) = room.members
    Touched.times = 0
    for _ in range(100):
        touched = Touched()
        hub.pace.behind[touched] = 0.0, 0  # type: ignore[index]
        room.present[touched] = None
    start = room.feed.size
    while room.feed.size - start < 4 << 20:
        room.publish(member, [b"x" * 1000] * 10)
    hub.pace.behind.clear()
    room.present.clear()
    room.present[member] = None
    looks = (room.feed.size - start) // (hub.options.max_lag // 16) + 1
    assert Touched.times <= 100 * looks


@pytest.mark.parametrize("members", [2, 200])
def test_publish_again_in_a_turn_makes_the_same_calls_for_two_as_for_two_hundred(world: Host, members: int) -> None:
    world.join(members)
    room = world.server.hub.first
    member = next(iter(room.members))
    room.publish(member, [b"the first wakes the writer"])
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        room.publish(member, [b"one", b"two"])
    finally:
        sys.setprofile(None)
    assert calls < 30


def test_a_member_that_has_caught_up_costs_no_task_but_its_own(world: Host) -> None:
    before = len(world.kernel.tasks)
    world.join(50)
    assert len(world.kernel.tasks) == before + 50
    world.clients[0].sendall(b"hi\n")
    world.settle()
    assert len(world.kernel.tasks) == before + 50


def test_a_message_for_all_takes_the_same_steps_for_two_as_for_two_hundred(world: Host) -> None:
    """Nobody is resumed to be sent it: the talker's task, the one that spreads it, and the poller's readiness."""
    steps = 0

    def step(task: Any) -> None:
        nonlocal steps
        steps += 1
        ordinary(task)

    ordinary, world.kernel.step = world.kernel.step, step  # type: ignore[method-assign]
    counts = []
    for number in 2, 198:
        world.join(number)
        steps = 0
        world.clients[0].sendall(b"hi\n")
        world.settle()
        counts.append(steps)
    assert counts[0] == counts[1] <= 3


def test_the_objects_of_an_idle_client_are_few(world: Host) -> None:
    """What the server allocates for each, its socket included: blocks of memory, and objects the collector visits."""
    world.join(20)
    fresh = [socket.create_connection(world.listener.getsockname(), timeout=5) for _ in range(200)]
    world.clients += fresh
    gc.collect()
    blocks, objects = sys.getallocatedblocks(), len(gc.get_objects())
    world.settle()
    gc.collect()
    assert len(world.server.hub.first.members) == 220
    frames = 5 if sys.version_info < (3, 11) else 0  # there, each generator's frame is an object of its own
    assert (sys.getallocatedblocks() - blocks) / 200 <= 15 + frames
    assert (len(gc.get_objects()) - objects) / 200 <= 10 + frames


# The main paths: what they may cost. If you make one cheaper, lower its bound. System calls have some slack: on a busy
# machine, the server goes to sleep a few times more.


class Path(NamedTuple):
    """What 100 clients do, or as many connections, and what the server may do for each of 100 `units` of it."""

    units: str
    exchange: Exchange
    python_calls: float  # of functions, Python's own included
    system_calls: float


PATHS = {
    "fan-out": Path("deliveries", Exchange("", 100, 1, 1), 2.03, 1.1),
    "everybody talks": Path("lines", Exchange("", 100, 100, 1), 50, 3.1),
    "journal": Path("lines", Exchange("", 100, 1, 100, {"journal": True}), 2.4, 1.1),
    "tell": Path("lines told", Exchange("", 100, 1, 1, {"handler": "tell"}), 6.9, 1.1),
    "come and go": Path("connections", Exchange("", 100, 0, 0), 92, 7.3),
}


@pytest.mark.parametrize("path", PATHS.values(), ids=list(PATHS))
def test_a_path_costs_few_python_calls(path: Path) -> None:
    exchange = path.exchange
    handler = getattr(handlers, exchange.job.get("handler", ""), chat)
    quiet = exchange.lines > 0 and "journal" not in exchange.job
    world = Host(handler, counted=False, quiet=quiet)
    try:
        world.join(1)  # the first one makes the server import things
        if exchange.lines:
            world.join(99)
            senders = world.clients[: exchange.senders]
            for client in senders:
                client.sendall(b"the first line makes a framer\n")
            world.settle()
            for client in senders:
                client.sendall(b"a line\n" * exchange.lines)
            calls = world.python_calls()
        else:
            fresh = [socket.create_connection(world.listener.getsockname(), timeout=5) for _ in range(100)]
            calls = world.python_calls()
            for client in fresh:
                client.recv(1 << 10)  # else it would not close, but reset
                client.close()
            calls += world.python_calls()
    finally:
        world.close()
    assert calls / 100 <= path.python_calls, path.units


@pytest.mark.skipif(not shutil.which("strace"), reason="strace, which counts system calls, is not installed")
@pytest.mark.parametrize("path", PATHS.values(), ids=list(PATHS))
def test_a_path_costs_few_system_calls(path: Path) -> None:
    """Of a server process, counted by strace."""
    calls = counted(chatsrv(), path.exchange, TOOLS["system calls"], (2, 12)) * path.exchange.units
    assert calls / 100 <= path.system_calls, path.units


# The start.

SLOW = set("argparse collections enum functools inspect re selectors signal socket traceback typing".split())


def test_from_exec_to_the_greeting_few_modules_are_imported() -> None:
    """None of those that take long, because most of what they are made of is not needed."""
    command = [sys.executable, "-S", "-X", "importtime", str(ROOT / "chatsrv"), "--port", "0"]  # each import on stderr
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        port = int(server.stdout.readline().split()[-1])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            assert client.recv(1 << 10) == GREETING
    finally:
        server.terminate()
        _, imports = server.communicate(timeout=10)
    _, own = imports.split(" | gc\n")  # what comes before, a bare Python imports
    modules = {line.rpartition("|")[2].strip() for line in own.splitlines()}
    assert "chat.server.main" in modules
    assert not modules & SLOW
    assert len(modules) <= 55


# Framing.


class CopiedBytes(bytes):
    """Bytes that count how many of them were copied."""

    copied = 0

    @classmethod
    def tally(cls, data: bytes) -> CopiedBytes:
        CopiedBytes.copied += len(data)
        return CopiedBytes(data)

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return CopiedBytes.tally(found) if isinstance(found, bytes) else found

    def __add__(self, other: Any) -> CopiedBytes:
        return CopiedBytes.tally(bytes(self) + bytes(other))

    def __radd__(self, other: Any) -> CopiedBytes:
        return CopiedBytes.tally(bytes(other) + bytes(self))

    def split(self, *arguments: Any) -> Any:
        return [CopiedBytes.tally(piece) for piece in super().split(*arguments)]


STREAMS = {
    "lines": b"a line of text\n" * 550,
    "returns": b"a line of text\r\n" * 512,
    "empty lines": b"\n" * 8192,
    "full lines": (b"x" * LIMIT + b"\n") * 8,
    "an endless line": b"x" * 8192,
    "endless UTF-8": "\N{EURO SIGN}".encode() * 2750,
    "endless rubbish": b"\xe2\x82" * 4096,
}


@pytest.mark.parametrize("cut", [1, only_with_more(3), 100, LIMIT - 1, LIMIT, LIMIT + 1, 5000, 1 << 20])
@pytest.mark.parametrize("kind", STREAMS)
def test_framing_costs_the_same_for_each_byte_however_long_the_stream(kind: str, cut: int) -> None:
    short = framing_cost(STREAMS[kind], cut)
    long = framing_cost(STREAMS[kind] * 4, cut)
    assert long <= short * 4.4 + 10 * LIMIT, "four times the bytes must not cost more than four times as much"


def framing_cost(stream: bytes, cut: int) -> int:
    """Bytes copied for all of the stream, fed in pieces."""
    framer = Framer()
    CopiedBytes.copied = 0
    for start in range(0, len(stream), cut):
        framer.receive_data(CopiedBytes(stream[start : start + cut]))
        assert len(framer.unfinished) <= LIMIT + 2
    return CopiedBytes.copied
