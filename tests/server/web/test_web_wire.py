"""A browser's wire in a world where time does not pass by itself: what takes long."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from timeless import Timeless
from wires import House, Peer

pytest.importorskip("websockets", reason="websockets is not installed")

from chat.handlers.chat import chat
from chat.server.flags import Options
from chat.server.web.frames import PING, Incoming
from chat.server.web.wire import PAUSE, SHORT, UNANSWERED, BrowserWire, Door, keep_alive
from loop import Coroutine, Kernel, sleep

OPENING = (
    b"GET /chat HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PONG = b"\x8a\x80\0\0\0\0"


@pytest.fixture
def here(kernel: Kernel, world: Timeless, tmp_path: Path) -> Iterator[House]:
    options = Options()
    vars(options).update(prefix=False, max_clients=100)
    house = House(kernel, world, tmp_path / "journal", chat, options, partial(BrowserWire, Door([])))
    kernel.spawn(keep_alive(house.server.connections, house.server.hub.pace), "pings")
    yield house
    house.close()


def raw(here: House, **more: int) -> Peer:
    """One that speaks for itself."""
    peer = here.peer(**more)
    peer.shook = False
    return peer


def guest(here: House) -> Peer:
    peer = raw(here)
    peer.sock.send(OPENING)
    peer.until(lambda: peer.raw.endswith(b"here.\n"))
    peer.raw = b""
    return peer


def test_a_request_that_does_not_come_is_not_waited_for(here: House) -> None:
    nothing, slow, other = raw(here), raw(here), guest(here)
    slow.sock.send(OPENING[:-2])
    begun = here.world.now
    for peer in nothing, slow:
        peer.until(partial(getattr, peer, "fin"))
        assert peer.raw.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        peer.sock.shutdown(socket.SHUT_WR)
        assert here.ended(peer) == "answered a request without an end with 408"
    assert here.world.now - begun < 15
    other.sock.send(b"\x81\x82\0\0\0\0hi")
    other.until(lambda: other.raw.endswith(b"\x81\x03hi\n"))


def test_a_byte_now_and_then_does_not_help(here: House) -> None:
    def tick() -> Coroutine[None]:
        while True:
            yield from sleep(1)

    here.kernel.spawn(tick(), "time passes in seconds")
    peer = raw(here)
    begun = here.world.now
    sent = 0
    while not peer.fin and sent < len(OPENING):
        peer.sock.send(OPENING[sent : sent + 1])
        sent, later = sent + 1, here.world.now + 1
        peer.until(lambda: peer.fin or here.world.now >= later)  # noqa: B023
    assert 5 < sent < 15 and here.world.now - begun < 15
    assert here.ended(peer) == "answered a request without an end with 408"


@pytest.mark.parametrize("how", ["reads nothing", "reads slowly"])
def test_neither_is_one_that_does_not_take_the_answer(here: House, how: str) -> None:
    peer = raw(here, buffer=1024)
    peer.sock.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    begun = here.world.now
    while "terminated" not in here.path.read_text() and here.world.now - begun < 60:
        if how == "reads slowly":
            try:
                peer.sock.recv(10)
            except BlockingIOError:
                pass
        here.kernel.turn()
    assert here.ended(peer) == "no handshake within 10 s" and here.world.now - begun < 15


def test_a_browser_that_answers_pings_stays(here: House) -> None:
    peer = guest(here)
    for _ in range(3 * UNANSWERED):
        peer.until(lambda: PING in peer.raw)
        peer.raw = b""
        peer.sock.send(PONG)
    assert here.of(peer)


def test_one_that_does_not_has_gone(here: House) -> None:
    peer, other = guest(here), guest(here)
    begun = here.world.now

    def kicked() -> bool:
        if PING in other.raw:
            other.raw = b""
            other.sock.send(PONG)
        other.read()
        return peer.fin

    peer.until(kicked)
    assert here.world.now - begun == pytest.approx((UNANSWERED + 1) * PAUSE, abs=3)
    assert (
        peer.raw.startswith(PING * UNANSWERED) and b"* You are disconnected: no answer to a ping for 60 s." in peer.raw
    )
    assert peer.raw.endswith(b"\x03\xf0no answer to a ping for 60 s")  # 1008
    assert here.ended(peer) == "no answer to a ping for 60 s" and here.of(other)


def test_it_counts_against_nobody_that_nobody_is_read_from(here: House) -> None:
    peer = guest(here)
    here.server.hub.pace.held = True
    after = here.world.now + 10 * UNANSWERED * PAUSE
    peer.until(lambda: here.world.now > after)
    here.server.hub.pace.set_held()
    peer.sock.send(b"\x81\x82\0\0\0\0hi")
    peer.until(lambda: peer.raw.endswith(b"\x81\x03hi\n"))
    assert here.of(peer)


def test_many_browsers_are_pinged_in_several_turns(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ping is a system call, and with TLS takes longer: thousands at once would keep all others waiting."""
    monkeypatch.setattr("chat.server.web.wire.AT_ONCE", 2)
    peers = [guest(here) for _ in range(5)]
    until = here.world.now + PAUSE / 2
    here.until(lambda: here.world.now > until)
    pings = keep_alive(here.server.connections, here.server.hub.pace)
    next(pings)
    waits = [next(pings).timeout for _ in range(3)]
    assert waits == [0, 0, PAUSE]
    assert sum(here.wire(peer).pings for peer in peers) == len(peers)


class Keeper:
    """A wire that takes all that it is sent, and lets go of one byte at each call."""

    pending = False

    def __init__(self) -> None:
        self.kept, self.gone = b"", b""

    @property
    def unsent(self) -> bool:
        return bool(self.kept)

    def send(self, data: bytes) -> int:
        self.kept += data
        self.gone, self.kept = self.gone + self.kept[:1], self.kept[1:]
        if self.kept:
            raise BlockingIOError(errno.EAGAIN, "", len(data))
        return len(data)

    def end(self, reason: str) -> None:
        self.kept += b" the end"


@pytest.mark.parametrize("ends", [False, True])
def test_what_the_wire_below_keeps_is_sent_too(ends: bool) -> None:
    """Over TLS, the last bytes of an answer may be there: whoever waits until nothing is unsent would wait for ever."""
    keeper = Keeper()
    wire = BrowserWire(Door([]), None, keeper)  # type: ignore[arg-type]
    wire.rest = b"an answer"
    if ends:
        wire.end("left")
    calls = 0
    while wire.unsent and calls < 100:
        wire.try_to_flush()
        calls += 1
    assert keeper.gone == (b"an answer\x88\x06\x03\xe8left the end" if ends else b"an answer")


class Sender:
    """A socket at which these bytes have arrived. `sizes`: how many each call has taken."""

    def __init__(self, data: bytes) -> None:
        self.data, self.sizes = data, [0]

    def recv(self, most: int) -> bytes:
        data, self.data = self.data[:most], self.data[most:]
        self.sizes.append(len(data))
        return data


def test_frames_that_bring_little_are_read_a_few_at_a_time() -> None:
    """Each frame takes time, as much as thousands of bytes, and others wait meanwhile."""
    letters = b"\x81\x81\0\0\0\0a" * 1000
    text = (b"\x81\xfe\x20\x00\0\0\0\0" + b"b" * 8192) * 5
    sender = Sender(letters + text + letters)
    answer = Door([]).site.answer(OPENING)
    assert answer and answer.protocol
    wire = BrowserWire(Door([]), sender)  # type: ignore[arg-type]
    wire.incoming = Incoming(answer.protocol)
    heard = b""
    while sender.data:
        try:
            heard += wire.recv(1 << 15)
        except BlockingIOError:
            pass  # no frame is complete
    assert heard == b"a\n" * 1000 + (b"b" * 8192 + b"\n") * 5 + b"a\n" * 1000
    assert max(sender.sizes[: len(letters) // SHORT] + sender.sizes[-5:]) <= SHORT
    assert len(sender.sizes) < 50, "but long messages are read fast"


def test_why_a_ping_could_not_be_sent_is_not_forgotten() -> None:
    """The system says it once; then that the pipe is broken, which would be no reason not to trust the end."""

    class Lost:
        failures = [ConnectionResetError(errno.ECONNRESET, "reset"), BrokenPipeError(errno.EPIPE, "broken")]  # noqa: RUF012

        def send(self, data: bytes) -> int:
            raise self.failures.pop(0)

    wire = BrowserWire(Door([]), Lost())  # type: ignore[arg-type]
    wire.ping()
    with pytest.raises(ConnectionResetError):
        wire.send(b"hello\n")


def test_a_connection_that_fails_while_a_ping_is_sent_has_no_end_of_the_stream(here: House) -> None:
    peer = guest(here)
    wire = here.wire(peer)
    here.until(lambda: not here.kernel.ready)
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()
    wire.ping()
    assert wire.lost, "the ping was sent"
    assert here.ended(peer) == "connection reset by peer"
