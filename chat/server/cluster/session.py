"""A node's two connections to Redis, from when they are made to when one of them breaks.

One follows the streams, one writes, because a command behind a blocked XREAD would wait.
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

SETTLE = 0.25  # seconds in which nothing is written to another Redis: first let all nodes say what they have read


class Session:
    """open() it, run() it, and close() it in any case."""

    def __init__(self, kernel: Kernel, address: Address, links: Links, dial: Dial) -> None:
        self.kernel = kernel
        self.address = address
        self.links = links
        self.dial = dial
        self.connections: list[Connection] = []  # the one that follows and the one that writes
        self.redis_run = ""  # which process the Redis is
        self.client_id = 0  # the name that Redis has for the connection that follows; 0: it does not tell
        self.waiting: set[Link] = set()  # those whose streams it waits for now
        self.sha = b""
        self.took = 0.0  # seconds from the last write to Redis's answer
        self.writer: Task | None = None
        self.trouble: BaseException | None = None  # what the writer has met

    def open(self, before: str) -> Coroutine[int]:
        """COROUTINE. Connects, and writes what is due. Returns how many messages of that had been sent before.

        `before` is the Redis of the session before, as `redis_run` names it. Raises TROUBLE.
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
        for link in self.links.unwritten:
            link.outgoing.start_over()
        count = sum(link.outgoing.sent_before() for link in self.links.unwritten)
        if before not in ("", self.redis_run):
            yield from sleep(SETTLE)
        yield from self.hand_on(connection)
        return count

    def run(self) -> Coroutine[None]:
        """COROUTINE. Follows and writes until something fails; raises TROUBLE."""
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
        """COROUTINE. Asks where these streams end, and tells Redis if it has lost what was read here."""
        while links:
            yield from send(connection.socket, b"".join(self.call(link) for link in links), TIMEOUT)
            for link in links:
                epoch, offset, last, mark, history = yield from connection.answer()
                link.incoming.look((epoch, int(offset)), parse_id(last), parse_id(mark), History(epoch, history))
                link.checked = self.kernel.clock()
                self.links.unseen.pop(link, None)
            links = [link for link in links if link.incoming.claim]

    def call(self, link: Link, *entry: Any) -> bytes:
        """The script, to write an entry or just to look."""
        number, back, messages, text = entry or (0, 0, 0, b"")
        about = self.address.maxlen, self.links.name(), self.redis_run, link.incoming.claim
        return pack("EVALSHA", self.sha, *link.keys, *about, number, back, messages, self.links.node, text)

    # Writing.

    def write(self, connection: Connection) -> Coroutine[None]:
        """COROUTINE. Writes what is accepted, for as long as the connection lasts.

        While one lot is on its way the next one gathers: the busier the chat, the more an entry carries.
        """
        links = self.links
        try:
            while True:
                while not (links.unseen or any(link.outgoing.due() for link in links.unwritten)):
                    try:
                        yield from links.news.wait(SILENCE)
                    except TimedOut:
                        yield from connection.ask("PING")
                if links.unseen:
                    yield from self.look(connection, list(links.unseen))
                    yield from self.wake_follower(connection)
                yield from self.hand_on(connection)
        except TROUBLE as error:
            self.trouble = error
            self.close()

    def wake_follower(self, connection: Connection) -> Coroutine[None]:
        """COROUTINE. If the other connection does not wait for all streams, has it ask again, for all of them."""
        while self.client_id and self.waiting and any(link not in self.waiting for link in self.links.looked()):
            try:
                yield from connection.ask("CLIENT", "UNBLOCK", self.client_id)
            except Refused:  # no right to do that: then it will ask again in a moment
                self.client_id = 0
            yield from sleep(0.01)

    def hand_on(self, connection: Connection) -> Coroutine[None]:
        """COROUTINE. Writes what is due now."""
        lot = [(link, entry) for link in self.links.unwritten if link.looked for entry in link.outgoing.take_due()]
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
