"""The ways to a real Redis: rights, passwords, sockets, Sentinels, and a Redis that comes later than its nodes."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

import pytest
from chatting import HERE, ROOT, free_port
from cluster.oracle import check
from cluster.real import Redis, Sentinel, Stage, Talker, run_chatsrv

BYTES = b"a\xffb"
TOP = "18446744073709551615"


def talk(stage: Stage, count: int = 3) -> None:
    stage.run(*(client.chatter(count, 0.002) for client in stage.clients))
    stage.until(stage.all_heard)


def used(redis: Redis) -> set[str]:
    """The commands that were carried out, without their subcommands: before Redis 7, those are not counted."""
    return set(re.findall(r"cmdstat_(\w+)", redis.ask("INFO", "commandstats").decode()))


def heard(client: Talker, text: str) -> bool:
    return any(line.endswith(f": {text}") for line in client.lines())


def test_the_rights_that_the_page_names(stage: Stage) -> None:
    """They suffice, and none of them is idle: rooms, silence, and somebody who uses up the ids."""
    (line,) = re.findall(r"^ACL SETUSER .*$", (ROOT / "chat/server/cluster/README.md").read_text(), re.MULTILINE)
    assert stage.redis.ask(*line.replace("PASSWORD", "p@ss").split()) == b"OK"
    stage.redis.ask("SELECT", 5)
    stage.redis.ask("CONFIG", "RESETSTAT")
    url = stage.redis.url("/5").replace("//", "//chat:p%40ss@")
    for _ in range(2):
        stage.client(stage.node(url, "--handler", "chat.handlers.rooms:rooms"))
    one, other = stage.clients
    stage.run(one.type("/join inn"), other.type("/join inn"))
    stage.until(lambda: all(b"is here, in inn" in client.heard for client in stage.clients))
    for text in "hello", "again":
        stage.run(one.type(text))
        stage.until(partial(heard, other, text))
        for key in "chat", "chat:inn":
            stage.redis.ask("XADD", key, f"{TOP}-{TOP}", "who", "knows")
    stage.until(lambda: "ping" in used(stage.redis))
    assert stage.redis.ask("ACL", "LOG") == []
    assert used(stage.redis) - {"acl", "config", "info"} == set(re.findall(r"\+(\w+)", line)) - {"info"}


def test_a_password_from_a_file_that_changes(stage: Stage, tmp_path: Path) -> None:
    password = tmp_path / "password"
    stage.redis.ask("CONFIG", "SET", "requirepass", "first one")
    password.write_text("first one\nand nothing else\n")
    node = stage.node(stage.redis.url(f"?password_file={password}"))
    stage.client(node)
    talk(stage)
    stage.redis.ask("CONFIG", "SET", "requirepass", "second one")
    stage.redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    stage.until(lambda: node.lines("WRONGPASS"))
    password.write_text("second one\n")
    stage.until(lambda: node.lines("connected again"))
    talk(stage)
    password.unlink()
    refused = run_chatsrv("--cluster", stage.redis.url(f"?password_file={password}"))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert f"{password}: No such file or directory" in refused.stderr
    os.mkfifo(password)  # nobody writes to it
    refused = run_chatsrv("--cluster", stage.redis.url(f"?password_file={password}"))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert f"{password}: Not a regular file" in refused.stderr


def test_a_password_from_the_environment(stage: Stage) -> None:
    stage.redis.ask("CONFIG", "SET", "requirepass", "secret")
    stage.client(stage.node("", REDISCLI_AUTH="secret"))
    talk(stage)
    refused = run_chatsrv("--cluster", stage.redis.url(), REDISCLI_AUTH="wrong")
    assert refused.returncode == 1 and "WRONGPASS" in refused.stderr


def test_a_password_that_is_not_utf_8(stage: Stage) -> None:
    """In the environment, on the command line, and in the URL's own spelling."""
    stage.redis.ask("CONFIG", "SET", "requirepass", BYTES)
    url = stage.redis.url()
    stage.client(stage.node(url, REDISCLI_AUTH=os.fsdecode(BYTES)))
    for password in os.fsdecode(BYTES), "a%ffb":
        stage.client(stage.node(url.replace("//", f"//:{password}@")))
    talk(stage)
    refused = run_chatsrv("--cluster", f"{url}?stream={os.fsdecode(BYTES)}")
    assert refused.returncode == 2 and refused.stderr.startswith("chatsrv: --cluster takes redis://")


def test_a_unix_socket(stage: Stage, tmp_path: Path) -> None:
    place = tmp_path / "a socket"
    stage.redis.kill()
    stage.redis.flags = "--unixsocket", str(place)
    stage.redis.start()
    stage.client(stage.node(f"unix://{place}?db=3".replace(" ", "%20")))
    stage.client(stage.node(stage.redis.url("/3")))
    talk(stage)
    assert check(stage.streams()) == 12
    stage.redis.kill()
    stage.run(stage.clients[0].say())
    stage.until(lambda: stage.nodes[0].lines(f"lost unix://{place}?db=3 (stream chat): Connection refused"))
    stage.redis.start()
    stage.until(stage.all_heard)


def protected(stage: Stage, directory: Path, others: list[Redis]) -> Redis:
    """Start the stage's Redis anew, with a password, and a copy of it, which is added to the others; returns that."""
    flags = "--requirepass", "secret", "--masterauth", "secret"
    stage.redis.kill()
    stage.redis.flags = flags
    stage.redis.start()
    stage.redis.ask("AUTH", "secret")
    copy = Redis(directory, *flags, "--replicaof", HERE, str(stage.redis.port))
    others.append(copy)
    copy.ask("AUTH", "secret")
    stage.until(lambda: b"master_link_status:up" in copy.ask("INFO", "replication"))
    return copy


class StaleSentinel(Sentinel):
    """One that names what it watches, whatever has become of that: alone it may not decide anything."""

    def arguments(self) -> list[str]:
        arguments = super().arguments()
        config = self.directory / "sentinel.conf"
        config.write_text(config.read_text().replace(f" {self.watched.port} 1", f" {self.watched.port} 2"))
        return arguments


def test_a_sentinel_that_has_not_heard_of_a_fail_over(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It names what is a copy now, and answers. The next one knows better."""
    others: list[Redis] = []
    try:
        copy = protected(stage, tmp_path_factory.mktemp("copy"), others)
        for watched in copy, stage.redis:
            line = "sentinel auth-pass chat secret"
            others.append(StaleSentinel(tmp_path_factory.mktemp("sentinel"), watched, line))
        url = f"redis+sentinel://:secret@{HERE}:{others[1].port},{HERE}:{others[2].port}/chat"
        for _ in range(2):
            stage.client(stage.node(url))
        talk(stage)
        stage.redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        talk(stage)
        assert check(stage.streams()) == 2 * 2 * 6
        others[2].kill()
        refused = run_chatsrv("--cluster", url)
        assert refused.stderr.startswith("chatsrv: --cluster redis+sentinel://") and refused.returncode == 1
    finally:
        for other in others:
            other.kill()


def test_sentinel(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The master dies, its copy takes over, and nobody notices more than a pause. All of them ask for a password."""
    others: list[Redis] = []
    try:
        protected(stage, tmp_path_factory.mktemp("copy"), others)
        lines = "requirepass secret", "sentinel auth-pass chat secret"
        sentinel = Sentinel(tmp_path_factory.mktemp("sentinel"), stage.redis, *lines)
        others.append(sentinel)
        sentinel.ask("AUTH", "secret")
        stage.until(lambda: len(sentinel.ask("SENTINEL", "REPLICAS", "chat")) == 1)
        nobody = free_port()
        url = f"redis+sentinel://:secret@{HERE}:{nobody},{HERE}:{sentinel.port}/chat"
        for _ in range(2):
            stage.client(stage.node(url))
        talk(stage)
        stage.redis.ask("SET", "last", 1)  # WAIT waits for what this connection wrote, and so for all before it
        assert stage.redis.ask("WAIT", 1, 5000) == 1
        stage.redis.kill()
        stage.run(*(client.say() for client in stage.clients))
        stage.until(stage.all_heard)
        talk(stage)
        assert check(stage.streams()) == 2 * 2 * 7
        assert not any(stream.lost for stream in stage.streams().values())
        refused = run_chatsrv("--cluster", url.replace("/chat", "/another"))
        assert f"the Sentinel at {HERE}:{sentinel.port} knows no master 'another'" in refused.stderr
    finally:
        for other in others:
            other.kill()


def test_a_redis_cluster_is_refused(tmp_path: Path) -> None:
    """In words, before the first room beside the lobby would fail."""
    redis = Redis(tmp_path, "--cluster-enabled", "yes")
    try:
        refused = run_chatsrv("--cluster", redis.url(), "--cluster-wait")
    finally:
        redis.kill()
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "is part of a Redis Cluster: a Redis of its own is needed" in refused.stderr


def test_nodes_that_start_before_redis(stage: Stage) -> None:
    """They greet and take what is said, and say it when Redis is there. Each hears what is said from then on."""
    stage.redis.kill()
    for _ in range(2):
        stage.client(stage.node("", "--cluster-wait"))
    for node in stage.nodes:
        assert node.lines("cluster waits for redis://") and node.lines("Connection refused")
    stage.run(*(client.say(2) for client in stage.clients))
    stage.redis.start()
    stage.until(lambda: all(client.hears_itself() for client in stage.clients))
    talk(stage)
    check(stage.streams())
    for node, client in zip(stage.nodes, stage.clients):
        assert node.lines("cluster connected")
        own = [number for name, number in client.stream().messages() if name == client.name]
        assert own == list(range(5))


@pytest.mark.parametrize(
    ("trouble", "complaint", "cure"),
    [
        ("CONFIG SET maxmemory 1", "OOM command not allowed", "CONFIG SET maxmemory 0"),
        ("CONFIG SET min-replicas-to-write 1", "NOREPLICAS ", "CONFIG SET min-replicas-to-write 0"),
    ],
)
def test_a_redis_that_cannot_be_written_yet_is_waited_for(
    stage: Stage, trouble: str, complaint: str, cure: str
) -> None:
    assert stage.redis.ask(*trouble.split()) == b"OK"
    node = stage.node("", "--cluster-wait")
    assert node.lines("cluster waits for redis://") and node.lines(complaint)
    client = stage.client(node)
    stage.run(client.say(2))
    stage.redis.ask(*cure.split())
    stage.until(client.hears_itself)


def test_what_is_not_waited_for(stage: Stage) -> None:
    """A mistake stays one."""
    stage.redis.ask("CONFIG", "SET", "requirepass", "secret")
    for url, complaint in (stage.redis.url(), "NOAUTH"), (stage.redis.url().replace("//", "//:no@"), "WRONGPASS"):
        refused = run_chatsrv("--cluster", url, "--cluster-wait")
        assert refused.returncode == 1 and complaint in refused.stderr
