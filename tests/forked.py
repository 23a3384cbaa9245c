"""Starts ./chatsrv and ./chatclient: forked from a process that has loaded the program, where there is one.

The tests start them by the hundred, and most of what one costs is that Python starts, and imports. Tests of that, and
those that run a program through another one, start it anew: with the fixture `started_anew`, or with Popen.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Union, cast

ROOT = Path(__file__).resolve().parent.parent
SERVER = [sys.executable, str(ROOT / "chatsrv")]
CLIENT = [sys.executable, str(ROOT / "chatclient")]
ENVIRONMENT = {  # of the client
    **{name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TMUX", "TMUX_PANE")},
    "TERM": "xterm-256color",
    "LC_ALL": "C.UTF-8",
}

forkers: list[Forker] = []  # what start() asks


def start(command: list[str], env: Mapping[str, str] | None = None, **more: Any) -> Process:
    """A process in a session of its own. If its stdin is a terminal, that is the session's. `more` is for Popen."""
    env = dict(os.environ if env is None else env)
    for forker in forkers:
        if forker.command == command[:2] and at_the_start(forker.env) == at_the_start(env) and more.keys() <= STREAMS:
            return Forked(forker, command[2:], env, **more)
    if is_terminal(more["stdin"]):
        more["preexec_fn"] = take_terminal
    return subprocess.Popen(command, env=env, start_new_session=True, **more)


STREAMS = {"stdin", "stdout", "stderr"}


def at_the_start(env: Mapping[str, str]) -> dict[str, str]:
    """What Python looks at when it starts."""
    return {name: env[name] for name in env if name.startswith(("LANG", "LC_", "PYTHON"))}


def is_terminal(stdin: int) -> bool:
    return stdin >= 0 and os.isatty(stdin)


def take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Forker:
    """The process from which all that run `command` are forked; see forker.py."""

    def __init__(self, command: list[str], env: Mapping[str, str]) -> None:
        self.command = command
        self.env = dict(env)
        self.control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        python, program = command
        words = [python, str(ROOT / "tests" / "forker.py"), program, str(far.fileno())]
        null = subprocess.DEVNULL
        with far:
            self.process = subprocess.Popen(
                words, stdin=null, stdout=null, env=env, pass_fds=[far.fileno()], start_new_session=True
            )

    def close(self) -> None:
        self.control.close()
        self.process.wait()


class Forked:
    """A process that was forked. All that it has is as in Popen."""

    def __init__(
        self, forker: Forker, arguments: list[str], env: Mapping[str, str], stdin: Any, stdout: Any, stderr: Any
    ) -> None:
        self.returncode: int | None = None
        self.stdin, first = piped(stdin, "wb")
        self.stdout, second = piped(stdout, "rb")
        self.stderr, third = (None, second) if stderr == subprocess.STDOUT else piped(stderr, "rb")
        self.line, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # on which we hear of it
        with line:
            request = json.dumps([os.getcwd(), dict(env), arguments]).encode()
            socket.send_fds(forker.control, [request], [first, second, third, line.fileno()])
        for fd, what in (first, stdin), (second, stdout), (third, stderr):
            if what in (subprocess.PIPE, subprocess.DEVNULL):
                os.close(fd)
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
                raise subprocess.TimeoutExpired("what was forked", timeout or 0) from None
            self.line.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass  # it has just ended

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *error: object) -> None:
        for stream in self.stdout, self.stderr:
            if stream:
                stream.close()
        try:
            if self.stdin:
                self.stdin.close()
        finally:
            self.wait()


def piped(stream: Any, mode: str) -> tuple[IO[bytes] | None, int]:
    """What we have of such a stream of a process, if it is PIPE; and the descriptor that the process has."""
    if stream == subprocess.PIPE:
        reader, writer = os.pipe()
        ours, its = (reader, writer) if mode == "rb" else (writer, reader)
        return cast("IO[bytes]", open(ours, mode)), its
    if stream == subprocess.DEVNULL:
        return None, os.open(os.devnull, os.O_RDWR)
    return None, stream if isinstance(stream, int) else stream.fileno()


Process = Union["subprocess.Popen[bytes]", Forked]
