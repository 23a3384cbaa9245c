"""The smallest handler: everybody talks to themselves."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from loop.traps import Coroutine

    from ..server.member import Member
    from ..server.room import Room


def echo(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. What one says, one hears."""
    member.tell("Welcome to the echo: nobody else hears you.")
    while messages := (yield from member.receive()):
        for message in messages:
            member.tell(message)
