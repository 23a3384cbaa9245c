"""The servers that are compared: how each is started, and how one talks to it."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import signal
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
    say_head=b"*3\r\n$7\r\nPUBLISH\r\n$5\r\nchat{room}\r\n${size}\r\n",
    say_tail=b"\r\n",
    hear_head=b"*3\r\n$7\r\nmessage\r\n$5\r\nchat{room}\r\n${size}\r\n",
    hear_tail=b"\r\n",
    greeting=b":1\r\n",
    subscribe=b"SUBSCRIBE chat0\r\n",
    choose=b"SUBSCRIBE chat{room}\r\n",
    apart=True,
)
BROWSER = Wire(
    greeting=b"here.\n",
    subscribe=b"GET /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    frames=True,
)
SECURE = Wire(secure=True)
NCAT = Wire(hear_head=b"", greeting=b"", apart=True, gentle=True)


@dataclass
class Server:
    """One that can be started. Either it prints that it listens, and where, or {port} in `command` says which.

    `beside` is the command of another one that it needs; {beside} in both is that one's port. `before` is that of one
    that stands in front of it at {web}, and whose costs are its own.
    """

    name: str
    command: list[str]
    wire: Wire = field(default_factory=Wire)
    flags: Callable[[Job], list[str]] = lambda job: []  # what a workload needs after `command`
    version: str = ""
    note: str = ""
    most: int = 20_000  # clients it can have
    beside: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)


class Running:
    """A server process on one core, started fresh for a workload; it listens when this returns.

    If the workload has a journal, stdout is a file, and `journal_lines` counts what is in it.
    """

    def __init__(
        self, server: Server, job: Job, core: int | None = None, environment: dict[str, str] | None = None
    ) -> None:
        self.server = server
        # As everywhere: compiled once, not at each start
        self.environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(environment or {})}
        self.output = tempfile.TemporaryFile() if job.get("journal") else None  # noqa: SIM115
        self.processes: list[subprocess.Popen[bytes]] = []
        self.web_port = 0
        ports: dict[str, int] = {}
        try:
            if server.beside:
                ports["{beside}"] = free_port()
                self.begin(filled(server.beside, ports), subprocess.DEVNULL)
                wait(lambda: listens(ports["{beside}"]))
            command = server.command + server.flags(job)
            for place in "{port}", "{web}":
                if any(place in word for word in command + server.before):
                    ports[place] = free_port()
            self.port = ports.get("{port}", 0)
            stdout = self.output or (subprocess.DEVNULL if self.port else subprocess.PIPE)
            self.process = self.begin(filled(command, ports), stdout, core)
            if self.process.stdout is not None:
                while not self.port and (line := self.process.stdout.readline()):
                    self.port = told_port(line)
            else:
                wait(lambda: self.ready() or self.process.poll() is not None)
            self.pid = child(self.process.pid) or self.process.pid  # strace runs it as a child
            self.pids = [self.pid]
            if server.before:
                self.pids.append(self.begin(filled(server.before, ports), subprocess.DEVNULL, core).pid)
            if "{web}" in ports:
                self.web_port = ports["{web}"]
                wait(lambda: listens(self.web_port))
            if not self.port or self.process.poll() is not None:
                raise RuntimeError(f"{server.name} did not start")
        except BaseException:
            self.stop()
            raise

    def begin(self, command: list[str], stdout: Any, core: int | None = None) -> subprocess.Popen[bytes]:
        self.processes.append(
            subprocess.Popen(
                command,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                env=self.environment,
                preexec_fn=None if core is None else functools.partial(os.sched_setaffinity, 0, {core}),
            )
        )
        return self.processes[-1]

    def ready(self) -> bool:
        """Whether it listens; where its stdout is a file, it is when the port stands there."""
        if self.output is None:
            return listens(self.port)
        lines = os.pread(self.output.fileno(), 1000, 0).splitlines(keepends=True)
        self.port = max(map(told_port, lines), default=0)
        return self.port > 0

    def job(self) -> dict[str, Any]:
        """What the load generator has to know."""
        wire = {
            key: value.decode() if isinstance(value, bytes) else value
            for key, value in asdict(self.server.wire).items()
        }
        return {"port": self.port, "web_port": self.web_port, "pids": self.pids, "wire": wire}

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
        for process in reversed(self.processes):
            if inner := child(process.pid):
                os.kill(inner, signal.SIGKILL)
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        if self.output:
            self.output.close()


def child(pid: int) -> int:
    """The first child of a process; 0 if there is none, or the system does not tell."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return int((file.read().split() or ["0"])[0])
    except OSError:
        return 0


def filled(command: list[str], ports: dict[str, int]) -> list[str]:
    """The command, with the ports where it names them."""
    for name, port in ports.items():
        command = [word.replace(name, str(port)) for word in command]
    return command


def told_port(line: bytes) -> int:
    """Where a server says that it listens; 0 if that is not what the line says, or not the whole of it."""
    found = re.search(rb"listens.*?(\d+)\D*\n$", line)
    return int(found[1]) if found else 0


def wait(ready: Callable[[], bool]) -> None:
    """Until it is, or START_TIME is over."""
    end = time.monotonic() + START_TIME
    while not ready() and time.monotonic() < end:
        time.sleep(0.01)


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
        [PYTHON, str(tree / "chatsrv"), "--host", "0.0.0.0", "--port", "0"],  # like the others: IPv4 only
        flags=chatsrv_flags,
        version=f"Python {sys.version.split()[0]}",
    )


def chatsrv_flags(job: Job) -> list[str]:
    flags = [] if job.get("journal") else ["--quiet"]
    if "handler" in job:
        flags += ["--handler", f"{HERE / 'handlers.py'}:{job['handler']}"]
    return flags


def cluster() -> Server:
    """The project's server as the only node of a cluster."""
    if not shutil.which("redis-server") or importlib.util.find_spec("hiredis") is None:
        raise LookupError("redis-server or hiredis is not installed")
    server = chatsrv()
    server.name = "chatsrv-cluster"
    server.command += ["--cluster", "redis://127.0.0.1:{beside}"]
    server.beside = ["redis-server", "--port", "{beside}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server.note = "a cluster of 1; what its Redis uses is not counted"
    return server


def web() -> Server:
    """The project's server, to which those that only hear come with a browser."""
    if importlib.util.find_spec("websockets") is None:
        raise LookupError("websockets is not installed")
    server = chatsrv()
    server.name, server.wire = "chatsrv-web", BROWSER
    server.command[-1:] = ["{port}", "--host", "127.0.0.1", "--web", "127.0.0.1:{web}"]
    server.note = "the talking clients are plain ones"
    return server


def secure() -> Server:
    """The project's server, to which those that only hear come with TLS."""
    server = chatsrv()
    server.name, server.wire = "chatsrv-tls", SECURE
    server.command[-1:] = ["{port}", "--host", "127.0.0.1", "--tls", certificate(), "--tls-port", "{web}"]
    server.note = "the talking clients are plain ones"
    return server


def behind_stunnel() -> Server:
    """The project's server, to which those that only hear come with TLS, through a stunnel."""
    if not shutil.which("stunnel"):
        raise LookupError("stunnel is not installed")
    server = chatsrv()
    server.name, server.wire = "chatsrv-stunnel", SECURE
    server.command[-1:] = ["{port}", "--host", "127.0.0.1"]
    lines = "foreground = yes", "pid =", "debug = crit", "[chat]", "accept = 127.0.0.1:{web}"
    settings = "\n".join([*lines, "connect = 127.0.0.1:{port}", f"cert = {certificate()}"])
    server.before = ["sh", "-c", f"exec stunnel -fd 3 3<<'END'\n{settings}\nEND\n"]
    server.note = "the talking clients are plain ones; what stunnel uses is counted"
    return server


@functools.cache
def certificate() -> str:
    """A file with one, and its key. Raises LookupError."""
    if not shutil.which("openssl"):
        raise LookupError("openssl is not installed")
    file = os.path.join(temporary_directory(), "certificate.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost"
    subprocess.run([*command.split(), "-keyout", file, "-out", file], check=True, capture_output=True)
    return file


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
    program = [compiled(compiler)]
    return Server(
        "limit", program, flags=lambda job: [job.get("handler", "chat")], version=first_line(compiler, "--version")
    )


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
    return Server(f"{'uvloop' if uvloop else 'asyncio'}-{kind}", command, flags=peer_flags, version=version)


def peer_flags(job: Job) -> list[str]:
    return ["--rooms"] * (job.get("handler") == "rooms") + ["--journal"] * bool(job.get("journal"))


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
    "chatsrv-cluster": cluster,
    "chatsrv-web": web,
    "chatsrv-tls": secure,
    "chatsrv-stunnel": behind_stunnel,
    "redis": redis,
    "ncat": ncat,
    **{
        f"{'uvloop' if uvloop else 'asyncio'}-{kind}": functools.partial(peer, kind, uvloop)
        for kind in ("streams", "protocol", "batch")
        for uvloop in (False, True)
    },
}
