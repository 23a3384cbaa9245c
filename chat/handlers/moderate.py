"""Chat under nicknames, with moderators: /kick, /ban, /unban, /mute, /unmute.

A member that says /moderate PASSWORD becomes a moderator. The password is in the environment, in CHATSRV_MODERATOR, or
in a file whose path is in CHATSRV_MODERATOR_FILE. Bans and mutes are for addresses, because names are easily changed.
With IPv6, bans and mutes are for networks, because addresses are easily changed, too.
"""

from __future__ import annotations

from hmac import compare_digest

from loop import sleep

from ..server.admission import network
from . import nick
from .naming import key
from .secret import secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from loop.traps import Coroutine

    class Member(nick.Member):
        moderator: bool
        wrong: int  # how many wrong passwords it has said

    class Room(nick.Room):
        banned: set[str]
        muted: set[str]


PASSWORD = secret("CHATSRV_MODERATOR")
TRIES = 3
COMMANDS = "/kick NAME [WHY], /ban NAME [WHY], /unban ADDRESS, /mute NAME, /unmute NAME"


def moderate(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. The chat of `nick`, with the commands of moderators."""
    if not hasattr(room, "banned"):
        room.banned, room.muted = set(), set()
    if network(member.host) in room.banned:
        member.kick("you are banned")
        return
    member.moderator, member.wrong = False, 0
    nick.arrive(member, room)
    member.tell(f"Welcome, {member.nick}. Commands: {nick.COMMANDS}")
    room.announce(f"* {member.nick} is here")
    try:
        while messages := (yield from member.receive()):
            for is_command, message in nick.lines(member, messages):
                if is_command and message == b"/quit":
                    return
                elif is_command and message.startswith(b"/moderate "):
                    promote(member, message)
                    yield from sleep(0)  # raises Cancelled after a kick: `messages` may have a thousand more guesses
                elif is_command and member.moderator and order(member, room, message.decode("utf-8", "replace")):
                    yield from sleep(0)
                elif network(member.host) in room.muted:
                    member.tell("* You are muted")
                elif not is_command:
                    room.publish(member, message)
                elif not (yield from nick.command(member, room, message)):
                    member.tell(f"* Commands: {nick.COMMANDS}{', ' + COMMANDS if member.moderator else ''}")
    finally:
        nick.free_name(member, room)
        room.announce(f"* {member.nick} is gone")


def promote(member: Member, message: bytes) -> None:
    """What /moderate does."""
    _, _, password = message.partition(b" ")
    if compare_digest(password, PASSWORD):
        member.moderator = True
        member.tell(f"* You are a moderator. Commands: {COMMANDS}")
    else:
        member.wrong += 1
        member.tell("* That is not the password")
        if member.wrong == TRIES:
            member.kick(f"{TRIES} wrong passwords")


def order(member: Member, room: Room, message: str) -> bool:
    """Do what a moderator orders; returns False if the message is no order."""
    verb, _, rest = message.partition(" ")
    name, _, why = rest.partition(" ")
    if verb == "/unban":
        room.banned.discard(network(name))
        member.tell(f"* Banned: {', '.join(sorted(room.banned)) or 'nobody'}")
        return True
    if verb not in ("/kick", "/ban", "/mute", "/unmute"):
        return False
    other = room.names.get(key(name))
    why = f": {why[:200]}" if why else ""
    if not other:
        member.tell("* Nobody here has that name")
    elif network(other.host) == network(member.host) and verb != "/kick":
        member.tell(f"* {other.nick} has the same address as you")
    elif verb == "/kick":
        room.announce(f"* {member.nick} sends {other.nick} away{why}")
        other.kick(f"kicked by {member.nick}{why}")
    elif verb == "/ban":
        room.banned.add(network(other.host))
        room.announce(f"* {member.nick} bans {other.nick}{why}")
        member.tell(f"* /unban {network(other.host)} takes that back")
        for one in room.members:
            if network(one.host) == network(other.host):
                one.kick(f"banned by {member.nick}{why}")
    elif verb == "/mute":
        room.muted.add(network(other.host))
        room.announce(f"* {member.nick} mutes {other.nick}")
    else:
        room.muted.discard(network(other.host))
        room.announce(f"* {member.nick} lets {other.nick} speak again")
    return True
