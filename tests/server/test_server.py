"""The server from outside: its command line, what it says, what a conversation is."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chatting import (
    GREETING,
    HERE,
    PREFIX,
    ROOT,
    Client,
    Start,
    asleep,
    eventually,
    handler,
    linux,
    needs_strace,
)
from more import every

from chat.server.connection import FAREWELL
from chat.server.flags import parse
from chat.server.listen import BACKLOG, listen, prepare
from chat.server.member import BEHIND
from loop import sleep

if TYPE_CHECKING:
    from typing import Any

    from conftest import Build

    from loop.traps import Coroutine

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no IPv6")


def run(*flags: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run chatsrv to its own end; returns exit status, stdout and stderr."""
    command = [sys.executable, str(ROOT / "chatsrv"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False, env=env)
    return done.returncode, done.stdout, done.stderr


# The command line.


@pytest.mark.parametrize(
    "flags",
    [
        "--nonsense",
        "--non\nsense\x1b[31m",
        "3100",
        "--port",
        "--port x",
        "--port -1",
        "--port 65536",
        "--po 3100",
        "--max-lag 12",
        "--max-lag 1T",
        "--max-lag ²",
        "--max-clients 0",
        "--max-per-ip -1",
        "--max-rate fast",
        "--stall-timeout -1",
        "--stall-timeout nan",
        "--idle-timeout soon",
    ],
)
def test_a_usage_error_is_one_line_and_status_2(flags: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(flags.split(" "))
    out, err = capsys.readouterr()
    assert (end.value.code, out, err.count("\n")) == (2, "", 1)
    assert "--help" in err and "\x1b" not in err


@pytest.mark.parametrize("size", ["1.5M", "16MB", "2T", "1023", "fast", "9" * 100])
def test_a_wrong_size_is_answered_with_what_is_right(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--max-lag", size])
    assert "k, M or G may follow it, as in 64k or 16M" in capsys.readouterr().err
    assert parse(["--max-lag", "1500"]).max_lag == 1500
    assert [parse(["--max-rate", f"3{unit}"]).max_rate for unit in "kMgG"] == [3 << 10, 3 << 20, 3 << 30, 3 << 30]


@pytest.mark.parametrize("columns", every(3, ["0", "1", "200", "80", "40", "nonsense", ""]))
def test_no_word_of_the_help_is_broken(columns: str) -> None:
    status, out, _ = run("--help", env={**os.environ, "COLUMNS": columns})
    assert status == 0
    for word in "redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]", "?stream=NAME&maxlen=ENTRIES", "journal":
        assert word in out.split()


@pytest.mark.parametrize(
    "flags",
    [
        "--nonsense",
        "--handler nowhere:f",
        "--handler no\nwhere:f",
        "--handler \x1b[31m.py:f",
        "--handler ..:f",
        "--trace no\nwhere/\x1b[31m",
        "--trace /dev/null,nan",
        "--trace /dev/null,-5",
        "--tls no\nwhere\x1b",
        "--cluster=",
        "--cluster-wait",
        "--web-origin http://localhost",
        "--tls-port 0",
    ],
)
def test_the_program_says_so_and_ends(flags: str) -> None:
    """Flags that would do nothing, too: one of them may come from a variable that is not set."""
    status, out, err = run("--port", "0", *flags.split(" "))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("chatsrv: ") and "Error" not in err and "\x1b" not in err


def test_an_address_with_a_newline_is_told_in_one_line() -> None:
    status, out, err = run("--port", "0", "--host", "no\nwhere\x1b")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("chatsrv: cannot listen on no\\x0awhere\\x1b port 0: ")


def test_a_port_in_use_is_one_line_and_status_1(chatsrv: Start) -> None:
    server = chatsrv()
    for host in [], ["--host", HERE]:
        status, out, err = run("--port", str(server.port), *host)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert str(server.port) in err and "in use" in err.lower()


@needs_ipv6
def test_a_port_in_use_by_ipv6_alone_is_in_use() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6) as other:
        status, _, err = run("--port", str(other.getsockname()[1]))
    assert status == 1 and "in use" in err.lower()


def test_an_address_that_is_not_ours_is_one_line_and_status_1() -> None:
    status, out, err = run("--port", "0", "--host", "192.0.2.1")
    assert (status, out, err.count("\n")) == (1, "", 1)


def test_help_names_every_flag_and_version_the_version() -> None:
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    flags = """host port no-prefix quiet handler max-lag stall-timeout
        idle-timeout max-clients max-per-ip max-rate"""
    for flag in flags.split():
        assert f"--{flag} " in out
    assert run("--version") == (0, "chatsrv 1.0\n", "")


# The chat.


def test_the_greeting_comes_first_and_what_one_says_all_hear(chatsrv: Start) -> None:
    server = chatsrv()
    a, b = Client(server.port), Client(server.port)
    server.clients += [a, b]
    a.expect(GREETING)
    b.expect(GREETING)
    a.say("hello", "", "world")
    for client in a, b:
        client.expect(PREFIX + b"hello", PREFIX, PREFIX + b"world")
    b.say(b"\x00\xff\xf4\xff\xfd\x06 \x1b[2J caf\xc3\xa9")
    for client in a, b:
        client.expect(PREFIX + b"\x00\xff\xf4\xff\xfd\x06 \x1b[2J caf\xc3\xa9")


def test_the_greeting_comes_first_even_if_somebody_talks_at_that_moment(chatsrv: Start) -> None:
    server = chatsrv()
    talker = server.client()
    server.process.send_signal(signal.SIGSTOP)
    newcomer = Client(server.port)
    server.clients.append(newcomer)
    talker.say("now")
    server.process.send_signal(signal.SIGCONT)  # it finds both in one turn
    talker.expect(PREFIX + b"now")
    talker.say("later")
    newcomer.expect(GREETING)
    assert newcomer.wait_for(b"later")


def test_telnet_line_ends(chatsrv: Start) -> None:
    client = chatsrv().client()
    client.send(b"one\r\ntwo\n\r\nthr\ree\r\r\n")
    client.expect(PREFIX + b"one", PREFIX + b"two", PREFIX, PREFIX + b"thr\ree\r")


def test_1024_bytes_are_one_message_and_1025_are_two(chatsrv: Start) -> None:
    client = chatsrv("--no-prefix").client()
    client.send(b"a" * 1024 + b"\n" + b"b" * 1025 + b"\nend\n")
    client.expect(b"a" * 1024, b"b" * 1024, b"b", b"end")
    client.send(b"c" * 1023)
    client.send(b"\xc3\xa9\n")
    client.expect(b"c" * 1023, b"\xc3\xa9")


def test_no_prefix(chatsrv: Start) -> None:
    client = chatsrv("--no-prefix").client()
    client.say("as it was said")
    client.expect(b"as it was said")


@needs_ipv6
def test_ipv6_and_ipv4_meet_and_are_named_as_people_write_them(chatsrv: Start) -> None:
    server = chatsrv()
    six, four = server.client(host="::1"), server.client()
    six.say("from six")
    four.wait_for(b"::1: from six")
    four.say("from four")
    six.expect(b"::1: from six", b"127.0.0.1: from four")
    assert server.journal
    server.journal.expect(f"{six.name} accepted connection")
    server.journal.expect(f"{four.name} > from four")


@needs_ipv6
def test_host_listens_there_only(chatsrv: Start) -> None:
    for host, other in (HERE, "::1"), ("::1", HERE):
        server = chatsrv("--host", host)
        server.client(host=host).say("in")
        with pytest.raises(ConnectionRefusedError):
            Client(server.port, host=other)


def test_half_close_hears_everything_that_is_due(chatsrv: Start) -> None:
    server = chatsrv()
    client = server.client()
    client.send(b"first\nand an unfinished rest")
    client.finish()
    assert client.everything() == PREFIX + b"first\n" + PREFIX + b"and an unfinished rest\n"
    server.terminated("end of stream")


def test_a_large_answer_survives_the_half_close(chatsrv: Start) -> None:
    client = chatsrv("--quiet", "--no-prefix").client(buffer=4096)
    said = b"".join(b"%06d" % number + b"." * 1000 + b"\n" for number in range(8000))
    client.send(said)
    client.finish()
    assert client.everything() == said


def test_what_a_reset_leaves_unfinished_is_no_message(chatsrv: Start) -> None:
    """Also when it is a send that learns of the reset: the system tells it once, and recv then says end of stream."""
    server = chatsrv("--max-rate", "1k")
    observer, rude = server.client(), server.client()
    rude.say("first", "." * 600)
    rude.send(b"unfinished" * 90)  # above the rate: it is not read from for a while
    observer.wait_for(b"first")
    rude.reset()
    observer.say("something to send")
    server.terminated("connection reset by peer")
    observer.finish()
    assert observer.everything() == PREFIX + b"." * 600 + b"\n" + PREFIX + b"something to send\n"


# The journal.


def test_the_journal_has_one_printable_line_per_message(chatsrv: Start) -> None:
    server = chatsrv()
    client = server.client()
    name = client.name
    client.say(
        b"bare\rreturn", b"\x1b[2J\x07\x7f", b"\xc2\x9b1m", "a\u202eb\u2066c\u2028d", b"\xff\xc3", "café 漢字", ""
    )
    client.finish()
    client.everything()
    server.terminated()
    assert server.journal
    assert server.journal.lines(name) == [
        f"{name} accepted connection",
        f"{name} > bare\\x0dreturn",
        f"{name} > \\x1b[2J\\x07\\x7f",
        f"{name} > \\x9b1m",
        f"{name} > a\\u202eb\\u2066c\\u2028d",
        f"{name} > \\xff\\xc3",
        f"{name} > café 漢字",
        f"{name} > ",
        f"{name} connection terminated: end of stream",
    ]


def test_quiet_leaves_the_texts_out(chatsrv: Start) -> None:
    server = chatsrv("--quiet")
    client = server.client()
    client.say("secret")
    client.expect(PREFIX + b"secret")
    client.close()
    server.terminated()
    assert server.journal and len(server.journal.lines()) == 3 and not server.journal.lines("secret")


# What it costs.


@linux
def test_one_thread_and_no_child(chatsrv: Start) -> None:
    server = chatsrv()
    clients = [server.client() for _ in range(20)]
    clients[0].say("hello")
    for client in clients:
        client.wait_for(b"hello")
    assert os.listdir(f"/proc/{server.pid}/task") == [str(server.pid)]
    assert Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text() == ""


@linux
@needs_strace
def test_no_system_call_while_nothing_happens(chatsrv: Start, tmp_path: Path) -> None:
    server = chatsrv("--stall-timeout", "1")
    for _ in range(100):
        server.client()
    server.accepted(100)

    def at_rest() -> bool:
        """Whether it has slept for a second: after work, it looks once more whether a handler hangs."""
        status = Path(f"/proc/{server.pid}/status")
        before = re.findall("ctxt_switches:.*", status.read_text())
        time.sleep(1)
        return asleep(server.pid) and re.findall("ctxt_switches:.*", status.read_text()) == before

    eventually(at_rest)
    trace = tmp_path / "trace"
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", str(trace), "-p", str(server.pid)], stderr=subprocess.PIPE)
    assert tracer.stderr
    status = Path(f"/proc/{server.pid}/status")
    try:
        eventually(lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text() or tracer.poll() is not None)
        if tracer.poll() is not None:
            pytest.skip(f"strace is not permitted here: {tracer.stderr.read().decode()}")
        time.sleep(2)  # the one wait for time: that nothing happens cannot be waited for
        tracer.send_signal(signal.SIGINT)
        tracer.wait(15)
    finally:
        tracer.kill()
        tracer.wait()
        tracer.stderr.close()
    calls = [line for line in trace.read_text().splitlines() if "detached" not in line]
    assert calls == []


@linux
def test_accepted_sockets_inherit_what_the_listener_has() -> None:
    (listener,) = listen(None, 0)
    prepare(listener, 60)
    with listener, socket.create_connection((HERE, listener.getsockname()[1]), 5):
        listener.setblocking(True)
        sock, _ = listener.accept()
        names = "TCP_NODELAY", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"
        with closing(sock):
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            options = [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
            assert options == [1, 24, 9, 4, 60_000]


@linux
def test_many_may_wait_to_be_accepted() -> None:
    (listener,) = listen(None, 0)
    with listener:
        (room,) = struct.unpack_from("I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32), 28)
    assert room == min(BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text())) and BACKLOG >= 1024


def test_little_is_imported_before_it_listens(chatsrv: Start) -> None:
    """What connects 0.1 s after the start has to be accepted, and imports are most of that time."""
    server = chatsrv(env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
    server.complaints.expect("chat.server.main")
    imported = set(re.findall(r"\| +(\S+)$", server.complaints.text(), re.MULTILINE))
    assert {"chat.server.server", "loop.kernel"} <= imported
    heavy = "asyncio concurrent dataclasses inspect logging subprocess tempfile typing hiredis ssl websockets"
    ours = "chat.server.cluster.node chat.client.client chat.server.loading chat.server.lint ast"
    ours += " loop.tls chat.server.certificate chat.server.web.start"
    assert not imported & {*heavy.split(), *ours.split()}
    server.finish(complaint=None)


def test_the_address_and_the_port_are_as_asked() -> None:
    listeners = listen(HERE, 0)
    prepare(listeners[0], None)
    try:
        assert len(listeners) == 1
        assert listeners[0].getsockname()[0] == HERE and listeners[0].getsockname()[1] > 0
        assert not listeners[0].getblocking()
        assert listeners[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    finally:
        for listener in listeners:
            listener.close()


# Handlers.


def test_a_handler_of_ones_own(chatsrv: Start, tmp_path: Path) -> None:
    shout = handler(tmp_path, "room.publish(member, [message.upper() for message in messages])")
    client = chatsrv("--handler", shout).client()
    client.say("hello")
    client.expect(PREFIX + b"HELLO")


def test_a_handler_beside_the_user_is_found_as_a_module(chatsrv: Start, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def once(member, room):\n    member.tell('Welcome once')\n    yield from ()\n")
    server = chatsrv("--handler", "mine:once", cwd=tmp_path)
    client = server.client()
    assert client.everything() == b""
    server.terminated("left")


def test_a_handler_that_fails_ends_its_own_member_only(chatsrv: Start, tmp_path: Path) -> None:
    fragile = handler(
        tmp_path,
        "room.publish(member, messages)",
        "if b'boom' in messages:",
        "    raise LookupError('the word was said')",
        "if b'oops' in messages:",
        "    yield member.receive()",
    )
    server = chatsrv("--handler", fragile)
    a, b, c = server.client(), server.client(), server.client()
    a.say("boom")
    assert a.everything() == PREFIX + b"boom\n* You are disconnected: its handler failed.\n"
    b.say("oops")
    assert b.everything() == PREFIX + b"boom\n" + PREFIX + b"oops\n* You are disconnected: its handler failed.\n"
    server.terminated("its handler failed", 2)
    c.say("still here")
    c.expect(PREFIX + b"boom", PREFIX + b"oops", PREFIX + b"still here")
    for client in a, b:
        server.complaints.expect(f"the handler of {client.name} failed")
    server.complaints.expect("LookupError: the word was said")
    server.complaints.expect("yield from")
    server.complaints.expect('handler.py", line 7')
    server.finish(complaint=None)


def test_a_handler_whose_own_wait_times_out_has_failed_and_was_not_silent(chatsrv: Start, tmp_path: Path) -> None:
    waiting = handler(tmp_path, "from loop import WaitQueue", "yield from WaitQueue().wait(0.01)")
    server = chatsrv("--handler", waiting)
    client = server.client()
    client.say("go")
    assert client.everything() == b"* You are disconnected: its handler failed.\n"
    server.terminated("its handler failed")
    server.complaints.expect(f"the handler of {client.name} failed")
    server.complaints.expect("TimedOut")
    server.finish(complaint=None)


# The end.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_ends_it_in_order(chatsrv: Start, number: signal.Signals) -> None:
    server = chatsrv()
    client = server.client()
    client.say("last words")
    client.expect(PREFIX + b"last words")
    server.process.send_signal(number)
    assert client.everything() == b"* You are disconnected: the server is ending.\n"
    assert server.process.wait(15) == 0
    server.terminated("the server is ending")


def test_a_kernel_that_is_thrown_away_takes_its_members_along_without_a_word(house: Build) -> None:
    here = house()
    task = here.of(here.member(boxed=False)).task
    task.coroutine.close()  # as the garbage collector does; RuntimeError if it goes on
    assert not here.server.connections


def test_one_that_has_gone_before_it_was_accepted_may_have_no_address(house: Build) -> None:
    """macOS does not have it any more then, and accept() returns None for it."""
    here = house()
    member = here.member(boxed=False)
    gone, other = socket.socketpair()
    with other:
        here.server.begin_serving(gone, None)
        assert gone.fileno() == -1 and other.recv(1) == b""
    member.say(b"hello\n")
    member.until(lambda: member.heard == b"hello\n")
    assert here.path.read_text().count("accepted connection") == 1


def test_goodbyes_have_their_time_however_long_the_cluster_takes(house: Build) -> None:
    """What comes back at the last moment is due to a slow reader, too."""
    here = house()
    slow = here.member(boxed=False, buffer=4096)
    member, hub = here.of(slow), here.server.hub

    class Late:
        """All that was said comes back just before the wait for it ends."""

        def finish(self, timeout: float) -> Coroutine[None]:
            yield from sleep(timeout - 0.1)
            hub.first.append(b"x" * 1000 + b"\n")
            for _ in range(1000):
                hub.first.append(b"y" * 1000 + b"\n")

        def wait_for_return(self, timeout: float) -> Coroutine[None]:
            yield from sleep(0)

        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: False

    hub.cluster = Late()
    here.server.stop()
    here.until(lambda: member.reason)
    kicked = here.world.now
    here.until(lambda: here.world.now > kicked + FAREWELL - 1)
    slow.until(lambda: slow.fin or slow.reset)
    assert slow.fin and slow.heard.endswith(b"y\n* You are disconnected: the server is ending.\n")


@pytest.mark.parametrize("end", ["of the server", "of the stream"])
def test_time_in_which_the_process_stands_still_is_no_time_for_goodbyes(house: Build, end: str) -> None:
    """A server that is suspended while it ends goes on with what is due, as its clients have waited for that."""
    here = house()
    slow = here.member(boxed=False, buffer=4096)
    member, first = here.of(slow), here.server.hub.first
    for _ in range(1000):
        first.append(b"y" * 1000 + b"\n")
    here.until(lambda: member.sending == BEHIND)
    if end == "of the server":
        here.server.stop()
    else:
        slow.sock.shutdown(socket.SHUT_WR)
    here.until(lambda: member.handled)
    for _ in range(3):
        before = len(slow.heard)
        slow.until(lambda: len(slow.heard) > before + 10_000)  # noqa: B023
        here.world.now += 100
    slow.until(lambda: slow.fin or slow.reset)
    assert slow.fin and slow.heard.count(b"y\n") == 1000


def test_a_server_whose_cluster_fails_by_a_mistake_ends(house: Build, capfd: pytest.CaptureFixture[str]) -> None:
    """What its members say would never be heard."""

    class Mistaken:
        def run(self) -> Coroutine[None]:
            yield from sleep(0)
            raise RuntimeError("dictionary changed size during iteration")

    here = house()
    here.server.hub.cluster = Mistaken()  # type: ignore[assignment]
    with pytest.raises(SystemExit):
        here.kernel.run()
    here.server.hub.cluster = None
    assert "cluster failed" in capfd.readouterr().err
