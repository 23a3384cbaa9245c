"""Members that come with a WebSocket, and whoever else finds the port: with the real server."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from browsers import Guest, with_web
from chatting import (
    HERE,
    PATIENCE,
    ROOT,
    SMALL,
    Client,
    Start,
    descriptors,
    eventually,
    free_port,
    handler,
    linux,
    memory,
)

pytest.importorskip("websockets", reason="websockets is not installed")


def test_it_is_one_conversation(chatsrv: Start) -> None:
    server, port = with_web(chatsrv)
    terminal, guest = server.client(), Guest(port).enter()
    guest.say("grüß dich", "two\nlines\r\n", "")
    for line in "grüß dich", "two", "lines", "", "":
        assert terminal.line().decode() == guest.line() == f"127.0.0.1: {line}"
    terminal.say(b"\xffno text\xc3")
    assert guest.line() == "127.0.0.1: \ufffdno text\ufffd"
    guest.say("x" * 1023 + "äx")  # parts, as elsewhere
    assert [guest.line(), guest.line()] == ["127.0.0.1: " + "x" * 1023, "127.0.0.1: äx"]
    assert server.journal
    server.journal.expect(f"{guest.name} > grüß dich")


def test_what_was_sent_with_the_opening_is_heard(chatsrv: Start) -> None:
    _, port = with_web(chatsrv)
    with socket.create_connection((HERE, port)) as sock:
        key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        opening = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + key + b"\r\n"
        sock.sendall(opening + b"\x81\x82\0\0\0\0hi" + b"\x88\x82\0\0\0\0\x03\xe8")
        sock.settimeout(10)
        stream = b""
        while data := sock.recv(1000):
            stream += data
    assert stream.startswith(b"HTTP/1.1 101 ") and b"127.0.0.1: hi\n" in stream and stream.endswith(b"\x88\x02\x03\xe8")


def test_a_ping_is_answered(chatsrv: Start) -> None:
    _, port = with_web(chatsrv)
    guest = Guest(port).enter()
    guest.protocol.send_ping(b"are you there?")
    guest.flush()
    while not guest.frames:
        assert guest.receive()
    assert guest.frames[0].opcode.name == "PONG" and bytes(guest.frames[0].data) == b"are you there?"


def test_pings_without_end_cost_nothing(chatsrv: Start) -> None:
    """Even of one that does not read the answers; and they are no sign of interest."""
    server, port = with_web(chatsrv, "--idle-timeout", "1")
    guest, other = Guest(port, buffer=SMALL).enter(), server.client()
    guest.sock.settimeout(0.2)
    before = memory(server.pid) if sys.platform == "linux" else 0
    ping = b"\x89\xfd\0\0\0\0" + b"p" * 125
    try:
        for _ in range(150):
            guest.sock.sendall(ping * 500)
            other.say("still here")
            other.expect(b"127.0.0.1: still here")
    except OSError:
        pass  # it was sent away
    assert sys.platform != "linux" or memory(server.pid) - before < 4 << 20
    server.terminated("silent for 1 s")


def test_pings_without_a_pause_are_silence(chatsrv: Start) -> None:
    """There is always something to be read, but nothing is said."""
    server, port = with_web(chatsrv, "--idle-timeout", "1")
    guest = Guest(port).enter()
    guest.sock.settimeout(PATIENCE)
    pings = (b"\x89\xa4\0\0\0\0" + b"p" * 36) * 5000
    end = time.monotonic() + 5
    try:
        while time.monotonic() < end and server.journal and not server.journal.lines("terminated"):
            guest.sock.sendall(pings)
    except OSError:
        pass  # it was sent away
    assert time.monotonic() < end
    server.terminated("silent for 1 s")


def test_a_browser_that_leaves_is_answered_in_kind(chatsrv: Start) -> None:
    server, port = with_web(chatsrv)
    other = server.client()
    for number, (code, reason) in enumerate([(1000, "bye"), (1001, ""), (4000, "ours")], 1):
        guest = Guest(port).enter()
        guest.say("last word")
        guest.protocol.send_close(code, reason)
        guest.flush()
        assert guest.end() == (code, reason) and not guest.reset
        assert other.line() == b"127.0.0.1: last word"
        server.terminated("end of stream", number)


def test_what_follows_a_close_frame_costs_a_browser_nothing(chatsrv: Start) -> None:
    """With --max-rate, the server reads so little at once that the rest is still unread when it closes."""
    server, port = with_web(chatsrv, "--max-rate", "100")
    guest = Guest(port).enter()
    guest.protocol.send_text(b"x" * 80)
    guest.protocol.send_close(1000, "bye")
    guest.sock.sendall(b"".join(guest.protocol.data_to_send()) + b"\x8a\x80\0\0\0\0" * 100)  # and pongs
    assert guest.end() == (1000, "bye") and not guest.reset
    server.terminated("end of stream")


def test_a_browser_that_vanishes_is_gone(chatsrv: Start) -> None:
    server, port = with_web(chatsrv)
    for how in "finish", "reset":
        guest = Guest(port).enter()
        guest.say("last word")
        assert guest.line() == "127.0.0.1: last word"
        if how == "reset":
            guest.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        guest.sock.close()
    server.terminated("", 2)
    assert len(server.over("end of stream")) == len(server.over("connection reset by peer")) == 1


WRONG = {
    "an unmasked frame": (b"\x81\x02hi", 1002, "incorrect masking"),
    "a binary message": (b"\x82\x82\0\0\0\0hi", 1003, "a message is to be text"),
    "no text": (b"\x81\x82\0\0\0\0\xff\xff", 1007, "a message is to be utf-8"),
    "a huge frame": (b"\x81\xff" + bytes(4) + b"\xff" * 8, 1009, "65536 bytes"),
}


def test_a_browser_that_breaks_the_rules_is_told_which(chatsrv: Start) -> None:
    server, port = with_web(chatsrv)
    for number, (what, (frame, code, why)) in enumerate(WRONG.items(), 1):
        guest = Guest(port).enter()
        guest.say("before")
        guest.sock.sendall(frame)
        assert guest.line() == "127.0.0.1: before"
        assert guest.end()[0] == code and not guest.reset, what
        assert why in server.terminated("the browser was not understood: ", number)[-1], what


def test_a_kick_tells_its_reason_in_the_conversation_and_in_the_close_frame(chatsrv: Start, tmp_path: Path) -> None:
    kick = handler(tmp_path, "member.kick('enough of ' + messages[0].decode())")
    server, port = with_web(chatsrv, "--handler", kick)
    guest = Guest(port).enter()
    guest.say("ünïcödé")
    assert guest.line() == "* You are disconnected: enough of ünïcödé."
    assert guest.end() == (1008, "enough of ünïcödé") and not guest.reset
    server.terminated("enough of")


def test_a_handler_that_returns_or_fails(chatsrv: Start, tmp_path: Path) -> None:
    ends = handler(tmp_path, "if messages[0] == b'fail': raise ValueError", "return")
    server, port = with_web(chatsrv, "--handler", ends)
    for word, end in ("leave", (1000, "left")), ("fail", (1011, "its handler failed")):
        guest = Guest(port).enter()
        guest.say(word)
        assert guest.end() == end
    server.finish(complaint=None)


def test_the_end_of_the_server_is_said(chatsrv: Start) -> None:
    server, port = with_web(chatsrv)
    guest = Guest(port).enter()
    server.process.send_signal(signal.SIGTERM)
    assert guest.line() == "* You are disconnected: the server is ending."
    assert guest.end() == (1001, "the server is ending") and not guest.reset


def test_limits_hold_for_browsers_too(chatsrv: Start) -> None:
    server, port = with_web(chatsrv, "--max-per-ip", "2")
    first, _ = Guest(port).enter(), server.client()
    third = Guest(port)
    assert third.line() == "* You are disconnected: too many connections from 127.0.0.1."
    assert third.end() == (1008, "too many connections from 127.0.0.1")
    first.sock.close()


def test_a_slow_browser_gets_everything_in_order(chatsrv: Start) -> None:
    server, port = with_web(chatsrv, "--no-prefix")
    slow, talker = Guest(port, buffer=SMALL).enter(), server.client()
    said = [f"{number:06d} {'ä' * 400}" for number in range(5000)]
    for start in range(0, len(said), 100):
        talker.say(*said[start : start + 100])
        talker.expect(*(line.encode() for line in said[start : start + 100]))
    assert [slow.line() for _ in said] == said


def test_one_that_takes_nothing_is_sent_away_and_delays_nobody(chatsrv: Start) -> None:
    server, port = with_web(chatsrv, "--max-lag", "1M")
    stuck, talker = Guest(port, buffer=SMALL).enter(), server.client()
    for number in range(80):
        talker.say(*["x" * 1000] * 100, f"{number}")
        talker.wait_for(b": %d" % number)
    server.terminated("more than 1048576 bytes behind")
    stuck.sock.close()


@linux
def test_nothing_is_left_of_a_thousand_visits(chatsrv: Start) -> None:
    server, port = with_web(chatsrv, "--quiet")
    Guest(port).enter().sock.close()
    server.terminated("")
    before = descriptors(server.pid)
    for number in range(300):
        guest = Guest(port)
        if number % 3 == 0:
            guest.protocol.send_close(1000)
            guest.flush()
        guest.sock.close()
    server.terminated("", 301)
    eventually(lambda: descriptors(server.pid) == before, "closing of what was open")


# Whoever else finds the port.


def ask(port: int, request: bytes) -> bytes:
    with socket.create_connection((HERE, port), 10) as sock:
        sock.sendall(request)
        answer = b""
        while data := sock.recv(1 << 16):
            answer += data
    return answer


def test_plain_http(chatsrv: Start) -> None:
    server, port = with_web(chatsrv)
    assert ask(port, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").endswith(b"\r\n\r\nok\n")
    assert ask(port, b"GET / HTTP/1.0\r\n\r\n").endswith(b"</script>\n")
    assert ask(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000).startswith(
        b"HTTP/1.1 405 "
    )
    assert ask(port, b"hello\n").startswith(b"HTTP/1.1 400 ")
    server.terminated("answered GET /healthz with 200")
    server.terminated("answered POST / with 405")
    server.terminated("answered something that is not HTTP with 400")


def test_a_page_from_elsewhere_may_not_connect(chatsrv: Start) -> None:
    _, port = with_web(chatsrv)
    assert Guest(port, origin="https://evil.example").response.status_code == 403
    Guest(port, origin=f"http://{HERE}:{port}").enter()
    _, port = with_web(chatsrv, "--web-origin", "https://chat.example.org,https://other.example.org")
    assert Guest(port, origin=f"http://{HERE}:{port}").response.status_code == 403
    Guest(port, origin="https://chat.example.org").enter()


# At the start.


def run(*words: str, before: str = "pass") -> subprocess.CompletedProcess[str]:
    program = f"import sys; {before}; from chat.server.main import main; sys.exit(main({list(words)}))"
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=20)


def test_without_websockets_one_line_says_what_to_install() -> None:
    ran = run("--port", "0", "--web", "0", before="sys.modules['websockets'] = None")
    assert (ran.returncode, ran.stderr) == (1, "chatsrv: --web needs websockets: pip install 'websockets>=13'\n")


def test_a_port_in_use_is_told() -> None:
    with socket.create_server((HERE, 0)) as taken:
        port = taken.getsockname()[1]
        ran = run("--port", "0", "--web", f"{HERE}:{port}")
    assert ran.returncode == 1
    assert ran.stderr == f"chatsrv: --web: cannot listen on {HERE} port {port}: Address already in use\n"


@pytest.mark.parametrize("flags", [("--web", "x"), ("--web", "a:b"), ("--web-origin", "example.org")])
def test_mistakes_are_told(flags: tuple[str, str]) -> None:
    ran = run(*flags)
    assert ran.returncode == 2 and ran.stderr.startswith(f"chatsrv: argument {flags[0]}: '")


@pytest.mark.parametrize("where", ["{}", "[::1]:{}", "127.0.0.1:{}"])
def test_where_browsers_can_come_is_in_the_journal(chatsrv: Start, where: str) -> None:
    port = free_port()
    server = chatsrv("--web", where.format(port))
    assert server.journal
    said = server.journal.expect("serves browsers on")[0]
    assert said.endswith(f"serves browsers on port {port}") and ("this machine only" in said) is (where != "{}")
    Client(server.port).close()


def test_a_server_without_browsers_imports_nothing_for_them() -> None:
    before = "import loop; seen = lambda: [name for name in sys.modules if 'web' in name]; import atexit"
    check = "atexit.register(lambda: print(seen(), file=sys.stderr))"
    ran = run("--port", "99999999", before=f"{before}; import chat.server.main, chat.server.server; {check}")
    assert ran.stderr.splitlines()[-1] == "[]"
