"""The servers that are compared: how each is started, and how one talks to it."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .oracle import Wire

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
PYTHON = sys.executable  # the program itself, no launcher in front of it
Job = dict[str, Any]  # a workload, and how it is to be carried out
START_TIME = 20.0  # seconds in which a server must accept

REDIS = Wire(
    say_head=b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nchat\r\n${size}\r\n",
    say_tail=b"\r\n",
    hear_head=b"*3\r\n$7\r\nmessage\r\n$4\r\nchat\r\n${size}\r\n",
    hear_tail=b"\r\n",
    greeting=b":1\r\n",
    subscribe=b"SUBSCRIBE chat\r\n",
    apart=True,
)
NCAT = Wire(hear_head=b"", greeting=b"", apart=True, gentle=True)


@dataclass
class Server:
    """One that can be started. Either it prints a line that ends with its port, or {port} in `command` says which."""

    name: str
    command: list[str]
    wire: Wire = field(default_factory=Wire)
    flags: Callable[[Job], list[str]] = lambda job: []  # what a workload needs after `command`
    version: str = ""
    note: str = ""
    most: int = 20_000  # clients it can have


class Running:
    """A server process on one core, started fresh for a workload; it listens when this returns.

    If the workload has a journal, stdout is a file, and `journal_lines` counts what is in it.
    """

    def __init__(self, server: Server, job: Job, core: int | None = None) -> None:
        self.server = server
        self.output = tempfile.TemporaryFile() if job.get("journal") else None  # noqa: SIM115
        self.port = 0
        command = server.command + server.flags(job)
        if "{port}" in " ".join(command):
            self.port = free_port()
            command = [word.replace("{port}", str(self.port)) for word in command]
        self.process = subprocess.Popen(
            command,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=self.output or (subprocess.DEVNULL if self.port else subprocess.PIPE),
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},  # as everywhere: compiled once, not at each start
            preexec_fn=None if core is None else functools.partial(os.sched_setaffinity, 0, {core}),
        )
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Until it listens."""
        if self.process.stdout is not None:
            words = self.process.stdout.readline().split()
            self.port = int(words[-1]) if words else 0
            ready = bool(words)
        else:
            end = time.monotonic() + START_TIME
            while not (ready := self.ready()) and self.process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
        if not ready:
            raise RuntimeError(f"{self.server.name} did not start")

    def ready(self) -> bool:
        """Whether it listens; where its stdout is a file, it is when the port stands there."""
        if self.output is None:
            return listens(self.port)
        line, newline, _ = os.pread(self.output.fileno(), 1000, 0).partition(b"\n")
        if newline:
            self.port = int(line.split()[-1])
        return bool(newline)

    def job(self) -> dict[str, Any]:
        """What the load generator has to know."""
        wire = {
            key: value.decode() if isinstance(value, bytes) else value
            for key, value in asdict(self.server.wire).items()
        }
        return {"port": self.port, "pid": self.process.pid, "wire": wire}

    def journal_lines(self) -> int:
        """How many lines the journal has, once it grows no more."""
        assert self.output is not None
        size = -1
        while size != (size := os.fstat(self.output.fileno()).st_size):
            time.sleep(0.2)
        self.output.seek(0)
        lines = 0
        while data := self.output.read(1 << 20):
            lines += data.count(b"\n")
        return lines

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.output):
            if stream:
                stream.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody listens there, asked of the system: a connection would be one client more."""
    try:
        with open("/proc/net/tcp") as file:
            return any(f"0100007F:{port:04X} 00000000:0000 0A" in line for line in file)
    except OSError:  # not Linux
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False


def find(names: list[str]) -> tuple[list[Server], list[str]]:
    """Those of `names` that this machine has, and why the others are missing. Raises KeyError for an unknown name.

    "chatsrv@REVISION" is the server as it was at that commit.
    """
    found, missing = [], []
    for name in names:
        kind, _, revision = name.partition("@")
        if kind not in MAKERS or (revision and kind != "chatsrv"):
            raise KeyError(name)
        try:
            found.append(chatsrv(revision) if revision else MAKERS[kind]())
        except LookupError as error:
            missing.append(f"{name}: {error.args[0]}")
    return found, missing


def chatsrv(revision: str = "") -> Server:
    tree = checkout(revision) if revision else PROJECT
    return Server(
        f"chatsrv@{revision}" if revision else "chatsrv",
        [PYTHON, str(tree / "chatsrv"), "--port", "0"],
        flags=lambda job: [] if job.get("journal") else ["--quiet"],
        version=f"Python {sys.version.split()[0]}",
    )


@functools.cache
def checkout(revision: str) -> Path:
    """The project as it was at `revision`, in a directory that goes when this process ends."""
    packed = subprocess.run(["git", "archive", revision], cwd=PROJECT, capture_output=True)
    if packed.returncode:
        raise LookupError(packed.stderr.decode().strip())
    directory = Path(temporary_directory())
    subprocess.run(["tar", "-x"], cwd=directory, input=packed.stdout, check=True)
    return directory


def temporary_directory() -> str:
    """One that goes when this process ends."""
    KEPT.append(tempfile.TemporaryDirectory(prefix="chatsrv-bench-"))
    return KEPT[-1].name


KEPT: list[tempfile.TemporaryDirectory[str]] = []


def limit() -> Server:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not compiler:
        raise LookupError("no C compiler")
    return Server("limit", [compiled(compiler)], version=first_line(compiler, "--version"))


@functools.cache
def compiled(compiler: str) -> str:
    """The limit's program, in a directory that goes when this process ends."""
    program = os.path.join(temporary_directory(), "limit")
    subprocess.run([compiler, "-O2", "-o", program, str(HERE / "limit.c")], check=True)
    return program


def peer(kind: str, uvloop: bool) -> Server:
    version = f"Python {sys.version.split()[0]}"
    if uvloop:
        if importlib.util.find_spec("uvloop") is None:
            raise LookupError("uvloop is not installed")
        from importlib.metadata import version as version_of

        version = f"uvloop {version_of('uvloop')}"
    command = [sys.executable, "-m", "tests.bench.peers", kind] + ["--uvloop"] * uvloop
    return Server(f"{'uvloop' if uvloop else 'asyncio'}-{kind}", command, version=version)


def redis() -> Server:
    if not shutil.which("redis-server"):
        raise LookupError("redis-server is not installed")
    options = {
        "port": "{port}", "bind": "127.0.0.1", "protected-mode": "no", "maxclients": "15000",
        "appendonly": "no", "save": "", "loglevel": "warning",
    }  # fmt: skip
    command = ["redis-server", *(word for key, value in options.items() for word in (f"--{key}", value))]
    version = first_line("redis-server", "--version").partition(" sha=")[0]
    return Server("redis", command, REDIS, version=version)


def ncat() -> Server:
    if not shutil.which("ncat"):
        raise LookupError("ncat is not installed")
    command = ["ncat", "-l", "127.0.0.1", "{port}", "--broker", "--max-conns", "1000"]
    note = "--broker; few lines at a time from each sender, because it tears lines otherwise"
    return Server("ncat", command, NCAT, version=first_line("ncat", "--version"), note=note, most=900)


def first_line(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return next((line for line in done.stdout.splitlines() if line), "").strip()


MAKERS: dict[str, Callable[[], Server]] = {
    "limit": limit,
    "chatsrv": chatsrv,
    "redis": redis,
    "ncat": ncat,
    **{
        f"{'uvloop' if uvloop else 'asyncio'}-{kind}": functools.partial(peer, kind, uvloop)
        for kind in ("streams", "protocol", "batch")
        for uvloop in (False, True)
    },
}
