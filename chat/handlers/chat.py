"""The assignment's chat."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from loop.traps import Coroutine

    from ..server.member import Member
    from ..server.room import Room

GREETING = "Welcome to the chat: each line you send goes to everybody here."


def chat(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. What one says, all hear."""
    member.tell(GREETING)
    while messages := (yield from member.receive()):
        room.publish(member, messages)
