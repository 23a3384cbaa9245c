"""Rooms in a cluster, and lines for one member alone: in the simulated world."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from cluster.calm import CalmMember, CalmNode, CalmWorld
from hypothesis import given
from hypothesis import strategies as st

from chat.server.cluster.follow import COUNT, IMPATIENCE, SILENCE
from chat.server.cluster.link import Link, stream_name
from chat.server.room import Hub


def two_nodes() -> tuple[CalmWorld, CalmNode, CalmNode]:
    world = CalmWorld()
    nodes = world.node(), world.node()
    world.run(0.1)
    return world, *nodes


def streams(world: CalmWorld) -> set[str]:
    return {key.decode() for db, key in world.redis.keys if db == 0 and b"{" not in key}


# Lines for one member alone.


def test_published_then_told() -> None:
    """In this order, as without a cluster; what others say stands where it stands."""
    world, node, other = two_nodes()
    ann, bob = node.member("ann"), node.member("bob")
    other.say("before")
    world.run(0.1)
    ann.say("one")
    ann.tell("told one")
    ann.say("two", "three")
    ann.tell("told three")
    ann.tell("told four")
    assert ann.has_heard() == bob.has_heard() == ["before"]
    world.run(0.1)
    assert ann.has_heard() == ["before", "ann: one", "told one", "ann: two", "ann: three", "told three", "told four"]
    assert bob.has_heard() == ["before", "ann: one", "ann: two", "ann: three"]
    ann.tell("now")
    assert ann.has_heard()[-1] == "now"
    assert not node.cluster.links.whispers


def test_somebody_with_nothing_on_its_way_is_told_at_once() -> None:
    world, node, _ = two_nodes()
    ann, bob = node.member("ann"), node.member("bob")
    ann.say("one")
    bob.tell("at once")
    assert bob.has_heard() == ["at once"]
    world.run(0.1)
    assert bob.has_heard() == ["at once", "ann: one"]


def test_announced_then_told() -> None:
    """What the room was told is before it, for all that were there then, and only for them."""
    world, node, _ = two_nodes()
    ann, bob = node.member("ann"), node.member("bob")
    node.room.announce("* ann is now anna")
    carl = node.member("carl")
    for member in ann, bob, carl:
        member.tell("told")
    assert ann.has_heard() == bob.has_heard() == [] and carl.has_heard() == ["told"]
    world.run(0.1)
    assert ann.has_heard() == bob.has_heard() == ["* ann is now anna", "told"]


def test_told_while_redis_is_away() -> None:
    """A newcomer is greeted at once, whatever was said before it came."""
    world, node, other = two_nodes()
    ann = node.member("ann")
    world.part_all()
    world.run(0.1)
    ann.say("one")
    node.room.announce("* somebody is here")
    bob = node.member("bob")
    bob.tell("Welcome")
    ann.tell("told")
    assert bob.has_heard() == ["Welcome"]
    world.run(20)
    assert not any("told" in line for line in ann.has_heard())
    world.mend_all()
    world.run(6)
    assert ann.has_heard()[-3:] == ["ann: one", "* somebody is here", "told"]
    assert other.listen().endswith(b"ann: one\n* somebody is here\n")


def test_told_after_what_was_lost() -> None:
    """It is not told in the right place, for there is none, but it is told."""
    world, node, _ = two_nodes()
    ann = node.member("ann")
    ann.say("one")
    ann.tell("told")
    world.run(0.0012)
    node.lines()[0].cut()  # it is written, and not read
    world.redis.keys[0, b"chat"].entries.clear()
    world.run(12)
    assert ann.has_heard() == ["* 1 messages were lost here.", "told"]


def test_too_much_is_told() -> None:
    world, node, _ = two_nodes()
    node.hub.options.max_lag = 1000
    ann = node.member("ann")
    world.part_all()
    ann.say("one")
    for _ in range(9):
        ann.tell("x" * 100)
    assert not ann.kicked
    ann.tell("x" * 100)
    assert ann.kicked and ann.has_heard() == ["* You are disconnected: more than 1000 bytes behind."]
    world.mend_all()
    world.run(6)
    assert len(ann.has_heard()) == 1 and not node.cluster.links.whispers


def test_a_kick_does_not_wait() -> None:
    world, node, _ = two_nodes()
    ann = node.member("ann")
    ann.say("one")
    ann.tell("told")
    ann.kick("no reason")
    assert ann.has_heard() == ["* You are disconnected: no reason."]
    world.run(0.1)
    assert len(ann.has_heard()) == 1


def test_published_for_all_but_some() -> None:
    world, node, other = two_nodes()
    ann, bob, carl = node.member("ann"), node.member("bob"), other.member("carl")
    ann.say("one")
    ann.say("two", but=(bob,))
    ann.say("three")
    ann.say("four", but=(ann, bob))
    ann.tell("told")
    world.run(0.1)
    assert ann.has_heard() == ["ann: one", "ann: two", "ann: three", "told"]
    assert bob.has_heard() == ["ann: one", "ann: three"]
    assert carl.has_heard() == ["ann: one", "ann: two", "ann: three", "ann: four"]


def test_published_in_one_room_told_in_another() -> None:
    world, node, _ = two_nodes()
    ann, bob = node.member("ann"), node.member("bob")
    ann.say("one")
    ann.enter(node.room.other("inn"))
    ann.say("two")
    ann.tell("told")
    world.run(0.1)
    assert ann.has_heard() == ["ann: two", "told"] and bob.has_heard() == ["ann: one"]


steps = st.one_of(
    st.tuples(st.just("say"), st.integers(0, 2), st.integers(1, 2)),
    st.tuples(st.just("but"), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("announce"), st.just(0), st.just(0)),
    st.tuples(st.just("tell"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("wait"), st.integers(0, 8), st.just(0)),
    st.tuples(st.just("cut"), st.integers(0, 1), st.just(0)),
)


@given(st.lists(steps, max_size=30))
def test_the_order_is_that_without_a_cluster(script: list[tuple[str, int, int]]) -> None:
    """A node whose members alone talk: what each hears is what it would hear without a cluster.

    But for lines for one alone, which may come before what others have just said.
    """
    world = CalmWorld()
    node, alone = world.node(), world.node()
    world.run(0.1)
    alone.hub.cluster = None
    alone.task.cancel()
    both = [[where.member(f"{n}") for n in range(3)] for where in (node, alone)]
    for number, (what, who, more) in enumerate(script):
        if what == "wait":
            world.run(who / 2000)
        elif what == "cut" and node.lines():
            node.lines()[who].cut()
        for where, members in zip((node, alone), both):
            if what == "say":
                members[who].say(*(f"<{number}.{n}>" for n in range(more)))
            elif what == "but":
                members[who].say(f"<{number}>", but=(members[more],))
            elif what == "announce":
                where.room.announce(f"* {number}")
            elif what == "tell":
                members[who].tell(f"told {number}")
    world.run(6)
    for one, other in zip(*both):
        heard, expected = one.has_heard(), other.has_heard()
        assert [line for line in heard if "told" not in line] == [line for line in expected if "told" not in line]
        own = [line for line in heard if line.startswith((one.name, "*", "told"))]
        assert own == [line for line in expected if line.startswith((one.name, "*", "told"))]
        assert sorted(heard) == sorted(expected)
    assert not node.cluster.links.whispers and not node.cluster.links.first.entered_at


# Rooms.


def test_a_room_on_two_nodes() -> None:
    world, node, other = two_nodes()
    ann, bob, carl = node.member("ann", "inn"), other.member("bob", "inn"), other.member("carl")
    world.run(0.1)
    ann.say("one")
    bob.say("two")
    carl.say("three")
    world.run(0.1)
    assert ann.has_heard() == bob.has_heard() == ["ann: one", "bob: two"]
    assert carl.has_heard() == ["carl: three"] and node.listen() == b"carl: three\n"
    assert streams(world) == {"chat", "chat:inn"}


def test_what_is_said_right_after_coming_is_heard() -> None:
    """Though the stream is not even followed yet, and all else is silent."""
    world, node, _ = two_nodes()
    world.run(2)
    ann = node.member("ann", "inn")
    ann.say("one")
    ann.tell("told")
    world.run(0.1)
    assert ann.has_heard() == ["ann: one", "told"]


def test_a_room_is_followed_at_once() -> None:
    """Another node speaks first."""
    world, node, other = two_nodes()
    world.run(2)
    bob = other.member("bob", "inn")
    ann = node.member("ann", "inn")
    world.run(0.1)
    bob.say("one")
    world.run(0.1)
    assert ann.has_heard() == ["bob: one"]


def test_without_the_right_to_unblock() -> None:
    world, node, other = two_nodes()
    world.redis.no_unblock = True
    bob = other.member("bob", "inn")
    world.run(SILENCE + 1)
    ann = node.member("ann", "inn")
    world.run(SILENCE + 1)
    bob.say("one")
    world.run(0.1)
    assert ann.has_heard() == bob.has_heard() == ["bob: one"]
    carl, dora = node.member("carl", "den"), other.member("dora", "den")
    world.run(IMPATIENCE + 0.1)
    dora.say("two")
    world.run(0.1)
    assert carl.has_heard() == ["dora: two"]
    assert "lost" not in node.told()


def test_a_stream_is_left_alone_when_the_last_member_goes() -> None:
    world, node, other = two_nodes()
    ann, bob, carl = node.member("ann", "inn"), node.member("bob", "inn"), other.member("carl", "inn")
    world.run(0.1)
    ann.depart()
    bob.say("bye")
    bob.depart()
    assert len(node.cluster.links.links) == 2  # that is still to be written
    world.run(0.1)
    assert carl.has_heard() == ["bob: bye"]
    assert len(node.cluster.links.links) == 1
    sent = [line.sent for line in node.lines()]
    for number in range(20):
        carl.say(f"{number}")
        world.run(0.01)
    assert [line.sent for line in node.lines()] == sent
    del ann.room, bob.room, ann.room_or_nowhere, bob.room_or_nowhere
    world.run(6)
    node.say("something")  # spread() has a room at hand until the next one
    world.run(0.1)
    gc.collect()
    assert list(node.hub.rooms or {}) == []


def test_a_stream_is_left_alone_while_what_was_said_comes_back() -> None:
    """A private line that waited for it is too much for its member, and the room is told of its end."""
    world, node, other = two_nodes()
    ann, carl = node.member("ann", "inn"), other.member("carl", "inn")
    world.run(0.1)
    inn = node.room.other("inn")
    node.hub.options.max_lag = 100

    def kick(reason: str) -> None:
        CalmMember.kick(ann, reason)
        inn.announce("* ann has gone")

    ann.kick = kick  # type: ignore[method-assign]
    ann.say("one")
    ann.tell("x" * 99)
    world.run(6)
    assert ann.kicked and carl.has_heard() == ["ann: one", "* ann has gone"]
    assert not node.cluster.links.unsettled and len(node.cluster.links.links) == 1


def test_a_line_for_all_sends_the_last_member_of_a_room_away() -> None:
    """That line costs, too. So it may be the one that shows that a member does not read."""
    world, node, _ = two_nodes()
    slow, ann = node.member("slow", "inn"), node.member("ann", "mill")
    world.run(0.1)
    pace = node.hub.pace
    slow.outbox.tell(b"x" * (pace.max_lag + 1))
    pace.behind[slow] = world.now - 1, 0
    pace.unchecked = pace.max_lag
    node.part()
    world.run(2)
    assert slow.kicked and len(ann.has_heard()) == 1
    node.mend()
    world.run(6)
    ann.say("hello")
    world.run(0.1)
    assert ann.has_heard()[-1] == "ann: hello"


def test_what_was_read_before_a_member_left_is_not_heard_when_it_is_back() -> None:
    """It would be there without what was not read before: what is heard from now on is said from now on."""
    world, node, other = two_nodes()
    ann, bob = node.member("ann", "inn"), other.member("bob", "inn")
    inn = ann.room
    world.run(0.1)
    node.part()
    for number in range(2 * COUNT[0]):
        bob.say(f"{number}")
        world.run(0.01)
    node.hub.pace.budget = 0  # a turn for each entry
    node.mend()
    while "bob: 0" not in ann.has_heard():
        world.kernel.turn()
    ann.enter(None)
    ann.enter(inn)
    heard = len(ann.has_heard())
    world.run(6)
    bob.say("last")
    world.run(0.1)
    assert ann.has_heard()[heard:] == ["bob: last"]


def test_coming_back() -> None:
    """Numbers go on: Redis would refuse those it has had. And nothing is heard twice."""
    world, node, other = two_nodes()
    carl = other.member("carl", "inn")
    world.run(0.1)
    for number in range(5):
        ann = node.member("ann", "inn")
        ann.say(f"{number}")
        world.run(0.003 * number)
        carl.say("hi")
        ann.depart()
        if number % 2:
            world.run(0.1)
    world.run(6)
    assert [line for line in carl.has_heard() if line != "carl: hi"] == [f"ann: {number}" for number in range(5)]


def test_rooms_are_looked_after_a_cut() -> None:
    world, node, other = two_nodes()
    rooms = [f"room{number}" for number in range(40)]
    here = [node.member("ann", room) for room in rooms]
    there = [other.member("bob", room) for room in rooms]
    world.run(0.2)
    node.part()
    for number in range(3):
        for bob in there:
            bob.say(f"{number}")
        world.run(0.02)
    here[0].say("back")
    node.mend()
    world.run(6)
    for ann in here[1:]:
        lines = [line for line in ann.has_heard() if not line.startswith("*")]
        assert lines == [f"bob: {number}" for number in range(3)]
    assert here[0].has_heard()[-1] == there[0].has_heard()[-1] == "ann: back"
    assert all(sum("out of reach" in line for line in ann.has_heard()) <= 1 for ann in here)


def test_a_quiet_room_is_checked_while_another_is_busy() -> None:
    world, node, other = two_nodes()
    ann, bob, carl = node.member("ann", "inn"), other.member("bob", "inn"), other.member("carl")
    world.run(0.1)
    node.part()
    world.run(0.1)
    bob.say("one")
    world.run(0.1)
    world.redis.keys[0, b"chat:inn"].entries.clear()
    node.mend()
    for _ in range(300):
        carl.say("busy")
        world.run(0.05)
    assert "* 1 messages were lost here." in ann.has_heard()


NAMES = ["a:b", "{chat}:state", "ü b", "", "lobby2", "\udcff", "\udcfe", "?", "a/b%", "state", ":state", "history"]


@pytest.mark.parametrize("stream", ["chat", "{chat}", "a{", "{chat}:"])
def test_no_two_rooms_have_the_same_keys(stream: str) -> None:
    hub: Any = CalmWorld().node().hub
    rooms = [hub.first, *map(hub.room, NAMES)]
    keys = [key for room in rooms for key in Link(room, stream_name(stream, room), "node").keys[1:]]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_streams(name: str) -> None:
    """No name makes one that something else has."""
    world, node, other = two_nodes()
    room = node.room.other(name)
    ann = CalmMember(node, "ann")
    ann.enter(room)
    world.run(0.1)
    ann.say("one")
    world.run(0.1)
    assert ann.has_heard() == ["ann: one"]
    assert node.listen() == b""
    links = node.cluster.links.all()
    names = [key for link in links for key in link.keys[1:]]
    assert len(set(names)) == 8
    for link in links:
        tag = [part.split("}")[0] for key in link.keys[2:] for part in key.split("{")[1:2]]
        assert tag == [link.stream] * 3
    assert isinstance(other.hub, Hub) and isinstance(room.name, str)


def test_what_the_dump_says() -> None:
    world, node, other = two_nodes()
    ann = node.member("ann", "inn")
    bob = other.member("bob", "inn")
    world.run(0.2)
    bob.say("one")
    world.run(0.1)
    world.part_all()
    ann.say("two")
    world.run(3)
    text: Any = "\n".join(node.cluster.explain())
    assert f"node {node.cluster.node[:8]} at redis://there:6379/0 (stream chat): away for" in text
    assert "Connection refused" in text
    assert "stream chat:inn: read up to message 1 of epoch" in text
    assert "1 entries (9 bytes) have not come back" in text
    assert f"other nodes that have spoken: {other.cluster.node[:8]}" in text
    world.mend_all()
    world.run(6)
    assert "connected for" in node.cluster.explain()[0]
    assert "last write took 0.0020 s; 2 sessions so far" in node.cluster.explain()[0]
    assert "0 bytes have not come back" in node.cluster.explain()[0]


def test_the_dump_of_a_node_that_catches_up() -> None:
    world, node, other = two_nodes()
    node.part()
    for number in range(40):
        other.say(f"{number}", "more")
        world.run(0.01)
    node.mend()
    found: list[str] = []
    while b"39\n" not in node.listen():
        world.run(0.0005)
        found += [line for line in node.cluster.explain() if "80 messages behind" in line]
    assert found
    world.run(1)
    assert "the end; 0 entries" in node.cluster.explain()[1]
