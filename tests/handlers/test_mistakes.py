"""Handlers with mistakes: only their own member pays, and words say what is wrong.

One server meets all the mistakes. In its handler each has a number, which a client says to have it made.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from chatting import PREFIX, Chatsrv, Start, handler

MISTAKES = {
    "member.enter('red')": "enter() takes a room or None, not 'red': did you mean room.other('red')?",
    "member.enter('')": "enter() takes a room or None, not ''",
    "member.enter(member)": "enter() takes a room or None, not <member 127.0.0.1:",
    "member.enter(5)": "enter() takes a room or None, not 5",
    "room.publish('x', member)": "publish() takes a member first, not 'x'",
    "room.publish('ann', 'x')": "publish() takes a member first, not 'ann'",
    "room.publish(room, 'x')": "publish() takes a member first, not <room lobby>",
    "room.publish(member, 5)": "publish() takes a message or a list of them, not 5",
    "room.publish(member, None)": "publish() takes a message or a list of them, not None",
    "room.publish(member, [5])": "a message is str or bytes, not 5",
    "room.publish(member, {5})": "a message is str or bytes, not 5",
    "room.publish(member, [messages])": "a message is str or bytes, not [b'",
    "room.publish(member, waiting(member))": "a message is str or bytes, not <generator object waiting",
    "room.publish(member, 'x', but=member)": "publish() takes a list of members as `but`, not <member 127.0.0.1:",
    "room.publish(member, 'x', but=['ann'])": "publish() takes members as `but`, not 'ann'",
    "room.publish(member, 'x', but='ann')": "publish() takes members as `but`, not 'a'",
    "room.publish(member, 'x', but=[room])": "publish() takes members as `but`, not <room lobby>",
    "room.announce(5)": "a message is str or bytes, not 5",
    "member.tell(None)": "a message is str or bytes, not None",
    "member.tell(['a', 'b'])": "a message is str or bytes, not ['a', 'b']",
    "member.tell(waiting(member))": "did you forget `yield from`?",
    "member.kick(5)": "the reason of a kick is str or bytes, not 5",
    "member.kick()": "missing 1 required positional argument: 'reason'",
    "room.other(5)": "other() takes the name of a room, a str, not 5",
    "room.other(b'red')": "other() takes the name of a room, a str, not b'red'",
    "room.other(room)": "other() takes the name of a room, a str, not <room lobby>",
    "yield from member.receive('5')": "receive() takes a number of seconds or None, not '5'",
    "yield from member.receive(float('nan'))": "receive() takes a number of seconds or None, not nan",
    "room.spawn(game)": "did you forget the () after game?",
    "room.spawn(Game().play)": "did you forget the () after play?",
    "room.spawn(game, room)": "did you forget the () after game?",
    "room.spawn(plain(room))": "spawn() takes a generator, not None; is there no `yield` in it?",
    "room.spawn(foreign)": "a coroutine is a plain `def` here",
    "room.spawn(game(room), 5)": "spawn() takes a name, a str, for the task, not 5",
    "twice = game(room); room.spawn(twice); room.spawn(twice)": "is a task already",
    "room.spawn(begun(game(room)))": "has already begun, or ended",
    "room.spawn(ended())": "has already begun, or ended",
    "hide(room, 'feed')": "room.feed belongs to the server; rename your attribute",
    "hide(room, 'told')": "room.told belongs to the server; rename your attribute",
    "hide(room, 'quiet')": "room.quiet belongs to the server; rename your attribute",
    "hide(room, 'members')": "room.members belongs to the server; rename your attribute",
    "votes = dict.fromkeys(room.members); [votes.pop(one) for one in votes]": "dictionary changed size",
    "yield from sleep(float('nan'))": "a timeout is a number of seconds, not nan",
    "yield from room.spawn(game(room))": "'Task' object is not iterable",
    "yield room.spawn(game(room))": "<task game> was yielded, which is no trap",
    "room.spawn(waiting_for(member)); yield from sleep(0.05); yield from member.receive()": "already waits for",
    "yield from deep()": "RecursionError",
    "raise StopIteration": "generator raised StopIteration",
    "member.prefix = 5; room.publish(member, 'x')": "a prefix is str or bytes, not 5",
    "member.prefix = 'ann\\n'; room.publish(member, 'x')": "a prefix has no newline in it, but this one has",
}
HANDLER = """
from loop import sleep

def game(room):
    yield from sleep(1000)

class Game:
    def play(self):
        yield from sleep(1000)

def plain(room):
    pass

async def foreign():
    pass

def waiting(member):
    while True:
        yield from sleep(0)

def waiting_for(member):
    yield from member.receive()

def deep():
    yield from deep()

def hide(owner, name):
    setattr(owner, name, True)

def begun(game):
    next(game)
    return game

def ended():
    over = (number for number in ())
    list(over)
    return over

def handle(member, room):
    member.tell("Welcome")
    while messages := (yield from member.receive()):
        for message in messages:
            number = int(message) if message.isdigit() else -1
            room.publish(member, message) if number < 0 else (yield from make(number, member, room, messages))

def make(number, member, room, messages):
    yield from ()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chatsrv]:
    path = tmp_path_factory.mktemp("mistakes") / "handler.py"
    made = "".join(f"    if number == {number}:\n        {line}\n" for number, line in enumerate(MISTAKES))
    path.write_text(textwrap.dedent(HANDLER) + made)
    server = Chatsrv("--handler", f"{path}:handle")
    try:
        yield server
        server.finish(complaint=None)
    finally:
        server.destroy()
        for client in server.clients:
            client.close()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_it_costs_its_own_member_only_and_is_told_in_words(server: Chatsrv, mistake: str) -> None:
    bystander, culprit = server.client(), server.client()
    culprit.say(f"{list(MISTAKES).index(mistake)}")
    assert culprit.everything() == b"* You are disconnected: its handler failed.\n"
    server.complaints.expect(MISTAKES[mistake])
    assert f"the handler of {culprit.name} failed\n" in server.complaints.take()
    bystander.say("still here")
    bystander.expect(PREFIX + b"still here")  # and nothing else: what was wrong has changed nothing
    assert server.journal and not server.journal.lines("> x")


@pytest.mark.parametrize("flags", [(), ("--max-rate", "1M")])
def test_a_wrong_prefix_is_told_in_words_when_something_arrives(
    chatsrv: Start, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    lines = "member.prefix = None", "member.tell('the prefix is gone')"
    server = chatsrv("--handler", handler(tmp_path, *lines), *flags)
    client = server.client()
    client.say("one")
    client.expect(b"the prefix is gone")
    client.say("two")
    assert client.everything() == b"* You are disconnected: its handler failed.\n"
    server.complaints.expect("TypeError: a prefix is str or bytes, not None")
    server.finish(complaint=None)
