"""Much at once between real nodes and Redis: over a slow line, and after a long absence."""

from __future__ import annotations

from cluster.oracle import check
from cluster.real import Stage

from loop import sleep

MIB = 1 << 20


def test_a_flood_over_a_slow_line(stage: Stage) -> None:
    """It takes longer than a node is patient with a Redis that says nothing: patience is for silence alone."""
    proxy = stage.proxy()
    stage.run(stage.soon(proxy.url(), "--quiet"), stage.soon(stage.redis.url(), "--quiet"))
    one, other = [stage.client(node) for node in stage.nodes]
    proxy.piece, proxy.delay = 1000, 0.5
    stage.run(one.say(), sleep(0.1))
    stage.run(one.say(200, padding=540), sleep(0.3))  # while the first is on its way, the others gather
    proxy.delay = 1 / 20  # so 20 KB a second: an entry takes three seconds
    stage.until(stage.all_heard, 30)
    assert check(stage.streams()) == 402
    stage.run(other.say())
    stage.until(stage.all_heard, 30)
    for node in stage.nodes:
        assert not node.lines("lost")


def test_a_node_catches_up_on_much(stage: Stage) -> None:
    """In bounded memory; and a member that reads, but not as fast, is given the time, and not sent away."""
    proxy = stage.proxy()
    stage.run(*(stage.soon(end.url(), "--quiet", "--max-lag", "1M") for end in (proxy, stage.redis)))
    one, other = [stage.client(node) for node in stage.nodes]
    proxy.close_door()
    stage.until(lambda: stage.nodes[0].lines("lost redis"))
    before = most = stage.nodes[0].memory()
    stage.run(other.chatter(16, 0, 1000, 1000))
    stage.until(other.hears_itself)
    one.pause = 0.004  # after each 64 KiB
    proxy.open = True

    def caught_up() -> bool:
        nonlocal most
        most = max(most, stage.nodes[0].memory())
        return f"<{other.name} {other.said - 1}>".encode() in one.heard[-2000:]

    stage.until(caught_up, 40)
    assert most - before < 8 * MIB
    assert one.stream().messages() == other.stream().messages() and other.said == 16_000
    assert not one.stream().lost and not one.ended
