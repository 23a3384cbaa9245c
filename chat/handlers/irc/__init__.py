"""IRC: people come with the client they like, and each channel is a room.

    ./chatsrv --handler chat.handlers.irc:irc --port 6667

This is what clients need of RFC 1459 and RFC 2812. There are no operators: every user in a channel may set its topic.

`network.py` has users and channels, and how they are told something. `commands.py` and `queries.py` have a function for
each command that a user can send.
"""

from __future__ import annotations

import re
from time import monotonic

from loop import TimedOut, sleep

from ...framing import Rest
from . import commands, queries
from .network import Network, User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from loop.traps import Coroutine

    from ...server import room
    from ...server.member import Member

    class Room(room.Room):
        network: Network


PATIENCE = 60.0  # seconds for a new connection to say NICK and USER
BREATH = 64  # lines that a user may cause to be sent before the others have their turn
# For each command: what carries it out, how many parameters it needs, whether it may come before NICK and USER.
COMMANDS: dict[str, tuple[Callable[..., None], int, bool]] = {
    "CAP": (commands.cap, 1, True),
    "PASS": (commands.nothing, 0, True),
    "NICK": (commands.nick, 1, True),
    "USER": (commands.user_, 4, True),
    "PING": (queries.ping, 1, True),
    "PONG": (commands.nothing, 0, True),
    "QUIT": (commands.quit_, 0, True),
    "JOIN": (commands.join, 1, False),
    "PART": (commands.part, 1, False),
    "TOPIC": (commands.topic, 1, False),
    "NAMES": (queries.names_, 0, False),
    "LIST": (queries.list_, 0, False),
    "MODE": (queries.mode, 1, False),
    "PRIVMSG": (commands.privmsg, 0, False),
    "NOTICE": (commands.notice, 0, False),
    "WHO": (queries.who, 0, False),
    "WHOIS": (queries.whois, 1, False),
    "USERHOST": (queries.userhost, 1, False),
    "ISON": (queries.ison, 1, False),
    "LUSERS": (queries.lusers, 0, False),
    "MOTD": (queries.motd, 0, False),
}


def irc(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. One connection, from its first line to its last."""
    if not hasattr(room, "network"):
        room.network = Network(room)
    member.enter(None)
    user = User(member, room.network)
    end = monotonic() + PATIENCE
    told_too_long = False  # whether the user was told that the latest line is too long
    try:
        while messages := (yield from member.receive(None if user.registered else end - monotonic())):
            for message in messages:
                if not isinstance(message, Rest):
                    told_too_long = False
                    obey(user, message.decode("utf-8", "surrogateescape"))
                elif not told_too_long:  # the first part was obeyed, the others are ignored
                    told_too_long = True
                    user.reply(417, "Input line was too long")
                if user.farewell:
                    return
                if user.caused > BREATH:
                    user.caused = 0
                    yield from sleep(0)
    except TimedOut:
        user.tell(f"ERROR :No NICK and USER in {PATIENCE:g} seconds")
    finally:
        commands.leave(user)


def obey(user: User, line: str) -> None:
    """Carry out one line."""
    verb, words = parse(line)
    command, needed, before_registration = COMMANDS.get(verb, (None, 0, False))
    if not verb:
        pass
    elif not (user.registered or before_registration):
        user.reply(451, "You have not registered")
    elif not command:
        user.reply(421, verb, "Unknown command")
    elif len(words) < needed:
        user.reply(461, verb, "Not enough parameters")
    else:
        command(user, *words)


def parse(line: str) -> tuple[str, list[str]]:
    """The command in a line, and its parameters. A `:NAME ` before the command is skipped. \\r or \\0 ends the line."""
    line = re.split("[\r\0]", line)[0].lstrip()
    if line.startswith(":"):
        line = line.partition(" ")[2]
    line, colon, last = line.partition(" :")
    words = [*filter(None, line.split(" ")), *([last] if colon else [])]
    return (words[0].upper(), words[1:]) if words else ("", [])
