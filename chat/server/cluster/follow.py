"""From the streams to the feeds, a turn's worth at a time."""

from __future__ import annotations

from loop import sleep

from .incoming import Astray
from .wire import TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from loop import Kernel
    from loop.traps import Coroutine

    from .link import Link
    from .links import Links
    from .wire import Connection

    class Session(Protocol):
        kernel: Kernel
        links: Links
        client_id: int
        waiting: set[Link]

        def look(self, connection: Connection, links: list[Link]) -> Coroutine[None]: ...


COUNT = 16, 256  # entries read at once: at first; and at most, while they are small
BATCH = 1 << 20  # bytes of entries that should be read at once
STREAMS = 16  # from which that is read, if there is much to be read
SILENCE = 5.0  # seconds without news after which Redis is asked whether there is really nothing
IMPATIENCE = 0.5  # seconds to wait for news, if the wait cannot be ended when there is another stream to follow
PAUSE = 0.05  # seconds in which members that are far behind can take something


def follow(session: Session, connection: Connection) -> Coroutine[None]:
    """COROUTINE. Appends what comes to the feeds. Ends by raising one of TROUBLE."""
    most = COUNT[0]
    clock = session.kernel.clock
    while True:
        links = session.links.looked()
        behind = [link for link in links if link.incoming.behind][:STREAMS]
        asked = behind or links
        count = max(1, most // len(behind or "1"))
        block: tuple[Any, ...] = ()
        if not behind:
            session.waiting = set(links)
            wait = SILENCE if session.client_id or len(links) == 1 else IMPATIENCE
            block = "BLOCK", int(wait * 1000)
        names = [link.stream for link in asked]
        cursors = ["{}-{}".format(*link.incoming.cursor or (0, 0)) for link in asked]
        command = "XREAD", "COUNT", count, *block, "STREAMS", *names, *cursors
        answer = yield from connection.ask(*command, timeout=SILENCE + TIMEOUT)
        session.waiting = set()
        got = {name.decode(): entries for name, entries in answer or ()}
        for link in asked:
            if not session.links.follows(link):
                continue  # no member is in this room any more
            if link.stream in got:
                yield from append(session, connection, link, got[link.stream])
            elif behind:
                link.take_nothing()
        session.links.settle()
        old = clock() - 0.9 * SILENCE
        yield from session.look(connection, [link for link in session.links.looked() if link.checked < old])
        most = adapted(most, count, got)


def append(session: Session, connection: Connection, link: Link, entries: list[Any]) -> Coroutine[None]:
    """COROUTINE. Appends these entries to the link's feed, a turn's worth at a time."""
    hub = session.links.hub
    for id, fields in entries:
        position = link.incoming.position
        try:
            link.take(id, fields)
        except Astray:
            yield from session.look(connection, [link])
            link.incoming.sure = True
            return  # this entry is asked for again, or those before it
        if link.incoming.position != position:
            link.checked = session.kernel.clock()
        if hub.pace.gathered >= hub.pace.budget:
            yield from sleep(0)  # let it be sent
            while hub.pace.overrun:  # while catching up, no member that reads is kicked
                yield from sleep(PAUSE)
            if not session.links.follows(link):
                return  # a member that has come back since is to hear what comes from now on


def adapted(most: int, count: int, got: dict[str, list[Any]]) -> int:
    """How many entries to ask for next, to get about BATCH bytes. This time it was `count` of each stream."""
    size = sum(len(field) for entries in got.values() for _, fields in entries for field in fields)
    if size > BATCH:
        return max(1, most // 2)
    if size < BATCH // 2 and any(len(entries) == count for entries in got.values()):
        return min(2 * most, COUNT[1])
    return most
