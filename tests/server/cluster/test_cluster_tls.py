"""--cluster rediss://, with a real Redis."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from chatting import PATIENCE, PREFIX, ROOT, Start
from cluster.real import HERE, Redis, free_port


@pytest.fixture
def redis(authority: Authority, tmp_path: Path) -> Iterator[Redis]:
    """It has a plain port, for the test, and one that speaks TLS."""
    file, port = authority.issue(), str(free_port())
    flags = "--tls-port", port, "--tls-cert-file", file, "--tls-key-file", file, "--tls-auth-clients", "no"
    redis = Redis(tmp_path, *flags, "--tls-ca-cert-file", authority.file)
    yield redis
    redis.kill()


def port_of(redis: Redis) -> str:
    return redis.flags[1]


def refusal(url: str) -> str:
    command = [sys.executable, str(ROOT / "chatsrv"), "--port", "0", "--cluster", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_two_nodes_talk_through_it_and_survive_its_restart(redis: Redis, authority: Authority, chatsrv: Start) -> None:
    url = f"rediss://localhost:{port_of(redis)}?ca={authority.file}"
    one, other = (chatsrv("--cluster", url).client() for _ in range(2))
    one.say("hello", *(b"x" * 900 for _ in range(500)))
    for client in one, other:
        client.expect(PREFIX + b"hello", *(PREFIX + b"x" * 900 for _ in range(500)))
    redis.kill()
    redis.start()
    other.say("again")
    for client in one, other:
        client.wait_for(PREFIX + b"again")


def test_why_it_is_not_trusted_is_said_in_one_line(redis: Redis, authority: Authority) -> None:
    port = port_of(redis)
    begin = f"chatsrv: --cluster rediss://localhost:{port}/0 (stream chat): "
    unknown = "no TLS: the certificate is not to be trusted: self-signed certificate in certificate chain\n"
    assert refusal(f"rediss://localhost:{port}") == begin + unknown
    missing = "cannot read /nonexistent: no such file or directory\n"
    assert refusal(f"rediss://localhost:{port}?ca=/nonexistent") == begin + missing
    plain = f"chatsrv: --cluster rediss://{HERE}:{redis.port}/0 (stream chat): "
    assert refusal(f"rediss://{HERE}:{redis.port}").startswith(plain)
