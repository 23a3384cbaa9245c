"""What the simulated world meets too rarely."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from chat.server.flags import Options
from chat.server.journal import Journal
from chat.server.server import Server
from loop import Kernel, recv, send, sleep

if TYPE_CHECKING:
    from chat.server.member import Member
    from chat.server.room import Room
    from loop.traps import Coroutine


def test_a_member_kicked_by_its_own_last_words_is_told_why(tmp_path: Path) -> None:
    """The kick cancels a task that is running; its next pause is after the handler."""

    def handler(member: Member, room: Room) -> Coroutine[None]:
        member.tell("Welcome " * 60_000)  # more than sockets hold: the writer has to wait
        yield from member.receive()
        member.tell("and goodbye " * 400_000)  # too much

    def talk() -> Coroutine[None]:
        """COROUTINE. Makes the handler end, and only then reads."""
        heard = bytearray((yield from recv(client, 1)))
        yield from send(client, b"hello\n")
        while not all(member.reason for member in server.connections):
            heard += yield from recv(client, 1)
        while data := (yield from recv(client, 1 << 20)):
            heard += data
        kernel.close(client)
        server.stop()
        tail.append(bytes(heard[-60:]))

    tail: list[bytes] = []
    ours, client = socket.socketpair()
    with ours, client, (tmp_path / "journal").open("wb", buffering=0) as output:
        ours.setblocking(False)
        client.setblocking(False)
        kernel = Kernel()
        options = Options()
        options.max_lag = 2 << 20
        server = Server(kernel, [], Journal(output), options, handler)
        life = kernel.spawn(server.run(), "server")
        server.begin_serving(ours, ("10.0.0.1", 40000))
        kernel.spawn(talk())
        kernel.run(until=life)
        kernel.run()
        kernel.poller.close()
    assert tail[0].endswith(b"\n* You are disconnected: more than 2097152 bytes behind.\n")
    assert b"terminated: more than 2097152 bytes behind" in (tmp_path / "journal").read_bytes()


def test_a_connection_is_closed_before_the_journal_says_so() -> None:
    """The journal may write in the turn in which connections end, before the kernel closes their sockets."""

    class Output:
        def fileno(self) -> int:
            return ours[0].fileno()

        def write(self, data: memoryview) -> int:
            if b"terminated" in bytes(data):
                seen.append([sock.fileno() for sock in ours])
            return len(data)

    def end() -> Coroutine[None]:
        for member in list(server.connections):
            server.close(member)
        server.journal.put()
        server.stop()
        yield from sleep(0)

    seen: list[list[int]] = []
    pairs = [socket.socketpair() for _ in range(3)]
    ours = [sock for sock, _ in pairs]
    kernel = Kernel()
    server = Server(kernel, [], Journal(Output()), Options())
    life = kernel.spawn(server.run(), "server")
    for number, sock in enumerate(ours):
        sock.setblocking(False)
        server.begin_serving(sock, ("10.0.0.1", 40000 + number))
    while kernel.ready:
        kernel.turn()
    kernel.spawn(end())
    kernel.run(until=life)
    assert seen == [[-1, -1, -1]]
    for _, client in pairs:
        client.close()
    kernel.poller.close()
