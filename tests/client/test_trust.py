"""./chatclient --tls: whom it trusts, and what it says of others."""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path

import pytest
from certificates import Authority
from chatting import HERE, PATIENCE, Start, free_port
from test_client import WELCOME, run, start

ECHO = WELCOME + "127.0.0.1: hello\n"


def test_a_conversation(chatsrv: Start, authority: Authority) -> None:
    server = chatsrv("--tls", authority.issue())
    for host in "localhost", HERE:
        assert run(host, server.port, "--tls", "--ca", authority.file, stdin="hello\n") == (0, ECHO, "")
    server.terminated("end of stream", 2)


def test_much_in_both_directions(chatsrv: Start, authority: Authority) -> None:
    server = chatsrv("--tls", authority.issue(), "--no-prefix", "--quiet")
    text = "".join(f"{number:06} {'x' * 500}\n" for number in range(6000))
    flags = "--tls", "--ca", authority.file
    assert run("localhost", server.port, *flags, stdin=text) == (0, WELCOME + text, "")


def test_a_certificate_can_be_trusted_for_itself(chatsrv: Start, authority: Authority, tmp_path: Path) -> None:
    file = authority.issue()
    server = chatsrv("--tls", file)
    assert run("localhost", server.port, "--tls", "--ca", file, stdin="hello\n") == (0, ECHO, "")


@pytest.mark.parametrize(
    ("names", "days", "trusted", "words"),
    [
        (["chat.example.org"], 10, True, "Hostname mismatch, certificate is not valid for 'localhost'"),
        (["localhost"], -1, True, "certificate has expired"),
        (["localhost"], 10, False, "unable to get local issuer certificate"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    chatsrv: Start, authority: Authority, names: list[str], days: int, trusted: bool, words: str
) -> None:
    server = chatsrv("--tls", authority.issue(*names, days=days))
    flags = ["--ca", authority.file] if trusted else []
    complaint = f"cannot connect to localhost port {server.port}: no TLS: the certificate is not to be trusted: {words}"
    assert run("localhost", server.port, "--tls", *flags, stdin="secret\n") == (
        1,
        "",
        f"chatclient: {complaint}\n",
    )
    server.terminated("no TLS: the other side complains: ")
    assert server.journal and "secret" not in server.journal.text()
    assert run("localhost", server.port, "--tls", "--insecure", stdin="hello\n") == (0, ECHO, "")


def test_a_server_without_tls_is_told_nothing(chatsrv: Start) -> None:
    server = chatsrv()
    told = f"chatclient: cannot connect to localhost port {server.port}: the server does not speak TLS\n"
    assert run("localhost", server.port, "--tls", stdin="secret\n") == (1, "", told)
    server.terminated("this port does not speak TLS")
    assert server.journal and not server.journal.lines(" > ")


def test_a_client_without_tls_is_told_where_it_is(chatsrv: Start, authority: Authority) -> None:
    server = chatsrv("--tls", authority.issue())
    assert run("localhost", server.port, stdin="hello\n") == (
        1,
        "* You are disconnected: this port speaks TLS, and nothing else.\n",
        "chatclient: the server has closed the connection; what was said last may be lost\n",
    )


def test_it_connects_again(chatsrv: Start, authority: Authority) -> None:
    port = free_port()
    file = authority.issue()
    server = chatsrv("--tls", file, port=port)
    with start("localhost", port, "--tls", "--ca", authority.file, "--reconnect") as client:
        assert client.stdin and client.stdout and client.stderr
        assert client.stdout.readline() == WELCOME.encode()
        server.end()
        assert client.stderr.readline() == b"chatclient: the server has closed the connection; trying again\n"
        server.finish()
        server = chatsrv("--tls", file, port=port)
        assert client.stderr.readline() == b"chatclient: connected again\n"
        client.stdin.write(b"hello\n")
        client.stdin.close()
        assert client.wait(PATIENCE) == 0
        assert client.stdout.read().decode().endswith(ECHO)


def test_a_killed_server_has_not_said_that_it_ends(chatsrv: Start, authority: Authority) -> None:
    server = chatsrv("--tls", authority.issue())
    with start("localhost", server.port, "--tls", "--ca", authority.file) as client:
        assert client.stdout and client.stderr
        assert client.stdout.readline() == WELCOME.encode()
        server.process.send_signal(signal.SIGKILL)
        assert client.wait(PATIENCE) == 1
        assert client.stderr.read() == b"chatclient: the connection was cut off\n"
    server.finish(status=-signal.SIGKILL)


def test_a_server_that_does_not_answer_is_given_up() -> None:
    with socket.create_server((HERE, 0)) as listener:
        listener.settimeout(PATIENCE)
        held = []
        thread = threading.Thread(target=lambda: held.append(listener.accept()))
        thread.start()
        port = listener.getsockname()[1]
        done = run(HERE, port, "--tls", "--connect-timeout", "0.3", stdin="hello\n")
        thread.join()
        held[0][0].close()
    assert done == (1, "", f"chatclient: cannot connect to {HERE} port {port}: no answer in time\n")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--ca", "x"], "--ca and --insecure need --tls"),
        (["--insecure"], "--ca and --insecure need --tls"),
        (["--tls", "--ca", "/nonexistent"], "--ca: cannot read /nonexistent: no such file or directory"),
        (["--tls", "--ca", __file__], f"--ca: there is no certificate in {__file__}, or not in PEM format"),
        (["--tls", "--ca", "/dev/zero"], "--ca: cannot read /dev/zero: not a regular file"),
    ],
)
def test_flags_that_make_no_sense(flags: list[str], words: str) -> None:
    status, out, complaint = run("localhost", 1, *flags)
    assert (status, out, complaint) == (2, "", f"chatclient: {words} (see --help)\n")
