"""The same service as one would write it with asyncio: a greeting, lines, everybody hears everybody.

    python -m tests.bench.peers streams|protocol|batch [--uvloop] [--rooms] [--journal]

Three usual ways. None of them has limits, and none looks at the length of a line, so they do a little less than the
chat server. Each of them tells everybody a line as if it were for that one alone. With --rooms, one's first line names
the room; with --journal, what is said is also written to stdout.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from typing import ClassVar, cast

GREETING = b"Welcome to the peer.\n"
BACKLOG = 1024
ROOMS = "--rooms" in sys.argv
JOURNAL = "--journal" in sys.argv


def journal(*messages: bytes) -> None:
    if JOURNAL:
        sys.stdout.buffer.writelines(messages)
        sys.stdout.buffer.flush()


class Streams:
    """Streams, with a queue and a writing task for each client."""

    def __init__(self) -> None:
        self.rooms: defaultdict[bytes, set[asyncio.Queue[bytes]]] = defaultdict(set)

    async def listen(self) -> asyncio.Server:
        return await asyncio.start_server(self.client, "0.0.0.0", 0, backlog=BACKLOG)

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        prefix = writer.get_extra_info("peername")[0].encode() + b": "
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        room = self.rooms[await reader.readline() if ROOMS else b""]
        room.add(queue)
        writer.write(GREETING)
        delivery = asyncio.create_task(self.deliver(queue, writer))
        try:
            while line := await reader.readline():
                message = prefix + line
                journal(message)
                for other in room:
                    other.put_nowait(message)
        except ConnectionError:
            pass
        finally:
            room.discard(queue)
            delivery.cancel()
            writer.close()

    async def deliver(self, queue: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await queue.get())
                await writer.drain()
        except ConnectionError:
            pass


class Connection(asyncio.Protocol):
    """A protocol that writes each line to each transport."""

    rooms: ClassVar[defaultdict[bytes, set[asyncio.Transport]]] = defaultdict(set)
    room: set[asyncio.Transport] | None = None
    rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.prefix = transport.get_extra_info("peername")[0].encode() + b": "
        if not ROOMS:
            self.enter(b"")

    def enter(self, name: bytes) -> None:
        self.room = self.rooms[name]
        self.room.add(self.transport)
        self.transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        if lines and self.room is None:
            self.enter(lines.pop(0))
        if lines and self.room is not None:
            self.publish(lines, self.room)

    def publish(self, lines: list[bytes], room: set[asyncio.Transport]) -> None:
        for line in lines:
            message = self.prefix + line + b"\n"
            journal(message)
            for transport in room:
                transport.write(message)

    def connection_lost(self, error: Exception | None) -> None:
        if self.room is not None:
            self.room.discard(self.transport)


class BatchClient(Connection):
    """A protocol that writes all lines of one receive to each transport at once."""

    def publish(self, lines: list[bytes], room: set[asyncio.Transport]) -> None:
        messages = b"".join([self.prefix + line + b"\n" for line in lines])
        journal(messages)
        for transport in room:
            transport.write(messages)


async def serve(kind: str) -> None:
    if kind == "streams":
        server = await Streams().listen()
    else:
        factory = {"protocol": Connection, "batch": BatchClient}[kind]
        server = await asyncio.get_running_loop().create_server(factory, "0.0.0.0", 0, backlog=BACKLOG)
    print(f"{kind} listens on port {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if "--uvloop" in sys.argv:
        import uvloop

        uvloop.install()
    asyncio.run(serve(sys.argv[1]))


if __name__ == "__main__":
    main()
