"""stdout of every kind: a reader that stops cannot make a write wait."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from chatting import HERE, PATIENCE, ROOT, Start, eventually, free_port
from forked import CLIENT
from terminals import Pty

# Without this, root may open everything.
UNPRIVILEGED = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
needs_setpriv = pytest.mark.skipif(
    bool(UNPRIVILEGED) and not shutil.which("setpriv"), reason="setpriv is not installed"
)

FILL = """
import os
from chat.stdout import PORTION, standard_output

output = standard_output()
written = 0
while written < 1 << 22 and (taken := output.write(b"." * PORTION)):
    written += taken
os.write(2, b"%d bytes, blocking: %s" % (written, str(os.get_blocking(1)).encode()))
"""


def fill(stdout: int, *through: str) -> str:
    """What a program says that writes to this stdout until it would have to wait."""
    done = subprocess.run(
        [*through, sys.executable, "-c", FILL], cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, timeout=PATIENCE
    )
    return done.stderr.decode()


@pytest.fixture
def terminal() -> Iterator[int]:
    """A terminal that nobody reads, and that nobody may open."""
    master, slave = os.openpty()
    os.fchmod(slave, 0)
    yield slave
    os.close(master)
    os.close(slave)


@needs_setpriv
def test_hazard_30_a_terminal_of_another_user_takes_what_it_has_room_for(terminal: int) -> None:
    assert fill(terminal, *UNPRIVILEGED).endswith(" bytes, blocking: True")


def test_hazard_30_a_socket_takes_what_it_has_room_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert fill(theirs.fileno()).endswith(" bytes, blocking: True")


@needs_setpriv
@pytest.mark.parametrize("whose", ["ours", "another user's"])
def test_hazard_30_a_pipe_takes_what_it_has_room_for_though_others_use_it(whose: str) -> None:
    reader, writer = os.pipe()
    through = []
    if whose == "another user's":
        os.fchmod(writer, 0)
        through = UNPRIVILEGED
    try:
        said = fill(writer, *through)
        assert said.endswith(" bytes, blocking: True")
        assert said.startswith(f"{1 << 16} bytes") or sys.platform != "linux"
    finally:
        os.close(reader)
        os.close(writer)


@needs_setpriv
def test_hazard_30_a_server_whose_journal_goes_to_a_terminal_of_another_user(chatsrv: Start, terminal: int) -> None:
    server = chatsrv(port=free_port(), stdout=terminal, through=UNPRIVILEGED)
    client = server.client()
    for _ in range(300):  # far more than the terminal has room for
        client.say(b"." * 100)
        client.expect(b"127.0.0.1: " + b"." * 100)
    server.finish()


@needs_setpriv
def test_hazard_30_control_c_in_a_terminal_of_another_user(chatsrv: Start) -> None:
    server = chatsrv()
    with Pty(["sh", "-c", 'chmod 0 "$(tty)"; exec "$@"', "sh", *UNPRIVILEGED, *CLIENT, HERE, str(server.port)]) as pty:
        pty.wait_for("here.")
        other = server.client()
        for _ in range(30):  # nobody reads them
            other.say(b"x" * 1000)
            other.line()
        eventually(lambda: select.select([pty.master], [], [], 0)[0])
        pty.press("\x03")
        assert pty.process.wait(PATIENCE) == 130


def test_a_terminal_whose_device_cannot_be_seen(chatsrv: Start) -> None:
    """As in containers that were given a terminal of the host's."""
    hidden = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev/pts && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*hidden, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this needs the right to mount")
    port = free_port()
    with Pty([*hidden, sys.executable, str(ROOT / "chatsrv"), "--port", str(port)], columns=100) as journal:
        journal.wait_for(f"port {port}")
        with Pty([*hidden, *CLIENT, HERE, str(port)]) as pty:
            pty.wait_for("here.")
            pty.press("hi\r\x04")
            assert pty.exit_status() == 0
            assert pty.restored()
        journal.wait_for("> hi")
        journal.press("\x03")
        assert journal.exit_status() == 0
