"""The smallest handler: each member hears only itself."""

from __future__ import annotations

from loop import Coroutine

from ..server.member import Member
from ..server.room import Room


def echo(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. Sends each line back to the member that said it."""
    member.tell("Welcome to the echo: nobody else hears you.")
    while messages := (yield from member.receive()):
        for message in messages:
            member.tell(message)
