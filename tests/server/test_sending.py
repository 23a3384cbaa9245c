"""Slow readers, crowds that leave, floods that grow on their way: with the real server."""

from __future__ import annotations

import gc
import io
import os
import signal
import socket
import time
from itertools import repeat
from pathlib import Path

import pytest
from chatting import GREETING, HERE, MIB, PREFIX, SMALL, Client, Crowd, Start, eventually, handler, linux, memory

from chat.server.flags import Options
from chat.server.journal import Journal
from chat.server.room import Hub
from chat.server.sending import send_each
from loop import Kernel, send

COUNTING = "member.tell(f'{len(room.members)} here') if messages == [b'?'] else room.publish(member, messages)"


def heard_to_the_end(client: Client) -> tuple[bytes, bool]:
    """Everything, and whether the stream has ended with a FIN (else with a reset)."""
    heard = bytearray(client.rest)
    try:
        while data := client.sock.recv(1 << 16):
            heard += data
        return bytes(heard), True
    except ConnectionResetError:
        return bytes(heard), False
    finally:
        client.close()


def fill(talker: Client, lines: int) -> None:
    """Say so much that the buffers of a client that does not read are full."""
    for number in range(0, lines, 50):
        talker.say(*(b"%06d " % n + b"x" * 993 for n in range(number, number + 50)))
        talker.wait_for(b"%06d" % (number + 49))


def count_members(client: Client) -> int:
    client.say("?")
    return int(client.wait_for(b" here").split()[0])


def test_a_stalled_client_that_reads_after_all_finds_its_reason_and_no_half_message(
    chatsrv: Start, tmp_path: Path
) -> None:
    server = chatsrv("--quiet", "--stall-timeout", "1", "--handler", handler(tmp_path, COUNTING))
    reader, talker = server.client(buffer=SMALL), server.client()
    fill(talker, 6000)
    eventually(lambda: count_members(talker) == 1, "the kick")
    heard, fin = heard_to_the_end(reader)
    assert fin and heard.endswith(b"x\n* You are disconnected: took nothing for 1 s.\n")
    server.terminated("took nothing for 1 s")


def test_a_stalled_client_that_reads_too_late_finds_its_reason_or_a_reset(chatsrv: Start) -> None:
    """The system may have had room for the last line. A FIN in the middle of a message would make it look whole."""
    server = chatsrv("--quiet", "--stall-timeout", "1")
    reader, talker = server.client(buffer=SMALL), server.client()
    fill(talker, 6000)
    server.terminated("took nothing for 1 s")
    heard, fin = heard_to_the_end(reader)
    assert not fin or heard.endswith(b"x\n* You are disconnected: took nothing for 1 s.\n")


def test_at_the_end_a_client_that_takes_it_too_slowly_finds_a_reset(chatsrv: Start) -> None:
    server = chatsrv("--quiet")
    reader, talker = server.client(buffer=SMALL), server.client()
    fill(talker, 6000)
    server.process.send_signal(signal.SIGTERM)
    assert talker.everything() == b"* You are disconnected: the server is ending.\n"
    assert server.process.wait(15) == 0
    heard, fin = heard_to_the_end(reader)
    assert not fin and not heard.endswith(b"ending.\n")
    server.finish(complaint="still delivering what is due")


@linux
def test_many_that_leave_at_once_keep_what_is_due_to_them_once(chatsrv: Start, crowd: Crowd) -> None:
    server = chatsrv("--quiet")
    leavers = crowd.enter(server.port, *(f"leaver{n}" for n in range(150)), buffer=SMALL)
    talkers = crowd.enter(server.port, *(f"talker{n}" for n in range(20)))
    before = memory(server.pid)
    for talker in talkers:
        crowd.run(send(talker.sock, b"\n" * 15_000))
    for leaver in leavers:
        leaver.sock.shutdown(socket.SHUT_WR)
    for talker in talkers:
        talker.listen()
    crowd.until(lambda: all(talker.heard.count(b"\n") >= 300_000 for talker in talkers), timeout=60)
    assert memory(server.pid) - before < 60 * MIB
    server.finish(complaint=None)  # on a busy machine, one round of sending takes long enough to be told


def test_a_flood_that_grows_on_its_way_sends_no_reader_away(chatsrv: Start, crowd: Crowd, tmp_path: Path) -> None:
    """10,000 newlines, each a thousand bytes long with its prefix: ten times --max-lag."""
    grow = handler(tmp_path, "member.prefix = b'n' * 1016 + b': '", "room.publish(member, messages)")
    server = chatsrv("--quiet", "--max-lag", "1M", "--handler", grow)
    readers = crowd.enter(server.port, "one", "two", "three")
    (flooder,) = crowd.enter(server.port, "flooder")
    for visitor in [*readers, flooder]:
        visitor.listen()
    crowd.run(send(flooder.sock, b"\n" * 10_000))
    size = len(b"Welcome\n") + 10_000 * 1019
    crowd.until(lambda: all(len(reader.heard) >= size for reader in readers) or server.over())
    assert not server.over() and all(len(reader.heard) == size for reader in readers)


def test_what_a_handler_tells_one_member_is_bounded_within_a_step(chatsrv: Start, tmp_path: Path) -> None:
    lines = "for _ in range(1000): member.tell('x' * 100_000)", "room.publish(member, messages)"
    server = chatsrv("--quiet", "--handler", handler(tmp_path, *lines))
    greedy, other = server.client(), server.client()
    greedy.say("go")
    heard, fin = heard_to_the_end(greedy)
    assert fin and heard == b"* You are disconnected: more than 16777216 bytes behind.\n"
    assert other.sock.fileno() >= 0


def test_a_reader_is_never_sent_away_however_much_it_is_told(chatsrv: Start, tmp_path: Path) -> None:
    """40 MB come back, from 40 kB, and faster than it reads. So what it asks has to wait, and nobody else."""
    answers = "for message in messages: member.tell(b'y' * 2000 if message == b'?' else message)"
    server = chatsrv("--quiet", "--max-lag", "4M", "--handler", handler(tmp_path, answers))
    client, neighbour = server.client(), server.client()
    client.say(*["?"] * 20_000)
    for number in range(20_000):
        assert client.line() == b"y" * 2000
        if number % 500 == 0:
            time.sleep(0.01)
            neighbour.say(f"{number}")
            neighbour.expect(b"%d" % number)


@pytest.mark.parametrize("flags", [(), ("--max-lag", "1M")])
def test_readers_and_private_lines_keep_one_order(chatsrv: Start, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """publish, tell, publish: in this order, however much of it there is."""
    lines = (
        "for n in range(100):",
        "    room.publish(member, 'a%d' % n)",
        "    for other in room.members:",
        "        other.tell('t%d' % n)",
    )
    server = chatsrv("--no-prefix", "--handler", handler(tmp_path, *lines), *flags)
    clients = [server.client() for _ in range(3)]
    clients[0].say("go")
    for client in clients:
        client.expect(*(b"%c%d" % (kind, n) for n in range(100) for kind in b"at"))


def test_what_is_said_before_a_client_is_greeted_is_not_for_it(chatsrv: Start) -> None:
    server = chatsrv()
    talker = server.client()
    for number in range(50):
        with socket.socket() as sock:
            sock.settimeout(15)
            sock.connect((HERE, server.port))
            talker.say(b"message %d" % number)
            assert sock.recv(len(GREETING)) == GREETING[: len(GREETING)]
        talker.expect(PREFIX + b"message %d" % number)


ORDERS = {
    "tell, tell": "member.tell('a'); member.tell('b')",
    "tell, publish": "member.tell('a'); room.announce('b')",
    "publish, tell": "room.announce('a'); member.tell('b')",
    "tell, the end": "member.tell('a'); member.tell('b'); member.kick('out', keep=True)",
    "a long line": "member.tell('a'); member.tell('b' + 2000 * ' ')",
}


@pytest.mark.parametrize("order", ORDERS)
def test_what_a_member_is_told_in_one_turn_comes_in_that_order(chatsrv: Start, tmp_path: Path, order: str) -> None:
    """A line alone waits in the room's `told`, and anything after it in an outbox of the member's own."""
    client = chatsrv("--handler", handler(tmp_path, ORDERS[order])).client()
    for _ in range(2):
        client.say("go")
        client.expect(b"a")
        client.expect(b"b", starts=True)
        if order == "tell, the end":
            return client.expect(b"* You are disconnected: out.")


def test_a_failed_send_leaves_nothing_that_keeps_itself_alive() -> None:
    """An error refers to its traceback, that to the frames, and they to what was sent: perhaps a megabyte."""
    hub = Hub(Kernel(), Options(), Journal(io.FileIO(os.devnull, "w")))
    with socket.socket() as unconnected:
        gc.collect()
        results = send_each([unconnected.fileno()] * 3, repeat(b"hello\n"), hub)
        assert [type(result) for result in results] == [BrokenPipeError] * 3
        del results
        assert gc.collect() == 0
    hub.kernel.poller.close()
