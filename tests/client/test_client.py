"""The client between pipes, files and closed descriptors, and what its exit status says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import IO

import forked
import pytest
from chatting import HERE, PATIENCE, ROOT, Chatsrv, Printed, free_port, linux
from forked import CLIENT, ENVIRONMENT, Process
from more import every, only_with_more

WELCOME = "Welcome to the chat: each line you send goes to everybody here.\n"


def run(*arguments: object, stdin: str | bytes = b"", prefix: str = "", suffix: str = "") -> tuple[int, str, str]:
    """The client, perhaps in a shell's pipeline; its status, what came out at the end, and its complaints."""
    data = stdin if isinstance(stdin, bytes) else stdin.encode()
    if not prefix and not suffix:
        return run_alone(*arguments, stdin=data)
    command = f"{prefix} {' '.join([*CLIENT, *map(str, arguments)])} {suffix}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        input=data,
        capture_output=True,
        timeout=PATIENCE,
        env=ENVIRONMENT,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def run_alone(*arguments: object, stdin: bytes) -> tuple[int, str, str]:
    with start(*arguments) as client:
        assert client.stdin and client.stdout and client.stderr
        out, err = Printed(client.stdout), Printed(client.stderr)
        try:
            client.stdin.write(stdin)
            client.stdin.close()
        except BrokenPipeError:
            pass  # it has ended, or has closed its stdin
        status = client.wait(PATIENCE)
        out.close()
        err.close()
    return status, out.text(), err.text()


@contextmanager
def start(*arguments: object) -> Iterator[Process]:
    """The client with a pipe on each end; it is gone afterwards."""
    command = [*CLIENT, *map(str, arguments)]
    with forked.start(command, ENVIRONMENT, stdin=PIPE, stdout=PIPE, stderr=PIPE) as client:
        try:
            yield client
        finally:
            client.kill()


# Pipes.


def test_hazard_45_a_pipe_gets_greeting_and_echo(server: Chatsrv) -> None:
    assert run("127.0.0.1", server.port, prefix="echo hi |") == (0, f"{WELCOME}127.0.0.1: hi\n", "")


def test_a_file_without_a_last_newline_is_sent_whole(server: Chatsrv, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("one\n\ntwo")
    status, out, complaints = run("localhost", server.port, suffix=f"< {tmp_path / 'text'}")
    prefix = out.splitlines()[1].split(": ")[0]
    assert (status, complaints) == (0, "")
    assert out == f"{WELCOME}{prefix}: one\n{prefix}: \n{prefix}: two\n"


def test_a_tee_behind_and_timestamps(server: Chatsrv, tmp_path: Path) -> None:
    status, out, _ = run("127.0.0.1", server.port, "--timestamps", stdin="hi\n", suffix=f"| tee {tmp_path / 'log'}")
    assert status == 0
    assert [line[5:] for line in out.splitlines(True)] == [f" {WELCOME}", " 127.0.0.1: hi\n"]
    assert all(line[2] == ":" and line[:2].isdigit() and line[3:5].isdigit() for line in out.splitlines())
    assert (tmp_path / "log").read_text() == out


@pytest.mark.parametrize("stdin", ["<&-", "< /dev/null"])
def test_without_stdin_the_greeting_is_all(server: Chatsrv, stdin: str) -> None:
    assert run("127.0.0.1", server.port, suffix=stdin) == (0, WELCOME, "")


def test_a_closed_stdout_is_nobody_to_talk_to(server: Chatsrv) -> None:
    assert run("127.0.0.1", server.port, stdin="hi\n", suffix=">&-") == (0, "", "")


def test_a_full_disk_is_said_in_one_line(server: Chatsrv) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    status, _, complaints = run("127.0.0.1", server.port, stdin="hi\n", suffix="> /dev/full")
    assert (status, complaints) == (1, "chatclient: cannot write to stdout: no space left on device\n")


def test_what_failed_first_counts() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with socket.create_server((HERE, 0)) as listener:
        listener.settimeout(PATIENCE)
        sender = threading.Thread(target=lambda: listener.accept()[0].sendall(b"a line without an end"))
        sender.start()
        status, _, complaints = run(HERE, listener.getsockname()[1], suffix="> /dev/full")
        sender.join(PATIENCE)
    assert (status, complaints) == (1, "chatclient: cannot write to stdout: no space left on device\n")


def test_a_reader_that_has_gone_is_no_reason_for_words(server: Chatsrv) -> None:
    with start("127.0.0.1", server.port) as client:
        assert client.stdin and client.stdout and client.stderr
        assert client.stdout.readline() == WELCOME.encode()
        client.stdout.close()
        client.stdin.write(b"hi\n")
        client.stdin.flush()
        assert client.wait(PATIENCE) == 128 + signal.SIGPIPE
        assert client.stderr.read() == b""


def test_a_stdin_that_cannot_be_read_is_said_in_one_line(server: Chatsrv) -> None:
    status, _, complaints = run("127.0.0.1", server.port, suffix="0> /dev/null")
    assert (status, complaints) == (1, "chatclient: cannot read stdin: bad file descriptor\n")


def test_hazard_43_what_comes_is_shown_and_cannot_do_anything(server: Chatsrv) -> None:
    bad = "a\x1b[31mb\x07\x9b\u202ec\td".encode() + b"\xff\r\n"
    _, out, _ = run("127.0.0.1", server.port, stdin=bad)
    assert out.splitlines()[1] == r"127.0.0.1: a\x1b[31mb\x07\x9b\u202ec" + "\td\\xff"


def test_hazard_44_stdin_and_socket_do_not_starve_each_other(server: Chatsrv) -> None:
    count = 20000
    lines = "".join(f"line {number}\n" for number in range(count))
    status, out, complaints = run("127.0.0.1", server.port, stdin=lines)
    assert (status, complaints) == (0, "")
    assert out == WELCOME + "".join(f"127.0.0.1: line {number}\n" for number in range(count))


def test_hazard_40_lines_come_while_stdin_is_open(server: Chatsrv) -> None:
    with start("127.0.0.1", server.port) as client:
        assert client.stdin and client.stdout and client.stderr
        client.stdin.write(b"one\ntwo\n")
        client.stdin.flush()
        assert [client.stdout.readline() for _ in range(3)][1:] == [b"127.0.0.1: one\n", b"127.0.0.1: two\n"]
        client.stdin.close()
        assert client.wait(PATIENCE) == 0


def test_a_dumb_terminal_and_no_terminal_get_no_escapes(server: Chatsrv) -> None:
    _, out, _ = run("127.0.0.1", server.port, stdin="hi\n")
    assert "\x1b" not in out


# Statuses.


def test_refused() -> None:
    port = free_port()
    status, out, complaints = run("127.0.0.1", port)
    assert (status, out) == (1, "")
    assert complaints == f"chatclient: cannot connect to 127.0.0.1 port {port}: connection refused\n"


def test_a_host_that_is_none() -> None:
    for host in "nowhere.invalid", "x" * 70, "''", "$'two\\nlines\\e[31m'":
        status, out, complaints = run(host, 3100)
        assert (status, out, complaints.count("\n")) == (1, "", 1)
        assert complaints.startswith("chatclient: cannot find ")


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (["--frob"], "unrecognized arguments: --frob"),
        (["localhost", "0"], "whole number from 1 to 65535"),
        only_with_more((["localhost", "http"], "whole number from 1 to 65535")),
        only_with_more((["a", "1", "b"], "unrecognized arguments: b")),
        (["--connect-timeout", "soon"], "neither a number of seconds nor off"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(mistake: list[str], words: str) -> None:
    status, out, complaints = run(*mistake)
    assert (status, out, complaints.count("\n")) == (2, "", 1)
    assert complaints.startswith("chatclient: ") and words in complaints


def test_version_and_help() -> None:
    status, out, _ = run("--version")
    assert (status, out) == (0, "chatclient 1.0\n")
    status, out, _ = run("--help")
    assert status == 0
    assert all(flag in out for flag in ("--reconnect", "--timestamps", "--connect-timeout", "HOST", "PORT", "3100"))


def test_the_readme_has_all_flags() -> None:
    help = run("--help")[1]
    table = re.search(r"^\| flag \| \|\n\|---\|---\|\n((?:\|.*\n)+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert table
    assert sorted(re.findall(r"`(--[\w-]+)", table[1])) == sorted(
        {*re.findall(r"^  .*?(--[\w-]+)", help, re.MULTILINE)}
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_its_number(server: Chatsrv, number: signal.Signals) -> None:
    with start("127.0.0.1", server.port) as client:
        assert client.stdout and client.stderr
        assert client.stdout.readline() == WELCOME.encode()
        client.send_signal(number)
        assert client.wait(PATIENCE) == 128 + number
        assert client.stderr.read() == b""


def test_the_end_of_the_server_is_said_and_status_1(chatsrv: Callable[..., Chatsrv]) -> None:
    server = chatsrv()
    with start("127.0.0.1", server.port) as client:
        assert client.stdout and client.stderr
        assert client.stdout.readline() == WELCOME.encode()
        server.end()
        assert client.wait(PATIENCE) == 1
        assert client.stderr.read() == b"chatclient: the server has closed the connection\n"


def test_with_reconnect_it_waits_for_the_server(chatsrv: Callable[..., Chatsrv]) -> None:
    port = free_port()
    with start(HERE, port, "--reconnect") as client:
        assert client.stdin and client.stdout and client.stderr
        refused = f"chatclient: cannot connect to 127.0.0.1 port {port}: connection refused; trying again\n"
        assert client.stderr.readline() == refused.encode()
        server = chatsrv(port=port)
        assert client.stderr.readline() == b"chatclient: connected\n"
        client.stdin.write(b"hi\n")
        client.stdin.flush()
        assert client.stdout.readline() == WELCOME.encode()
        assert client.stdout.readline() == b"127.0.0.1: hi\n"
        server.end()
        assert client.stderr.readline() == b"chatclient: the server has closed the connection; trying again\n"
        server.finish()
        chatsrv(port=port)
        assert client.stderr.readline() == b"chatclient: connected again\n"
        client.stdin.close()
        assert client.wait(PATIENCE) == 0


# Connecting.


def test_addresses_are_tried_in_turn(server: Chatsrv) -> None:
    """The second of two addresses answers; the first is refused."""
    program = """
import socket, sys
from chat.client import main

refused = int(sys.argv.pop())

def addresses(host, port):
    return [(socket.AF_INET, ("127.0.0.1", refused)), (socket.AF_INET, ("127.0.0.1", port))]

main.resolve = addresses
main.main()
"""
    done = subprocess.run(
        [CLIENT[0], "-c", program, "two.example", str(server.port), str(free_port())],
        input=b"hi\n",
        cwd=ROOT,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{WELCOME}127.0.0.1: hi\n".encode(), b"")


def test_ipv6(server: Chatsrv) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this system has no IPv6 loopback")
    assert run("::1", server.port, stdin="hi\n") == (0, f"{WELCOME}::1: hi\n", "")


def test_no_answer_is_said_after_a_second_and_ends_with_the_timeout() -> None:
    """A listener whose backlog is full answers nobody."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        crowd = []
        try:
            for _ in range(4):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
                crowd.append(sock)
            status, out, complaints = run("127.0.0.1", port, "--connect-timeout", "1.2")
        finally:
            for sock in crowd:
                sock.close()
    assert (status, out) == (1, "")
    assert complaints.splitlines() == [
        f"chatclient: connecting to 127.0.0.1 port {port}",
        f"chatclient: cannot connect to 127.0.0.1 port {port}: no answer in time",
    ]


def test_a_line_without_an_end_is_shown_before_memory_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        with start("127.0.0.1", listener.getsockname()[1]) as client:
            assert client.stdout and client.stdin
            peer, _ = listener.accept()
            peer.settimeout(PATIENCE)
            sender = threading.Thread(target=peer.sendall, args=(b"x" * 300_000,))
            sender.start()
            shown = client.stdout.read(200_000)
            assert 1 < shown.count(b"\n") <= 5
            client.stdin.close()
            sender.join(PATIENCE)
            assert peer.recv(1) == b""  # it has told the end of its input
            peer.close()
            client.stdout.read()
            assert client.wait(PATIENCE) == 0


def test_a_silent_client_does_nothing(chatsrv: Callable[..., Chatsrv]) -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("what a process does is read from /proc")
    server = chatsrv()
    with start(HERE, server.port) as client:
        assert client.stdout and client.stdin
        assert client.stdout.readline() == WELCOME.encode()
        other = server.client()

        def waits() -> int:
            text = Path(f"/proc/{client.pid}/status").read_text()
            return int(text.split("voluntary_ctxt_switches:")[1].split()[0])

        other.say("one")
        client.stdout.readline()
        before = waits()
        time.sleep(0.3)
        assert waits() - before <= 1  # at most the one in which it goes to sleep
        client.stdin.close()
        assert client.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    "where", every(2, ["localhost:{}", "127.0.0.1:{}", "[::1]:{}", "[127.0.0.1]:{}", ":{}", "[::1] {}", "::1 {}"])
)
def test_a_host_and_its_port_in_one(server: Chatsrv, where: str) -> None:
    if "::1" in where:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this system has no IPv6 loopback")
    assert run(*where.format(server.port).split(), stdin="hi\n")[0] == 0


@pytest.mark.parametrize(
    "where", every(2, ["localhost:", "localhost:0", "localhost:http", "[::1]:99999", "localhost:3100 3101"])
)
def test_a_port_that_is_none_is_a_mistake(where: str) -> None:
    status, out, complaints = run(*where.split())
    assert (status, out, complaints.count("\n")) == (2, "", 1)


# What the server has got.


@contextmanager
def listener() -> Iterator[tuple[socket.socket, int]]:
    """A server that does what the test does, and its port."""
    with socket.create_server((HERE, 0)) as sock:
        sock.settimeout(PATIENCE)
        yield sock, sock.getsockname()[1]


def accept(sock: socket.socket) -> socket.socket:
    peer, _ = sock.accept()
    peer.settimeout(PATIENCE)
    return peer


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def test_a_server_that_is_killed_and_comes_back_may_have_lost_something(chatsrv: Callable[..., Chatsrv]) -> None:
    server = chatsrv("--max-rate", "4k")
    lines = b"".join(b"line %d\n" % number for number in range(20_000))
    with start(HERE, server.port, "--reconnect") as client:
        assert client.stdin and client.stdout and client.stderr
        feeder = threading.Thread(target=write, args=(client.stdin, lines))
        feeder.start()
        for _ in range(10):
            client.stdout.readline()
        kill(server)
        chatsrv(port=server.port)
        feeder.join(PATIENCE)
        heard = client.stdout.read().count(b"127.0.0.1: line")
        assert heard < 20_000
        assert client.wait(PATIENCE) == 1
        assert client.stderr.read().splitlines()[-1] == b"chatclient: the server may not have got everything"


def kill(server: Chatsrv) -> None:
    server.end(signal.SIGKILL)
    server.finish(status=-signal.SIGKILL)


def write(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(data)
    pipe.close()


def test_what_came_back_before_the_server_went_away_is_not_lost(chatsrv: Callable[..., Chatsrv]) -> None:
    server = chatsrv()
    with start(HERE, server.port, "--reconnect") as client:
        assert client.stdin and client.stdout and client.stderr
        client.stdin.write(b"one\ntwo\n")
        client.stdin.flush()
        while client.stdout.readline() != b"127.0.0.1: two\n":
            pass
        kill(server)
        chatsrv(port=server.port)
        write(client.stdin, b"three\n")
        assert client.wait(PATIENCE) == 0
        assert client.stdout.read().endswith(b"127.0.0.1: three\n")


def test_a_server_that_ends_before_it_has_read_all_is_no_success(chatsrv: Callable[..., Chatsrv]) -> None:
    """It ends in good order, but that is not because we have ended our stream."""
    server = chatsrv("--max-rate", "4k")
    with start(HERE, server.port) as client:
        assert client.stdin and client.stdout and client.stderr
        write(client.stdin, b"".join(b"line %d\n" % number for number in range(5000)))
        while client.stdout.readline() != b"127.0.0.1: line 9\n":
            pass
        server.end()
        assert client.stdout.read().count(b": line") < 5000
        assert client.wait(PATIENCE) == 1


def test_a_full_server_has_received_nothing(chatsrv: Callable[..., Chatsrv]) -> None:
    server = chatsrv("--max-clients", "1")
    server.client()
    status, out, complaints = run(HERE, server.port, stdin="hi\n")
    assert (status, out) == (1, "* You are disconnected: the server is full.\n")
    assert complaints.startswith("chatclient: the server has closed the connection")


def test_a_message_cut_off_by_a_failure_is_sent_again_from_its_beginning() -> None:
    with listener() as (sock, port), start(HERE, port, "--reconnect") as client:
        assert client.stdin and client.stderr
        client.stdin.write(b"one\nhalf a li")
        client.stdin.flush()
        peer = accept(sock)
        assert receive(peer, 13) == b"one\nhalf a li"
        reset(peer)
        write(client.stdin, b"ne\n")
        with accept(sock) as peer:
            assert receive(peer, 12) == b"half a line\n"
        assert client.wait(PATIENCE) == 1, "`one` may be lost"


def receive(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += peer.recv(size - len(data))
    return data


def test_a_server_that_does_not_close_the_connection_is_left() -> None:
    program = "from chat.client import conversation, main; conversation.PATIENCE = 0.3; main.main()"
    with listener() as (sock, port):
        command = [CLIENT[0], "-c", program, HERE, str(port)]
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=ROOT) as client:
            assert client.stdin and client.stdout and client.stderr
            write(client.stdin, b"hi\n")
            with accept(sock) as peer:
                assert receive(peer, 3) == b"hi\n"
                assert peer.recv(1) == b""
                assert client.wait(PATIENCE) == 1
                assert client.stderr.read() == b"chatclient: the server may not have got everything\n"


def test_a_server_that_sends_back_all_but_the_end_has_got_everything() -> None:
    program = "from chat.client import conversation, main; conversation.PATIENCE = 0.3; main.main()"
    with listener() as (sock, port):
        command = [CLIENT[0], "-c", program, HERE, str(port)]
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, cwd=ROOT) as client:
            assert client.stdin and client.stdout
            write(client.stdin, b"hi\n")
            with accept(sock) as peer:
                peer.sendall(receive(peer, 3))
                assert client.wait(PATIENCE) == 0
                assert client.stdout.read() == b"hi\n"


@pytest.mark.parametrize("flags", [[], ["--reconnect"]])
def test_to_quit_is_an_orderly_end(chatsrv: Callable[..., Chatsrv], flags: list[str]) -> None:
    server = chatsrv("--handler", "chat.handlers.nick:nick")
    with start(HERE, server.port, *flags) as client:
        assert client.stdin and client.stderr
        client.stdin.write(b"hi\n/quit\n")
        client.stdin.flush()  # it stays open
        assert client.wait(PATIENCE) == 0
        assert client.stderr.read() == b""


def test_a_line_without_an_end_is_shown_when_nothing_follows() -> None:
    with listener() as (sock, port), start(HERE, port, "--timestamps") as client:
        assert client.stdin and client.stdout
        with accept(sock) as peer:
            peer.sendall("one\nlogin: ä".encode()[:-1])
            assert os.read(client.stdout.fileno(), 100)[5:] == b" one\n"
            assert os.read(client.stdout.fileno(), 100)[5:] == b" login: "
            peer.sendall("ä\r".encode()[1:])
            assert os.read(client.stdout.fileno(), 100) == "ä".encode()
            peer.sendall(b"\ntwo\n")
            assert client.stdout.readline() == b"\n"
            assert client.stdout.readline()[5:] == b" two\n"
            client.stdin.close()
            assert peer.recv(1) == b""
        assert client.wait(PATIENCE) == 0


# Who is there no more.


DEAF = """
from chat.client import connection, main

connection.SILENCE, connection.LOOK = 2, 1
main.main()
"""


@linux
def test_a_machine_that_answers_no_more_is_noticed_though_something_is_on_its_way() -> None:
    """In a network of its own, whose only interface goes down before the line is sent."""
    if not shutil.which("ip") or subprocess.run(["unshare", "--net", "ip", "link"], capture_output=True).returncode:
        pytest.skip("this needs a network of its own")
    program = f"""
import os, signal, socket, subprocess, sys

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with socket.create_server(("127.0.0.1", 0)) as listener:
    command = [sys.executable, "-c", {DEAF!r}, "127.0.0.1", str(listener.getsockname()[1])]
    client = subprocess.Popen(command, stdin=subprocess.PIPE)
    peer, _ = listener.accept()
    subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
    client.stdin.write(b"hi\\n")
    client.stdin.flush()
    sys.exit(client.wait(30))
"""
    done = subprocess.run(
        ["unshare", "--net", CLIENT[0], "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    trouble = "chatclient: the server's machine has not answered for 120 s; what was said last may be lost\n"
    assert done.stderr == trouble


@linux
def test_a_server_that_makes_us_wait_is_not_taken_for_gone() -> None:
    """Its machine answers that there is no room, if not that it has got more."""
    with listener() as (sock, port):
        command = [CLIENT[0], "-c", DEAF, HERE, str(port)]
        client = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=ROOT)
        with client, accept(sock):
            assert client.stdin
            os.set_blocking(client.stdin.fileno(), False)
            deadline = time.monotonic() + 8  # it is asked more and more rarely: by then, not for three seconds
            while time.monotonic() < deadline and client.poll() is None:
                try:
                    os.write(client.stdin.fileno(), b"x" * 65536)
                except BlockingIOError:
                    time.sleep(0.01)
            assert client.poll() is None
            client.kill()


# How it was started.


@pytest.mark.parametrize("number", every(2, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]))
def test_a_signal_that_was_ignored_stays_ignored(server: Chatsrv, number: signal.Signals) -> None:
    """As nohup and a shell's `&` want it."""
    command = ["sh", "-c", f'trap "" {number.name[3:]}; exec "$@"', "sh", *CLIENT, HERE, str(server.port)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, env=ENVIRONMENT) as client:
        assert client.stdin and client.stdout
        assert client.stdout.readline() == WELCOME.encode()
        client.send_signal(number)
        write(client.stdin, b"still here\n")
        assert client.stdout.readline() == b"127.0.0.1: still here\n"
        assert client.wait(PATIENCE) == 0


def test_many_inherited_descriptors(server: Chatsrv) -> None:
    """More than select takes."""
    program = """
import os, resource, sys

try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
except (OSError, ValueError):
    sys.exit(77)
for _ in range(1100):
    os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)
os.execv(sys.argv[1], sys.argv[1:])
"""
    command = [CLIENT[0], "-c", program, *CLIENT, HERE, str(server.port)]
    done = subprocess.run(command, input=b"hi\n", capture_output=True, timeout=PATIENCE, env=ENVIRONMENT)
    if done.returncode == 77:
        pytest.skip("this system does not allow so many descriptors")
    assert (done.returncode, done.stdout.splitlines()[1:], done.stderr) == (0, [b"127.0.0.1: hi"], b"")


@pytest.mark.parametrize("descriptors", every(3, range(5, 12)))
def test_few_descriptors_are_enough_or_one_line_says_so(server: Chatsrv, descriptors: int) -> None:
    limit = f"ulimit -n {descriptors}; exec"
    status, out, complaints = run(HERE, server.port, stdin="hi\n", prefix=limit)
    if status:
        assert (status, out, complaints.count("\n")) == (1, "", 1)
        assert complaints.endswith(": too many open files\n")
    else:
        assert out == f"{WELCOME}127.0.0.1: hi\n"


def test_nothing_is_left_open(server: Chatsrv) -> None:
    """What Python complains about in its development mode."""
    done = subprocess.run(
        [CLIENT[0], "-X", "dev", *CLIENT[1:], HERE, str(server.port)],
        input=b"hi\n",
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    with subprocess.Popen(
        [CLIENT[0], "-X", "dev", *CLIENT[1:], HERE, str(server.port)], stdin=PIPE, stdout=PIPE, stderr=PIPE
    ) as client:
        assert client.stdout and client.stderr
        client.stdout.readline()
        client.terminate()
        assert client.wait(PATIENCE) == 128 + signal.SIGTERM
        assert client.stderr.read() == b""
