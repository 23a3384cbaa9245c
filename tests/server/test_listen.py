"""Under systemd: sockets that were opened for the server, and telling how it is."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from chatting import HERE, PATIENCE, ROOT, Chatsrv, Client, eventually, free_port

from chat.server.listen import inherited

HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def handing_over(sock: socket.socket) -> list[str]:
    """What a supervisor does before the command: the socket becomes descriptor 3, meant for that process."""
    return [sys.executable, "-c", HAND_OVER, str(sock.fileno())]


def test_a_socket_is_handed_over_and_the_supervisor_told(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.create_server((HERE, 0)) as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(address)
        supervisor.settimeout(PATIENCE)
        early = Client(listener.getsockname()[1])  # before the server runs: the port is there already
        server = Chatsrv(
            through=handing_over(listener), pass_fds=[listener.fileno()], env={**os.environ, "NOTIFY_SOCKET": address}
        )
        try:
            assert server.port == listener.getsockname()[1]
            assert supervisor.recv(100) == b"READY=1"
            early.expect(b"Welcome", starts=True)
            early.close()
            assert server.end() == 0
            assert supervisor.recv(100) == b"STOPPING=1"
        finally:
            server.destroy()


def test_a_socket_that_is_no_tcp_socket_is_refused_in_one_line() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrong:
        command = [*handing_over(wrong), sys.executable, str(ROOT / "chatsrv")]
        result = subprocess.run(command, pass_fds=[wrong.fileno()], capture_output=True, timeout=PATIENCE)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr == b"chatsrv: descriptor 3, handed over in LISTEN_FDS, is not a TCP socket\n"


def test_sockets_meant_for_another_process_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert inherited() == []


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd-socket-activate is not installed")
def test_systemds_own_tool() -> None:
    port = free_port()
    command = ["systemd-socket-activate", "-l", f"{HERE}:{port}", sys.executable, str(ROOT / "chatsrv")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def connected() -> Client | None:
        try:
            return Client(port)
        except ConnectionRefusedError:
            return None

    try:
        client = eventually(connected, "a connection")
        client.expect(b"Welcome", starts=True)
        client.close()
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_units_in_the_readme_are_valid(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    units = re.findall(r"```ini\n# /etc/systemd/system/(\S+)\n(.*?)```", readme, re.DOTALL)
    assert [name for name, _ in units] == ["chatsrv.socket", "chatsrv.service"]
    for name, text in units:
        (tmp_path / name).write_text(text.replace("/opt/chatsrv/chatsrv", str(ROOT / "chatsrv")))
    paths = [str(tmp_path / name) for name, _ in units]
    result = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, timeout=PATIENCE, text=True)
    assert (result.returncode, [line for line in result.stderr.splitlines() if "chatsrv" in line]) == (0, [])
