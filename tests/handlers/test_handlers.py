"""Handlers as people write them: what one does wrong, or just late, must not cost others anything."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chatting import PREFIX, Chatsrv
from more import every

import chat.server.member
from chat.handlers.chat import chat as chat_handler
from chat.server.flags import Options
from chat.server.journal import Journal
from chat.server.server import Server
from loop import Cancelled, Kernel, sleep

if TYPE_CHECKING:
    from chat.server.member import Member
    from chat.server.room import Room
    from loop.traps import Coroutine

Start = Callable[..., Chatsrv]


@pytest.fixture
def serve(chatsrv: Start, tmp_path: Path) -> Callable[[str], Chatsrv]:
    """Starts a server whose handler greets, and then runs these lines for each lot of `messages`."""

    def start(*lines: str, before: str = "", after: str = "") -> Chatsrv:
        path = tmp_path / "handler.py"
        body = "".join(f"        {line}\n" for line in lines)
        path.write_text(
            f"import sys\nfrom loop import sleep\n\ndef handler(member, room):\n    member.tell('Welcome')\n{before}"
            f"    while messages := (yield from member.receive()):\n{body}{after}"
        )
        return chatsrv("--handler", f"{path}:handler")

    return start


def test_a_member_that_listens_on_after_its_end_of_stream_is_disconnected_like_any_other(
    serve: Callable[..., Chatsrv],
) -> None:
    server = serve(
        "room.publish(member, messages)",
        "for other in list(room.members): b'out' in messages and other is not member and other.kick('out')",
        after="    yield from sleep(1000)\n",
    )
    listener, talker = server.client(), server.client()
    listener.finish()
    talker.say("hear this")
    talker.expect(PREFIX + b"hear this")
    talker.say("out")
    assert listener.everything() == PREFIX + b"hear this\n* You are disconnected: out.\n"
    server.terminated("out")


def test_a_member_that_lingers_after_its_end_of_stream_does_not_keep_the_server(serve: Callable[..., Chatsrv]) -> None:
    server = serve("pass", after="    yield from sleep(1000)\n")
    client = server.client()
    client.finish()
    server.process.send_signal(signal.SIGTERM)
    assert client.everything() == b"* You are disconnected: the server is ending.\n"
    assert server.process.wait(3) == 0
    server.finish()


@pytest.mark.parametrize(
    "line, complaint",
    every(
        3,
        [
            ("sys.exit(3)", "SystemExit: 3"),
            ("raise KeyboardInterrupt", "KeyboardInterrupt"),
            ("raise GeneratorExit", "GeneratorExit"),
            ("room.publish(member, [1])", "TypeError: a message is str or bytes"),
            ("room.publish(member, 'one\\ntwo')", "ValueError: a message is one line"),
            ("room.publish(member, [*messages, b'one\\ntwo'])", "ValueError: a message is one line"),
            ("member.prefix = 7; room.publish(member, messages)", "TypeError"),
            ("member.tell(None)", "TypeError: a message is str or bytes"),
            ("room.spawn(print)", "TypeError: spawn() takes a generator"),
            ("yield from sleep(float('nan'))", "ValueError"),
        ],
    ),
)
def test_a_mistake_costs_its_own_member_only(serve: Callable[..., Chatsrv], line: str, complaint: str) -> None:
    server = serve("if b'boom' in messages:", f"    {line}", "room.publish(member, messages)")
    bystander, culprit = server.client(), server.client()
    culprit.say("boom")
    assert culprit.everything() == b"* You are disconnected: its handler failed.\n"
    server.terminated("its handler failed")
    server.complaints.expect(complaint)
    bystander.say("still here")
    bystander.expect(PREFIX + b"still here")
    assert server.journal
    assert not server.journal.lines("> boom"), "the journal has what nobody heard"
    server.finish(complaint=None)


def test_a_line_of_the_server_stays_one_line(serve: Callable[..., Chatsrv]) -> None:
    server = serve("room.announce('one\\ntwo')", "member.kick('a\\nb')")
    client = server.client()
    client.say("x")
    client.wait_for(b"You are disconnected")
    server.terminated(r"a\x0ab")
    assert server.journal and server.journal.lines("room > one two")


# In this process, to see what is inside.


class OneMember:
    """A server with one member, which reads nothing."""

    def __init__(self, tmp_path: Path, handler: Any = chat_handler) -> None:
        self.ours, self.theirs = socket.socketpair()
        for sock in self.ours, self.theirs:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.kernel = Kernel()
        self.output = (tmp_path / "journal").open("wb", buffering=0)
        self.server = Server(self.kernel, [], Journal(self.output, quiet=True), Options(), handler)
        self.room = self.server.hub.first
        self.life = self.kernel.spawn(self.server.run(), "server")
        self.server.begin_serving(self.ours, ("10.0.0.1", 40000))
        (self.member,) = self.server.connections
        self.ticker = self.kernel.spawn(self.tick())  # so that a turn never waits
        self.turn(4)

    def tick(self) -> Coroutine[None]:
        while True:
            yield from sleep(0)

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.kernel.turn()

    def flood(self, times: int) -> None:
        for _ in range(times):
            self.room.publish(self.member, [b"x" * 1000])
            self.turn(2)

    def close(self) -> None:
        for task in list(self.kernel.tasks):
            task.cancel()
        self.kernel.run()
        self.kernel.poller.close()
        self.theirs.close()
        self.ours.close()
        self.output.close()


@pytest.fixture
def inside(tmp_path: Path, living: list[int]) -> Iterator[OneMember]:
    inside = OneMember(tmp_path)
    yield inside
    inside.close()


@pytest.mark.parametrize("end", ["kick", "leave"])
def test_a_member_that_goes_keeps_nothing_of_what_is_said_meanwhile(
    inside: OneMember, living: list[int], end: str
) -> None:
    inside.flood(50)
    assert inside.member.outbox.lag() > 30_000 and living[0] > 30, "it is behind"
    if end == "kick":
        inside.member.kick("because")
    else:
        inside.member.leave()
    inside.turn(5)
    due = inside.member.outbox.lag()
    inside.flood(100)
    assert inside.member.writer, "it still takes nothing"
    assert inside.member.outbox.lag() == due
    assert living[0] < 5


def test_a_handler_that_does_not_end_does_not_keep_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chat.server.member, "KICKED", 0.05)

    def stubborn(member: Member, room: Room) -> Coroutine[None]:
        member.tell("Welcome")
        while True:
            try:
                yield from sleep(1000)
            except Cancelled:
                pass

    inside = OneMember(tmp_path, stubborn)
    inside.server.stop()
    inside.kernel.run(until=inside.life)
    assert inside.life.outcome == "returned"
    said = capfd.readouterr().err.splitlines()
    assert said[:2] == [
        "chatsrv: the handler of 10.0.0.1:40000 does not end; it was dropped",
        "10.0.0.1:40000: Sleep timeout 1000",
    ]
    first = stubborn.__code__.co_firstlineno
    assert said[-2] == f"    stubborn at tests/handlers/test_handlers.py:{first + 4}"  # where it waits
    journal = (tmp_path / "journal").read_text()
    assert journal.endswith("10.0.0.1:40000 connection terminated: the server is ending\n")
    assert inside.ours.fileno() == -1
    inside.kernel.poller.close()
    inside.theirs.close()
    inside.output.close()
