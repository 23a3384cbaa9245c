"""Nicknames."""

from __future__ import annotations

import os
from itertools import product
from typing import TYPE_CHECKING

import pytest
from chatting import MIB, PATIENCE, Chatsrv, Client, Crowd, Start, cpu_seconds, linux, memory
from more import every

from loop import recv, send

if TYPE_CHECKING:
    from loop.traps import Coroutine


@pytest.fixture
def server(chatsrv: Start) -> Chatsrv:
    return chatsrv("--handler", "chat.handlers.nick:nick")


def people(server: Chatsrv, *names: str) -> list[Client]:
    """Clients with these nicknames, which have heard everything up to now."""
    clients = [server.client() for _ in names]
    for client, name in zip(clients, names):
        client.say(f"/nick {name}")
    for client in clients:
        client.wait_for(f"is now {names[-1]}".encode())
    return clients


def test_names_are_given_changed_and_shown(server: Chatsrv) -> None:
    ann, ben = server.client(), server.client()
    ann.expect(b"* guest1 is here", b"* guest2 is here")
    ben.expect(b"* guest2 is here")
    ann.say(
        "hello", "/nick ann", "hello", "/me waves", "/who", "/nick guest2", "/nick x y", "/nick", "/unknown", "/who x"
    )
    ben.expect(b"guest1: hello", b"* guest1 is now ann", b"ann: hello", b"ann waves")
    ann.expect(b"guest1: hello", b"* guest1 is now ann", b"ann: hello", b"ann waves", b"* Here: ann, guest2")
    ann.expect(b"* guest2 is taken")
    ann.expect(b"* A name has ", b"* A name has ", b"* Commands: ", starts=True)
    ann.expect(b"* Here: ann, guest2")
    ann.say("/quit", "nobody hears this")
    ben.expect(b"* ann is gone")
    assert ann.everything() == b"* ann is gone\n"
    ben.say("/who")
    ben.expect(b"* Here: guest2")
    server.terminated("left")


@pytest.mark.parametrize("end", ["/quit", "close", "reset"])
def test_a_name_is_free_when_its_owner_is_gone(chatsrv: Start, end: str) -> None:
    server = chatsrv("--handler", "chat.handlers.nick:nick")
    ann, ben = people(server, "ann", "ben")
    if end == "/quit":
        ann.say(end)  # and does not close
    else:
        getattr(ann, end)()
    ben.wait_for(b"* ann is gone")
    ben.say("/nick ann", "hi")
    ben.wait_for(b"* ben is now ann")
    ben.wait_for(b"ann: hi")


def test_names_that_look_like_one_that_is_here_are_refused(server: Chatsrv) -> None:
    ann, ben = people(server, "Ann", "ben")
    ben.say("/nick ANN", "/nick \uff21nn", "/nick ann", "/nick Ann", "/nick \u0410nn", "/nick BEN")
    for name in "ANN", "Ann", "ann", "Ann":
        line = ben.line()
        assert line in (f"* {name} looks like Ann, who is here".encode(), b"* Ann is taken"), line
    ben.expect(b"* A name has ", starts=True)
    ben.expect(b"* ben is now BEN")  # one's own name may change its looks
    ann.expect(b"* ben is now BEN")


def test_nothing_one_says_looks_like_another_kind_of_line(server: Chatsrv) -> None:
    ann, ben = people(server, "ann", "ben")
    for attempt, line in (
        ("/me is now admin", b"ann is now admin"),
        ("/me : hi", b"ann : hi"),
        ("* ben is gone", b"ann: * ben is gone"),
        ("(ben to you) hi", b"ann: (ben to you) hi"),
        ("/me " + "x" * 896 + "* ben is gone", b"ann " + b"x" * 896),
        (" /nick ben", b"ann:  /nick ben"),
    ):
        ann.say(attempt, "/msg ben " + attempt)
        heard = [ben.line()]
        if heard[0].startswith(b"ann"):
            assert heard.pop().startswith(line), attempt
            heard = [ben.line()]
        assert heard == [b"(ann to you) " + attempt.encode()]


def test_no_part_of_a_long_line_looks_like_what_somebody_else_says(server: Chatsrv) -> None:
    ann, ben = people(server, "ann", "ben")
    for tail in "* ben is gone", "(ben to you) hi", "ben: hi", "ben waves", "/quit", "/me waves":
        for length in range(1024 - len(tail), 1026):  # the line is cut at any place of the tail, or before or behind it
            ann.say("x" * length + tail)
        ann.say("end")
        while (line := ben.line()) != b"ann: end":
            assert line.startswith(b"ann: "), (tail, line)


@pytest.mark.parametrize("handler", ["nick", "rooms", "quiz", "moderate"])
def test_the_rest_of_a_command_that_is_too_long_is_neither_heard_nor_obeyed(chatsrv: Start, handler: str) -> None:
    server = chatsrv("--handler", f"chat.handlers.{handler}:{handler}", env={**os.environ, "CHATSRV_MODERATOR": "hush"})
    ann, _, carl = server.client(), server.client(), server.client()
    rests = "a secret", "/quit", "/me waves", "x" * 3000 + "a secret"
    for command, rest in product(["/me ", "/msg guest2 ", "/nick ", "/"], rests):
        ann.say((command + "x" * 1024)[:1024] + rest, "done")
        heard = [b""]
        while not heard[-1].endswith(b": done"):
            heard.append(ann.line())
        notice = b"* A command has at most 1024 bytes: the rest was left out"
        answers = [line for line in heard if line.startswith((b"* A name has", b"(you to", b"* Commands", notice))]
        assert len(answers) == 2 and answers[1] == notice, (command, rest)
    ann.say("end")
    while b"guest1: end" not in (line := carl.line()):
        assert b"secret" not in line and b"waves" not in line and b"guest1 is gone" not in line


def test_private_messages_are_heard_by_both_and_by_nobody_else(server: Chatsrv) -> None:
    ann, ben, carl = people(server, "ann", "ben", "carl")
    ann.say("/msg BEN hi there ", "/msg dora hi", "/msg ben", "/msg", "/msg ann to myself", "done")
    ben.expect(b"(ann to you) hi there ", b"ann: done")
    carl.expect(b"ann: done")
    ann.expect(b"(you to ben) hi there ", b"* Nobody here has that name")
    ann.expect(b"* Commands: ", b"* Commands: ", b"(ann to you) to", b"(you to ann) to", b"ann: done", starts=True)
    assert server.journal and not server.journal.lines("hi there")


def test_bytes_that_are_no_text_are_passed_on(server: Chatsrv) -> None:
    ann, ben = people(server, "ann", "ben")
    ann.say(b"\xff\xfe", b"/me \xff", b"/msg ben \xff", b"/nick \xff\xff", b"/\xff")
    ben.expect(b"ann: \xff\xfe", b"ann \xff", b"(ann to you) \xff")
    ann.wait_for(b"* A name has")
    ann.wait_for(b"* Commands")


@linux
@pytest.mark.parametrize("handler", every(2, ["nick", "rooms"]))
def test_a_client_that_asks_for_the_names_and_does_nothing_else(
    chatsrv: Start, crowd: Crowd, many_descriptors: None, handler: str
) -> None:
    """A flood of questions is answered at the asker's cost: nobody waits for it, and it costs no memory."""
    server = chatsrv("--quiet", "--handler", f"chat.handlers.{handler}:{handler}")
    before = cpu_seconds(server.pid)
    asker, ann, *others = visitors = crowd.enter(server.port, *(f"v{number}" for number in range(1000)))
    for visitor in [asker, *others]:
        visitor.listen()
    crowd.until(lambda: b"guest1000 is here" in asker.heard)
    joining = cpu_seconds(server.pid) - before
    start, size = memory(server.pid), len(asker.heard)
    waited = 0.0

    def talk() -> Coroutine[None]:
        """COROUTINE. Ann talks to herself until the asker has all its answers."""
        nonlocal waited
        heard, rounds = b"", 0
        while not asker.heard.endswith(b"that was all\n"):
            rounds += 1
            asked_at = cpu_seconds(server.pid)
            yield from send(ann.sock, b"/msg guest2 round %d\n" % rounds)
            while b"(you to guest2) round %d\n" % rounds not in heard[-1000:]:
                heard = heard[-1000:] + (yield from recv(ann.sock, 1 << 16, PATIENCE))
            waited = max(waited, cpu_seconds(server.pid) - asked_at)
            assert memory(server.pid) < start + 24 * MIB

    crowd.run(talk(), send(asker.sock, b"/who\n" * 6500 + b"/msg guest1 that was all\n", PATIENCE))
    assert asker.heard.count(b"* Here: ", size) == 6500
    assert waited < 0.1, "the others had to wait"  # seconds of the server's processor time
    ann.listen()
    before = cpu_seconds(server.pid)
    for visitor in visitors[2:]:
        visitor.close()
    crowd.until(lambda: ann.heard.count(b"is gone" if handler == "nick" else b"has left") == 998, timeout=40)
    leaving = cpu_seconds(server.pid) - before
    assert max(joining, leaving) < 3.0, "coming and going must not cost more, the more are here"
