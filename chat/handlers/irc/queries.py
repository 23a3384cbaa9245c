"""What a user can ask: a function for each command, which takes the user and the command's parameters."""

from __future__ import annotations

from ..naming import key
from .network import SERVER, User


def names_(user: User, names: str = "*", *_: str) -> None:
    for name in names.split(",")[:4]:
        channel = user.network.channel(name)
        for line in channel.list_names() if channel else ():
            user.reply(353, "=", channel.name if channel else name, line)
        user.reply(366, channel.name if channel else name, "End of /NAMES list")


def list_(user: User, *_: str) -> None:
    user.reply(321, "Channel", "Users  Topic")
    for channel in user.network.channels.values():
        user.reply(322, channel.name, str(len(channel.users)), channel.topic)
    user.reply(323, "End of /LIST")


def mode(user: User, name: str, modes: str = "", *_: str) -> None:
    channel = user.network.channel(name)
    if channel and not modes:
        user.reply(324, channel.name, "+n")
        user.reply(329, channel.name, str(channel.began))
    elif channel and modes.strip("+-") == "b":
        user.reply(368, channel.name, "End of channel ban list")
    elif channel:
        user.reply(482, channel.name, "There are no channel operators here")
    elif key(name) == key(user.nick):
        user.reply(221, "+")
    else:
        user.reply(401, name, "No such nick or channel")


def who(user: User, name: str = "*", *_: str) -> None:
    channel, other = user.network.channel(name), user.network.user(name)
    for one in channel.users if channel else [other] if other else []:
        where = channel.name if channel else "*"
        user.reply(352, where, one.name, one.host, SERVER, one.nick, "H", f"0 {one.real}")
    user.reply(315, name, "End of /WHO list")


def whois(user: User, *words: str) -> None:
    other = user.network.user(words[-1])
    if other:
        user.reply(311, other.nick, other.name, other.host, "*", other.real)
        if other.channels:
            user.reply(319, other.nick, " ".join(channel.name for channel in other.channels.values()))
        user.reply(312, other.nick, SERVER, "chatsrv")
    else:
        user.reply(401, words[-1], "No such nick or channel")
    user.reply(318, words[-1], "End of /WHOIS list")


def userhost(user: User, *names: str) -> None:
    others = filter(None, map(user.network.user, names[:5]))
    user.reply(302, " ".join(f"{other.nick}=+{other.name}@{other.host}" for other in others))


def ison(user: User, *names: str) -> None:
    others = filter(None, map(user.network.user, " ".join(names).split()))
    user.reply(303, " ".join(other.nick for other in others))


def lusers(user: User, *_: str) -> None:
    user.reply(251, f"There are {len(user.network.users)} users and 0 services on 1 server")


def motd(user: User, *_: str) -> None:
    user.reply(422, "There is no message of the day")


def ping(user: User, token: str, *_: str) -> None:
    user.tell(f":{SERVER} PONG {SERVER} :{token}")
