"""A system that fails: a fault costs at most one connection, or ends the server with status 1 and one line.

Never is anything left half alive: a client that is connected and hears nothing, a signal that is not obeyed, a
connection that the journal does not account for.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from chatting import PATIENCE, PREFIX, ROOT, Chatsrv, Client, Start, handler, linux, needs_strace
from faults import Fault, strace
from more import every

pytestmark = [linux, needs_strace]


@pytest.fixture(scope="module", autouse=True)
def strace_can_inject() -> None:
    if subprocess.run([*strace("close:error=EIO:when=1000"), "true"], capture_output=True).returncode:
        pytest.skip("this strace cannot inject faults here")


# At the start.

FAILING = {
    "bind": "EACCES",
    "close": "EIO",
    "epoll_create1": "EMFILE",
    "epoll_ctl": "ENOMEM",
    "epoll_wait": "ENOMEM",
    "fcntl": "EIO",
    "getsockname": "ENOBUFS",
    "getsockopt": "ENOBUFS",
    "ioctl": "EIO",
    "listen": "EADDRINUSE",
    "openat": "EMFILE",
    "prlimit64": "EPERM",
    "read": "EIO",
    "rt_sigaction": "EINVAL",
    "setitimer": "EINVAL",
    "setsockopt": "ENOBUFS",
    "socket": "EMFILE",
    "socketpair": "EMFILE",
}


@functools.lru_cache
def calls_at_the_start() -> list[tuple[str, int]]:
    """The system calls of main() until the journal's first line, and the how-manieth of their kind each is."""
    with tempfile.NamedTemporaryFile("r") as trace:
        command = ["strace", "-qq", "-o", trace.name, sys.executable, str(ROOT / "chatsrv"), "--port", "0"]
        listen_to_control_c = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, start_new_session=True, preexec_fn=listen_to_control_c
        ) as process:
            assert process.stdout and process.stdout.readline()
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(PATIENCE)
        lines = trace.read().split("\n")
    last = next(n for n, line in enumerate(lines) if re.match(r'write\(\d+, "chatsrv at all', line))
    first = max(n for n, line in enumerate(lines[:last]) if re.match(r"(new)?fstat(at)?\(0, ", line))
    calls = [line.partition("(")[0] for line in lines[:last]]
    return [(call, calls[: number + 1].count(call)) for number, call in enumerate(calls) if number >= first]


@pytest.mark.parametrize("call", FAILING)
def test_at_the_start_it_works_all_the_same_or_says_in_one_line_why_not(
    request: pytest.FixtureRequest, call: str
) -> None:
    times = [when for name, when in calls_at_the_start() if name == call]
    times = times[:: 1 if request.config.getoption("more") else 2]
    if not times:
        pytest.skip("this Python makes no such call")
    for when in times:
        start_with(f"{call}:error={FAILING[call]}:when={when}")


def start_with(fault: str) -> None:
    command = [*strace(fault), "-DDD", sys.executable, str(ROOT / "chatsrv"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            listens = process.stdout.readline()
            port = listens and int(listens.split()[-1])
            works = port and (speaks(port) or speaks(port))  # a fault that came later has cost a connection
            if works:
                process.terminate()
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    if works:
        assert process.returncode == 0 and err.count("\n") <= 1, (fault, err)
    else:
        assert process.returncode == 1 and err.count("\n") == 1 and err.startswith("chatsrv: cannot "), (fault, err)


def speaks(port: int) -> bool:
    """Whether a server that has said where it listens does serve; else it has ended."""
    try:
        client = Client(port)
    except ConnectionError:
        return False
    try:
        client.expect(b"Welcome", starts=True)
        client.say("hello")
        client.expect(PREFIX + b"hello")
        return True
    except (ConnectionError, EOFError):
        return False
    finally:
        client.close()


# At work.


class Talk:
    """Some clients that talk, come and go; those that a fault costs are counted."""

    def __init__(self, server: Chatsrv) -> None:
        self.server = server
        self.clients: list[Client] = []
        self.number = 0
        self.lost = 0

    def come(self) -> None:
        """One more, if a fault lets it in."""
        try:
            client = Client(self.server.port)
        except ConnectionError:  # accepted and reset before connect had looked
            self.lost += 1
            return
        try:
            client.expect(b"Welcome", starts=True)
            self.clients.append(client)
        except (ConnectionError, EOFError):
            self.lose(client)

    def lose(self, client: Client) -> None:
        if client in self.clients:
            self.clients.remove(client)
        client.close()
        self.lost += 1

    def say(self, client: Client, text: str) -> None:
        """Let one client say something that all others that are still there must hear."""
        self.number += 1
        text = f"{text} {self.number}"
        for hearer in [client, *(other for other in self.clients if other is not client)]:
            try:
                if hearer is client:
                    client.say(text)
                hearer.wait_for(text.encode())
            except (ConnectionError, EOFError):
                self.lose(hearer)
                if hearer is client:
                    return

    def round(self) -> None:
        """All that happens in a chat: they come, talk, end their stream, break off, and are kicked."""
        while len(self.clients) < 5:
            self.come()
        for client in list(self.clients):
            if client in self.clients:
                self.say(client, "here")
        ends, breaks_off, is_kicked = (self.clients.pop(0) for _ in range(3))
        with contextlib.suppress(OSError):  # the fault may have been theirs
            ends.finish()
        ends.close()
        breaks_off.reset()
        with contextlib.suppress(OSError):
            is_kicked.say("kick me")
        is_kicked.close()
        self.come()
        self.come()
        self.say(self.clients[-1], "still here")


HANDLER = (
    "room.publish(member, messages)",
    "if b'kick me' in messages:",
    "    member.kick('as you like')",
)
AT_WORK: dict[str, dict[str, tuple[int, ...]]] = {
    "accept4": {"ENOMEM": (1, 2), "EMFILE": (1,), "ENOBUFS": (1,), "ECONNABORTED": (1,), "EPERM": (1,)},
    "close": {"EIO": (1, 2, 3), "EINTR": (1, 2)},
    "epoll_ctl": {
        "ENOMEM": (1, 2, 3, 5, 8, 13),
        "ENOSPC": (1, 4, 7),
        "EPERM": (3,),
        "EEXIST": (4,),
        "ENOENT": (5,),
    },
    "epoll_wait": {"EINTR": (1, 2)},
    "ioctl": {"EBADF": (1,), "ENOMEM": (2,)},
    "recvfrom": {"ENOMEM": (1, 2, 5, 7), "ECONNRESET": (1, 4), "EIO": (2,), "EINTR": (1, 3), "ETIMEDOUT": (5,)},
    "send": {
        "ENOMEM": (1, 2, 5, 11),
        "ENOBUFS": (1, 6),
        "EPIPE": (1, 2, 5, 11),
        "EINTR": (2,),
        "EHOSTUNREACH": (3,),
        "ENETDOWN": (4,),
    },
    "shutdown": {"ENOTCONN": (1,), "ENOBUFS": (1,)},
    "journal": {"EIO": (1, 2, 5), "EINTR": (1, 2, 5)},
}  # which errors, and at which of the calls from now
BLAMED = ("epoll_ctl",)  # the handler is still said to have failed


@pytest.mark.parametrize("part", every(2, range(2)))
@pytest.mark.parametrize("call", AT_WORK)
def test_at_work_a_fault_costs_one_connection_at_most(chatsrv: Start, tmp_path: Path, call: str, part: int) -> None:
    server = chatsrv("--handler", handler(tmp_path, *HANDLER))
    talk = Talk(server)
    server.clients = talk.clients  # to be closed whatever happens
    talk.round()
    faults = [(error, when) for error, times in AT_WORK[call].items() for when in times][part::2]
    for number, (error, when) in enumerate(faults):
        injecting = Fault(server.pid, f"{call}:error={error}:when={when}", tmp_path / "trace")
        try:
            talk.round()
            server.process.send_signal(signal.SIGUSR1)
            talk.round()
        finally:
            happened = injecting.over()
        assert happened, f"the {when}th {call} did not fail"
        assert server.process.poll() is None
        talk.round()
        assert talk.lost <= number + 1, f"{error} at the {when}th {call}"
    server.process.send_signal(signal.SIGTERM)
    server.terminated("the server is ending", len(talk.clients))
    for client in talk.clients:
        client.close()
    assert server.wait() == 0
    assert len(server.over("the server is ending")) == len(talk.clients)
    server.finish(complaint=None)
    assert call in BLAMED or "Traceback" not in server.complaints.text()


def test_a_signal_is_obeyed_though_the_interpreter_cannot_tell_of_it(chatsrv: Start, tmp_path: Path) -> None:
    server = chatsrv()
    injecting = Fault(server.pid, "write:error=EIO:when=1", tmp_path / "trace")
    assert server.end() == 0
    assert injecting.over()
    server.finish(complaint=None)


@pytest.mark.parametrize(
    "fault",
    [f"{call}:error=EINVAL" for call in ("rt_sigaction", "rt_sigprocmask", "setitimer")]
    + ["close:error=EIO", "close:error=EINTR"],
)
def test_at_the_end_a_fault_does_not_matter(chatsrv: Start, tmp_path: Path, fault: str) -> None:
    server = chatsrv()
    injecting = Fault(server.pid, f"{fault}:when=1+", tmp_path / "trace")
    assert server.end() == 0
    assert injecting.over()
    server.finish()
