"""What a user can do: a function for each command, which takes the user and the command's parameters."""

from __future__ import annotations

import re
from time import time

from ...options import VERSION
from ..naming import LONGEST, key, proper
from .network import SERVER, Channel, User, to_bytes
from .queries import lusers, motd, names_

SIGNS = "-_[]\\`^{}|"  # what a nickname may have besides letters and digits
CHANNEL = re.compile(r"#[^\s,\x00-\x1f\x7f-\x9f]{1,49}")  # a channel's name
CHANNELS = 20  # that a user may be in at once
TOPIC = 300  # characters
SUPPORTED = (
    f"CHANTYPES=# CASEMAPPING=ascii PREFIX= CHANMODES=,,,n NICKLEN={LONGEST} CHANNELLEN=50 CHANLIMIT=#:{CHANNELS} "
    f"TOPICLEN={TOPIC} NETWORK={SERVER}"
)


# Names.


def cap(user: User, what: str, *rest: str) -> None:
    if what == "LS":
        user.negotiating = not user.registered
        user.tell(f":{SERVER} CAP {user.nick or '*'} LS :")
    elif what == "REQ":
        user.tell(f":{SERVER} CAP {user.nick or '*'} NAK :{' '.join(rest)}")
    elif what == "END":
        user.negotiating = False
        register(user)


def nick(user: User, text: str, *_: str) -> None:
    users = user.network.users
    try:
        name = proper(text, SIGNS)
    except ValueError:
        user.reply(432, text, f"A name has 1 to {LONGEST} letters of one alphabet, digits or {SIGNS}, a letter first")
        return
    if users.get(key(name), user) is not user:
        user.reply(433, name, "This nickname is in use, or looks like one that is")
        return
    if user.registered and name != user.nick:
        user.announce(user.channels.values(), f"NICK :{name}")
        if not user.channels:
            user.tell(f":{user.mask} NICK :{name}")
        for channel in user.channels.values():
            channel.names = []
    users.pop(key(user.nick), None)
    users[key(name)] = user
    user.nick = name
    user.member.prefix = f":{user.mask} ".encode()
    register(user)


def user_(user: User, name: str, _: str, __: str, real: str, *___: str) -> None:
    if user.registered:
        user.reply(462, "You may not reregister")
        return
    user.name = re.sub(r"[^A-Za-z0-9._-]", "", name)[:10] or "user"
    user.real = real[:100]
    register(user)


def register(user: User) -> None:
    """Welcome the user, if NICK and USER were said and nothing is being negotiated."""
    if user.registered or user.negotiating or not (user.nick and user.name):
        return
    user.registered = True
    user.member.prefix = f":{user.mask} ".encode()
    user.reply(1, f"Welcome to the chat, {user.mask}")
    user.reply(2, f"Your host is {SERVER}, running chatsrv {VERSION}")
    user.reply(3, "It keeps no history")
    user.reply(4, SERVER, f"chatsrv-{VERSION}", "o", "n")
    user.reply(5, SUPPORTED, "are supported by this server")
    lusers(user)
    motd(user)


def quit_(user: User, why: str = "", *_: str) -> None:
    user.farewell = f"Quit: {why}"
    user.tell(f"ERROR :Closing link ({user.farewell})")


def leave(user: User) -> None:
    """Tell the others that the user is gone."""
    if user.network.users.get(key(user.nick)) is user:
        del user.network.users[key(user.nick)]
    channels = list(user.channels.values())
    for channel in channels:
        user.part(channel)
    user.announce(channels, f"QUIT :{user.farewell or 'Connection closed'}")


# Channels.


def join(user: User, names: str, *_: str) -> None:
    if names == "0":
        part(user, ",".join(user.channels))
        return
    for name in filter(None, names.split(",")):
        if not CHANNEL.fullmatch(name):
            user.reply(403, name, "A channel's name is # and 1 to 49 characters, without spaces and commas")
        elif len(user.channels) == CHANNELS:
            user.reply(405, name, f"You are in {CHANNELS} channels already")
        elif name.casefold() not in user.channels:
            channel = user.network.open(name)
            user.join(channel)
            user.announce([channel], f"JOIN {channel.name}")
            if channel.topic:
                topic(user, channel.name)
            names_(user, channel.name)


def part(user: User, names: str, why: str = "", *_: str) -> None:
    for name in filter(None, names.split(",")):
        if channel := channel_of(user, name):
            user.announce([channel], f"PART {channel.name} :{why}")
            user.part(channel)


def channel_of(user: User, name: str) -> Channel | None:
    """The channel of that name if the user is in it. If not, tell the user so, and return None."""
    channel = user.network.channel(name)
    if not channel:
        user.reply(403, name, "No such channel")
    elif user not in channel.users:
        user.reply(442, channel.name, "You are not in that channel")
    else:
        return channel
    return None


def topic(user: User, name: str, text: str | None = None, *_: str) -> None:
    if not (channel := channel_of(user, name)):
        return
    if text is not None:
        channel.topic, channel.topic_set = text[:TOPIC], f"{user.nick} {int(time())}"
        user.announce([channel], f"TOPIC {channel.name} :{channel.topic}")
    elif channel.topic:
        user.reply(332, channel.name, channel.topic)
        user.tell(f":{SERVER} 333 {user.nick} {channel.name} {channel.topic_set}")
    else:
        user.reply(331, channel.name, "No topic is set")


# What one says.


def privmsg(user: User, *words: str) -> None:
    speak(user, "PRIVMSG", *words)


def notice(user: User, *words: str) -> None:
    speak(user, "NOTICE", *words)


def speak(user: User, verb: str, targets: str = "", text: str = "", *_: str) -> None:
    if not targets:
        user.reply(411, f"No recipient given ({verb})")
    elif not text:
        user.reply(412, "No text to send")
    for target in filter(None, targets.split(",")[:4] if text else ()):
        channel = user.network.channel(target)
        other = user.network.user(target)
        if channel and user in channel.users:
            channel.publish(user, f"{verb} {channel.name} :{text}")
        elif other:
            other.member.tell(to_bytes(f":{user.mask} {verb} {other.nick} :{text}"))
            user.caused += 1
        elif target.startswith("#"):
            user.reply(404, target, "You are not in that channel")
        else:
            user.reply(401, target, "No such nick or channel")


def nothing(user: User, *_: str) -> None:
    """PASS and PONG need no answer."""
