"""Members whose bytes go through a wire: all that a wire may do, tried with a toy of one (tests/wires.py)."""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import TYPE_CHECKING

import pytest
from chatting import linux
from wires import END, GREETING, HELLO, PING, Peer, Toy, flood, packed

import chat.server.admission
from chat.server.admission import SPARE
from chat.server.connection import FAREWELL, HANDSHAKE
from chat.server.member import LOST, OVER
from chat.server.receiving import MOST, VAIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from conftest import Build

    from chat.server.member import Member
    from chat.server.room import Room
    from loop.traps import Coroutine


def test_nothing_is_sent_before_the_handshake_and_others_talk_meanwhile(house: Build) -> None:
    here = house()
    slow, plain, boxed = here.peer(), here.member(boxed=False), here.member()
    slow.sock.send(HELLO[:3])
    plain.say(b"one\n")
    plain.until(lambda: plain.heard == b"one\n")
    boxed.until(lambda: boxed.heard == b"one\n")
    slow.read()
    assert slow.raw == b"" and here.server.admission.members.all == len(here.server.hub.first.members) == 2
    slow.sock.send(HELLO[3:] + packed(b"two\n"))  # the first message comes with the handshake
    slow.until(lambda: slow.heard == GREETING + b"two\n")
    plain.until(lambda: plain.heard == b"one\ntwo\n")
    boxed.until(lambda: boxed.heard == b"one\ntwo\n")


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (lambda peer: peer.sock.send(b"rubbish\n"), "impolite"),
        (lambda peer: peer.sock.shutdown(socket.SHUT_WR), "no hello"),
        (lambda peer: None, "no handshake within 10 s"),
        (lambda peer: peer.house.server.stop(), "the server is ending"),
    ],
    ids=["rubbish", "end", "silence", "end of the server"],
)
def test_why_a_handshake_has_failed_is_told_once(house: Build, act: Callable[[Peer], Any], why: str) -> None:
    here = house()
    peer = here.peer()
    here.until(lambda: here.server.admission.shaking.all == 1)
    before = here.world.now
    act(peer)
    assert here.ended(peer) == why
    assert here.path.read_text().count(f"{peer.name} accepted connection") == 1
    assert here.world.now - before <= HANDSHAKE + 2
    peer.until(lambda: peer.fin or peer.reset)
    assert peer.raw == (b"what?\n" if why == "impolite" else b"")
    assert here.server.admission.shaking.all == here.server.admission.members.all == 0


def test_one_that_never_stops_sending_does_not_stay_in_its_handshake(house: Build) -> None:
    here = house()
    peer = here.peer()
    here.until(lambda: here.server.admission.shaking.all)
    begun = here.world.now
    while here.server.admission.shaking.all and here.world.now - begun < 2 * HANDSHAKE:
        peer.sock.send(b"x")
        here.world.now += 0.1
        here.kernel.turn()
    assert HANDSHAKE <= here.world.now - begun <= HANDSHAKE + 2
    assert here.ended(peer) == "no handshake within 10 s"


@pytest.mark.parametrize(
    ("flags", "members", "handshakes"),
    [
        ({"max_clients": 1}, "the server is full", "too many handshakes"),
        ({"max_per_ip": 1}, "too many connections from 127.0.0.1", "too many handshakes from 127.0.0.1"),
    ],
)
def test_those_in_a_handshake_are_no_members_but_have_a_bound_too(
    house: Build, flags: dict[str, int], members: str, handshakes: str
) -> None:
    here = house(**flags)
    begun = here.world.now
    waiting = [here.peer() for _ in range(SPARE - 1)]
    here.until(lambda: here.server.admission.shaking.all == SPARE - 1)
    first = here.member()
    waiting.append(here.peer())
    here.until(lambda: here.server.admission.shaking.all == SPARE)
    late = here.peer()
    assert here.ended(late) == handshakes
    late.until(lambda: late.fin or late.reset)
    waiting[0].sock.send(HELLO)
    waiting[0].until(lambda: waiting[0].fin)
    assert waiting[0].heard == f"* You are disconnected: {members}.\n".encode()
    assert here.world.now == begun, "somebody had to wait"
    first.sock.send(END)
    here.ended(first)
    waiting[1].greet()


@linux
def test_handshakes_have_a_bound_though_members_have_none(house: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody can take all that there may be from one address."""
    monkeypatch.setattr(chat.server.admission, "MOST", 2 * SPARE)
    here = house(max_clients=1000)
    for _ in range(SPARE):
        here.peer()
    assert here.ended(here.peer()) == "too many handshakes from 127.0.0.1"
    for number in range(SPARE):
        here.peer(host=f"127.0.0.{2 + number}")
    late = here.peer(host="127.0.0.99")
    assert here.ended(late) == "too many handshakes"
    assert here.member(boxed=False).heard == b""


@linux
def test_one_address_leaves_handshakes_to_others_however_few_there_may_be(house: Build) -> None:
    here = house(max_clients=4 * SPARE)
    for _ in range(2 * SPARE):
        here.peer()
    assert here.ended(here.peer()) == "too many handshakes from 127.0.0.1"
    assert here.member(host="127.0.0.2").heard == b""


def test_members_take_no_room_from_handshakes_if_there_may_be_any_number(
    house: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a proxy, all may come from one address."""
    monkeypatch.setattr(chat.server.admission, "MOST", 4 * SPARE)
    here = house(max_clients=1000)
    for _ in range(4 * SPARE):
        here.member(boxed=False)
    for _ in range(2 * SPARE):
        here.peer()
    here.until(lambda: here.server.admission.shaking.all == 2 * SPARE)
    assert here.ended(here.peer()) == "too many handshakes from 127.0.0.1"


@pytest.mark.parametrize(
    ("trouble", "why"), [(OSError(errno.ENOMEM, "No memory"), "no memory"), (ValueError("a bug"), "it has no wire")]
)
def test_one_for_which_there_is_no_wire_ends_alone(house: Build, trouble: Exception, why: str) -> None:
    sockets: list[socket.socket] = []

    def make_wire(sock: socket.socket) -> Toy:
        sockets.append(sock)
        if len(sockets) == 2:
            raise trouble
        return Toy(sock)

    here = house(wire=make_wire)
    peers = [here.peer() for _ in range(3)]
    assert here.ended(peers[1]) == why
    for peer in peers[0], peers[2]:
        peer.greet()


def test_one_that_is_refused_is_told_so_behind_its_handshake(house: Build) -> None:
    here = house(max_clients=1)
    here.member()
    late = here.peer()
    late.sock.send(HELLO)
    late.until(lambda: late.fin)
    assert late.heard == b"* You are disconnected: the server is full.\n" and late.unpacker.ended


def test_one_that_is_refused_and_never_shakes_hands_does_not_delay_the_end(house: Build) -> None:
    here = house(max_clients=1)
    here.member()
    late = here.peer()
    here.until(lambda: len(here.server.connections) == 2)
    before = here.world.now
    here.server.stop()
    here.ended(late)
    assert here.world.now - before <= 2


def test_a_slow_reader_gets_everything_and_stands_with_the_others_again(house: Build) -> None:
    here = house()
    slow, talker = here.member(buffer=4096), here.member(boxed=False)
    said = here.fill(slow, talker)
    slow.until(lambda: slow.heard == said)
    here.until(lambda: here.of(slow).sending == here.of(talker).sending)
    talker.say(b"last\n")
    slow.until(lambda: slow.heard == said + b"last\n")


def test_a_stalled_one_finds_its_reason_behind_what_its_wire_had_taken(house: Build) -> None:
    here = house(stall_timeout=5.0)
    slow, talker = here.member(buffer=4096), here.member(boxed=False)
    said = here.fill(slow, talker)
    here.until(lambda: here.of(slow).kicked)
    slow.until(lambda: slow.fin)
    last = b"* You are disconnected: took nothing for 5 s.\n"
    assert slow.heard.endswith(b"x\n" + last) and said.startswith(slow.heard[: -len(last)]) and slow.unpacker.ended


def test_what_is_unsent_when_a_member_leaves_is_still_sent(house: Build) -> None:
    """With nothing left in its outbox: only its wire knows that something is due."""
    here = house()
    slow = here.member(buffer=4096)
    count = flood(here, slow)
    slow.sock.send(END)
    slow.until(lambda: slow.fin)
    assert slow.heard.count(b"\n") == count and slow.unpacker.ended
    assert here.ended(slow) == "end of stream"


def test_what_can_never_be_sent_ends_with_a_reset(house: Build) -> None:
    here = house()
    slow = here.member(buffer=4096)
    flood(here, slow)
    slow.sock.send(END)
    assert here.ended(slow) == "end of stream"
    slow.until(lambda: slow.fin or slow.reset)
    assert slow.reset


def test_an_answer_that_finds_the_socket_full_is_sent_though_nothing_else_is_due(
    house: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = house()
    peer = here.member()
    here.until(lambda: here.of(peer).sending == "together")
    full = [True]
    flush = Toy.flush

    def blocked(wire: Toy, count: int = 0) -> None:
        if full[0] and wire.kept:
            full[0] = False
            raise BlockingIOError
        flush(wire, count)

    monkeypatch.setattr(Toy, "flush", blocked)
    peer.sock.send(PING)
    peer.until(lambda: peer.unpacker.pongs == 1)
    assert not full[0]


def test_last_words_are_heard_though_much_came_before_that_said_nothing(
    house: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = house()
    peer, other = here.member(), here.member(boxed=False)
    for count in range(VAIN + 10):
        peer.sock.send(PING)
        peer.until(lambda: peer.unpacker.pongs == count + 1)  # noqa: B023
    monkeypatch.setattr(here.server.hub.pace, "share", lambda: 4)  # several reads bring nothing but a part of the box
    peer.say(b"last words\n")
    here.of(peer).lose(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
    other.until(lambda: other.heard.endswith(b"last words\n"))


def test_words_and_the_end_in_one_piece_are_both_heard(house: Build) -> None:
    """The socket never becomes readable again: the peer has only ended its own stream."""
    here = house()
    peer, other = here.member(), here.member(boxed=False)
    peer.sock.send(packed(b"good") + packed(b"bye\nand") + END)
    peer.until(lambda: peer.fin)
    assert peer.heard == b"goodbye\nand\n" and peer.unpacker.ended
    other.until(lambda: other.heard == b"goodbye\nand\n")


def test_a_goodbye_comes_before_the_wires_own(house: Build) -> None:
    here = house()
    peer = here.member()
    here.server.stop()
    peer.until(lambda: peer.fin)
    assert peer.heard == b"* You are disconnected: the server is ending.\n" and peer.unpacker.ended


def test_the_wires_own_end_comes_though_a_handler_does_not_end(house: Build) -> None:
    def heedless(member: Member, room: Room) -> Coroutine[None]:
        member.tell("Welcome to the chat: each line you send goes to everybody here.")
        while True:
            try:
                yield from member.receive()
            except BaseException as error:
                if isinstance(error, GeneratorExit):
                    raise

    here = house(heedless)
    peer = here.member()
    here.of(peer).kick("go away")
    peer.until(lambda: peer.fin)
    assert peer.heard == b"* You are disconnected: go away.\n" and peer.unpacker.ended


def test_one_that_is_dropped_with_a_line_still_due_gets_no_orderly_end(house: Build) -> None:
    here = house()
    peer = here.member()
    here.of(peer).tell("this was never sent")
    here.server.drop(here.of(peer))
    peer.until(lambda: peer.fin or peer.reset)
    assert peer.heard == b"" and peer.reset and not peer.unpacker.ended


def test_what_was_said_is_heard_though_sending_has_failed_and_it_comes_in_parts(house: Build) -> None:
    """A wire that has nothing to give out yet may leave something in the socket."""
    here = house(max_rate=100)
    peer, other = here.member(), here.member(boxed=False)
    peer.sock.send(packed(b"x" * 500 + b"\n"))
    here.of(peer).lose(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    other.until(lambda: other.heard == b"x" * 500 + b"\n")


def test_what_was_said_is_heard_though_sending_has_failed_and_nobody_is_read_from(house: Build) -> None:
    """Its handler has received the first of what came at once; the rest waits with the member."""
    here = house()
    peer, other = here.member(boxed=False), here.member(boxed=False)
    member, pace = here.of(peer), here.server.hub.pace
    peer.sock.send(b"x\n" * (MOST + 1))
    here.until(lambda: bool(member.unread))
    pace.full = True  # as while Redis is away
    pace.set_held()
    member.lose(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    for _ in range(20):
        here.kernel.turn()
        here.world.now += LOST / 10
    pace.full = False
    pace.set_held()
    other.until(lambda: other.heard == b"x\n" * (MOST + 1))


def test_what_is_sent_in_the_turn_in_which_time_runs_out_is_followed_by_the_wires_own_end(house: Build) -> None:
    here = house()
    peer = here.member()
    member, wire = here.of(peer), here.wire(peer)
    while not wire.unsent:
        member.tell("y" * 400)
        here.kernel.turn()
    member.kick("it is enough")
    here.until(lambda: member.handled and not here.kernel.ready)
    while select.select([peer.sock], [], [], 0.05)[0]:
        peer.read()
    here.world.now += 2 * FAREWELL  # the process stands still, or the last room comes at the last moment
    peer.until(lambda: peer.fin or peer.reset)
    assert peer.heard.endswith(b"* You are disconnected: it is enough.\n")
    assert peer.unpacker.ended and peer.fin


def test_the_wires_own_end_comes_though_the_servers_end_leaves_no_time_for_it(house: Build) -> None:
    """The process stands still while it ends, and its time is up when the last lines have just been sent."""
    here = house()
    peer = here.member()
    member, wire = here.of(peer), here.wire(peer)
    while not wire.unsent:
        member.tell("y" * 400)
        here.kernel.turn()
    member.kick("it is enough")
    peer.until(lambda: member.sending == OVER)
    here.server.drop(member)
    peer.until(lambda: peer.fin or peer.reset)
    assert peer.heard.endswith(b"* You are disconnected: it is enough.\n")
    assert peer.unpacker.ended and peer.fin
