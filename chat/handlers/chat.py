"""The default handler: a chat."""

from __future__ import annotations

from loop import Coroutine

from ..server.member import Member
from ..server.room import Room

GREETING = b"Welcome to the chat: each line you send goes to everybody here."


def chat(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. Publishes each line that the member says."""
    member.tell(GREETING)
    while messages := (yield from member.receive()):
        room.publish(member, messages)
