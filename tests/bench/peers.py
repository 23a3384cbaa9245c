"""The same service as one would write it with asyncio: a greeting, lines, everybody hears everybody.

    python -m tests.bench.peers streams|protocol|batch [--uvloop]

Three usual ways. None of them has limits or a journal, and none looks at the length of a line, so they do a little less
than the chat server.
"""

from __future__ import annotations

import asyncio
import sys
from typing import ClassVar, cast

GREETING = b"Welcome to the peer.\n"
BACKLOG = 1024


class Streams:
    """Streams, with a queue and a writing task for each client."""

    def __init__(self) -> None:
        self.queues: set[asyncio.Queue[bytes]] = set()

    async def listen(self) -> asyncio.Server:
        return await asyncio.start_server(self.client, "0.0.0.0", 0, backlog=BACKLOG)

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        prefix = writer.get_extra_info("peername")[0].encode() + b": "
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.queues.add(queue)
        writer.write(GREETING)
        delivery = asyncio.create_task(self.deliver(queue, writer))
        try:
            while line := await reader.readline():
                message = prefix + line
                for other in self.queues:
                    other.put_nowait(message)
        except ConnectionError:
            pass
        finally:
            self.queues.discard(queue)
            delivery.cancel()
            writer.close()

    async def deliver(self, queue: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await queue.get())
                await writer.drain()
        except ConnectionError:
            pass


class Client(asyncio.Protocol):
    """A protocol that writes each line to each transport."""

    everybody: ClassVar[set[asyncio.Transport]] = set()
    rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.prefix = transport.get_extra_info("peername")[0].encode() + b": "
        self.transport.write(GREETING)
        self.everybody.add(self.transport)

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            message = self.prefix + line + b"\n"
            for transport in self.everybody:
                transport.write(message)

    def connection_lost(self, error: Exception | None) -> None:
        self.everybody.discard(self.transport)


class BatchClient(Client):
    """A protocol that writes all lines of one receive to each transport at once."""

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        if lines:
            messages = b"".join([self.prefix + line + b"\n" for line in lines])
            for transport in self.everybody:
                transport.write(messages)


async def serve(kind: str) -> None:
    if kind == "streams":
        server = await Streams().listen()
    else:
        factory = {"protocol": Client, "batch": BatchClient}[kind]
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
