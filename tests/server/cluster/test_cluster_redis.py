"""What the cluster relies on in Redis: the same tests ask a real one and the one of the simulated world."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from chatting import HERE, PATIENCE
from cluster import hiredis
from cluster.real import Redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulation.redis import FakeRedis, Session

from chat.server.cluster.script import SCRIPT

STREAM, STATE, PAST, NODE = "chat", "chat:{chat}:state", "chat:{chat}:history", "chat:{chat}:node"
Pieces = list[tuple[Any, ...]]


class Asker:
    """One connection. Answers are bytes, numbers, None and lists; errors are the text of one."""

    calls = 0

    def ask(self, *command: Any) -> Any:
        self.send(*command)
        return self.answer()

    def send(self, *command: Any) -> None:
        raise NotImplementedError

    def answer(self) -> Any:
        raise NotImplementedError

    def write(
        self, number: int, back: int = 0, count: int = 1, text: str = "hi\n", most: int = 1000, loss_in: str = ""
    ) -> Any:
        """What a node does. Returns the epoch's name, and how many messages there were in it."""
        self.calls += 1
        sha = self.ask("SCRIPT", "LOAD", SCRIPT)
        about = most, f"epoch{self.calls}", self.run, loss_in
        answer = self.ask("EVALSHA", sha, 4, STREAM, STATE, PAST, NODE, *about, number, back, count, "node", text)
        return answer if isinstance(answer, str) else (answer[0].decode(), int(answer[1]))

    run = "run"

    def look(self, loss_in: str = "") -> Any:
        return self.write(0, 0, 0, "", loss_in=loss_in)

    def entries(self) -> list[Any]:
        """Those of the stream, without their ids."""
        return [dict(zip(fields[::2], fields[1::2])) for _, fields in self.ask("XRANGE", STREAM, "-", "+")]

    def ids(self) -> list[bytes]:
        return [id for id, _ in self.ask("XRANGE", STREAM, "-", "+")]


class RealAsker(Asker):
    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection((HERE, port), timeout=PATIENCE)
        self.reader = hiredis.Reader(notEnoughData=Ellipsis)

    def send(self, *command: Any) -> None:
        self.sock.sendall(hiredis.pack_command(command))

    def answer(self) -> Any:
        while (answer := self.reader.gets()) is Ellipsis:
            self.reader.feed(self.sock.recv(1 << 16))
        return str(answer) if isinstance(answer, hiredis.ReplyError) else answer

    def close(self) -> None:
        self.sock.close()


Pending = tuple[float, Callable[[], None]]


def false_redis() -> tuple[FakeRedis, list[Pending]]:
    pending: list[Pending] = []
    return FakeRedis(time.time, lambda seconds, action: pending.append((time.time() + seconds, action))), pending


class FakeAsker(Asker):
    def __init__(self, redis: FakeRedis, pending: list[Pending]) -> None:
        self.pending = pending
        self.session = Session(redis, self.push)
        self.reader = hiredis.Reader(notEnoughData=Ellipsis)

    def push(self, data: bytes) -> None:
        self.reader.feed(data)

    def send(self, *command: Any) -> None:
        for byte in hiredis.pack_command(command):
            self.session.feed(bytes([byte]))

    def answer(self) -> Any:
        while (answer := self.reader.gets()) is Ellipsis:
            assert self.pending, "no answer will come"
            moment, action = self.pending.pop(0)
            time.sleep(max(0, moment - time.time()))
            action()
        return str(answer) if isinstance(answer, hiredis.ReplyError) else answer


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    redis = Redis(tmp_path_factory.mktemp("redis"))
    yield redis.port
    redis.kill()


@pytest.fixture(params=["fake", "real"])
def two(request: pytest.FixtureRequest) -> Iterator[tuple[Asker, Asker]]:
    """Two connections to an empty Redis."""
    if request.param == "fake":
        redis = false_redis()
        yield FakeAsker(*redis), FakeAsker(*redis)
        return
    port = request.getfixturevalue("redis_port")
    askers = RealAsker(port), RealAsker(port)
    askers[0].ask("FLUSHALL")
    yield askers
    for asker in askers:
        asker.close()


Two = tuple[Asker, Asker]


def mark(epoch: str, end: int, history: str = "") -> dict[bytes, bytes]:
    return {b"epoch": epoch.encode(), b"end": b"%d" % end, b"history": history.encode()}


def words(epoch: str, end: int, number: int, text: bytes = b"hi\n") -> dict[bytes, bytes]:
    number_and_text = {b"number": b"%d" % number, b"text": text}
    return {b"epoch": epoch.encode(), b"end": b"%d" % end, b"node": b"node", **number_and_text}


def test_entries_have_their_position(two: Two) -> None:
    asker, _ = two
    assert asker.look() == ("epoch1", 0)
    before = int(time.time() * 1000)
    assert asker.write(1, 0, 3, "a\nb\nc\n") == ("epoch1", 3)
    assert asker.write(2, 0, 1, "d\n") == ("epoch1", 4)
    assert asker.look() == ("epoch1", 4)
    assert asker.entries() == [
        mark("epoch1", 0), words("epoch1", 3, 1, b"a\nb\nc\n"), words("epoch1", 4, 2, b"d\n"),
    ]  # fmt: skip
    times = [int(id.split(b"-")[0]) for id in asker.ids()[1:]]
    assert before <= times[0] <= times[1] <= time.time() * 1000


def test_what_a_look_says(two: Two) -> None:
    asker, _ = two
    asker.write(1)
    sha = asker.ask("SCRIPT", "LOAD", SCRIPT)
    answer = asker.ask("EVALSHA", sha, 4, STREAM, STATE, PAST, NODE, 9, "other", "run", "", 0, 0, 0, "", "")
    first, last = asker.ids()
    assert answer == [b"epoch1", b"1", last, first, b""]


def test_a_history_is_bounded(two: Two) -> None:
    """But its first epoch stays."""
    asker, _ = two
    asker.write(1)
    for number in range(1, 30):
        asker.look(f"epoch{number}")
    past = asker.ask("GET", PAST).decode().split(",")
    assert past == [f"epoch{number} 1 1" for number in range(29, 14, -1)] + ["epoch1 1 1"]
    assert asker.entries()[-1] == mark("epoch30", 1, ",".join(past))


def test_a_number_it_has_had_is_refused(two: Two) -> None:
    asker, _ = two
    asker.write(1)
    assert asker.write(1) == ("epoch1", 1)
    assert asker.write(2) == ("epoch1", 2)
    assert asker.write(1) == asker.write(2) == ("epoch1", 2)
    assert asker.ask("XLEN", STREAM) == 3


def test_a_number_too_many_is_an_error(two: Two) -> None:
    asker, _ = two
    assert asker.write(2) == "GAP between 0 and 2"
    asker.write(1)
    assert asker.write(3) == "GAP between 1 and 3"
    assert asker.ask("XLEN", STREAM) == 2


def test_what_came_back_counts_as_had(two: Two) -> None:
    """Redis has lost its memory, the node has not."""
    asker, _ = two
    assert asker.write(8, 7) == ("epoch1", 1)
    assert asker.ask("GET", NODE) == b"8"
    assert asker.write(9, 9) == ("epoch1", 1)


def test_a_position_lasts_longer_than_its_entries(two: Two) -> None:
    """Whoever has read them all has missed nothing; the others will know how many they have."""
    asker, _ = two
    asker.write(1)
    asker.write(2)
    assert asker.ask("XTRIM", STREAM, "MAXLEN", 0) == 3
    assert asker.look() == ("epoch1", 2)
    assert asker.write(3) == ("epoch1", 3)
    assert asker.ask("DEL", STREAM) == 1
    assert asker.write(4) == ("epoch5", 4)
    assert asker.entries() == [mark("epoch5", 3, "epoch1 3 0"), words("epoch5", 4, 4)]


@pytest.mark.parametrize("key", [[STREAM, STATE], [STATE]], ids=["all", "the state"])
def test_a_new_stream(two: Two, key: list[str]) -> None:
    asker, _ = two
    asker.write(1)
    for name in key:
        asker.ask("DEL", name)
    assert asker.write(2) == ("epoch2", 1)
    assert asker.entries()[-2:] == [mark("epoch2", 0), words("epoch2", 1, 2)]


def test_another_redis(two: Two) -> None:
    """The first look begins an epoch. Writing does not, because a node looks before it writes."""
    asker, other = two
    asker.write(1)
    asker.run = other.run = "another"
    other.calls = 100
    assert asker.write(2) == ("epoch1", 2)
    assert asker.look() == ("epoch3", 2)
    assert other.look() == ("epoch3", 2)
    assert asker.write(3) == ("epoch3", 3)
    assert asker.entries()[2:] == [words("epoch1", 2, 2), mark("epoch3", 2, "epoch1 2 0"), words("epoch3", 3, 3)]


def test_a_node_has_read_what_redis_has_lost(two: Two) -> None:
    """It is written down once: for all."""
    asker, other = two
    asker.write(1)
    other.calls = 100
    assert asker.look("epoch1") == ("epoch2", 1)
    assert other.look("epoch1") == ("epoch2", 1)
    assert asker.entries()[2:] == [mark("epoch2", 1, "epoch1 1 1")]


def test_ids_never_fall_for_waiting_readers(two: Two) -> None:
    """If they would, an epoch begins, so that readers that wait for higher ones can find out."""
    asker, _ = two
    asker.write(1)
    future = int(time.time() * 1000) + 100000
    asker.ask("XADD", STREAM, f"{future}-7", "a", "b")
    assert asker.write(2) == ("epoch1", 2)
    assert asker.ids()[-1] == b"%d-8" % future
    asker.ask("DEL", STREAM)
    asker.ask("XADD", STREAM, "*", "a", "b")
    assert asker.write(3) == ("epoch3", 3)
    assert asker.entries()[1:] == [mark("epoch3", 2, "epoch1 2 0"), words("epoch3", 3, 3)]
    assert asker.write(4) == ("epoch3", 4)


TOP = 18446744073709551615


@pytest.mark.parametrize("id", [f"9999999999999-{TOP - 99}", f"9999999999999-{TOP}", f"{TOP}-0", f"{TOP}-{TOP - 1}"])
def test_ids_that_lua_cannot_count(two: Two, id: str) -> None:
    asker, _ = two
    asker.write(1)
    asker.ask("XADD", STREAM, id, "a", "b")
    for number in range(2, 6):
        epoch, offset = asker.write(number)
        assert offset == number
    assert asker.entries()[-1] == words(epoch, 5, 5)


def test_all_ids_used_up(two: Two) -> None:
    asker, _ = two
    asker.write(1)
    asker.ask("XADD", STREAM, f"{TOP}-{TOP}", "a", "b")
    assert asker.write(2) == ("epoch2", 2)
    assert asker.entries() == [mark("epoch2", 1, "epoch1 1 0"), words("epoch2", 2, 2)]


def test_a_state_that_makes_no_sense(two: Two) -> None:
    asker, _ = two
    asker.write(1)
    asker.ask("SET", STATE, "nonsense")
    assert asker.write(2) == ("epoch2", 1)


def test_trimming_is_about(two: Two) -> None:
    asker, _ = two
    for number in range(1, 251):
        asker.write(number, most=50)
    assert 50 <= asker.ask("XLEN", STREAM) < 150


def test_another_kind_of_key(two: Two) -> None:
    asker, _ = two
    asker.ask("SET", STREAM, "text")
    wrong = "WRONGTYPE Operation against a key holding the wrong kind of value"
    assert wrong in asker.look()
    assert wrong in asker.write(1)
    assert asker.ask("XREAD", "COUNT", 5, "BLOCK", 0, "STREAMS", STREAM, "0-0") == wrong


def test_an_unknown_script(two: Two) -> None:
    asker, _ = two
    asker.write(1)
    sha = asker.ask("SCRIPT", "LOAD", SCRIPT)
    asker.ask("SCRIPT", "FLUSH")
    assert asker.ask("EVALSHA", sha, 4, STREAM, STATE, PAST, NODE, 0, "", "", "", 0, 0, 0, "", "").startswith(
        "NOSCRIPT"
    )


def test_reading(two: Two) -> None:
    asker, other = two
    for number in range(1, 6):
        other.write(number, text=f"{number}\n")
    read = "XREAD", "COUNT", 2, "BLOCK", 1000, "STREAMS", STREAM
    last, heard = other.ids()[0], []
    for size in 2, 2, 1:
        ((name, entries),) = asker.ask(*read, last)
        assert name == STREAM.encode() and len(entries) == size
        last = entries[-1][0]
        heard += [fields[-1] for _, fields in entries]
    assert heard == [b"%d\n" % number for number in range(1, 6)]


def test_waiting(two: Two) -> None:
    """Commands behind a wait have to wait, too."""
    asker, other = two
    other.write(1)
    asker.send("XREAD", "COUNT", 2, "BLOCK", 0, "STREAMS", STREAM, other.ids()[-1])
    asker.send("PING")
    other.write(2, text="new\n")
    place = other.ids()[-1]
    assert asker.answer()[0][1][0][0] == place
    assert asker.answer() == b"PONG"
    assert asker.ask("XREAD", "COUNT", 2, "BLOCK", 20, "STREAMS", STREAM, place) is None
    assert other.ask("XREAD", "COUNT", 2, "STREAMS", STREAM, place) is None


def test_waiting_through_a_deletion(two: Two) -> None:
    asker, other = two
    other.write(1)
    asker.send("XREAD", "COUNT", 2, "BLOCK", 0, "STREAMS", STREAM, other.ids()[-1])
    other.ask("FLUSHALL")
    time.sleep(0.002)  # a new millisecond
    other.write(2, back=1)
    assert asker.answer()[0][1][0][0] == other.ids()[0]


def test_introductions(two: Two) -> None:
    asker, _ = two
    assert asker.ask("CLIENT", "SETNAME", "chatsrv-0-follows") == b"OK"
    assert asker.ask("CLIENT", "SETNAME", "a b").startswith("ERR Client names cannot contain spaces")
    assert re.search(rb"redis_version:\d+\.\d+\.\d+\r\n", asker.ask("INFO", "server"))
    assert re.search(rb"run_id:[0-9a-f]{40}\r\n", asker.ask("INFO", "server"))
    assert re.search(rb"master_replid:[0-9a-f]{40}\r\n", asker.ask("INFO", "replication"))
    assert asker.ask("ROLE")[::2] == [b"master", []]
    assert asker.ask("AUTH", "secret").startswith("ERR AUTH <password> called without any password configured")
    assert asker.ask("AUTH", "somebody", "secret").startswith("WRONGPASS")
    assert re.match("ERR unknown command [`']NONSENSE[`']", asker.ask("NONSENSE"))
    assert asker.ask("SELECT", 99) == "ERR DB index is out of range"


def test_databases(two: Two) -> None:
    asker, other = two
    asker.write(1)
    assert other.ask("SELECT", 1) == b"OK"
    assert other.look() == ("epoch1", 0)


def scrub(answer: Any) -> Any:
    """Without times."""
    if isinstance(answer, list):
        return [scrub(part) for part in answer]
    if isinstance(answer, bytes):
        return re.sub(rb"\b1\d{12}-\d+", b"T", answer)
    return answer


numbers = st.integers(0, 6)
commands = st.one_of(
    st.tuples(st.just("write"), numbers, numbers, st.integers(1, 3), st.just("text\n")),
    st.tuples(st.just("look"), st.sampled_from(["", "epoch1", "epoch2", "epoch3"])),
    st.tuples(st.just("run"), st.sampled_from(["run", "another"])),
    st.sampled_from(
        [
            ("XADD", STREAM, "9999999999999-5", "text", "hello"),
            ("XADD", STREAM, f"{TOP}-{TOP}", "text", "hello"),
            ("XTRIM", STREAM, "MAXLEN", 1),
            ("DEL", STREAM),
            ("DEL", NODE),
            ("DEL", STATE),
            ("FLUSHALL",),
            ("SET", STREAM, "text"),
            ("SET", STATE, "1 2 3"),
            ("GET", NODE),
            ("GET", STATE),
            ("GET", PAST),
            ("DEL", PAST),
            ("XLEN", STREAM),
            ("XRANGE", STREAM, "-", "+"),
            ("XREAD", "COUNT", 3, "STREAMS", STREAM, "0-0"),
        ]
    ),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(commands, max_size=25))
def test_both_answer_alike(redis_port: int, asked: Pieces) -> None:
    one, other = FakeAsker(*false_redis()), RealAsker(redis_port)
    other.ask("FLUSHALL")
    try:
        for word, *rest in asked:
            if word == "run":
                one.run = other.run = rest[0]
                continue
            answers = [
                asker.write(*rest)
                if word == "write"
                else asker.look(*rest)
                if word == "look"
                else asker.ask(word, *rest)
                for asker in (one, other)
            ]
            mine, true = map(scrub, answers)
            if isinstance(mine, str):  # the real one adds where in the script it happened, Redis 6 in front
                assert isinstance(true, str) and mine in true
            else:
                assert mine == true
    finally:
        other.close()
