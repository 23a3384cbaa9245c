"""Browsers behind TLS: the wire to a browser stands on the one that speaks TLS."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import Guest, chromium, lines, say, visit, wait_for
from certificates import Authority
from chatting import HERE, SMALL, Chatsrv, Start, handler

pytest.importorskip("websockets", reason="websockets is not installed")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secure(chatsrv: Start, authority: Authority) -> Iterator[Start]:
    """Starts servers with --web and TLS for browsers, and a plain port for others."""

    def start(*flags: str) -> Chatsrv:
        server = chatsrv("--web", f"{HERE}:0", "--tls", authority.issue(), "--tls-port", "0", *flags)
        server.web_port = int(server.journal.expect("with TLS, serves browsers on port")[0].split()[-1])  # type: ignore[attr-defined,union-attr]
        return server

    yield start


def port_of(server: Chatsrv) -> int:
    return int(server.web_port)  # type: ignore[attr-defined]


def test_a_conversation(secure: Start, authority: Authority, tmp_path: Path) -> None:
    server = secure("--handler", handler(tmp_path, "room.publish(member, messages)", "if messages == [b'go']: return"))
    terminal, guest = server.client(), Guest(port_of(server), tls=authority.client()).enter()
    guest.say("grüß dich", "x" * 50_000)
    assert guest.line() == "127.0.0.1: grüß dich"
    assert "".join(guest.line().partition(": ")[2] for _ in range(49)) == "x" * 50_000
    terminal.say("hello")
    assert guest.line() == "127.0.0.1: hello"
    guest.say("go")
    assert guest.line() == "127.0.0.1: go"
    assert guest.end() == (1000, "left") and not guest.reset  # and with close_notify: a ragged end raises
    server.terminated("left")


def test_a_slow_browser_gets_everything_in_order(secure: Start, authority: Authority) -> None:
    server = secure("--no-prefix")
    slow, talker = Guest(port_of(server), buffer=SMALL, tls=authority.client()).enter(), server.client()
    said = [f"{number:06d} {'ä' * 400}" for number in range(5000)]
    for start in range(0, len(said), 100):
        talker.say(*said[start : start + 100])
        talker.expect(*(line.encode() for line in said[start : start + 100]))
    assert [slow.line() for _ in said] == said
    slow.protocol.send_ping(b"still there?")
    slow.flush()
    while not slow.frames:
        assert slow.receive()
    assert slow.frames[0].opcode.name == "PONG"


def test_one_that_breaks_the_rules_is_told_which(secure: Start, authority: Authority) -> None:
    server = secure()
    guest = Guest(port_of(server), tls=authority.client()).enter()
    guest.sock.sendall(b"\x82\x82\0\0\0\0hi")
    assert guest.end() == (1003, "a message is to be text") and not guest.reset
    server.terminated("the browser was not understood: a message is to be text")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_https(secure: Start, authority: Authority) -> None:
    server = secure()
    ran = subprocess.run(
        ["curl", "-sSi", "--cacert", authority.file, f"https://localhost:{port_of(server)}/healthz"],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "") and ran.stdout.startswith("HTTP/1.1 200 OK")
    server.terminated("answered GET /healthz with 200")


@pytest.mark.more  # a second browser, for one line
def test_the_page(secure: Start) -> None:
    server = secure()
    with chromium() as browser:
        page = visit(browser, port_of(server), scheme="https", ignore_https_errors=True)
        terminal = server.client()
        say(page, "from afar")
        terminal.expect(b"127.0.0.1: from afar")
        terminal.say("welcome")
        wait_for(page, "welcome")
        assert lines(page)[-2:] == ["127.0.0.1: from afar", "127.0.0.1: welcome"]
        assert page.evaluate("address.protocol") == "wss:" and not page.troubles  # type: ignore[attr-defined]


def test_plain_http_is_told_to_come_with_https(secure: Start) -> None:
    server = secure()
    with socket.create_connection((HERE, port_of(server))) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        answer = sock.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(b"\nThis port speaks https: write https:// before the address.\n")
    server.terminated("it does not speak TLS")
