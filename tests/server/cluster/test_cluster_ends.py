"""How a real node ends when Redis is not there, or has not got everything."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import pytest
from chatting import HERE, PATIENCE, ROOT
from cluster.real import Stage, Talker

from chat.server.cluster.wire import TIMEOUT

UNIT = 10.0  # seconds: half of TimeoutStopSec in README's unit, after which systemd kills


def away(stage: Stage, *flags: str) -> Talker:
    """Redis has gone, and the only client of the only node has said something since."""
    node = stage.node("", *flags)
    client = stage.client(node)
    stage.redis.kill()
    stage.until(lambda: node.lines("lost redis"))
    stage.run(client.say(2))
    stage.until(lambda: len(node.lines("> <client0 ")) == 2)
    return client


def test_told_to_end_while_redis_is_away(stage: Stage) -> None:
    """With members that do not read, and a handler with last words: all the same it ends before it would be killed."""
    client = away(stage, "--handler", "chat.handlers.nick:nick")
    node = stage.nodes[0]
    deaf = socket.create_connection((HERE, node.port), timeout=PATIENCE)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    began = time.monotonic()
    node.process.terminate()
    stage.until(lambda: node.process.poll() is not None)
    took = time.monotonic() - began
    deaf.close()
    assert 4 < took < UNIT - 1
    assert node.process.returncode == 1
    journal = node.journal()
    assert "messages have not come back from Redis and may be lost\n" in journal
    assert client.lines()[-1] == "* You are disconnected: the server is ending."


def test_nothing_to_wait_for(stage: Stage) -> None:
    """All that was said has come back: Redis may be away, and the node ends at once, in good order."""
    node = stage.node()
    client = stage.client(node)
    stage.run(client.say())
    stage.until(stage.all_heard)
    stage.redis.kill()
    stage.until(lambda: node.lines("lost redis"))
    began = time.monotonic()
    stage.end(node)
    assert time.monotonic() - began < 3


def test_redis_comes_back_in_time(stage: Stage) -> None:
    client = away(stage)
    stage.nodes[0].process.terminate()
    stage.until(stage.nodes[0].listens_no_more)
    stage.redis.start()
    stage.end(stage.nodes[0])
    assert [line for line in client.lines() if line.startswith("<")] == ["<client0 0>", "<client0 1>"]


def test_a_second_signal_ends_the_wait(stage: Stage) -> None:
    """At once, but what may be lost is said."""
    away(stage)
    node = stage.nodes[0]
    node.process.terminate()
    stage.until(lambda: node.lines("another signal ends this at once"))
    began = time.monotonic()
    node.process.terminate()
    stage.until(lambda: node.process.poll() is not None)
    assert time.monotonic() - began < 2
    assert node.process.returncode == 1
    assert "cluster 2 messages have not come back from Redis and may be lost\n" in node.journal()


@pytest.mark.parametrize("flags", [(), ("--cluster-wait",)])
def test_told_to_end_before_redis_has_answered(flags: tuple[str, ...]) -> None:
    with socket.create_server((HERE, 0)) as silent:
        url = f"redis://{HERE}:{silent.getsockname()[1]}"
        command = [sys.executable, str(ROOT / "chatsrv"), "--port", "0", "--cluster", url, *flags]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as node:
            silent.settimeout(PATIENCE)
            asked, _ = silent.accept()
            asked.recv(1)
            node.send_signal(signal.SIGUSR1)
            node.send_signal(signal.SIGTERM)
            began = time.monotonic()
            _, complaint = node.communicate(timeout=PATIENCE)
            assert time.monotonic() - began < TIMEOUT / 2
            asked.close()
    assert node.returncode == 0
    assert complaint == f"chatsrv: --cluster {url}/0 (stream chat): ended by a signal before Redis has answered\n"
