"""NOTES.md, the ladder: each rung is a server, and has the faults that the text says."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from chatting import PATIENCE, ROOT, Client, Printed, asleep, cpu_seconds, eventually
from documents import RUNGS, save_programs

STINGY = """
import socket
send = socket.socket.send
socket.socket.send = lambda sock, data: send(sock, data[:100])
"""  # a system whose buffers are nearly full
FICKLE = """
import socket
false_alarms = set()
def fickle(call):
    def tried(sock, *arguments):
        if (sock, call) not in false_alarms:
            false_alarms.add((sock, call))
            raise BlockingIOError("a false alarm")
        return call(sock, *arguments)
    return tried
socket.socket.accept, socket.socket.recv = fickle(socket.socket.accept), fickle(socket.socket.recv)
"""  # a system that once says "ready" of each socket when it is not
RUN = """
import runpy, sys
sys.argv[:1] = []
sys.path.insert(0, ".")
runpy.run_path(sys.argv[0], run_name="__main__")
"""  # the program in its argument


class Rung:
    """One program of the ladder as a process; `before` is run first, in the same process."""

    def __init__(self, name: str, directory: Path, stack: ExitStack, before: str = "pass", *arguments: str) -> None:
        save_programs(directory)
        self.stack = stack
        self.process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", f"{before}\n{RUN}", f"{name}.py", *arguments],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        assert self.process.stdout and self.process.stderr
        self.output, self.errors = Printed(self.process.stdout), Printed(self.process.stderr)
        stack.callback(self.errors.close)
        stack.callback(self.output.close)
        stack.callback(self.process.kill)
        self.port = int(self.output.expect("port ")[0].split()[1])

    def client(self) -> Client:
        client = Client(self.port)
        self.stack.callback(client.close)
        return client

    def dying_words(self) -> str:
        """What it says on stderr when it ends by an error."""
        assert self.process.wait(PATIENCE) == 1
        return self.errors.expect("Error: ")[-1]

    def sleeps(self) -> bool:
        """Whether the system says that it sleeps; False once it has used the processor for a while instead."""
        start = cpu_seconds(self.process.pid)
        eventually(lambda: asleep(self.process.pid) or self.runs_since(start))
        return not self.runs_since(start)

    def runs_since(self, start: float) -> bool:
        return cpu_seconds(self.process.pid) > start + 0.04


@pytest.fixture
def rung(tmp_path: Path) -> Iterator[Callable[..., Rung]]:
    with ExitStack() as stack:
        yield lambda name, *more: Rung(name, tmp_path, stack, *more)


def echoes(client: Client, text: bytes) -> bool:
    client.say(text)
    return client.line() == text


def test_rung_1_serves_one_after_the_other(rung: Callable[..., Rung]) -> None:
    server = rung("rung1")
    one, two = server.client(), server.client()
    assert echoes(one, b"first")
    two.say(b"second")
    assert echoes(one, b"again") and echoes(one, b"and again")
    assert not select.select([two.sock], [], [], 0)[0], "rung 1 serves two at once; what are the others for?"
    one.close()
    assert two.line() == b"second"


@pytest.mark.parametrize("name", RUNGS[1:])
def test_all_others_serve_two_at_once(rung: Callable[..., Rung], name: str) -> None:
    server = rung(name)
    one, two = server.client(), server.client()
    assert echoes(one, b"first") and echoes(two, b"second") and echoes(one, b"again")
    two.finish()
    assert two.everything() == b"", "when the client ends its stream, so does the server"
    if sys.platform == "linux":
        assert server.sleeps() == (name not in ("rung2", "rung4")), "only the rungs 2 and 4 ask all the time"


@pytest.mark.parametrize("name", RUNGS[1:])
def test_a_client_that_sends_much_and_reads_nothing_ends_rung_2_only(rung: Callable[..., Rung], name: str) -> None:
    server = rung(name)
    greedy = server.client()
    data, sent = os.urandom(1 << 16) * 256, 0  # 16 MiB; the buffers between us hold less
    wait = PATIENCE if name == "rung2" else 0.05  # rung 2 takes everything, until it dies
    try:
        while sent < len(data) and select.select([], [greedy.sock], [], wait)[1]:
            greedy.sock.setblocking(False)
            sent += greedy.sock.send(data[sent : sent + (1 << 20)])
    except ConnectionError:
        assert name == "rung2"
    greedy.sock.settimeout(PATIENCE)
    if name == "rung2":
        assert "BlockingIOError" in server.dying_words()
        return
    assert echoes(server.client(), b"nobody waits for it")
    back = bytearray()
    while len(back) < sent:
        back += greedy.sock.recv(1 << 20)
    assert back == data[:sent]


@pytest.mark.parametrize("name", RUNGS[1:])
def test_what_a_send_did_not_take_is_lost_by_rung_2_only(rung: Callable[..., Rung], name: str) -> None:
    client = rung(name, STINGY).client()
    client.say(b"x" * 1000)
    client.finish()
    assert len(client.everything()) == (100 if name == "rung2" else 1001)


@pytest.mark.parametrize("name", RUNGS)
def test_a_false_alarm_ends_the_rungs_that_believe_it(rung: Callable[..., Rung], name: str) -> None:
    server = rung(name, FICKLE)
    if name in ("rung1", "rung3", "rung5"):
        with suppress(ConnectionError):  # rung 1 asks at once, and may be gone already
            server.client()
        assert "BlockingIOError" in server.dying_words()
    else:
        assert echoes(server.client(), b"wait, try, and wait again")


@pytest.mark.parametrize("name", RUNGS)
def test_a_reset_ends_all_but_rung_7(rung: Callable[..., Rung], name: str) -> None:
    server = rung(name)
    rude = server.client()
    assert echoes(rude, b"I am off")
    rude.reset()
    if name < "rung7":
        assert "ConnectionResetError" in server.dying_words()
    else:
        server.errors.expect("ConnectionResetError")
        assert "task echo" in server.errors.text()
        assert echoes(server.client(), b"still there")


def test_the_relay_copies_both_ways_and_passes_every_end_on(rung: Callable[..., Rung]) -> None:
    server = rung("rung7")
    relay = rung("relay", "pass", str(server.port))
    polite, rude, other = relay.client(), relay.client(), relay.client()
    assert echoes(polite, b"there and back") and echoes(rude, b"here, too")
    polite.finish()
    assert polite.everything() == b""
    rude.reset()
    assert echoes(other, b"still there")
    server.process.kill()
    with suppress(ConnectionResetError):
        assert other.everything() == b""
    assert relay.errors.text() == ""
