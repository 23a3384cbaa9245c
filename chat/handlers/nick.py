"""Chat under nicknames: /nick NAME, /who, /me DOES SOMETHING, /msg NAME TEXT, /quit.

A line's beginning shows its kind: `ann: ` is said, `ann ` is done (/me), `(ann to you) ` is private, and `* ` is the
server's. No name has a space, a colon, a bracket or a star in it, so no member can write a line of another kind.
"""

from __future__ import annotations

from loop import sleep

from ..framing import LIMIT, Rest
from .naming import key, proper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from loop.traps import Coroutine

    from ..server import member, room

    class Member(member.Member):
        nick: str  # its name
        commanding: bool  # whether the line that came last is a command; more parts of it may come
        whole: bool  # whether no part of that line was left out
        room: Any

    class Room(room.Room):
        names: dict[str, Member]  # everybody, by the key of the name: names that look alike have the same key
        guests: int  # the number of the last guest
        who: str  # what /who answers; "" if it has to be put together again


COMMANDS = "/nick NAME, /who, /me DOES SOMETHING, /msg NAME TEXT, /quit"
TOO_LONG = b""  # stands for the rest of a command that is too long; a command itself is never empty
LONGEST = 900  # bytes of what follows /me: together with the name it has to be one message


def nick(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. Everybody has a name of their own; a line that begins with a slash is a command."""
    arrive(member, room)
    member.tell(f"Welcome, {member.nick}. Commands: {COMMANDS}")
    room.announce(f"* {member.nick} is here")
    try:
        while messages := (yield from member.receive()):
            for is_command, message in lines(member, messages):
                if not is_command:
                    room.publish(member, message)
                elif message == b"/quit":
                    return
                elif not (yield from command(member, room, message)):
                    member.tell(f"* Commands: {COMMANDS}")
    finally:
        free_name(member, room)
        room.announce(f"* {member.nick} is gone")


def lines(member: Member, messages: list[bytes]) -> list[tuple[bool, bytes]]:
    """Pair each message with whether it is a command.

    A command that is too long comes in parts. TOO_LONG replaces all parts after the first. If those were messages like
    others, everybody would hear the second part of a private message.
    """
    kept = []
    for message in messages:
        if not isinstance(message, Rest):
            member.commanding, member.whole = message.startswith(b"/"), True
            kept.append((member.commanding, message))
        elif not member.commanding:
            kept.append((False, message))
        elif member.whole:
            kept.append((True, TOO_LONG))
            member.whole = False
    return kept


def command(member: Member, room: Room, message: bytes) -> Coroutine[bool]:
    """COROUTINE. Carries out a command other than /quit; returns False if it is none of ours."""
    verb, _, text = message.partition(b" ")
    if message == TOO_LONG:
        member.tell(f"* A command has at most {LIMIT} bytes: the rest was left out")
    elif verb == b"/who":
        member.tell(who(member.room))
    elif verb == b"/nick":
        rename(member, room, text.decode("utf-8", "replace").strip())
    elif verb == b"/me" and 0 < len(text) <= LONGEST:
        member.room.announce(f"{member.nick} ".encode() + text)
    elif verb == b"/msg" and b" " in text:
        name, _, text = text.partition(b" ")
        whisper(member, room, name.decode("utf-8", "replace"), text)
    else:
        return False
    yield from sleep(0)  # so that the answers go out, and other tasks run, before the member's next command
    return True


def arrive(member: Member, room: Room) -> None:
    """Give a new member a name: guest1, guest2, ..."""
    if not hasattr(room, "names"):
        room.names, room.guests = {}, 0
    room.guests += 1
    while key(name := f"guest{room.guests}") in room.names:
        room.guests += 1
    give_name(member, room, name)


def free_name(member: Member, room: Room) -> None:
    """Let others have the member's name."""
    del room.names[key(member.nick)]
    member.room.who = ""


def give_name(member: Member, room: Room, name: str) -> None:
    room.names[key(name)] = member
    member.room.who = ""
    member.nick = name
    member.prefix = f"{name}: ".encode()


def rename(member: Member, room: Room, text: str) -> None:
    """What /nick does."""
    try:
        name = proper(text)
    except ValueError as error:
        member.tell(f"* {error}")
        return
    owner = room.names.get(key(name), member)
    if owner is not member:
        member.tell(f"* {name} is taken" if name == owner.nick else f"* {name} looks like {owner.nick}, who is here")
        return
    member.room.announce(f"* {member.nick} is now {name}")
    del room.names[key(member.nick)]
    give_name(member, room, name)


def whisper(member: Member, room: Room, name: str, text: bytes) -> None:
    """What /msg does."""
    other = room.names.get(key(name))
    if other:
        other.tell(f"({member.nick} to you) ".encode() + text)
        member.tell(f"(you to {other.nick}) ".encode() + text)
    else:
        member.tell("* Nobody here has that name")


def who(room: Room) -> str:
    """What /who answers. It is kept in `room.who` until somebody comes, goes, or changes names."""
    if not room.who:
        room.who = "* Here: " + ", ".join(sorted(member.nick for member in room.members))
    return room.who
