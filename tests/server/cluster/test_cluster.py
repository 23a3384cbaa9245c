"""Several servers, one feed: real processes, a real Redis, and whatever can happen to them."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chatting import HERE, PATIENCE, ROOT
from cluster import real
from cluster.oracle import check, check_losses
from cluster.real import Redis, Stage, run_chatsrv

from loop import sleep

if TYPE_CHECKING:
    from loop.traps import Coroutine

SEED = int(os.environ.get("SEED", "1"))


def test_two_nodes(stage: Stage) -> None:
    clients = [stage.client(stage.node()) for _ in range(2)]
    stage.run(*(client.chatter(20, 0.005) for client in clients))
    stage.until(stage.all_heard)
    assert check(stage.streams()) == 80
    for node in stage.nodes:
        assert len(node.lines("cluster connected to redis://")) == 1
        stage.end(node)
    stage.until(lambda: b" name=chatsrv" not in stage.redis.ask("CLIENT", "LIST"))


def test_nodes_say_who_they_are(stage: Stage) -> None:
    node = stage.node()
    name = node.lines("as node ")[0].split()[-1]
    listed = stage.redis.ask("CLIENT", "LIST").decode()
    assert f" name=chatsrv-{name}-follows " in listed and f" name=chatsrv-{name}-writes " in listed


def test_last_words(stage: Stage) -> None:
    """Who says something and ends its stream at once still hears it."""
    client = stage.client(stage.node())
    stage.run(client.say(3))
    client.finish()
    stage.until(lambda: client.ended)
    assert len(client.stream().messages()) == 3


def test_nobody_is_cut_off_by_the_end(stage: Stage) -> None:
    """SIGTERM while Redis takes its time: what was accepted comes back first, here and elsewhere."""
    first, second = stage.node(), stage.node()
    clients = [stage.client(first), stage.client(second)]
    stage.redis.stop()
    stage.run(clients[0].say(5))
    stage.until(lambda: len(first.lines(" > <client0")) == 5)
    first.process.terminate()
    stage.until(first.listens_no_more)
    stage.run(clients[0].say(5))  # too late
    stage.run(sleep(0.1))
    assert first.process.poll() is None
    stage.redis.go_on()
    stage.until(lambda: clients[0].ended)
    stage.until(lambda: first.process.poll() is not None)
    assert first.process.returncode == 0
    stage.until(lambda: b"<client0 4>" in clients[1].heard)
    assert check(stage.streams()) == 10


def test_whatever_happens(stage: Stage) -> None:
    """Fifteen clients on three nodes and more, one Redis, and no mercy; nobody may notice more than a pause."""
    print(f"SEED={SEED}")
    chance = random.Random(SEED)
    redis = stage.redis
    proxies = [stage.proxy() for _ in range(2)]
    urls = [proxies[0].url(), proxies[1].url(), redis.url()]
    stage.run(*(stage.soon(url, "--quiet") for url in urls))
    nodes = list(stage.nodes)
    for number in range(15):
        stage.enter(nodes[number % 3])
    stage.until(lambda: all(client.heard for client in stage.clients))
    talking = True

    def talk(client: real.Talker) -> Coroutine[None]:
        while talking and not client.ended:
            yield from client.say(chance.choice([1, 1, 1, 20]), chance.choice([0, 0, 100]))
            yield from sleep(chance.uniform(0, 0.2))

    def kill_sockets() -> Coroutine[None]:
        real.kill_sockets(redis)
        yield from sleep(0.3)

    def kill_connections() -> Coroutine[None]:
        redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        yield from sleep(0.3)

    def cut_in_the_middle() -> Coroutine[None]:
        for proxy in proxies:
            proxy.cut_after = chance.randrange(1, 5000)
            proxy.piece = chance.choice([1, 7, 1000, 1 << 16])
        while any(proxy.cut_after is not None for proxy in proxies):
            yield from sleep(0.01)
        for proxy in proxies:
            proxy.piece = 1 << 16

    def cut_at_once() -> Coroutine[None]:
        for _ in range(3):
            chance.choice(proxies).cut()
            yield from sleep(0.1)

    def delay() -> Coroutine[None]:
        proxies[0].delay = 0.05
        yield from sleep(0.4)
        proxies[0].delay = 0

    def pause() -> Coroutine[None]:
        redis.stop()
        yield from sleep(1)
        redis.go_on()
        yield from sleep(0.2)

    def crash() -> Coroutine[None]:
        redis.kill()
        yield from sleep(0.4)
        redis.start()
        yield from sleep(0.5)

    def come_and_go(number: int = signal.SIGTERM, status: int = 0) -> Coroutine[None]:
        yield from stage.soon(redis.url(), "--quiet")
        process = stage.nodes[-1].process
        tasks = [stage.kernel.spawn(talk(stage.enter(stage.nodes[-1]))) for _ in range(3)]
        yield from sleep(0.3)
        process.send_signal(number)
        while process.poll() is None or not all(task.outcome for task in tasks):
            yield from sleep(0.01)
        assert process.returncode == status

    def come_and_die() -> Coroutine[None]:
        yield from come_and_go(signal.SIGKILL, -signal.SIGKILL)

    def chaos() -> Coroutine[None]:
        nonlocal talking
        accidents = [kill_sockets, kill_connections, cut_in_the_middle, cut_at_once, delay, pause, crash]
        accidents += [come_and_go, come_and_die, kill_connections, cut_in_the_middle]
        chance.shuffle(accidents)
        for accident in accidents:
            print(accident.__name__)
            yield from accident()
        talking = False

    stage.run(chaos(), *(talk(client) for client in stage.clients))
    stage.until(stage.all_heard)
    streams = stage.streams()
    heard = check(streams)
    assert heard > 10000
    assert not any(stream.lost for stream in streams.values())
    assert sum(proxy.cuts for proxy in proxies) >= 5
    for node in nodes:
        assert node.lines("connected again")
        assert not node.lines("Traceback")
    everybody = [streams[client.name].messages() for client in stage.clients[:15]]
    assert all(messages == everybody[0] for messages in everybody)


def test_trimmed_under_a_node_that_was_away(stage: Stage) -> None:
    proxy = stage.proxy()
    stage.node(stage.redis.url("?maxlen=100"))
    stage.run(stage.soon(proxy.url("?maxlen=100")))
    clients = [stage.client(node) for node in stage.nodes for _ in range(2)]
    stage.run(*(client.chatter(5, 0.01) for client in clients))
    stage.until(stage.all_heard)
    proxy.close_door()

    def one_by_one() -> Coroutine[None]:  # an entry each
        for number in range(5, 305):
            yield from clients[0].say()
            while b"<client0 %d>" % number not in clients[0].heard:
                yield from sleep(0.001)

    stage.run(one_by_one())
    proxy.open = True
    stage.until(lambda: b"lost here" in clients[2].heard)
    stage.run(*(client.chatter(5, 0.01) for client in clients))
    stage.until(stage.all_heard)
    streams = stage.streams()
    check(streams)
    order = streams["client0"].messages()
    assert len(order) == 20 + 300 + 20
    for name in "client2", "client3":
        (lost,) = streams[name].lost
        assert lost and 100 < lost <= 200
        check_losses(streams[name], order)
    assert stage.nodes[1].lines(f"{lost} messages were lost here: the stream was trimmed too soon")


def test_deleted(stage: Stage) -> None:
    clients = [stage.client(stage.node()) for _ in range(3)]
    flushed = 0

    def talk(client: real.Talker) -> Coroutine[None]:
        while flushed < 2:
            yield from client.say()
            yield from sleep(0.01)

    def flush() -> Coroutine[None]:
        nonlocal flushed
        while flushed < 2:
            before = [len(client.heard) for client in clients]
            while any(len(client.heard) == size for client, size in zip(clients, before)):
                yield from sleep(0.01)
            stage.redis.ask("FLUSHALL")
            flushed += 1

    stage.run(flush(), *(talk(client) for client in clients))
    stage.run(*(client.chatter(5, 0.01) for client in clients))
    stage.until(stage.all_heard)
    streams = stage.streams()
    check(streams, reset=True)
    assert all(1 <= len(stream.lost) <= 2 for stream in streams.values())
    for node in stage.nodes:
        assert node.lines("messages may have been lost here: the stream was reset")


def test_flood_while_redis_is_away(stage: Stage) -> None:
    """What is kept is bounded, then TCP pushes back, and the node rests: it uses no processor time."""
    node = stage.node("", "--quiet")
    clients = [stage.client(node) for _ in range(4)]
    stage.redis.kill()
    stage.until(lambda: node.lines("lost redis"))
    before = node.memory()
    floods = [stage.kernel.spawn(client.chatter(20, 0, 200, 500)) for client in clients]

    def rest() -> Coroutine[None]:
        used = -1.0
        while used != (used := node.cpu()):
            yield from sleep(0.5)

    stage.run(rest())
    assert not all(flood.outcome for flood in floods), "nothing pushed back"
    assert node.memory() - before < 12 << 20
    stage.redis.start()
    stage.until(lambda: all(flood.outcome for flood in floods), 40)
    stage.until(stage.all_heard, 40)
    check(stage.streams())
    assert all(client.heard.count(b"* The other servers are ") == 2 for client in clients)


@pytest.mark.parametrize(
    ("trouble", "complaint", "cure"),
    [
        ("CONFIG SET requirepass secret", "NOAUTH Authentication required.", "CONFIG SET requirepass"),
        ("CONFIG SET maxmemory 1", "OOM command not allowed", "CONFIG SET maxmemory 0"),
        (f"REPLICAOF {HERE} 1", "is a read-only copy of another Redis", "REPLICAOF NO ONE"),
        ("SET chat text", "WRONGTYPE Operation against a key holding the wrong kind of value", "DEL chat"),
    ],
)
def test_trouble_that_comes_later(stage: Stage, trouble: str, complaint: str, cure: str) -> None:
    """Told once, tried again, and over when it is over."""
    node = stage.node()
    client = stage.client(node)
    assert stage.redis.ask(*trouble.split()) == b"OK"
    stage.redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    stage.run(client.say())
    stage.until(lambda: node.lines(complaint))
    stage.until(lambda: b"* The other servers are out of reach" in client.heard)
    stage.redis.ask(*cure.split(), *[""] * cure.endswith("requirepass"))
    stage.until(stage.all_heard)
    assert len(node.lines(complaint)) == 1 and node.lines(complaint)[0].endswith("; trying again")
    assert client.heard.count(b"* The other servers are ") == 2


def test_sockets_killed(stage: Stage) -> None:
    nodes = [stage.node() for _ in range(2)]
    clients = [stage.client(node) for node in nodes]
    if real.kill_sockets(stage.redis) < 4:
        pytest.skip("the system does not end connections for `ss -K` here")
    stage.run(*(client.chatter(20, 0.01) for client in clients))
    stage.until(lambda: all(node.lines("connected again") for node in nodes))
    stage.until(stage.all_heard)
    assert check(stage.streams()) == 80


def test_password_and_database(stage: Stage) -> None:
    stage.redis.ask("CONFIG", "SET", "requirepass", "p@ss")
    stage.redis.hang_up()
    url = f"redis://:p%40ss@{HERE}:{stage.redis.port}/5?stream=talk"
    node = stage.node(url)
    client = stage.client(node)
    stage.run(client.say())
    stage.until(stage.all_heard)
    assert "p@ss" not in node.journal() and "p%40ss" not in node.journal()
    stage.redis.ask("AUTH", "p@ss")
    stage.redis.ask("SELECT", 5)
    assert stage.redis.ask("XLEN", "talk") == 2  # the epoch's mark, and what was said
    wrong = run_chatsrv("--cluster", url.replace("p%40ss", "wrong"))
    assert wrong.returncode == 1
    assert wrong.stderr.count("\n") == 1 and "WRONGPASS" in wrong.stderr and "wrong@" not in wrong.stderr


def test_scripts_forgotten(stage: Stage) -> None:
    client = stage.client(stage.node())
    stage.redis.ask("SCRIPT", "FLUSH")
    stage.run(client.say())
    stage.until(stage.all_heard)
    assert stage.nodes[0].lines("NOSCRIPT")


def test_a_redis_that_will_not_do(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    try:
        redis.ask("SET", "chat", "text")
        refused = run_chatsrv("--cluster", redis.url())
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1) and "WRONGTYPE" in refused.stderr
        redis.ask("REPLICAOF", HERE, 1)
        refused = run_chatsrv("--cluster", redis.url())
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1) and "read-only" in refused.stderr
    finally:
        redis.kill()
    gone = run_chatsrv("--cluster", redis.url())
    assert gone.returncode == 1
    assert gone.stderr == f"chatsrv: --cluster {redis.url()}/0 (stream chat): Connection refused\n"


def test_a_bad_url() -> None:
    refused = run_chatsrv("--cluster", "http://example.org")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1 and "chatsrv: --cluster takes redis://" in refused.stderr


@pytest.mark.parametrize("found", ["raise ImportError", "Reader = ReplyError = ProtocolError = None"])
def test_without_hiredis(tmp_path: Path, found: str) -> None:
    """The flag needs it, and one that is not too old; nothing else does."""
    (tmp_path / "hiredis.py").write_text(found)
    refused = run_chatsrv("--cluster", "redis://127.0.0.1:1", PYTHONPATH=str(tmp_path))
    assert refused.returncode == 1
    assert refused.stderr == "chatsrv: --cluster needs hiredis: pip install 'hiredis>=3'\n"
    code = "import sys; import chat.server.main; assert not {'hiredis', 'chat.server.cluster.node'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=PATIENCE)


def test_share_port(stage: Stage) -> None:
    """Two nodes listen on one port; without the flag the second cannot."""
    first = stage.node("", "--share-port")
    stage.node("", "--share-port", "--port", str(first.port))
    for _ in range(16):
        stage.enter(first)
    stage.until(lambda: all(client.heard for client in stage.clients))
    stage.until(lambda: all(node.lines("accepted connection") for node in stage.nodes))
    stage.run(*(client.say() for client in stage.clients))
    stage.until(stage.all_heard)
    assert check(stage.streams()) == 256
    assert run_chatsrv("--port", str(first.port)).returncode == 1


def test_the_dead_do_not_stay_while_nobody_is_read(stage: Stage) -> None:
    """Those whose connection was reset go at once, and those that ended their stream with nothing unread."""
    node = stage.node("", "--quiet", "--max-clients", "60")
    for _ in range(5):
        stage.client(node)
    stage.redis.kill()
    stage.until(lambda: all(b"out of reach" in client.heard for client in stage.clients))
    guests = [socket.create_connection((HERE, node.port), timeout=PATIENCE) for _ in range(50)]
    floods = [stage.kernel.spawn(client.chatter(20, 0, 200, 500)) for client in stage.clients]
    used = -1.0

    def rest() -> Coroutine[None]:
        nonlocal used
        while used != (used := node.cpu()):
            yield from sleep(0.5)

    stage.run(rest())
    assert not all(flood.outcome for flood in floods), "nothing pushed back"
    for number, guest in enumerate(guests):
        assert guest.recv(1000).startswith(b"Welcome")
        if number < 40:
            guest.sendall(b"never heard\n")
            guest.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        guest.close()
    stage.until(lambda: len(node.lines("connection terminated: connection reset by peer")) == 40)
    stage.until(lambda: len(node.lines("connection terminated: end of stream")) == 10)
    stage.client(node)  # there is room again
    stage.redis.start()
    stage.until(lambda: all(flood.outcome for flood in floods), 40)
    stage.until(stage.all_heard, 40)
    assert not any(b"never heard" in client.heard for client in stage.clients)
