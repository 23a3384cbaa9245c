"""More than one machine: one ordered feed on a Redis stream.

Each server is a node. It writes what its members say to the stream. It reads the stream, its own messages included, and
appends only what it reads to its feed. So all nodes append the same messages in the same order, and a message that has
come back is known to have arrived. Each room has a stream of its own.

An entry of the stream carries all messages that a node had to write at that moment. A node numbers its entries, and the
script that writes them refuses a number that was used before. So after a cut, a node simply writes again what has not
come back. script.py says how a node knows that something is missing.
"""

from __future__ import annotations

import os

from loop import TimedOut, sleep

from .links import Links
from .session import Session
from .wire import TROUBLE, describe, dial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from loop import Kernel
    from loop.traps import Coroutine

    from ..room import Hub, Room
    from .address import Address
    from .session import Dial

PAUSES = 0.1, 5.0  # seconds between two attempts to connect: at first, and at most
SHOWN = 20  # streams that explain() tells of


class Cluster:
    """This node. run() does its work; join() calls open() before, to see whether Redis can be used."""

    def __init__(self, kernel: Kernel, hub: Hub, address: Address, dial: Dial = dial) -> None:
        self.kernel = kernel
        self.address = address
        self.dial = dial
        self.node = os.urandom(16).hex()
        self.links = Links(hub, address.stream, self.node)
        self.session: Session | None = None
        self.redis_run = ""  # which process Redis was in the last session
        self.since = kernel.clock()  # when the session began; without one, when the last one ended
        self.reason = ""  # why the last attempt or session failed; "" while connected
        self.given_up = False  # whether finish() has waited long enough
        self.sessions = 0  # how many there were, for explain()
        self.sent_again = 0  # messages, for explain()

    # For rooms and members.

    def publish(self, room: Room, text: bytes, member: Any, but: Collection[Any]) -> None:
        """Accept whole messages. They will come back into the feed of this room on each node, this one included.

        `member` has said them; None: the room itself. The members of this node in `but` do not hear them.
        """
        self.links.publish(room, text, member, but)

    def tell(self, member: Any, line: bytes) -> bool:
        """Keep a line for this member alone until the member's messages and its room's announcements have come back.

        Returns False if there is nothing to wait for: then the caller tells the line at once.
        """
        return bool(self.links.unsettled) and self.links.tell(member, line)

    def enter(self, room: Room, member: Any) -> None:
        """The member hears this room from now on."""
        self.links.enter(room, member)

    def leave(self, room: Room, member: Any) -> None:
        """The member does not hear this room any more."""
        self.links.leave(room, member)

    # For the server.

    def wait_for_return(self, timeout: float) -> Coroutine[None]:
        """COROUTINE. Returns when all that is accepted now has come back; at the latest after `timeout` seconds."""
        marks = [(link.outgoing, link.outgoing.accepted) for link in self.links.unsettled]
        end = self.kernel.clock() + timeout
        try:
            while not self.given_up and any(outgoing.settled < mark for outgoing, mark in marks):
                yield from self.links.progress.wait(end - self.kernel.clock())
        except TimedOut:
            pass

    def finish(self, timeout: float) -> Coroutine[None]:
        """COROUTINE. The last wait_for_return(): no member is read from any more. When it returns, so do all others."""
        self.links.bound = -1
        self.links.hold()
        yield from self.wait_for_return(timeout)
        self.given_up = bool(self.links.unsettled)
        self.links.progress.wake_all()

    def count_unsettled(self) -> int:
        """Returns how many messages have not come back, and tells the journal. Called when the server ends."""
        count = sum(entry.messages for link in self.links.unsettled for entry in link.outgoing.entries)
        if count:
            self.links.say(f"{count} messages have not come back from Redis and may be lost")
        return count

    def explain(self) -> list[str]:
        """Its state, in some lines."""
        if self.session:
            state = f"connected for {self.kernel.clock() - self.since:.0f} s, last write took {self.session.took:.4f} s"
        else:
            state = f"away for {self.kernel.clock() - self.since:.0f} s: {self.reason}"
        lines = [f"node {self.node[:8]} at {self.address}: {state}; {self.sessions} sessions so far, "
                 f"{self.sent_again} messages sent again, {self.links.size} bytes have not come back"]  # fmt: skip
        links = self.links.all()
        lines += [link.explain() for link in links[:SHOWN]]
        lines += [f"and {len(links) - SHOWN} more streams"] if len(links) > SHOWN else []
        others = {name for link in links for name in link.incoming.heard} - {self.node.encode()}
        names = " ".join(sorted(name.decode("ascii", "replace")[:8] for name in others)) or "none"
        return [f"cluster: {line}" for line in [*lines, f"other nodes that have spoken: {names}"]]

    # The way to Redis.

    def run(self) -> Coroutine[None]:
        """COROUTINE. Has one session after the other, until cancelled."""
        pause = PAUSES[0]
        told = False  # whether members know that Redis is away
        while True:
            began = self.kernel.clock()
            try:
                if not self.session:
                    count = yield from self.open()
                    again = f"connected again; {count} messages sent again"
                    self.links.say(again if self.sessions > 1 else "connected")
                    if told:
                        self.links.inform("* The other servers are back.")
                    self.reason, told = "", False
                assert self.session
                yield from self.session.run()
            except TROUBLE as error:
                before, self.reason = self.reason, describe(error)
                if self.reason != before:
                    self.links.say(f"lost {self.address}: {self.reason}; trying again")
                if before and not told:  # only at the second failure: a cut that is mended at once is not worth telling
                    self.links.inform(
                        "* The other servers are out of reach. What you say will appear when they are back."
                    )
                    told = True
            finally:
                self.close()
            lasted = self.kernel.clock() - began
            pause = PAUSES[0] if lasted > pause else min(2 * pause, PAUSES[1])
            yield from sleep(pause)

    def open(self) -> Coroutine[int]:
        """COROUTINE. Begins a session. Returns how many messages were sent again; raises TROUBLE."""
        session = Session(self.kernel, self.address, self.links, self.dial)
        try:
            count = yield from session.open(self.redis_run)
        except BaseException:
            session.close()
            raise
        finally:
            self.redis_run = session.redis_run or self.redis_run
        self.session = session
        self.since = self.kernel.clock()
        self.sessions += 1
        self.sent_again += count
        return count

    def close(self) -> None:
        """End the session, if there is one."""
        if self.session:
            self.session.close()
            self.session = None
            self.since = self.kernel.clock()
