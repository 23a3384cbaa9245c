"""What the cluster relies on in Redis: the same tests ask a real one and the one of the simulated world."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cluster import hiredis, real
from cluster.fake import FakeRedis, Session
from cluster.real import Redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat.server.cluster.node import SCRIPT

STREAM, NODE = "chat", "chat:node"
Pieces = list[tuple[Any, ...]]


class Asker:
    """One connection. Answers are bytes, numbers, None and lists; errors are the text of one."""

    def ask(self, *command: Any) -> Any:
        self.send(*command)
        return self.answer()

    def send(self, *command: Any) -> None:
        raise NotImplementedError

    def answer(self) -> Any:
        raise NotImplementedError

    def write(self, number: int, back: int = 0, count: int = 1, text: str = "hi\n", most: int = 1000) -> Any:
        """What a node does."""
        sha = self.ask("SCRIPT", "LOAD", SCRIPT)
        return self.ask("EVALSHA", sha, 2, STREAM, NODE, number, back, count, "node", text, most)

    def texts(self) -> list[bytes]:
        return [fields[-1] for _, fields in self.ask("XRANGE", STREAM, "-", "+")]


class RealAsker(Asker):
    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection((real.HERE, port), timeout=real.PATIENCE)
        self.reader = hiredis.Reader(notEnoughData=Ellipsis)

    def send(self, *command: Any) -> None:
        self.sock.sendall(hiredis.pack_command(command))

    def answer(self) -> Any:
        while (answer := self.reader.gets()) is Ellipsis:
            self.reader.feed(self.sock.recv(1 << 16))
        return str(answer) if isinstance(answer, hiredis.ReplyError) else answer

    def close(self) -> None:
        self.sock.close()


class FakeAsker(Asker):
    def __init__(self, redis: FakeRedis) -> None:
        self.redis = redis
        self.session = Session(redis, self.push)
        self.reader = hiredis.Reader(notEnoughData=Ellipsis)

    def push(self, data: bytes) -> None:
        self.reader.feed(data)

    def send(self, *command: Any) -> None:
        for byte in hiredis.pack_command(command):
            self.session.feed(bytes([byte]))

    def answer(self) -> Any:
        while (answer := self.reader.gets()) is Ellipsis:
            moment = self.redis.next_tick()
            assert moment is not None, "no answer will come"
            time.sleep(max(0, moment - time.time()))
            self.redis.tick()
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
        redis = FakeRedis(time.time)
        yield FakeAsker(redis), FakeAsker(redis)
        return
    port = request.getfixturevalue("redis_port")
    askers = RealAsker(port), RealAsker(port)
    askers[0].ask("FLUSHALL")
    yield askers
    for asker in askers:
        asker.close()


def messages(place: bytes) -> int:
    """The part of an id that counts messages."""
    assert re.fullmatch(rb"\d+-\d+", place)
    return int(place.split(b"-")[1])


Two = tuple[Asker, Asker]


def test_ids_count_messages_and_are_chained(two: Two) -> None:
    asker, _ = two
    assert asker.write(0, 0, 0) == b"0-0"
    before = int(time.time() * 1000)
    first, second = asker.write(1, 0, 3, "a\nb\nc\n"), asker.write(2, 0, 1, "d\n")
    assert [messages(first), messages(second)] == [3, 4]
    assert before <= int(first.split(b"-")[0]) <= int(second.split(b"-")[0]) <= time.time() * 1000
    assert asker.ask("XRANGE", STREAM, "-", "+") == [
        [first, [b"after", b"0-0", b"node", b"node", b"number", b"1", b"text", b"a\nb\nc\n"]],
        [second, [b"after", first, b"node", b"node", b"number", b"2", b"text", b"d\n"]],
    ]
    assert asker.write(0, 0, 0) == second


def test_a_number_it_has_had_is_refused(two: Two) -> None:
    asker, _ = two
    first = asker.write(1)
    assert asker.write(1) == first
    second = asker.write(2)
    assert asker.write(1) == asker.write(2) == second
    assert asker.ask("XLEN", STREAM) == 2


def test_a_number_too_many_is_an_error(two: Two) -> None:
    asker, _ = two
    assert asker.write(2) == "GAP between 0 and 2"
    asker.write(1)
    assert asker.write(3) == "GAP between 1 and 3"
    assert asker.ask("XLEN", STREAM) == 1


def test_what_came_back_counts_as_had(two: Two) -> None:
    """Redis has lost its memory, the node has not."""
    asker, _ = two
    assert messages(asker.write(8, 7)) == 1
    assert asker.ask("GET", NODE) == b"8"
    assert messages(asker.write(9, 9)) == 1
    assert asker.ask("XLEN", STREAM) == 1


def test_a_place_lasts_longer_than_its_entries(two: Two) -> None:
    asker, _ = two
    asker.write(1)
    place = asker.write(2)
    assert asker.ask("XTRIM", STREAM, "MAXLEN", 0) == 2
    assert asker.write(0) == place
    assert messages(asker.write(3)) == 3
    assert asker.ask("DEL", STREAM) == 1
    assert asker.write(0) == b"0-0"
    assert messages(asker.write(4)) == 1


def test_an_id_never_falls(two: Two) -> None:
    """Even if the clock does."""
    asker, _ = two
    future = int(time.time() * 1000) + 100000
    asker.ask("XADD", STREAM, f"{future}-7", "a", "b")
    assert asker.write(1) == b"%d-8" % future
    assert "equal or smaller" in asker.ask("XADD", STREAM, f"{future}-8", "a", "b")


def test_trimming_is_about(two: Two) -> None:
    asker, _ = two
    for number in range(1, 251):
        asker.write(number, most=50)
    assert 50 <= asker.ask("XLEN", STREAM) < 150


def test_another_kind_of_key(two: Two) -> None:
    asker, _ = two
    asker.ask("SET", STREAM, "text")
    wrong = "WRONGTYPE Operation against a key holding the wrong kind of value"
    assert asker.write(0).startswith(wrong)
    assert asker.write(1).startswith(wrong)
    assert asker.ask("XREAD", "COUNT", 5, "BLOCK", 0, "STREAMS", STREAM, "0-0") == wrong


def test_an_unknown_script(two: Two) -> None:
    asker, _ = two
    asker.write(1)
    sha = asker.ask("SCRIPT", "LOAD", SCRIPT)
    asker.ask("SCRIPT", "FLUSH")
    assert asker.ask("EVALSHA", sha, 2, STREAM, NODE, 0, 0, 0, "", "", 0).startswith("NOSCRIPT")


def test_reading(two: Two) -> None:
    asker, other = two
    for number in range(1, 6):
        other.write(number, text=f"{number}\n")
    read = "XREAD", "COUNT", 2, "BLOCK", 1000, "STREAMS", STREAM
    last, heard = b"0-0", []
    for size in 2, 2, 1:
        ((name, entries),) = asker.ask(*read, last)
        assert name == STREAM.encode() and len(entries) == size
        last = entries[-1][0]
        heard += [fields[-1] for _, fields in entries]
    assert heard == [b"%d\n" % number for number in range(1, 6)]


def test_waiting(two: Two) -> None:
    """Commands behind a wait have to wait, too."""
    asker, other = two
    asker.send("XREAD", "COUNT", 2, "BLOCK", 0, "STREAMS", STREAM, other.write(1))
    asker.send("PING")
    place = other.write(2, text="new\n")
    assert asker.answer()[0][1][0][0] == place
    assert asker.answer() == b"PONG"
    assert asker.ask("XREAD", "COUNT", 2, "BLOCK", 20, "STREAMS", STREAM, place) is None
    assert other.ask("XREAD", "COUNT", 2, "STREAMS", STREAM, place) is None


def test_waiting_through_a_deletion(two: Two) -> None:
    asker, other = two
    asker.send("XREAD", "COUNT", 2, "BLOCK", 0, "STREAMS", STREAM, other.write(1))
    other.ask("FLUSHALL")
    time.sleep(0.002)  # a new millisecond
    place = other.write(2, back=1)
    assert messages(place) == 1
    assert asker.answer()[0][1][0][0] == place


def test_introductions(two: Two) -> None:
    asker, _ = two
    assert asker.ask("CLIENT", "SETNAME", "chatsrv-0-follows") == b"OK"
    assert asker.ask("CLIENT", "SETNAME", "a b").startswith("ERR Client names cannot contain spaces")
    assert re.search(rb"redis_version:\d+\.\d+\.\d+\r\n", asker.ask("INFO", "server"))
    assert asker.ask("ROLE") == [b"master", 0, []]
    assert asker.ask("AUTH", "secret").startswith("ERR AUTH <password> called without any password configured")
    assert asker.ask("AUTH", "somebody", "secret").startswith("WRONGPASS")
    assert asker.ask("NONSENSE").startswith("ERR unknown command 'NONSENSE'")
    assert asker.ask("SELECT", 99) == "ERR DB index is out of range"


def test_databases(two: Two) -> None:
    asker, other = two
    asker.write(1)
    assert other.ask("SELECT", 1) == b"OK"
    assert other.write(0) == b"0-0"


def scrub(answer: Any) -> Any:
    """Without times."""
    if isinstance(answer, list):
        return [scrub(part) for part in answer]
    if isinstance(answer, bytes):
        return re.sub(rb"^\d{10,}-", b"T-", answer)
    return answer


numbers = st.integers(0, 6)
commands = st.one_of(
    st.tuples(st.just("write"), numbers, numbers, st.integers(1, 3), st.just("text\n")),
    st.sampled_from(
        [
            ("XADD", STREAM, "9999999999999-5", "text", "hello"),
            ("XTRIM", STREAM, "MAXLEN", 1),
            ("DEL", STREAM),
            ("DEL", NODE),
            ("FLUSHALL",),
            ("SET", STREAM, "text"),
            ("GET", NODE),
            ("XLEN", STREAM),
            ("XRANGE", STREAM, "-", "+"),
            ("XREAD", "COUNT", 3, "STREAMS", STREAM, "0-0"),
        ]
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(commands, max_size=25))
def test_both_answer_alike(redis_port: int, asked: Pieces) -> None:
    one, other = FakeAsker(FakeRedis(time.time)), RealAsker(redis_port)
    other.ask("FLUSHALL")
    try:
        for word, *rest in asked:
            answers = [asker.write(*rest) if word == "write" else asker.ask(word, *rest) for asker in (one, other)]
            mine, true = map(scrub, answers)
            if isinstance(mine, str):  # the real one adds where in the script it happened
                assert isinstance(true, str) and true.startswith(mine)
            else:
                assert mine == true
    finally:
        other.close()
