"""A chat with a password: a member has three tries and 15 seconds to say it, and hears nothing until then.

The password is in the environment, in CHATSRV_PASSWORD, or in a file whose path is in CHATSRV_PASSWORD_FILE.
"""

from __future__ import annotations

from hmac import compare_digest
from time import monotonic

from loop import Coroutine, TimedOut, sleep

from ..server.member import Member
from ..server.room import Room
from .secret import secret

PASSWORD = secret("CHATSRV_PASSWORD")
TRIES = 3
PATIENCE = 15.0  # seconds for all tries together
PAUSE = 1.0  # seconds after a wrong try, so that guesses take long


def login(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. Lets a member that knows the password into the chat."""
    member.enter(None)
    member.tell("Welcome. What is the password?")
    rest = yield from ask(member)
    if rest is None:
        return
    member.enter(room)
    member.tell("You are in: each line you send goes to everybody here.")
    room.publish(member, rest)
    while messages := (yield from member.receive()):
        room.publish(member, messages)


def ask(member: Member) -> Coroutine[list[bytes] | None]:
    """COROUTINE. Asks for the password. Returns the messages that came after the password; None: it did not come."""
    tries = 0
    end = monotonic() + PATIENCE
    try:
        while messages := (yield from member.receive(end - monotonic())):
            for number, message in enumerate(messages, 1):
                if compare_digest(message, PASSWORD):
                    return messages[number:]
                tries += 1
                if tries == TRIES:
                    member.kick(f"that was wrong {TRIES} times")
                    return None
                yield from sleep(PAUSE)
                member.tell("That was wrong. What is the password?")
    except TimedOut:
        member.kick(f"no password in {PATIENCE:g} s")
    return None
