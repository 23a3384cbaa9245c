"""What the server surely has of what was said."""

from __future__ import annotations

import pytest

from chat.client.incoming import Incoming
from chat.client.outgoing import MOST, Outgoing
from chat.framing import Framer


def said(*messages: bytes) -> Outgoing:
    """After these have been sent."""
    outgoing = Outgoing()
    outgoing.waiting += b"".join(message + b"\n" for message in messages)
    outgoing.sent(len(outgoing.waiting))
    return outgoing


def test_what_has_come_back_has_arrived_and_so_has_all_before_it() -> None:
    outgoing = said(b"one", b"two", b"three")
    assert not outgoing.heard(b"127.0.0.1: somebody else's")
    assert outgoing.heard(b"127.0.0.1: two")
    assert list(outgoing.messages) == [b"three"]
    assert outgoing.heard(b"three")
    assert not outgoing.disconnected(clean=False)


def test_the_same_said_often_comes_back_as_often() -> None:
    outgoing = said(*[b"x"] * 5000)
    for _ in range(4999):
        assert outgoing.heard(b"127.0.0.1: x")
    assert outgoing.disconnected(clean=False)
    assert outgoing.lost


def test_an_empty_message_is_not_every_line_without_a_sender() -> None:
    outgoing = said(b"")
    assert not outgoing.heard(b"Welcome")
    assert outgoing.heard(b"127.0.0.1: ")


@pytest.mark.parametrize("end", [b"\r", b"\r\n", b"\r\r\n", b"\r\r\r\n"])
def test_what_ends_with_returns_is_known_again(end: bytes) -> None:
    outgoing = Outgoing()
    outgoing.waiting += b"one\n" + b"x" * 1022 + end
    outgoing.sent(len(outgoing.waiting))
    outgoing.finish()
    server = Framer()
    messages = [*server.receive_data(b"one\n" + b"x" * 1022 + end), *server.finish()]
    for line in Incoming().receive_data(b"".join(b"127.0.0.1: " + message + b"\n" for message in messages)):
        assert outgoing.heard(line)
    assert not outgoing.messages


def test_messages_are_those_that_the_server_makes() -> None:
    outgoing = said(b"x" * 2000 + b"\r")
    assert outgoing.heard(b"127.0.0.1: " + b"x" * 1024)
    assert outgoing.heard(b"127.0.0.1: " + b"x" * 976)
    assert not outgoing.disconnected(clean=False)


@pytest.mark.parametrize("clean", [True, False])
def test_what_has_not_come_back_may_be_lost(clean: bool) -> None:
    outgoing = said(b"one")
    assert outgoing.disconnected(clean)
    assert outgoing.lost
    assert not outgoing.disconnected(clean), "but not again"
    assert outgoing.lost, "and that stays so"


def test_a_server_that_kicks_us_may_not_have_read_our_end() -> None:
    outgoing = said(b"/command", b"one")
    outgoing.finish()
    outgoing.heard(b"* You are disconnected: one")
    assert not outgoing.end_expected()
    assert outgoing.disconnected(clean=True)


def test_a_member_that_says_so_kicks_nobody() -> None:
    outgoing = said(b"* You are disconnected: by me.", b"one")
    outgoing.finish()
    outgoing.heard(b"127.0.0.1: * You are disconnected: by another.")
    outgoing.heard(b"* You are disconnected: by me.")
    outgoing.heard(b"* You are disconnected: by another, in a chat without prefixes.")
    outgoing.heard(b"one")
    assert outgoing.end_expected()


def test_a_server_that_closes_after_our_end_has_read_it() -> None:
    outgoing = said(b"one")
    outgoing.finish()
    assert not outgoing.disconnected(clean=True)
    outgoing = said(b"one")
    outgoing.finish()
    assert outgoing.disconnected(clean=False), "unless it did not end well"
    outgoing = said(b"one", b"two")
    outgoing.heard(b"127.0.0.1: one")
    outgoing.finish()
    assert outgoing.disconnected(clean=True), "or unless it sends back what was said, and not all has come"


def test_a_command_has_arrived_when_something_comes_after_it() -> None:
    outgoing = said(b"/nick ann", b"hi")
    assert not outgoing.heard(b"* guest1 is now ann")
    assert list(outgoing.messages) == [b"hi"]
    outgoing = said(b"hi", b"/who")
    outgoing.heard(b"ann: hi")
    outgoing.finish()
    assert not outgoing.disconnected(clean=True)


def test_a_server_that_was_told_to_quit_has_got_that() -> None:
    outgoing = said(b"one", b"/quit and good bye")
    assert outgoing.end_expected()
    assert not outgoing.disconnected(clean=True)
    assert not said(b"/quit", b"one").end_expected()
    assert not said(b"/quitting").end_expected()


def test_a_message_that_was_cut_off_begins_anew_on_the_next_connection() -> None:
    outgoing = Outgoing()
    outgoing.waiting += b"one\n" + b"x" * 1500 + b"yz\nthree\n"
    outgoing.sent(4 + 1500)
    outgoing.disconnected(clean=False)
    assert bytes(outgoing.waiting) == b"x" * 476 + b"yz\nthree\n", "the server has had a part of 1024 bytes"
    outgoing.sent(len(outgoing.waiting))
    assert list(outgoing.messages) == [b"x" * 476 + b"yz", b"three"]


def test_a_line_without_an_end_is_a_message_when_the_stream_ends() -> None:
    outgoing = Outgoing()
    outgoing.waiting += b"one"
    outgoing.sent(3)
    outgoing.finish()
    assert outgoing.heard(b"127.0.0.1: one")
    outgoing.disconnected(clean=True)
    assert not outgoing.waiting


def test_what_never_comes_back_is_not_remembered_for_ever() -> None:
    outgoing = Outgoing()
    for _ in range(100):
        outgoing.waiting += b"x" * 1000 + b"\n" + b"y\n" * 10_000
        outgoing.sent(len(outgoing.waiting))
        assert outgoing.size <= MOST
    assert outgoing.disconnected(clean=False)
