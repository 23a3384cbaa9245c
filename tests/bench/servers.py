"""The servers that are compared: how each is started, and how one talks to it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .oracle import Wire

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
PYTHON = os.path.realpath(sys.executable)  # the program itself, no launcher in front of it


@dataclass
class Server:
    """One that can be started: `command` prints a line that ends with its port."""

    name: str
    command: list[str]
    wire: Wire = field(default_factory=Wire)


class Running:
    """A server process on one core, started fresh. Its port is known when this returns."""

    def __init__(self, server: Server, core: int | None, journal: bool = False) -> None:
        self.server = server
        self.output = tempfile.TemporaryFile() if journal else None
        self.process = subprocess.Popen(
            server.command,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=self.output or subprocess.PIPE,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
        self.port = self.read_port()

    def read_port(self) -> int:
        if self.output is None:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
        else:
            line = b""
            while not line.endswith(b"\n") and self.process.poll() is None:
                line = os.pread(self.output.fileno(), 200, 0).partition(b"\n")[0] + b"\n"
                line = line if len(line) > 1 else b""
        if not line.strip():
            raise RuntimeError(f"{self.server.name} did not start")
        return int(line.split()[-1])

    def job(self) -> dict[str, Any]:
        """What the load generator has to know."""
        wire = {
            key: value.decode() if isinstance(value, bytes) else value
            for key, value in asdict(self.server.wire).items()
        }
        return {"port": self.port, "pid": self.process.pid, "wire": wire}

    def stop(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdout, self.output):
            if stream:
                stream.close()


def find(names: list[str]) -> tuple[list[Server], list[str]]:
    """Those of `names` that this machine has, and why the others are missing."""
    found, missing = [], []
    for name in names:
        try:
            found.append(MAKERS[name]())
        except LookupError as error:
            missing.append(f"{name}: {error}")
    return found, missing


def chatsrv(*flags: str) -> Server:
    return Server("chatsrv", [PYTHON, str(PROJECT / "chatsrv"), "--port", "0", *(flags or ["--quiet"])])


def limit() -> Server:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not compiler:
        raise LookupError("no C compiler")
    program = Path(tempfile.gettempdir()) / f"chatsrv-bench-limit-{os.getuid()}-{os.getpid()}"
    if not program.exists():
        subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / "limit.c")], check=True)
    return Server("limit", [str(program)])


MAKERS = {"chatsrv": chatsrv, "limit": limit}
