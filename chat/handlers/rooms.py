"""Rooms, under nicknames: /join ROOM, /leave, /rooms, and all that `nick` has.

The members of a room hear each other. All begin in the lobby. Any other room exists as long as a member is in it.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

from loop import sleep

from . import nick
from .naming import proper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from loop.traps import Coroutine

    Member = nick.Member

    class Room(nick.Room):
        sizes: dict[str, int]  # how many members are in each room; only the lobby has this


COMMANDS = f"/join ROOM, /leave, /rooms, {nick.COMMANDS}"


def rooms(member: Member, lobby: Room) -> Coroutine[None]:
    """COROUTINE. The lobby knows everybody's name. `member.room` is the room where the member is now."""
    if not hasattr(lobby, "sizes"):
        lobby.sizes = {}
    nick.arrive(member, lobby)
    member.tell(f"Welcome, {member.nick}. Commands: {COMMANDS}")
    go_in(member, lobby, lobby)
    try:
        while messages := (yield from member.receive()):
            for is_command, group in groupby(nick.lines(member, messages), itemgetter(0)):
                lines = [line for _, line in group]
                if not is_command:
                    member.room.publish(member, lines)  # all in one call, which is faster than one by one
                    continue
                for line in lines:
                    if line == b"/quit":
                        return
                    if not (yield from command(member, lobby, line)):
                        member.tell(f"* Commands: {COMMANDS}")
    finally:
        nick.free_name(member, lobby)
        go_out(member, lobby)


def command(member: Member, lobby: Room, message: bytes) -> Coroutine[bool]:
    """COROUTINE. Carries out a command of this handler or of `nick`; returns False if it is none."""
    verb, _, text = message.partition(b" ")
    if verb == b"/join":
        try:
            move(member, lobby, lobby.other(proper(text.decode("utf-8", "replace").strip()).casefold()))
        except ValueError as error:
            member.tell(f"* {error}")
    elif message == b"/leave":
        move(member, lobby, lobby)
    elif message == b"/rooms":
        member.tell("* Rooms: " + ", ".join(f"{name} ({size})" for name, size in lobby.sizes.items()))
    else:
        return (yield from nick.command(member, lobby, message))
    yield from sleep(0)
    return True


def move(member: Member, lobby: Room, room: Any) -> None:
    """Leave one room for another."""
    if room is member.room:
        member.tell(f"* You are in {room.name} already")
    else:
        go_out(member, lobby)
        go_in(member, lobby, room)


def go_in(member: Member, lobby: Room, room: Any) -> None:
    member.enter(room)
    lobby.sizes[room.name] = lobby.sizes.get(room.name, 0) + 1
    room.who = ""
    room.announce(f"* {member.nick} is here, in {room.name}")


def go_out(member: Member, lobby: Room) -> None:
    room = member.room
    lobby.sizes[room.name] -= 1
    if not lobby.sizes[room.name]:
        del lobby.sizes[room.name]
    member.enter(None)  # so that the member does not get the announcement that it has left
    room.who = ""
    room.announce(f"* {member.nick} has left {room.name}")
