"""Where the server listens, under systemd and alone, and how it learns that a peer is gone."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from chatting import (
    HERE,
    PATIENCE,
    PREFIX,
    ROOT,
    Chatsrv,
    Client,
    Start,
    enter_network_of,
    eventually,
    free_port,
    linux,
)

import chat.server.listen
from chat.server.listen import describe, inherited, listen, prepare, why

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no IPv6")

HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execvp(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def closing_all(sockets: list[socket.socket]) -> Iterator[list[socket.socket]]:
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


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


def test_a_supervisor_that_reads_nothing_stops_nothing(chatsrv: Start, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(address)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.connect(address)
            other.setblocking(False)
            with suppress(BlockingIOError):
                for _ in range(100_000):
                    other.send(b"x" * 1000)
        server = chatsrv(env={**os.environ, "NOTIFY_SOCKET": address})
        server.client()
        server.finish()


def refusal(sock: socket.socket | None, **environment: str) -> str:
    """What is said, in one line, about a socket that is handed over."""
    command = [sys.executable, str(ROOT / "chatsrv"), "--port", "0"]
    with open(os.devnull) as nothing:
        fd = sock.fileno() if sock else nothing.fileno()
        hand_over = [sys.executable, "-c", HAND_OVER, str(fd), "env", *(f"{n}={v}" for n, v in environment.items())]
        done = subprocess.run([*hand_over, *command], pass_fds=[fd], capture_output=True, timeout=PATIENCE, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    return done.stderr[:-1]


def test_what_is_not_a_listening_tcp_socket_is_refused_in_one_line(tmp_path: Path) -> None:
    handed_over = "chatsrv: descriptor 3, handed over in LISTEN_FDS,"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrong:
        assert refusal(wrong) == f"{handed_over} is not a TCP socket"
    with socket.socket(socket.AF_UNIX) as wrong:
        wrong.bind(str(tmp_path / "socket"))
        wrong.listen()
        assert refusal(wrong) == f"{handed_over} is not a TCP socket"
    with socket.create_server((HERE, 0)) as listener, socket.create_connection(listener.getsockname()) as connection:
        words = f"{handed_over} does not listen; with systemd, the socket unit needs Accept=no"
        assert refusal(connection) == words
        assert refusal(listener, LISTEN_FDS="2").startswith(
            "chatsrv: descriptor 4, handed over in LISTEN_FDS, is not a"
        )
        assert refusal(listener, LISTEN_FDS="two") == "chatsrv: LISTEN_FDS is 'two', not a number of descriptors"
    assert refusal(None) == f"{handed_over} is not a socket: Socket operation on non-socket"


def test_flags_that_do_not_count_are_told() -> None:
    with socket.create_server((HERE, 0)) as listener:
        for flags in ["--port", "1"], ["--host", "::1"]:
            server = Chatsrv(*flags, through=handing_over(listener), pass_fds=[listener.fileno()])
            try:
                assert server.port == listener.getsockname()[1]
                (line,) = server.complaints.expect("the listening sockets were handed over")
                assert line.startswith("chatsrv: --host and --port are ignored")
                assert server.end() == 0
            finally:
                server.destroy()


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


# Where it listens.


@pytest.mark.parametrize(
    "host, words",
    [
        (None, "at all addresses, open to the network, listens on port "),
        ("0.0.0.0", "at all IPv4 addresses, open to the network, listens on port "),
        (HERE, "at 127.0.0.1, for this machine only, listens on port "),
        ("localhost", "at 127.0.0.1, for this machine only, listens on port "),
        ("127.1", "at 127.0.0.1, for this machine only, listens on port "),
        pytest.param("::ffff:127.0.0.1", "at 127.0.0.1, for this machine only, listens on port ", marks=needs_ipv6),
        pytest.param("[::ffff:7f00:1]", "at 127.0.0.1, for this machine only, listens on port ", marks=needs_ipv6),
        pytest.param(
            "::ffff:0.0.0.0", "at all IPv4 addresses, open to the network, listens on port ", marks=needs_ipv6
        ),
    ],
)
def test_where_it_listens_is_told(host: str | None, words: str) -> None:
    if host is None and not socket.has_dualstack_ipv6():
        words = words.replace("all addresses", "all IPv4 addresses")
    with closing_all(listen(host, 0)) as listeners:
        assert describe(listeners) == f"{words}{listeners[0].getsockname()[1]}"


@needs_ipv6
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6_is_told_too_and_may_stand_in_brackets(host: str) -> None:
    while True:
        with closing_all(listen(host, 0)) as listeners:
            port = listeners[0].getsockname()[1]
            assert describe(listeners) == f"at ::1, for this machine only, listens on port {port}"
            try:
                listeners += listen(HERE, port)
            except OSError as error:
                assert error.errno == errno.EADDRINUSE  # another program has this port of IPv4
                continue
            assert describe(listeners) == f"at ::1 and 127.0.0.1, for this machine only, listens on port {port}"
            return


@pytest.mark.parametrize("host", ["", "nowhere.invalid", "x" * 70, "192.0.2.1", "[]"])
def test_a_host_that_cannot_be_listened_on_is_told_in_words(host: str) -> None:
    command = [sys.executable, str(ROOT / "chatsrv"), "--port", "3100", "--host", host]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"chatsrv: cannot listen on {host or repr('')} port 3100: ")
    assert "attempting" not in done.stderr and "codec" not in done.stderr


def test_a_host_does_not_load_what_only_other_alphabets_need() -> None:
    code = f"import sys, chat.server.listen as own; own.listen({HERE!r}, 0); print('encodings.idna' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=PATIENCE, text=True)
    assert done.stdout == "False\n", done.stderr


def test_a_number_of_the_resolver_is_not_taken_for_one_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(8, "nodename nor servname provided, or not known")  # macOS; 8 is ENOEXEC, too

    monkeypatch.setattr("chat.server.listen.socket.getaddrinfo", unknown)
    with pytest.raises(OSError) as caught:
        listen("nowhere.invalid", 0)
    assert why(caught.value) == "nodename nor servname provided, or not known"


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_without_ipv6_it_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    opened = chat.server.listen.opened

    def without_ipv6(family: int, *more: Any, **others: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, os.strerror(number))
        return opened(family, *more, **others)

    monkeypatch.setattr(chat.server.listen, "opened", without_ipv6)
    with closing_all(listen(None, 0)) as (listener,), socket.create_connection((HERE, listener.getsockname()[1]), 5):
        assert describe([listener]).startswith("at all IPv4 addresses, open to the network, ")


# When a peer is gone.


@linux
@pytest.mark.parametrize("patience", [None, 0.5, 5, 8, 13.7, 30, 60, 100, 3600])
def test_there_is_time_for_all_probes_before_a_quiet_peer_is_given_up(patience: float | None) -> None:
    with closing_all(listen(HERE, 0)) as (listener,):
        prepare(listener, patience)
        names = "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"
        idle, interval, probes, user = (
            listener.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names
        )
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert (user == 0) if patience is None else (user == 1000 * max(patience, 8))
        assert 1 <= interval <= 15 and 4 <= idle <= 60 and probes == 4
        assert patience is None or idle + (probes - 1) * interval < user / 1000


@linux
@pytest.mark.skipif(not all(map(shutil.which, ("unshare", "ip", "ss"))), reason="unshare, ip or ss is not installed")
def test_a_quiet_member_survives_three_lost_probes(chatsrv: Start) -> None:
    if subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], capture_output=True).returncode:
        pytest.skip("making a network namespace is not permitted here")
    with open(f"/proc/{os.getpid()}/ns/net") as home:
        # What 127.0.0.2 sends is thrown away as long as there is a rule 1 for it
        script = 'ip link set lo up && ip rule add pref 2 lookup local && ip rule del pref 0 && exec "$@"'
        server = chatsrv("--stall-timeout", "8", through=["unshare", "-n", "sh", "-c", script, "sh"])
        if not enter_network_of(server.pid):
            pytest.skip("entering a network namespace is not permitted here")
        try:
            quiet = server.client(source="127.0.0.2")
            rule = ["pref", "1", "from", "127.0.0.2", "blackhole"]

            def lost_probes() -> int:
                sockets = subprocess.run(["ss", "-tnoH", "dst", "127.0.0.2"], stdout=subprocess.PIPE, text=True).stdout
                found = re.search(r"timer:\(keepalive,[^,]*,(\d+)\)", sockets)
                return int(found[1]) if found else -1

            assert subprocess.run(["ip", "rule", "add", *rule]).returncode == 0
            eventually(lambda: lost_probes() == 3, pause=0.1)
            subprocess.run(["ip", "rule", "del", *rule], check=True)
            eventually(lambda: lost_probes() == 0, pause=0.1)
            assert not server.over()
            quiet.say("still here")
            quiet.expect(PREFIX.replace(b"1: ", b"2: ") + b"still here")
            quiet.close()
            server.finish()
        finally:
            ctypes.CDLL(None).setns(home.fileno(), 0x40000000)
