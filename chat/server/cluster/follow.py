"""Reads the streams, and appends to the feeds what comes: in each turn, no more than members can be sent."""

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


COUNT = 16, 256  # entries that one command asks for: at first, and at most. adapted() chooses between them
BATCH = 1 << 20  # bytes that one command should bring
STREAMS = 16  # the most streams that one command reads while we are behind in some; the others have to wait
SILENCE = 5.0  # seconds for which one command waits for news; then Redis is asked whether anything is missing
IMPATIENCE = 0.5  # the same, if Redis does not let us end the wait early (CLIENT UNBLOCK) for a new stream
PAUSE = 0.05  # seconds between two looks at whether members are still too far behind


def follow(session: Session, connection: Connection) -> Coroutine[None]:
    """COROUTINE. Reads all streams, and appends to their feeds what comes. Ends only by raising one of TROUBLE."""
    most = COUNT[0]
    clock = session.kernel.clock
    while True:
        links = session.links.looked()
        behind = [link for link in links if link.incoming.behind][:STREAMS]
        chosen = behind or links
        count = max(1, most // len(behind or "1"))
        block: tuple[Any, ...] = ()
        if not behind:
            session.waiting = set(links)
            wait = SILENCE if session.client_id or len(links) == 1 else IMPATIENCE
            block = "BLOCK", int(wait * 1000)
        names = [link.stream for link in chosen]
        cursors = ["{}-{}".format(*link.incoming.cursor or (0, 0)) for link in chosen]
        command = "XREAD", "COUNT", count, *block, "STREAMS", *names, *cursors
        answer = yield from connection.ask(*command, timeout=SILENCE + TIMEOUT)
        session.waiting = set()
        got = {name.decode(): entries for name, entries in answer or ()}
        for link in chosen:
            if not session.links.follows(link):
                continue  # all members have left its room while we waited
            if link.stream in got:
                yield from append(session, connection, link, got[link.stream])
            elif behind:
                link.skip_to_end()
        session.links.settle()
        old = clock() - 0.9 * SILENCE
        yield from session.look(connection, [link for link in session.links.looked() if link.checked < old])
        most = adapted(most, count, got)


def append(session: Session, connection: Connection, link: Link, entries: list[Any]) -> Coroutine[None]:
    """COROUTINE. Appends these entries to the link's feed. Pauses when there is enough to send in one turn."""
    hub = session.links.hub
    for id, fields in entries:
        position = link.incoming.position
        try:
            link.take(id, fields)
        except Astray:
            yield from session.look(connection, [link])
            link.incoming.asked = True
            return  # read on from the cursor: it is before this entry or, after look(), even before the mark
        if link.incoming.position != position:
            link.checked = session.kernel.clock()
        if hub.pace.published >= hub.pace.budget:
            yield from sleep(0)  # let it be sent
            while hub.pace.overrun:  # a member that takes what it is sent must not be kicked because we catch up
                yield from sleep(PAUSE)
            if not session.links.follows(link):
                return  # all members have left the room meanwhile; if some have come since, the room has a new link


def adapted(most: int, count: int, got: dict[str, list[Any]]) -> int:
    """How many entries to ask for next, so that about BATCH bytes come.

    `got` is the last answer: `most` entries were asked for in all, `count` of each stream.
    """
    size = sum(len(field) for entries in got.values() for _, fields in entries for field in fields)
    if size > BATCH:
        return max(1, most // 2)
    if size < BATCH // 2 and any(len(entries) == count for entries in got.values()):
        return min(2 * most, COUNT[1])
    return most
