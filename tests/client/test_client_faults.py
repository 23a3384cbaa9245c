"""A system that fails under the client: it works all the same, or ends with status 1 and one line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from chatting import HERE, PATIENCE, Start, linux, needs_strace
from forked import CLIENT
from more import every

pytestmark = [linux, needs_strace]

FAULTS = [
    *every(3, (f"epoll_ctl:error=ENOMEM:when={n}" for n in range(1, 12))),
    "sendto:error=EPIPE:when=1",
    "sendto:error=ENOMEM:when=1",
    "shutdown:error=ENOTCONN:when=1",
    "recvfrom:error=ENOMEM:when=1",
    "recvfrom:error=EIO:when=2",
    "epoll_wait:error=EINTR:when=2",
    "epoll_wait:error=ENOMEM:when=3",
    "getsockopt:error=ENOBUFS:when=1",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_it_gets_everything_or_says_in_one_line_why_not(chatsrv: Start, tmp_path: Path, fault: str) -> None:
    server = chatsrv()
    trace = tmp_path / "trace"
    call = fault.partition(":")[0]
    done = subprocess.run(
        ["strace", "-qq", "-o", trace, "-e", f"trace={call}", "-e", f"inject={fault}", *CLIENT, HERE, str(server.port)],
        input=b"hi\n",
        capture_output=True,
        timeout=PATIENCE,
    )
    assert "INJECTED" in trace.read_text()
    if done.returncode:
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1) and done.stderr.startswith(b"chatclient: "), done
        assert b"endpoint" not in done.stderr, "shutdown() says this of a connection that the server has closed"
    else:
        assert done.stdout.endswith(b"\n127.0.0.1: hi\n") and not done.stderr, done
