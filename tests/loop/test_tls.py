"""TLS without a network: what goes in at one end comes out at the other, wherever records are cut."""

from __future__ import annotations

import errno
import random
import ssl
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from loop import sleep
from loop.gate import Gate
from loop.tls import SHORT, TLS, Broken

if TYPE_CHECKING:
    from certificates import Authority

    from loop import Kernel

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Pipe:
    """A socket of which nothing can be waited for. Both directions give and take as much at once as `part` says."""

    def __init__(self, part: Any) -> None:
        self.part = part
        self.inbox: bytearray = bytearray()
        self.peer: Pipe
        self.ended = False
        self.room = 1 << 30  # bytes that may be on their way

    def recv(self, most: int) -> bytes:
        size = min(most, self.part(), len(self.inbox))
        if not size and not (self.ended and not self.inbox):
            raise BlockingIOError
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        return data

    def send(self, data: Any) -> int:
        size: int = min(len(data), self.part(), self.room - len(self.peer.inbox))
        if size <= 0:
            raise BlockingIOError
        self.peer.inbox += data[:size]
        return size

    def fileno(self) -> int:
        return -1


class Ends:
    """A server's end and a client's, which have shaken hands."""

    def __init__(self, authority: Authority, version: ssl.TLSVersion, part: Any = lambda: 1 << 20) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.issue())
        context.options |= ssl.OP_NO_RENEGOTIATION
        self.near, self.far = Pipe(part), Pipe(part)
        self.near.peer, self.far.peer = self.far, self.near
        self.server = TLS(self.near, context)  # type: ignore[arg-type]
        client = authority.client(minimum_version=version, maximum_version=version)
        self.client = TLS(self.far, client, "localhost")  # type: ignore[arg-type]
        self.shake()

    def shake(self) -> None:
        waiting = deque([self.client, self.server])
        for _ in range(10_000):
            if not waiting:
                return
            end = waiting.popleft()
            try:
                end.incoming.write(end.socket.recv(1 << 14))
            except BlockingIOError:
                pass
            if not end.shake() or end.unsent:
                waiting.append(end)
            end.try_to_flush()
        raise AssertionError("no handshake")

    def pass_on(self, source: TLS, target: TLS, data: bytes) -> bytes:
        """Send all of it, with whatever repeats that needs, and return what has come out."""
        heard = b""
        for _ in range(1_000_000):
            if data or source.unsent:
                try:
                    data = data[source.send(data) :]
                except BlockingIOError as wait:
                    data = data[getattr(wait, "characters_written", 0) :]
            try:
                heard += target.recv(1 << 14)
            except BlockingIOError:
                if not (data or source.unsent or target.socket.inbox):  # type: ignore[attr-defined]
                    return heard
        raise AssertionError("it never ends")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 17, 300, 1 << 20])
def test_any_cut_gives_the_same_stream(authority: Authority, version: ssl.TLSVersion, size: int) -> None:
    ends = Ends(authority, version, lambda: size)
    data = random.Random(size).randbytes(40_000 if size > 100 else 3000)
    assert ends.pass_on(ends.client, ends.server, data) == data
    assert ends.pass_on(ends.server, ends.client, data[::-1]) == data[::-1]
    assert not ends.server.pending and not ends.client.pending


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("seed", range(10))
def test_any_cuts_in_both_directions_at_once(authority: Authority, version: ssl.TLSVersion, seed: int) -> None:
    chance = random.Random(seed)
    ends = Ends(authority, version, lambda: chance.choice([0, 1, 1, 7, 100, 5000, 50_000]))
    ends.near.room = ends.far.room = 30_000
    left = {ends.server: chance.randbytes(100_000), ends.client: chance.randbytes(100_000)}
    sent, heard = dict(left), {ends.server: b"", ends.client: b""}
    while any(len(heard[end]) < 100_000 for end in heard):
        end = chance.choice([ends.server, ends.client])
        if chance.random() < 0.5:
            piece = left[end][: chance.randint(0, 70_000)]
            try:
                taken = end.send(piece)
                assert taken == len(piece) and not end.unsent
            except BlockingIOError as wait:
                taken = getattr(wait, "characters_written", 0)
                assert end.unsent and len(end.kept) + end.outgoing.pending < 40_000
            left[end] = left[end][taken:]
        else:
            try:
                heard[end] += end.recv(chance.choice([1, 100, 32_000]))
            except BlockingIOError:
                assert not end.pending
    assert heard[ends.server] == sent[ends.client] and heard[ends.client] == sent[ends.server]


def read_all(end: TLS, pipe: Pipe) -> list[int]:
    """Receive all that has arrived; return how many bytes each call has taken from the pipe."""
    sizes = []
    while before := len(pipe.inbox):
        try:
            end.recv(1 << 15)
        except BlockingIOError:
            pass
        sizes.append(before - len(pipe.inbox))
    return sizes


@pytest.mark.parametrize("version", VERSIONS)
def test_records_that_bring_little_are_read_a_few_at_a_time(authority: Authority, version: ssl.TLSVersion) -> None:
    """Each record takes time, as much as thousands of bytes, and others wait meanwhile."""
    ends = Ends(authority, version)
    for _ in range(3):
        for _ in range(3000):
            ends.client.send(b"a")
        assert max(read_all(ends.server, ends.near)[1:]) <= SHORT
        ends.client.send(bytes(1 << 20))
        assert len(read_all(ends.server, ends.near)) < 50, "but long records are read fast"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_end_that_comes_with_the_last_words_is_pending(authority: Authority, version: ssl.TLSVersion) -> None:
    ends = Ends(authority, version)
    ends.client.send(b"bye")
    ends.client.end()
    assert ends.server.recv(1 << 14) == b"bye" and ends.server.pending and not ends.near.inbox
    assert ends.server.recv(1 << 14) == b"" and not ends.server.cut_off
    assert ends.pass_on(ends.server, ends.client, b"what is still due") == b"what is still due"  # half closed
    ends.server.end()
    said = len(ends.far.inbox)
    ends.server.end()  # by one that does not know
    assert len(ends.far.inbox) == said
    assert ends.client.recv(1 << 14) == b"" and not ends.client.cut_off


@pytest.mark.parametrize("version", VERSIONS)
def test_an_end_that_tls_knows_nothing_of_is_a_cut(authority: Authority, version: ssl.TLSVersion) -> None:
    ends = Ends(authority, version)
    ends.client.send(b"half a mess")
    ends.near.ended = True
    assert ends.server.recv(1 << 14) == b"half a mess" and not ends.server.cut_off
    assert ends.server.recv(1 << 14) == b"" and ends.server.cut_off


def test_why_an_end_could_not_be_sent_is_not_forgotten(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system says it once; then that the pipe is broken, which would be no reason not to trust the end."""
    ends = Ends(authority, VERSIONS[1])
    failures = [ConnectionResetError(errno.ECONNRESET, "reset"), BrokenPipeError(errno.EPIPE, "broken")]

    def send(data: Any) -> int:
        raise failures.pop(0)

    monkeypatch.setattr(ends.near, "send", send)
    ends.server.end()
    with pytest.raises(ConnectionResetError):
        ends.server.send(b"hello")
    ends.near.ended = True  # so it looks then
    with pytest.raises(ConnectionResetError):
        ends.server.recv(1 << 14)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_changed_on_its_way_is_refused_behind_what_was_not(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    ends = Ends(authority, version)
    ends.pass_on(ends.server, ends.client, b"what OpenSSL sends with it is read, too")
    ends.client.send(b"good")
    size = len(ends.near.inbox)
    ends.client.send(b"evil")
    ends.near.inbox[size + 7] ^= 1
    assert ends.server.recv(1 << 14) == b"good" and ends.server.pending
    for _ in range(2):
        with pytest.raises(Broken, match=r"bad record mac|record layer failure"):
            ends.server.recv(1 << 14)
    with pytest.raises(Broken, match="the other side complains: bad record mac"):
        ends.client.recv(1 << 14)


def test_a_failure_keeps_nothing_alive(authority: Authority) -> None:
    ends = Ends(authority, ssl.TLSVersion.TLSv1_3)
    ends.client.send(b"evil")
    ends.near.inbox[-1] ^= 1

    def receive() -> weakref.ref[object]:
        held = type("Held", (), {})()
        with pytest.raises(Broken):
            ends.server.recv(1 << 14)
        return weakref.ref(held)

    assert receive()() is None


class Queue:
    """Tasks that go through a gate."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.gate = Gate()
        self.passed: list[tuple[int, str]] = []  # in which turn, from which address
        self.turns = 0

    def join(self, address: str) -> Any:
        return self.kernel.spawn(self.go_through(address))

    def go_through(self, address: str) -> Any:
        yield from self.gate.enter(address)
        try:
            self.passed.append((self.turns, address))
            yield from sleep(0)
        finally:
            self.gate.leave()

    def turn(self) -> None:
        self.kernel.turn()
        self.turns += 1


def test_a_gate_lets_one_through_a_turn_and_survives_those_that_give_up(kernel: Kernel) -> None:
    queue = Queue(kernel)
    tasks = [queue.join("a") for _ in range(10)]
    queue.turn()
    for task in tasks[0], tasks[3], tasks[4]:
        task.cancel()
    while kernel.tasks:
        queue.turn()
    assert len({turn for turn, _ in queue.passed}) == len(queue.passed) == 8 and not queue.gate.inside


def test_addresses_alternate_at_a_gate(kernel: Kernel) -> None:
    queue = Queue(kernel)
    for _ in range(10):
        queue.join("a")
    queue.turn()
    for address in "bbc":
        queue.join(address)
    while kernel.tasks:
        queue.turn()
    assert "".join(address for _, address in queue.passed) == "aaabcabaaaaaa"


@pytest.mark.parametrize("seed", range(20))
def test_nobody_is_forgotten_at_a_gate(kernel: Kernel, seed: int) -> None:
    """Whoever is ended meanwhile, woken or not."""
    chance = random.Random(seed)
    queue = Queue(kernel)
    tasks = [queue.join(chance.choice("abc")) for _ in range(40)]
    while kernel.tasks and chance.random() < 0.95:
        queue.turn()
        for task in chance.sample(tasks, 3):
            task.cancel()
    while kernel.tasks:
        queue.turn()
    assert not queue.gate.inside and not any(queue.gate.waiting.values())
