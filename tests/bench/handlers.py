"""What the server does in those workloads that are no chat of all with all."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chat.server.member import Member
    from chat.server.room import Room
    from loop.traps import Coroutine

GREETING = "Welcome to the benchmark."


def rooms(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. The first line names a room; there, what one says, all hear."""
    messages = yield from member.receive()
    if not messages:
        return
    here = room.other(messages.pop(0).decode())
    member.enter(here)
    member.tell(GREETING)
    while messages := messages or (yield from member.receive()):
        here.publish(member, messages)
        messages = []


def tell(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. What one says, each is told alone."""
    member.tell(GREETING)
    while messages := (yield from member.receive()):
        for message in messages:
            line = member.prefix + message
            for other in room.members:
                other.tell(line)
