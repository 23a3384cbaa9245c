"""What Redis loses under real nodes, and what their members are told of it."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from chatting import HERE
from cluster.oracle import check, check_losses
from cluster.real import Proxy, Redis, Stage, Talker

from loop import sleep

if TYPE_CHECKING:
    from loop.traps import Coroutine

TOP = 18446744073709551615


def two_nodes(stage: Stage) -> tuple[Proxy, Talker, Talker]:
    """One reaches Redis through a proxy; a client on each, the one behind the proxy first. They have talked."""
    proxy = stage.proxy()
    stage.run(stage.soon(proxy.url()))
    stage.run(stage.soon(stage.redis.url()))
    one, other = [stage.client(node) for node in stage.nodes]
    one_by_one(stage, one, other)
    stage.until(stage.all_heard)
    return proxy, one, other


def one_by_one(stage: Stage, *clients: Talker) -> None:
    """Each says something and hears it, an entry each."""
    for client in clients:
        stage.run(client.say())
        stage.until(client.hears_itself)


def test_what_a_member_said_is_trimmed_before_its_own_node_has_read_it(stage: Stage) -> None:
    """The others have heard it; nobody says anything more; and yet it is told."""
    proxy, one, other = two_nodes(stage)
    proxy.deaf = True
    stage.run(one.say(3))
    stage.until(lambda: b"<client0 3>" in other.heard)
    stage.redis.ask("XTRIM", "chat", "MAXLEN", 0)
    proxy.cut()
    proxy.deaf = False
    stage.until(one.has_lost)
    assert one.lines()[-1] == "* 3 messages were lost here."
    one_by_one(stage, one, other)
    stage.until(stage.all_heard)
    assert one.lines()[-2:] == other.lines()[-2:] == ["<client0 4>", "<client1 1>"]


def test_trimmed_under_a_node_that_stood_still(stage: Stage) -> None:
    """It was not cut off, and what it has read looks whole: only that nothing more comes is strange."""
    _, one, other = two_nodes(stage)
    node = stage.nodes[0].process
    node.send_signal(signal.SIGSTOP)
    try:
        one_by_one(stage, other, other, other)
        stage.redis.ask("XTRIM", "chat", "MAXLEN", 0)
    finally:
        node.send_signal(signal.SIGCONT)
    stage.until(one.has_lost)
    assert one.lines()[-2:] == ["<client1 1>", "* 2 messages were lost here."]
    one_by_one(stage, one, other)
    stage.until(stage.all_heard)
    check_losses(one.stream(), other.stream().messages())


@pytest.mark.parametrize("foreign", ["before", "behind"])
def test_a_foreign_entry_beside_the_gap(stage: Stage, foreign: str) -> None:
    """It moves the end of the stream and hides nothing."""
    proxy, one, other = two_nodes(stage)
    proxy.close_door()
    if foreign == "before":
        stage.redis.ask("XADD", "chat", "*", "who", "knows")
    one_by_one(stage, other, other)
    stage.redis.ask("XTRIM", "chat", "MAXLEN", 0)
    if foreign == "behind":
        stage.redis.ask("XADD", "chat", "*", "who", "knows")
    proxy.open = True
    stage.until(one.has_lost)
    assert "* 2 messages were lost here." in one.lines()
    one_by_one(stage, one, other)
    stage.until(stage.all_heard)
    check_losses(one.stream(), other.stream().messages())


def test_deleted_before_a_node_has_read_its_first_entry(stage: Stage) -> None:
    """It has a place in the stream from the start, so nothing can come "after nothing"."""
    proxy = stage.proxy()
    stage.run(stage.soon(proxy.url()))
    stage.run(stage.soon(stage.redis.url()))
    one, other = [stage.client(node) for node in stage.nodes]
    proxy.close_door()
    one_by_one(stage, other, other)
    stage.redis.ask("DEL", "chat")
    one_by_one(stage, other)
    proxy.open = True
    stage.until(lambda: b"<client1 2>" in one.heard)
    assert one.lines()[-2:] == ["* 2 messages were lost here.", "<client1 2>"]


def test_flushed_no_number_is_made_up(stage: Stage) -> None:
    """Everything that Redis knew is gone, and so is how much that was."""
    proxy, one, other = two_nodes(stage)
    proxy.close_door()
    one_by_one(stage, other, other)
    stage.redis.ask("FLUSHALL")
    one_by_one(stage, other)
    proxy.open = True
    for client in one, other:
        stage.until(client.has_lost)
        assert client.stream().lost == [None]
    one_by_one(stage, one, other)
    stage.until(stage.all_heard)
    assert one.lines()[-2:] == other.lines()[-2:] == ["<client0 1>", "<client1 4>"]


def all_talk(stage: Stage, until: list[bool]) -> None:
    def talk(client: Talker) -> Coroutine[None]:
        while not until:
            yield from client.say()
            yield from sleep(0.01)

    for client in stage.clients:
        stage.kernel.spawn(talk(client))


def three_nodes(stage: Stage) -> list[Proxy]:
    """At different distances from Redis, so that much is always under way. All talk."""
    proxies = [stage.proxy() for _ in range(3)]
    stage.run(*(stage.soon(proxy.url(), "--quiet") for proxy in proxies))
    for proxy, delay in zip(proxies, (0, 0.02, 0.04)):
        proxy.delay = delay
    for node in stage.nodes:
        stage.client(node)
    return proxies


def check_broken(stage: Stage, most: int = 2) -> None:
    """Whoever was told of no loss has the order of all others; and from the last loss on, all have one order."""
    stage.run(sleep(0.1))
    stage.until(stage.all_heard)
    one_by_one(stage, *stage.clients)
    stage.until(stage.all_heard)
    streams = stage.streams()
    last = [(client.name, client.said - 1) for client in stage.clients]
    check(streams, reset=True)
    for stream in streams.values():
        heard = stream.messages()
        assert len(set(heard)) == len(heard), "something was heard twice"
        assert 1 <= len(stream.lost) <= most and not any(stream.lost)
        assert heard[-3:] == last


@pytest.mark.parametrize("how", ["FLUSHALL", "killed without its file"])
def test_redis_forgets_while_much_is_under_way(stage: Stage, how: str) -> None:
    over: list[bool] = []
    three_nodes(stage)
    all_talk(stage, over)
    stage.until(lambda: all(len(client.heard) > 2000 for client in stage.clients))
    if how == "FLUSHALL":
        stage.redis.ask("FLUSHALL")
    else:
        stage.redis.flags = ("--appendonly", "no")
        stage.redis.kill()
        stage.redis.start()
    stage.until(lambda: all(client.has_lost() for client in stage.clients))
    over.append(True)
    check_broken(stage)


def test_fail_over_to_a_copy_that_was_behind(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two nodes have heard what the new master never had; the third has missed nothing, but hears another order."""
    copy = Redis(tmp_path_factory.mktemp("copy"))
    try:
        copy.ask("REPLICAOF", HERE, stage.redis.port)
        stage.until(lambda: b"master_link_status:up" in copy.ask("INFO", "replication"))
        over: list[bool] = []
        proxies = three_nodes(stage)
        all_talk(stage, over)
        stage.until(lambda: all(len(client.heard) > 2000 for client in stage.clients))
        proxies[2].deaf = True
        stage.run(sleep(0.1))
        copy.ask("REPLICAOF", HERE, 1)
        before = [len(client.heard) for client in stage.clients]
        stage.until(lambda: all(len(stage.clients[n].heard) > before[n] + 2000 for n in range(2)))
        stage.redis.kill()
        copy.ask("REPLICAOF", "NO", "ONE")
        for proxy in proxies:
            proxy.target = copy.port
        proxies[2].deaf = False
        stage.until(lambda: all(client.has_lost() for client in stage.clients))
        over.append(True)
        check_broken(stage)
    finally:
        copy.kill()


@pytest.mark.parametrize("id", [f"9999999999999-{TOP - 99}", f"{TOP}-{TOP}"])
def test_ids_used_up_by_somebody_else(stage: Stage, id: str) -> None:
    """Skipped, told, and the chat goes on."""
    _, one, other = two_nodes(stage)
    stage.redis.ask("XADD", "chat", id, "who", "knows")
    stage.run(*(client.chatter(60, 0.002) for client in (one, other)))
    stage.until(stage.all_heard)
    assert check(stage.streams()) == 4 + 240
    for node in stage.nodes:
        assert node.lines("skipped an entry that no server has written")
        assert not node.lines("lost redis")


def test_ids_in_the_future_then_deleted(stage: Stage) -> None:
    """New entries have lower ids than those that are waited for: nobody goes deaf."""
    _, one, other = two_nodes(stage)
    stage.redis.ask("XADD", "chat", f"{int(time.time() * 1000) + 10**8}-0", "who", "knows")
    one_by_one(stage, one)
    stage.redis.ask("DEL", "chat")
    stage.run(*(client.chatter(20, 0.002) for client in (one, other)))
    stage.until(stage.all_heard)
    assert check(stage.streams()) == 4 + 2 + 80
    assert not any(stream.lost for stream in stage.streams().values())
