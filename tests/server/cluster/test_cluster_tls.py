"""--cluster rediss://, with a real Redis."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from chatting import HERE, PATIENCE, PREFIX, ROOT, Start, eventually, free_port
from cluster.real import Redis, Sentinel


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
    """What it says. (On a busy machine, it may tell beside this that to load the authorities takes its time.)"""
    command = [sys.executable, str(ROOT / "chatsrv"), "--port", "0", "--cluster", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    return "".join(line for line in done.stderr.splitlines(True) if line.startswith("chatsrv: "))


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


class SecureSentinel(Sentinel):
    """One that speaks TLS, with the Redis that it watches as well."""

    def arguments(self) -> list[str]:
        arguments = super().arguments()
        config = self.directory / "sentinel.conf"
        config.write_text(config.read_text().replace(f" {self.watched.port} 1", f" {port_of(self.watched)} 1"))
        return arguments


def test_a_sentinel_that_speaks_tls_leads_to_the_master_and_then_to_its_copy(
    redis: Redis, authority: Authority, chatsrv: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file, ports = authority.issue(), [str(free_port()) for _ in range(2)]
    keys = {"tls-cert-file": file, "tls-key-file": file, "tls-ca-cert-file": authority.file, "tls-auth-clients": "no"}
    flags = [word for name, value in keys.items() for word in (f"--{name}", value)]
    others = [
        Redis(
            tmp_path_factory.mktemp("copy"),
            *("--tls-port", ports[0], *flags, "--tls-replication", "yes", "--replicaof", HERE, port_of(redis)),
        )
    ]
    try:
        eventually(lambda: b"master_link_status:up" in others[0].ask("INFO", "replication"))
        lines = f"tls-port {ports[1]}", "tls-replication yes", *(f"{name} {value}" for name, value in keys.items())
        others.append(SecureSentinel(tmp_path_factory.mktemp("sentinel"), redis, *lines))
        eventually(lambda: len(others[1].ask("SENTINEL", "REPLICAS", "chat")) == 1)
        url = f"rediss+sentinel://localhost:{ports[1]}/chat?ca={authority.file}"
        one, other = (chatsrv("--cluster", url).client() for _ in range(2))
        one.say("hello")
        for client in one, other:
            client.wait_for(PREFIX + b"hello")
        eventually(lambda: others[0].ask("XLEN", "chat") == redis.ask("XLEN", "chat"), "a copy of all")
        redis.kill()
        other.say("again")
        for client in one, other:
            client.wait_for(PREFIX + b"again")
        begin = f"chatsrv: --cluster rediss+sentinel://localhost:{ports[1]}/chat/0 (stream chat): "
        assert refusal(url.partition("?")[0]).startswith(begin + "no TLS: the certificate is not to be trusted")
        assert refusal(url.replace("rediss", "redis").partition("?")[0]).startswith(begin.replace("rediss", "redis"))
    finally:
        for running in others:
            running.kill()
