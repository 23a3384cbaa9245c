"""Chat under nicknames: /nick NAME, /who, /me DOES SOMETHING, /quit."""

from __future__ import annotations

from itertools import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from loop.traps import Coroutine

    from ..server.member import Member
    from ..server.room import Room

COMMANDS = "/nick NAME, /who, /me DOES SOMETHING, /quit"
LONGEST = 20  # bytes of a nickname


def nick(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. Everybody has a name of their own; a line that begins with a slash is a command."""
    taken = names(room)
    call(member, next(name for number in count(1) if (name := f"guest{number}") not in taken))
    member.tell(f"Welcome, {name_of(member)}. Commands: {COMMANDS}")
    room.announce(f"* {name_of(member)} is here")
    try:
        while messages := (yield from member.receive()):
            for message in messages:
                if not message.startswith(b"/"):
                    room.publish(member, [message])
                elif message == b"/quit":
                    return
                else:
                    command(member, room, message)
    finally:
        room.announce(f"* {name_of(member)} is gone")


def command(member: Member, room: Room, message: bytes) -> None:
    """Carry out one command but /quit."""
    verb, _, text = message.partition(b" ")
    if verb == b"/who":
        member.tell("* Here: " + ", ".join(sorted(names(room))))
    elif verb == b"/me" and text:
        room.announce(b"* " + name_of(member).encode() + b" " + text)
    elif verb == b"/nick":
        name = text.decode("utf-8", "replace").strip()
        if not name.isprintable() or not 0 < len(name.encode()) <= LONGEST or set(name) & set(" :*/"):
            member.tell(f"* A name has 1 to {LONGEST} bytes, no spaces and none of :*/")
        elif name in names(room):
            member.tell(f"* {name} is taken")
        else:
            room.announce(f"* {name_of(member)} is now {name}")
            call(member, name)
    else:
        member.tell(f"* Commands: {COMMANDS}")


def call(member: Member, name: str) -> None:
    member.prefix = name.encode() + b": "


def name_of(member: Member) -> str:
    """A member's name stands in one place only: in front of what it says."""
    return member.prefix[:-2].decode()


def names(room: Room) -> set[str]:
    return {name_of(member) for member in room.members}
