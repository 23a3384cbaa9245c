"""The client between pipes, files and closed descriptors, and what its exit status says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chatting import HERE, PATIENCE, ROOT, Chatsrv, free_port
from terminals import CLIENT, ENVIRONMENT

WELCOME = "Welcome to the chat: each line you send goes to everybody here.\n"


def run(*arguments: object, stdin: str | bytes = b"", prefix: str = "", suffix: str = "") -> tuple[int, str, str]:
    """The client in a shell pipeline; its status, what came out at the end, and its complaints."""
    command = f"{prefix} {' '.join([*CLIENT, *map(str, arguments)])} {suffix}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        input=stdin if isinstance(stdin, bytes) else stdin.encode(),
        capture_output=True,
        timeout=PATIENCE,
        env=ENVIRONMENT,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@contextmanager
def start(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """The client with a pipe on each end; it is gone afterwards."""
    pipe = subprocess.PIPE
    command = [*CLIENT, *map(str, arguments)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=ENVIRONMENT) as client:
        try:
            yield client
        finally:
            client.kill()


# Pipes.


def test_hazard_47_a_pipe_gets_greeting_and_echo(server: Chatsrv) -> None:
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


def test_hazard_45_what_comes_is_shown_and_cannot_do_anything(server: Chatsrv) -> None:
    bad = "a\x1b[31mb\x07\x9b\u202ec\td".encode() + b"\xff\r\n"
    _, out, _ = run("127.0.0.1", server.port, stdin=bad)
    assert out.splitlines()[1] == r"127.0.0.1: a\x1b[31mb\x07\x9b\u202ec" + "\td\\xff"


def test_hazard_46_stdin_and_socket_do_not_starve_each_other(server: Chatsrv) -> None:
    count = 20000
    lines = "".join(f"line {number}\n" for number in range(count))
    status, out, complaints = run("127.0.0.1", server.port, stdin=lines)
    assert (status, complaints) == (0, "")
    assert out == WELCOME + "".join(f"127.0.0.1: line {number}\n" for number in range(count))


def test_hazard_42_lines_come_while_stdin_is_open(server: Chatsrv) -> None:
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
    for host in "nowhere.invalid", "x" * 70, "''":
        status, out, complaints = run(host, 3100)
        assert (status, out, complaints.count("\n")) == (1, "", 1)
        assert complaints.startswith("chatclient: cannot find ")


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (["--frob"], "unrecognized arguments: --frob"),
        (["localhost", "0"], "whole number from 1 to 65535"),
        (["localhost", "http"], "whole number from 1 to 65535"),
        (["a", "1", "b"], "unrecognized arguments: b"),
        (["--connect-timeout", "soon"], "not a number of seconds"),
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
        assert client.stderr.readline() == b"chatclient: connected again\n"
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
