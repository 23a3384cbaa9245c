"""A node's two connections to Redis, from when they are made to when one of them breaks.

One reads the streams, the other writes: on the same connection, a write would wait behind an XREAD that waits for news.
"""

from __future__ import annotations

from loop import TimedOut, send, sleep, vital

from .follow import SILENCE, follow
from .incoming import History, parse_id
from .script import SCRIPT
from .wire import TIMEOUT, TROUBLE, Connection, Refused, Unready, introduce, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from loop import Kernel, Task
    from loop.traps import Coroutine, Stream

    from .address import Address
    from .link import Link
    from .links import Links

    Dial = Callable[[Kernel, Address], Coroutine[Stream]]

RESPITE = 0.25  # seconds before the first write to another Redis than before, so that all nodes can look() first


class Session:
    """open() it, run() it, and close() it in any case."""

    def __init__(self, kernel: Kernel, address: Address, links: Links, dial: Dial) -> None:
        self.kernel = kernel
        self.address = address
        self.links = links
        self.dial = dial
        self.connections: list[Connection] = []  # the one for follow() and the one for write()
        self.redis_run = ""  # names the process that is the Redis; another name after a restart or a fail-over
        self.client_id = 0  # the id that Redis has for the connection of follow(); 0: Redis does not tell us
        self.waiting: set[Link] = set()  # while follow() waits for news: the links of the streams that it reads
        self.sha = b""
        self.took = 0.0  # seconds that Redis took to answer the last write
        self.writer: Task | None = None
        self.trouble: BaseException | None = None  # why the writer has ended

    def open(self, last_run: str) -> Coroutine[int]:
        """COROUTINE. Connects, and writes what is due. Returns how many of these messages had been sent before.

        `last_run`: the `redis_run` of the session before, or "". Raises one of TROUBLE.
        """
        names = []
        for role in "follows", "writes":
            connection = Connection((yield from self.dial(self.kernel, self.address)))
            self.connections.append(connection)
            names.append((yield from introduce(connection, self.address, f"chatsrv-{self.links.node[:8]}-{role}")))
        (self.redis_run, self.client_id), (other_run, _) = names
        if self.redis_run != other_run:
            raise Unready("is two different servers")
        self.sha = yield from connection.ask("SCRIPT", "LOAD", SCRIPT)
        yield from self.look(connection, self.links.all())
        for link in self.links.unsettled:
            link.outgoing.start_over()
        count = sum(link.outgoing.sent_before() for link in self.links.unsettled)
        if last_run not in ("", self.redis_run):
            yield from sleep(RESPITE)
        yield from self.write_due(connection)
        return count

    def run(self) -> Coroutine[None]:
        """COROUTINE. Follows and writes until something fails; raises one of TROUBLE."""
        following, writing = self.connections
        self.writer = self.kernel.spawn(vital(lambda: self.write(writing), "cluster writer"), "cluster writer")
        try:
            yield from follow(self, following)
        except TROUBLE as error:
            raise self.trouble or error from None

    def close(self) -> None:
        """Close both connections and end the writer. Tasks that wait for one of them are woken with an error."""
        if self.writer:
            self.writer.cancel()
        for connection in self.connections:
            self.kernel.close(connection.socket)

    def look(self, connection: Connection, links: list[Link]) -> Coroutine[None]:
        """COROUTINE. Asks where these streams end. If Redis has lost what was read here, tells it, and asks again."""
        while links:
            yield from send(connection.socket, b"".join(self.call(link) for link in links), TIMEOUT)
            for link in links:
                epoch, offset, last, mark, history = yield from connection.answer()
                link.incoming.look((epoch, int(offset)), parse_id(last), parse_id(mark), History(epoch, history))
                link.checked = self.kernel.clock()
                self.links.new.pop(link, None)
            links = [link for link in links if link.incoming.loss_in]

    def call(self, link: Link, *entry: Any) -> bytes:
        """The command that runs the script: to write `entry` (number, `last_settled`, messages, text), or to look."""
        number, last_settled, messages, text = entry or (0, 0, 0, b"")
        about = self.address.maxlen, self.links.new_epoch_name(), self.redis_run, link.incoming.loss_in
        return pack("EVALSHA", self.sha, *link.keys, *about, number, last_settled, messages, self.links.node, text)

    # Writing.

    def write(self, connection: Connection) -> Coroutine[None]:
        """COROUTINE. Writes what members say, for as long as the connection lasts.

        It waits for the answers before it writes again. The busier the chat, the more is said meanwhile, and the more
        messages the next entry carries.
        """
        links = self.links
        try:
            while True:
                while not (links.new or any(link.outgoing.due() for link in links.unsettled)):
                    try:
                        yield from links.news.wait(SILENCE)
                    except TimedOut:
                        yield from connection.ask("PING")
                if links.new:
                    yield from self.look(connection, list(links.new))
                    yield from self.wake_follower(connection)
                yield from self.write_due(connection)
        except TROUBLE as error:
            self.trouble = error
            self.close()

    def wake_follower(self, connection: Connection) -> Coroutine[None]:
        """COROUTINE. If follow() waits for news from only some of the streams, wakes it, so that it asks for all."""
        while self.client_id and self.waiting and any(link not in self.waiting for link in self.links.looked()):
            try:
                yield from connection.ask("CLIENT", "UNBLOCK", self.client_id)
            except Refused:  # this Redis user has no right to do it; from now on, follow() waits only for IMPATIENCE
                self.client_id = 0
            yield from sleep(0.01)  # perhaps follow() had not begun to wait, and Redis had nobody to wake

    def write_due(self, connection: Connection) -> Coroutine[None]:
        """COROUTINE. Writes all entries that are due, in one round trip."""
        lot = [(link, entry) for link in self.links.unsettled if link.looked for entry in link.outgoing.take_due()]
        calls = [
            self.call(link, entry.number, link.outgoing.last_settled, entry.messages, bytes(entry.text))
            for link, entry in lot
        ]
        began = self.kernel.clock()
        yield from send(connection.socket, b"".join(calls), TIMEOUT)
        for _, entry in lot:
            epoch, offset = yield from connection.answer()
            entry.position = epoch, int(offset)
            self.took = self.kernel.clock() - began
        self.links.settle()
