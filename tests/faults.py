"""System calls that fail, by strace."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from chatting import PATIENCE, eventually


def strace(fault: str, trace: Path | str = os.devnull) -> list[str]:
    """The command that injects a fault, for a program or with -p."""
    call = fault.partition(":")[0]
    return ["strace", "-qq", "-o", str(trace), "-e", f"trace={call}", "-e", f"inject={fault}"]


class Fault:
    """A fault of a process that runs: "recvfrom:error=EIO:when=3" is about the third call from now.

    "send:..." is about what is written to the sockets that the process has now, "journal:..." about its stdout.
    """

    def __init__(self, pid: int, fault: str, trace: Path) -> None:
        self.trace = trace
        call, _, how = fault.partition(":")
        files = {"send": sockets, "journal": stdout}[call](pid) if call in ("send", "journal") else []
        only = [word for file in files for word in ("-P", file)]
        command = [*strace(f"write:{how}" if only else fault, trace), *only, "-p", str(pid)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)
        status = Path(f"/proc/{pid}/status")
        eventually(lambda: f"TracerPid:\t{self.process.pid}\n" in status.read_text(), "strace")

    def over(self) -> bool:
        """Stop injecting; returns whether something was injected."""
        assert self.process.stderr
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)
        self.process.stderr.close()
        return "INJECTED" in self.trace.read_text()


def sockets(pid: int) -> list[str]:
    """What /proc calls the TCP sockets of a process. (The one that signals write to is no TCP socket.)"""
    folder = f"/proc/{pid}/fd"
    links = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
    tables = [table.read_text() for table in Path(f"/proc/{pid}/net").glob("tcp*")]  # without IPv6, only one
    tcp = {f"socket:[{line.split()[9]}]" for table in tables for line in table.splitlines()[1:]}
    return [link for link in links if link in tcp]


def stdout(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/1")]
