"""Several servers, one feed, in a simulated world: cuts anywhere, and what takes too long anywhere else."""

from __future__ import annotations

import re
from collections import defaultdict
from copy import deepcopy
from functools import partial
from typing import Optional

import pytest
from cluster.calm import CalmNode, CalmWorld
from cluster.oracle import Hearing, check, check_losses
from hypothesis import assume, given
from hypothesis import strategies as st
from more import every
from simulation.lines import Line
from simulation.redis import Session
from simulation.world import once

from chat.server.cluster import outgoing
from chat.server.cluster.address import Address
from chat.server.cluster.follow import SILENCE
from chat.server.cluster.links import UNSETTLED
from chat.server.cluster.wire import TIMEOUT

Budget = tuple[Optional[int], Optional[int]]


def streams(nodes: list[CalmNode]) -> dict[str, Hearing]:
    return {f"node {number}": Hearing(node.listen()) for number, node in enumerate(nodes)}


def talk(world: CalmWorld, nodes: list[CalmNode], rounds: int = 3) -> int:
    """Let all nodes say something, at the same time and one after the other; returns how many messages."""
    for turn in range(rounds):
        for number, node in enumerate(nodes):
            node.say(f"<{number} {2 * turn}>", f"<{number} {2 * turn + 1}>")
            world.run(0.0005 * (turn + 1))
        world.run(0.004 * turn)
    return 2 * rounds * len(nodes)


def answer_late(world: CalmWorld, line: Line, data: bytes) -> None:
    line.coming.append(data)
    world.at(0.1, once(line.arrive))


def words(world: CalmWorld) -> list[list[bytes]]:
    """The stream's entries, without marks."""
    return [fields for _, fields in world.redis.keys[0, b"chat"].entries if b"text" in fields]


def trim(world: CalmWorld, keep: int) -> None:
    stream = world.redis.keys[0, b"chat"].entries
    del stream[: len(stream) - keep]


def check_settled(nodes: list[CalmNode]) -> None:
    for node in nodes:
        outgoing = node.cluster.links.first.outgoing
        assert outgoing.settled == outgoing.accepted
        assert not outgoing.entries
        assert not node.hub.pace.full


def run_with_cut(line: int, budget: Budget, late: float) -> CalmWorld:
    """Two nodes talk; one connection of the first one breaks after so many bytes. Nobody notices."""
    world = CalmWorld()
    world.lines.late = late
    world.lines.budgets = [(None, None), (None, None)]
    world.lines.budgets[line] = budget
    nodes = [world.node()]
    world.run(0.3)
    nodes.append(world.node())
    world.run(0.05)
    said = talk(world, nodes, 2)
    world.run(1)
    both = streams(nodes)
    assert check(both) == 2 * said
    assert not any(stream.lost for stream in both.values())
    assert all("out of reach" not in node.listen().decode() for node in nodes)
    check_settled(nodes)
    return world


def traffic(line: int, face: str) -> bytes:
    """What passes through this face of the connection, send or push, if nothing breaks it."""
    passed: defaultdict[Line, bytes] = defaultdict(bytes)
    handed_on = getattr(Line, face)

    def noting(line: Line, data: bytes) -> int | None:
        taken: int | None = handed_on(line, data)
        passed[line] += bytes(data[:taken])
        return taken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Line, face, noting)
        world = run_with_cut(line, (None, None), 0)
    return passed[world.lines.all[line]]


@pytest.mark.parametrize("face", ["send", "push"])
@pytest.mark.parametrize("line", [0, 1], ids=["the follower", "the writer"])
@pytest.mark.parametrize("fifth", every(5, range(5)))
def test_cut_anywhere(line: int, face: str, fifth: int) -> None:
    """Before and in each line of the protocol: where within a line makes no difference.

    What the writer sends may still arrive after the cut: then it does when everything has been sent again.
    """
    stream = traffic(line, face)
    ends = [0, *(found.end() for found in re.finditer(b"\r\n", stream))]
    for start, end in [*zip(ends, ends[1:])][fifth::5]:
        for at in start, (start + end) // 2:
            late = 0.0, 0.5
            for seconds in late if line == 1 and face == "send" and stream.startswith(b"*", at) else late[:1]:
                cut = run_with_cut(line, (at, None) if face == "send" else (None, at), seconds)
                assert cut.lines.dialled > 4


def test_late_commands_are_refused() -> None:
    """The dead connection's entry comes after the new connection has sent it again, and others have written more."""
    world = CalmWorld()
    world.lines.late = 0.5
    nodes = [world.node(), world.node()]
    world.run(0.1)
    nodes[0].say("<0 0>")
    world.run(0.0005)  # it is on its way
    _, writer = nodes[0].lines()
    assert writer.flying
    writer.cut()
    world.run(0.3)
    nodes[1].say("<1 0>")
    world.run(1)
    assert not writer.flying
    assert [node.listen() for node in nodes] == [b"<0 0>\n<1 0>\n"] * 2
    assert nodes[0].told().endswith("connected again; 1 messages sent again\n")


def test_redis_is_away_for_a_minute() -> None:
    world = CalmWorld()
    nodes = [world.node(), world.node()]
    world.run(0.1)
    world.part_all()
    nodes[0].say("<0 0>")
    dialled = world.lines.dialled
    world.run(60)
    assert 15 < world.lines.dialled - dialled < 50  # 0.1 s apart at first, then 5 s
    for node in nodes:
        assert node.listen().count(b"* The other servers are out of reach.") == 1
        assert node.told().count("lost redis://there:6379/0 (stream chat): Broken pipe") <= 1
        assert node.told().count("Connection refused; trying again") == 1
    world.mend_all()
    world.run(6)
    for node in nodes:
        assert node.listen().endswith(b"\n* The other servers are back.\n<0 0>\n")
    check_settled(nodes)
    world.run(60)
    nodes[0].lines()[0].cut()
    world.run(0.2)
    assert nodes[0].lines(), "the next cut was not mended at once"


@pytest.mark.parametrize("line", [0, 1], ids=["the follower", "the writer"])
@pytest.mark.parametrize("busy", [False, True])
def test_redis_vanishes_without_a_word(line: int, busy: bool) -> None:
    """No reset, no end: nothing comes any more on one of the connections."""
    world = CalmWorld()
    node = world.node()
    world.run(0.1)
    lines = node.lines()
    lines[line].silent = True
    if busy:
        node.say("<0 0>")
    world.run(SILENCE + TIMEOUT + 1)
    assert "no answer" in node.told()
    assert not set(lines) & set(world.lines.all)
    assert node.listen() == b"<0 0>\n" * busy


def test_silence_costs_little() -> None:
    world = CalmWorld()
    nodes = [world.node() for _ in range(3)]
    world.run(0.1)
    sent = [line.sent for line in world.lines.all]
    world.run(600)
    assert len(world.lines.all) == 6
    for line, before in zip(world.lines.all, sent):
        assert line.sent - before < 450 * 600 / SILENCE
    assert all(node.listen() == b"" for node in nodes)


@pytest.mark.parametrize("entries", [0, 2])
def test_stream_trimmed_under_a_node_that_was_away(entries: int) -> None:
    world = CalmWorld()
    nodes = [world.node(), world.node()]
    world.run(0.1)
    talk(world, nodes)
    world.run(0.1)
    nodes[1].part()
    world.run(0.1)
    for number in range(6, 16):
        nodes[0].say(f"<0 {number}>", *(f"<0.{number} {part}>" for part in range(3)))
        world.run(0.01)
    trim(world, entries)
    nodes[1].mend()
    world.run(6)
    nodes[0].say("<0 16>")
    nodes[1].say("<1 6>")
    world.run(1)
    both = streams(nodes)
    check(both)
    order = both["node 0"].messages()
    assert both["node 0"].lost == []
    assert both["node 1"].lost == [4 * (10 - entries)]
    check_losses(both["node 1"], order)
    check_settled(nodes)


@pytest.mark.parametrize("quiet", [False, True])
def test_stream_deleted(quiet: bool) -> None:
    """Everybody is told, at the next message or when nothing was said for a while, and goes on."""
    world = CalmWorld()
    nodes = [world.node(), world.node()]
    world.run(0.1)
    talk(world, nodes)
    world.run(0.1)
    world.redis.keys.clear()
    if quiet:
        world.run(11)
    nodes[0].say("<0 6>")
    world.run(0.1)
    nodes[1].say("<1 6>")
    world.run(1)
    both = streams(nodes)
    assert check(both, reset=True) == 28
    assert all(stream.lost == [None] for stream in both.values())
    assert all("the stream was reset" in node.told() for node in nodes)
    check_settled(nodes)


@pytest.mark.parametrize("quiet", [False, True])
def test_stream_deleted_with_what_one_had_just_said(quiet: bool) -> None:
    """Redis had taken it, and the other one has heard it, but it had not come back: it is said again, and once."""
    world = CalmWorld()
    nodes = [world.node(), world.node()]
    world.run(0.1)
    if not quiet:  # the answer from before the deletion comes after everything else
        writer = nodes[0].lines()[1]
        assert writer.session
        writer.session.push = partial(answer_late, world, writer)
    nodes[1].say("<1 0>")
    world.run(0.001)
    nodes[0].say("<0 0>")  # will be there before the first node asks for more
    world.run(0.0015)
    assert len(words(world)) == 2
    world.redis.keys.clear()
    if not quiet:
        nodes[1].say("<1 1>")
    world.run(11)
    first, second = (node.listen() for node in nodes)
    assert first.count(b"<0 0>") == second.count(b"<0 0>") == 1
    assert first.startswith(b"<1 0>\n* Messages may have been lost here.\n")
    check_settled(nodes)


def test_stream_deleted_and_the_clock_put_back() -> None:
    """The new stream's ids are lower than those that were read: nobody may go deaf."""
    world = CalmWorld()
    nodes = [world.node(), world.node()]
    world.run(0.1)
    talk(world, nodes)
    world.run(0.1)
    world.redis.keys.clear()
    world.redis.skew = -1_000_000
    nodes[0].say("<0 6>")
    world.run(11)
    nodes[0].say("<0 7>")
    nodes[1].say("<1 6>")
    world.run(1)
    both = streams(nodes)
    check(both, reset=True)
    assert all(stream.slices[-1] == [("0", 6), ("0", 7), ("1", 6)] for stream in both.values())


@given(
    st.lists(
        st.tuples(st.sampled_from(["flush", "forget", "scripts", "cut", "trim", "fail over"]), st.integers(0, 60)),
        max_size=4,
    ),
    st.sampled_from([0.0, 0.002, 0.3]),
)
def test_nothing_twice_whatever_is_lost(accidents: list[tuple[str, int]], late: float) -> None:
    """At any moments, in any order: whatever Redis forgets, nothing is heard twice, and everybody gets on.

    But if it forgets a node's number and the entry too, what is written again cannot be in the old place.
    """
    kinds = {what for what, _ in accidents}
    assume(not kinds >= {"forget", "trim"})
    lost = kinds & {"flush", "trim", "fail over"}
    world = CalmWorld()
    world.lines.late = late
    nodes = [world.node() for _ in range(3)]
    world.run(0.1)

    def befall(what: str, number: int) -> None:
        if what == "flush":
            world.redis.keys.clear()
        elif what == "forget":
            for key in [key for key in world.redis.keys if b":" in key[1] and not key[1].endswith(b":state")]:
                del world.redis.keys[key]
        elif what == "scripts":
            world.redis.scripts.clear()
        elif what == "trim" and (stream := world.redis.keys.get((0, b"chat"))):
            stream.entries.clear()
        elif what == "keep":
            kept.append(deepcopy(world.redis.keys))
        elif what == "fail over":  # to a copy that was a little behind
            world.restart(kept.pop())
        elif what == "cut" and world.lines.all:
            world.lines.all[number % len(world.lines.all)].cut()

    kept: list[dict[tuple[int, bytes], object]] = []
    for what, moment in accidents:
        if what == "fail over":
            world.at(moment / 3000, once(partial(befall, "keep", 0)))
        world.at(moment / 2000, once(partial(befall, what, moment)))
    for turn in range(10):
        for number, node in enumerate(nodes):
            node.say(f"<{number} {turn}>")
        world.run(0.003)
    world.run(16)
    for number, node in enumerate(nodes):
        node.say(f"<{number} 10>")
        world.run(0.1)
    world.run(1)
    heard = streams(nodes)
    check(heard, reset=bool(kinds & {"flush", "fail over"}))
    for name, stream in heard.items():
        assert stream.messages()[-3:] == [("0", 10), ("1", 10), ("2", 10)], name
        if not lost:
            assert len(stream.messages()) == 33 and not stream.lost
    check_settled(nodes)


def test_members_are_not_read_while_too_much_is_on_its_way() -> None:
    world = CalmWorld()
    node = world.node()
    world.run(0.1)
    world.part_all()
    world.run(1)
    line = "x" * 1000
    count = 0
    while not node.hub.pace.full:
        node.say(line)
        count += 1
    assert count == UNSETTLED // 1001 + 1
    world.run(30)
    assert node.hub.pace.full
    world.mend_all()
    world.run(6)
    assert not node.hub.pace.full
    assert node.listen().count(line.encode()) == count
    check_settled([node])


def test_what_was_missed_comes_in_turns() -> None:
    """However much it is, members get it bit by bit, so that nobody falls behind for that."""
    world = CalmWorld()
    nodes = [world.node(), world.node()]
    world.run(0.1)
    nodes[1].part()
    for _ in range(60):
        nodes[0].say("x" * outgoing.LARGEST)
        world.run(0.01)
    nodes[1].mend()
    sizes = []
    hub = nodes[1].hub
    start_turn = hub.pace.start_turn

    def started() -> None:
        sizes.append(hub.pace.published)
        start_turn()

    hub.pace.start_turn = started  # type: ignore[method-assign]
    world.run(6)
    assert sum(sizes) > 60 * outgoing.LARGEST
    assert max(sizes) <= hub.pace.budget + outgoing.LARGEST + 64  # a message may be a bit longer than an entry


def test_a_node_without_members_keeps_nothing() -> None:
    world = CalmWorld()
    nodes = [world.node(), world.node()]
    world.run(0.1)
    feed = nodes[1].room.feed
    for _ in range(60):
        nodes[0].say("x" * outgoing.LARGEST)
        world.run(0.01)
    assert feed.size > 60 * outgoing.LARGEST
    assert sum(map(len, feed.fresh)) <= nodes[1].hub.pace.budget + outgoing.LARGEST + 1


def test_a_mistake_in_what_writes_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise nothing that is said would ever come back."""
    world = CalmWorld()
    node = world.node()
    world.run(0.1)

    def mistaken(self: outgoing.Outgoing) -> list[outgoing.Entry]:
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr(outgoing.Outgoing, "take_due", mistaken)
    node.say("x")
    with pytest.raises(SystemExit):
        world.run(1)


def test_an_end_is_read_to_the_end() -> None:
    """finish() waits for what is on its way, and no longer than it is told."""
    world = CalmWorld()
    node = world.node()
    world.run(0.1)
    node.say("<0 0>")
    began = world.now
    task = world.kernel.spawn(node.cluster.finish(5))
    world.kernel.run(until=task)
    assert node.listen() == b"<0 0>\n" and node.hub.pace.full
    assert world.now - began < 0.1
    world.part_all()
    node.say("<0 1>")
    began = world.now
    world.kernel.run(until=world.kernel.spawn(node.cluster.finish(5)))
    assert world.now - began == pytest.approx(5, abs=0.001)
    world.mend_all()
    world.run(10)
    assert node.hub.pace.full and node.cluster.count_unsettled() == 0


def test_an_end_while_redis_is_away() -> None:
    """What could not be written is reported, and no task waits for it longer than the end does."""
    world = CalmWorld()
    node = world.node()
    world.run(0.1)
    world.part_all()
    node.say("<0 0>", "<0 1>")
    leaving = [world.kernel.spawn(node.cluster.wait_for_return(60)) for _ in range(3)]
    began = world.now
    world.kernel.run(until=world.kernel.spawn(node.cluster.finish(5)))
    assert world.now - began == pytest.approx(5, abs=0.001)
    world.run(0)
    assert all(task.outcome == "returned" for task in leaving)
    world.kernel.run(until=world.kernel.spawn(node.cluster.wait_for_return(60)))
    assert world.now - began == pytest.approx(5, abs=0.001)
    assert node.cluster.count_unsettled() == 2
    assert node.told().endswith("cluster 2 messages have not come back from Redis and may be lost\n")


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"version": "6.0.16"}, "is too old: Redis 6.2 or newer is needed"),
        ({"version": ""}, "is too old: Redis 6.2 or newer is needed"),
        ({"role": "slave"}, "is a read-only copy of another Redis"),
        ({"password": "secret"}, "NOAUTH Authentication required."),
    ],
)
def test_a_redis_that_will_not_do(setting: dict[str, str], complaint: str) -> None:
    world = CalmWorld()
    vars(world.redis).update(setting)
    node = world.node()
    world.run(0.5)
    assert f": {complaint}; trying again" in node.told()
    for line in world.lines.all:
        assert line.closed
    vars(world.redis).update({"version": "7.0.15", "role": "master", "password": ""})
    node.say("<0 0>")
    world.run(6)
    assert node.listen().endswith(b"<0 0>\n")


NONSENSE = b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*0\r\n", b":1\r\n", b"$-1\r\n", b"+1\r\n"
ASKED = [(command, answer) for command in ("info", "role", "script", "evalsha", "xread") for answer in NONSENSE]
ASKED.remove(("xread", b"$-1\r\n"))  # that makes sense: there was nothing new


@pytest.mark.parametrize(("command", "answer"), every(4, ASKED))  # any four in a row say much the same
def test_no_redis_at_all(command: str, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it answers: one line, and it is tried again until it makes sense."""
    world = CalmWorld()
    node = world.node()
    with monkeypatch.context() as patch:
        patch.setattr(Session, f"do_{command}", lambda *_: answer)
        world.run(1)
        assert node.task.outcome is None
        assert sum(len(lines) for lines, _ in node.journal.waiting) < 10
        dialled = world.lines.dialled
        world.run(60)
        assert world.lines.dialled - dialled < 50
    world.run(6)
    node.say("<0 0>")
    world.run(1)
    assert node.listen().endswith(b"<0 0>\n")


def test_redis_takes_nothing_more() -> None:
    """It answers, but with errors: that is away, too, and told once."""
    world = CalmWorld()
    node = world.node()
    world.run(0.1)
    world.redis.refuse = "OOM command not allowed when used memory > 'maxmemory'."
    node.say("<0 0>")
    dialled = world.lines.dialled
    world.run(60)
    assert world.lines.dialled - dialled < 60
    assert node.listen().count(b"\n") == 1 and b"out of reach" in node.listen()
    assert node.told().count("OOM command not allowed") == 1
    world.redis.refuse = ""
    world.run(6)
    assert node.listen().endswith(b"\n* The other servers are back.\n<0 0>\n")


def test_entries_of_others_are_skipped() -> None:
    world = CalmWorld()
    nodes = [world.node(), world.node()]
    world.run(0.1)
    for fields in ([b"text", b"hello"], [b"after", b"x", b"node", b"", b"number", b"", b"text", b"a\n"], [b"odd"]):
        world.redis.append(0, b"chat", None, None, fields)
        nodes[0].say("<0 0>".replace("0>", f"{len(nodes[0].listen().splitlines())}>"))
        world.run(0.1)
    both = streams(nodes)
    assert check(both) == 6 and not any(stream.lost for stream in both.values())
    assert nodes[0].told().count("skipped an entry") == 3


def test_a_node_that_comes_later_hears_what_comes_later() -> None:
    world = CalmWorld()
    first = world.node()
    world.run(0.1)
    first.say("<0 0>")
    world.run(0.1)
    second = world.node()
    world.run(0.1)
    first.say("<0 1>")
    world.run(0.1)
    assert second.listen() == b"<0 1>\n"


def test_a_turn_is_one_entry() -> None:
    """And a lot is several."""
    world = CalmWorld()
    node = world.node()
    world.run(0.1)
    for number in range(100):
        node.say(f"<0 {number}>")
    world.run(0.1)
    assert len(words(world)) == 1
    for _ in range(4):
        node.say(*["x" * 1023] * 32)  # half of what an entry takes
    world.run(1)
    assert len(words(world)) == 3
    check_settled([node])


@pytest.mark.parametrize(
    "url",
    "localhost redis:// redis://:6379 http://localhost redis://h:x redis://h:0 redis://h:70000 redis://h/x "
    "redis://h/-1 redis://h?maxlen=0 redis://h?maxlen=x redis://h?nonsense=1 redis://h?stream= redis://h?x "
    "redis://a..b redis://h?ca=file redisss://h redis://:secret@h/x".split(),
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(ValueError, match="--cluster takes redis://") as error:
        Address(url)
    assert "secret" not in str(error.value)


def test_urls() -> None:
    full = Address("redis://me:p%40ss@Example.org:7000/3?stream=talk&maxlen=50")
    assert (full.user, full.password, full.hosts) == ("me", "p@ss", [("example.org", 7000)])
    assert (full.db, full.stream, full.maxlen) == (3, "talk", 50)
    assert str(full) == "redis://example.org:7000/3 (stream talk)"
    assert str(Address("rediss://h?ca=file")) == "rediss://h:6379/0 (stream chat)"
    assert str(Address("rediss+sentinel://a,b:2/m")) == "rediss+sentinel://a:26379,b:2/m/0 (stream chat)"
    short = Address("redis://[::1]")
    assert (short.user, short.password, short.hosts) == ("", "", [("::1", 6379)])
    assert (short.db, short.stream, short.maxlen) == (0, "chat", 10_000)
    assert str(short) == "redis://[::1]:6379/0 (stream chat)"
    assert Address("redis://:pw@h").password == "pw"
