"""What a member's handler receives, and when."""

from __future__ import annotations

import errno
import gc
import os
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from chat.framing import LIMIT
from chat.server.receiving import MOST
from loop import TimedOut

if TYPE_CHECKING:
    from conftest import Build
    from wires import House

    from chat.server.member import Member
    from chat.server.room import Room
    from loop.traps import Coroutine

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # as a client that speaks TLS begins


def impatient(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. Says how long the silence was after which it gives up."""
    member.tell("Welcome to the chat: each line you send goes to everybody here.")
    clock = room.hub.kernel.clock
    while True:
        begun = clock()
        try:
            if not (messages := (yield from member.receive(5.0))):
                return
            room.publish(member, messages)
        except TimedOut:
            member.tell(f"silent for {clock() - begun:g} s")


def hold(here: House, held: bool) -> None:
    """Read from nobody, as while Redis is away; or go on."""
    here.server.hub.pace.full = held
    here.server.hub.pace.set_held()


@pytest.mark.parametrize("count", [1, MOST + 1])
def test_messages_that_may_not_be_read_yet_are_no_silence(house: Build, count: int) -> None:
    """Whether they are still in the socket, or some of them were handed out before."""
    here = house(impatient)
    peer = here.member(boxed=False)
    if count == 1:
        hold(here, True)
        peer.say(b"x\n")
    else:
        peer.say(b"x\n" * count)
        here.until(lambda: bool(here.of(peer).unread))
        hold(here, True)
    begun = here.world.now
    here.until(lambda: here.world.now > begun + 20)
    hold(here, False)
    peer.until(lambda: peer.heard.count(b"\n") == count)
    assert b"silent" not in peer.heard


def test_a_silence_is_told_in_time_though_nobody_is_read_from(house: Build) -> None:
    here = house(impatient)
    peer = here.member(boxed=False)
    hold(here, True)
    peer.until(lambda: peer.heard)
    assert peer.heard == b"silent for 5 s\n"


@pytest.mark.parametrize("boxed", [False, True])
def test_messages_that_the_rate_holds_back_are_no_silence(house: Build, boxed: bool) -> None:
    here = house(impatient, max_rate=100, prefix=True)
    peer = here.member(boxed=boxed)
    begun = here.world.now
    for count in 90, 60:  # after the first ones, it may not read for some 10 s, because of the prefixes
        peer.say(b"\n" * count)
    peer.until(lambda: peer.heard.count(b"\n") == 150)
    assert peer.heard == b"127.0.0.1: \n" * 150 and here.world.now - begun > 5.0
    peer.until(lambda: peer.heard.count(b"\n") == 151)
    assert peer.heard.endswith(b": \nsilent for 5 s\n")


def test_only_what_comes_first_can_be_a_greeting_of_tls(house: Build) -> None:
    """The same bytes later are a message, wherever the network cuts the stream."""
    here = house()
    peer, lost = here.member(boxed=False), here.member(boxed=False)
    lost.say(HELLO)
    assert here.ended(lost) == "this port does not speak TLS"
    peer.say(b"x\n")
    peer.until(lambda: peer.heard == b"x\n")
    peer.say(HELLO + b"\n")
    peer.until(lambda: peer.heard.count(b"\n") == 2)
    assert peer.heard == b"x\n" + HELLO + b"\n"


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EPROTOTYPE, errno.ENOBUFS])
def test_after_some_failures_of_a_send_the_end_of_the_stream_is_one(house: Build, number: int) -> None:
    """macOS says EPROTOTYPE when a send meets a connection that is just being closed."""
    here = house()
    peer, other = here.member(boxed=False), here.member(boxed=False)
    peer.say(b"x" * (LIMIT - 1))  # it counts as a message only at the end of the stream
    peer.sock.shutdown(1)
    here.of(peer).lose(OSError(number, os.strerror(number)))
    other.until(lambda: other.heard.endswith(b"x\n"))
    assert here.ended(peer) == "end of stream"


class Thing:
    """Something of a handler's, kept by its member."""


def test_who_has_talked_and_gone_is_forgotten_though_nothing_is_sent(house: Build) -> None:
    """With a cluster, what was said is sent only when it has come back from Redis, and that may be away."""
    here = house()
    peer = here.member(boxed=False)
    hub, member = here.server.hub, here.of(peer)
    member.thing = Thing()  # type: ignore[attr-defined]
    thing = weakref.ref(member.thing)  # type: ignore[attr-defined]
    hub.cluster = SimpleNamespace(publish=lambda *said: None)
    hub.first.publish(member, "hello")
    hub.cluster = None
    peer.sock.close()
    del member
    here.ended(peer)
    while here.kernel.ready:
        here.kernel.turn()
    gc.collect()
    assert thing() is None
