"""A system that fails: a fault costs at most one connection, or ends the server with status 1 and one line.

Never is anything left half alive: a client that is connected and hears nothing, a signal that is not obeyed, a
connection that the journal does not account for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from chatting import PATIENCE, PREFIX, ROOT, Chatsrv, Client, Start, eventually, handler, linux, needs_strace

pytestmark = [linux, needs_strace]


def strace(fault: str, trace: Path | str = os.devnull) -> list[str]:
    """The command that injects a fault, for a program or with -p."""
    call = fault.partition(":")[0]
    return ["strace", "-qq", "-o", str(trace), "-e", f"trace={call}", "-e", f"inject={fault}"]


@pytest.fixture(autouse=True)
def strace_can_inject() -> None:
    if subprocess.run([*strace("close:error=EIO:when=1000"), "true"], capture_output=True).returncode:
        pytest.skip("this strace cannot inject faults here")


# At the start.

CALLED = {
    "socket:error=EMFILE": 2,
    "bind:error=EACCES": 1,
    "listen:error=EADDRINUSE": 1,
    "setsockopt:error=ENOBUFS": 8,
    "getsockopt:error=ENOBUFS": 1,
    "getsockname:error=ENOBUFS": 3,
    "socketpair:error=EMFILE": 1,
    "epoll_create1:error=EMFILE": 2,
    "prlimit64:error=EPERM": 3,
    "epoll_ctl:error=ENOMEM": 4,
    "epoll_ctl:error=ENOSPC": 4,
}  # how often, so that each of the calls can fail


@pytest.mark.parametrize("fault", [f"{call}:when={n}" for call, count in CALLED.items() for n in range(1, count + 1)])
def test_at_the_start_it_works_all_the_same_or_says_in_one_line_why_not(fault: str) -> None:
    command = [*strace(fault), "-DDD", sys.executable, str(ROOT / "chatsrv"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            listens = process.stdout.readline()
            if listens:
                client = Client(int(listens.split()[-1]))
                client.expect(b"Welcome", starts=True)
                client.say("hello")
                client.expect(PREFIX + b"hello")
                client.close()
                process.terminate()
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    if listens:
        assert process.returncode == 0 and err.count("\n") <= 1, err
    else:
        assert process.returncode == 1 and err.count("\n") == 1 and err.startswith("chatsrv: cannot "), err


# At work.


class Fault:
    """A fault of a server that runs, at the `when`th call from now."""

    def __init__(self, server: Chatsrv, fault: str, when: int | str, trace: Path) -> None:
        self.trace = trace
        command = [*strace(f"{fault}:when={when}", trace), "-p", str(server.pid)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)
        status = Path(f"/proc/{server.pid}/status")
        eventually(lambda: f"TracerPid:\t{self.process.pid}\n" in status.read_text(), "strace")

    def over(self) -> bool:
        """Stop injecting; returns whether something was injected."""
        assert self.process.stderr
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)
        self.process.stderr.close()
        return "INJECTED" in self.trace.read_text()


class Talk:
    """Some clients that talk, come and go; those that a fault costs are counted."""

    def __init__(self, server: Chatsrv) -> None:
        self.server = server
        self.clients: list[Client] = []
        self.number = 0
        self.lost = 0

    def come(self) -> None:
        """One more, if a fault lets it in."""
        client = Client(self.server.port)
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
        ends.finish()
        ends.close()
        breaks_off.reset()
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
AT_WORK = {
    "epoll_ctl:error=ENOMEM": (1, 2, 3, 5, 8, 13),
    "epoll_ctl:error=ENOSPC": (1, 4, 7),
    "sendto:error=ENOMEM": (1, 2, 5, 11),
    "sendto:error=ENOBUFS": (1, 6),
    "sendto:error=EPIPE": (1, 2, 5, 11),
    "recvfrom:error=ENOMEM": (1, 2, 5, 7),
    "close:error=EIO": (1, 2, 3),
    "close:error=EINTR": (1, 2),
    "shutdown:error=ENOTCONN": (1,),
    "shutdown:error=ENOBUFS": (1,),
    "accept4:error=ENOMEM": (1, 2),
    "write:error=EIO": (1, 2, 5),
    "write:error=EINTR": (1, 2, 5),
}  # and at which of the calls from now
BLAMED = ("epoll_ctl:error=ENOMEM", "epoll_ctl:error=ENOSPC")  # the handler is still said to have failed


@pytest.mark.parametrize("fault", AT_WORK)
def test_at_work_a_fault_costs_one_connection_at_most(chatsrv: Start, tmp_path: Path, fault: str) -> None:
    server = chatsrv("--handler", handler(tmp_path, *HANDLER))
    talk = Talk(server)
    server.clients = talk.clients  # to be closed whatever happens
    talk.round()
    injected = 0
    for when in AT_WORK[fault]:
        injecting = Fault(server, fault, when, tmp_path / "trace")
        try:
            talk.round()
            if not fault.startswith("write"):  # so does Python, to tell of a signal
                server.process.send_signal(signal.SIGUSR1)
            talk.round()
        finally:
            injected += injecting.over()
        assert server.process.poll() is None
        talk.round()
    assert injected == len(AT_WORK[fault]), "the fault did not happen"
    assert talk.lost <= injected
    server.process.send_signal(signal.SIGTERM)
    server.terminated("the server is ending", len(talk.clients))
    for client in talk.clients:
        client.close()
    assert server.process.wait(PATIENCE) == 0
    assert len(server.over("the server is ending")) == len(talk.clients)
    server.finish(complaint=None)
    assert fault in BLAMED or "Traceback" not in server.complaints.text()


@pytest.mark.parametrize("error", ["EIO", "EINTR"])
def test_at_the_end_it_does_not_matter_whether_closing_fails(chatsrv: Start, tmp_path: Path, error: str) -> None:
    server = chatsrv()
    injecting = Fault(server, f"close:error={error}", "1+", tmp_path / "trace")
    assert server.end() == 0
    assert injecting.over()
    server.finish()
