"""Starts ./chatsrv: forked from a process that has loaded it already, where there is one.

The tests start hundreds of servers, and most of what one costs is that Python starts, and imports. Tests of that, and
those that run the server through another program, start it anew: with the fixture `started_anew`, or with Popen.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Union

PROGRAM = sys.executable, str(Path(__file__).resolve().parent.parent / "chatsrv")

forker: Forker | None = None  # what start() asks for servers


def start(
    *flags: str, through: Iterable[str] = (), program: Iterable[str] = PROGRAM, stdout: Any, stderr: Any, **more: Any
) -> Process:
    """A server without stdin, in a session of its own. `through` stands before the command, `more` is for Popen."""
    if forker and not through and program == PROGRAM and not more:
        return Forked(forker, flags, stdout, stderr)
    command = [*through, *program, *flags]
    null = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=null, stdout=stdout, stderr=stderr, start_new_session=True, **more)


class Forker:
    """The process from which servers are forked; see forker.py."""

    def __init__(self) -> None:
        self.control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        python, chatsrv = PROGRAM
        command = [python, str(Path(__file__).with_name("forker.py")), chatsrv, str(far.fileno())]
        with far:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[far.fileno()], start_new_session=True
            )

    def close(self) -> None:
        self.control.close()
        self.process.wait()


class Forked:
    """A server that was forked. All that it has is as in Popen."""

    def __init__(self, forker: Forker, flags: tuple[str, ...], stdout: Any, stderr: Any) -> None:
        self.returncode: int | None = None
        self.stdout, out = opened(stdout)
        self.stderr, err = (None, out) if stderr == subprocess.STDOUT else opened(stderr)
        self.line, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # on which we hear of it
        request = json.dumps([os.getcwd(), dict(os.environ), flags]).encode()
        socket.send_fds(forker.control, [request], [out, err, far.fileno()])
        far.close()
        if self.stdout:
            os.close(out)
        if self.stderr:
            os.close(err)
        self.pid = int(self.line.recv(32))

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self.line], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self.line.settimeout(timeout)
            try:
                self.returncode = int(self.line.recv(32))
            except socket.timeout:
                raise subprocess.TimeoutExpired("chatsrv", timeout or 0) from None
            self.line.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = Union["subprocess.Popen[bytes]", Forked]


def opened(output: Any) -> tuple[IO[bytes] | None, int]:
    """Where to read what is written there, if it is PIPE; and the descriptor to write to."""
    if output == subprocess.PIPE:
        reader, writer = os.pipe()
        return open(reader, "rb"), writer
    return None, output if isinstance(output, int) else output.fileno()
