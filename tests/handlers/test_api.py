"""What README promises to authors of handlers: each row of its table of calls, with real clients."""

from __future__ import annotations

import select
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from chatting import LINUX, PATIENCE, PREFIX, SMALL, Chatsrv, Client, Start, asleep, cpu_seconds, eventually
from more import every

HEAD = "import time\nfrom loop import TimedOut, sleep\n"
Serve = Callable[..., Chatsrv]


@pytest.fixture
def serve(chatsrv: Start, tmp_path: Path) -> Serve:
    """Starts a server with the handler `handle` of this source."""

    def start(source: str, *flags: str) -> Chatsrv:
        path = tmp_path / "handler.py"
        path.write_text(HEAD + textwrap.dedent(source))
        return chatsrv("--handler", f"{path}:handle", *flags)

    return start


def commands(*lines: str) -> str:
    """A handler that greets, and runs these lines for each message; `text` is the message."""
    body = textwrap.indent("\n".join(lines), " " * 12)
    return f"""
def handle(member, room):
    member.tell("Welcome")
    while messages := (yield from member.receive()):
        for message in messages:
            text = message.decode()
{body}
"""


# receive()


def test_a_timeout_is_for_the_whole_call_however_bytes_drip_in(serve: Serve) -> None:
    server = serve("""
        def handle(member, room):
            member.tell("Welcome")
            try:
                yield from member.receive(0.4)
            except TimedOut:
                member.tell("too late")
            for message in (yield from member.receive(PATIENCE)):
                member.tell(message)
        PATIENCE = 15
    """)
    client = server.client()
    end = time.monotonic() + PATIENCE
    dripped = 0
    while not select.select([client.sock], [], [], 0.02)[0]:
        assert time.monotonic() < end, "each byte has begun the timeout anew"
        client.send(b"x")
        dripped += 1
    client.expect(b"too late")
    client.say("!")
    client.expect(b"x" * dripped + b"!")  # nothing of it was lost


def test_a_timeout_of_zero_asks_only_what_has_arrived(serve: Serve) -> None:
    server = serve("""
        def handle(member, room):
            member.tell("Welcome")
            yield from member.receive()
            try:
                yield from member.receive(0)
            except TimedOut:
                member.tell("nothing")
    """)
    client = server.client()
    client.say("go")
    client.expect(b"nothing")


def test_the_end_is_told_once_and_a_handler_that_asks_again_is_ended(serve: Serve) -> None:
    server = serve("""
        def handle(member, room):
            member.tell("Welcome")
            try:
                while True:  # it does not look whether it is at the end
                    messages = yield from member.receive()
                    room.announce(f"{len(messages)}")
            finally:
                room.announce("gone")
    """)
    bystander, client = server.client(), server.client()
    client.say("a", "b")
    client.finish()
    heard = client.everything()
    assert heard in (b"2\n0\ngone\n", b"1\n1\n0\ngone\n")
    bystander.wait_for(b"gone")
    server.terminated("end of stream")
    bystander.say("still")
    bystander.wait_for(b"1")


FORGIVING = """
    def handle(member, room):
        member.tell("Welcome")
        while True:
            try:
                room.publish(member, (yield from member.receive()))
            except {}:
                pass
"""


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_an_except_around_receive_does_not_keep_a_member_whose_client_is_gone(serve: Serve, end: str) -> None:
    server = serve(FORGIVING.format("Exception"))
    bystander, client = server.client(), server.client()
    client.say("hi")
    bystander.expect(PREFIX + b"hi")
    getattr(client, end)()
    server.terminated("end of stream" if end == "finish" else "connection reset by peer")
    bystander.say("still here")
    bystander.expect(PREFIX + b"still here")
    if LINUX:
        eventually(lambda: asleep(server.pid))
        before = cpu_seconds(server.pid)
        time.sleep(0.2)
        assert cpu_seconds(server.pid) - before < 0.1, "it spins"


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_a_bare_except_ends_by_force_and_is_reported(serve: Serve, end: str) -> None:
    server = serve(FORGIVING.format("BaseException"))
    bystander, client = server.client(), server.client()
    getattr(client, end)()
    server.terminated()
    bystander.say("still here")
    bystander.expect(PREFIX + b"still here")
    server.process.send_signal(signal.SIGTERM)
    assert bystander.everything() == b"* You are disconnected: the server is ending.\n"
    server.terminated("the server is ending")
    server.wait()
    said = [f"chatsrv: the handler of {one.name} does not end; it was dropped" for one in (client, bystander)]
    assert server.complaints.lines("does not end") == said
    place = server.complaints.lines("    handle at ")
    assert len(place) == 2 and place[0].endswith("handler.py:8"), "it is said where it hangs"
    server.finish(complaint=None)


def test_a_handler_that_spins_and_ignores_all_errors_ends_by_force(serve: Serve) -> None:
    """Each of its traps is refused, so it always has an error to be raised next: this need not be Cancelled."""
    server = serve("""
        def handle(member, room):
            member.tell("Welcome")
            if len(room.members) == 1:
                while messages := (yield from member.receive()):
                    for one in room.members:
                        if one is not member:
                            one.kick("go")
            while True:
                try:
                    yield
                except BaseException:
                    pass
    """)
    client, spinner = server.client(), server.client()
    client.say("kick")
    assert spinner.everything() == b"* You are disconnected: go.\n"
    server.terminated("go")
    server.complaints.expect(f"the handler of {spinner.name} does not end; it was dropped")
    server.finish(complaint=None)


def test_a_member_that_is_kicked_says_nothing_more(serve: Serve) -> None:
    server = serve("""
        def handle(member, room):
            member.tell("Welcome")
            while True:
                try:
                    messages = yield from member.receive()
                except BaseException:
                    messages = ["I am still here"]
                for other in room.members:
                    if b"out" in messages and other is not member:
                        other.kick("out")
                room.publish(member, messages)
    """)
    stubborn, other = server.client(), server.client()
    other.say("out")
    assert stubborn.everything() == b"* You are disconnected: out.\n"
    other.expect(PREFIX + b"out")
    server.complaints.expect(f"the handler of {stubborn.name} does not end; it was dropped")
    other.say("alone")
    other.expect(PREFIX + b"alone")
    server.process.kill()
    server.finish(status=-signal.SIGKILL, complaint=None)


# tell(), kick()


def test_a_kick_without_a_reason_is_one(serve: Serve) -> None:
    server = serve(commands("member.kick('')", "member.kick('again')"))
    client = server.client()
    client.say("x")
    assert client.everything() == b"* You are disconnected: kicked.\n"
    server.terminated("kicked")


def test_what_is_told_keeps_its_place_among_what_is_published(serve: Serve) -> None:
    server = serve(commands("room.publish(member, 'one')", "member.tell('two')", "room.publish(member, 'three')"))
    ann, ben = server.client(), server.client()
    ann.say(*["go"] * 100)
    ann.expect(*[PREFIX + b"one", b"two", PREFIX + b"three"] * 100)
    ben.expect(*[PREFIX + b"one", PREFIX + b"three"] * 100)


def test_a_kick_tells_its_reason_also_to_a_member_that_is_behind(serve: Serve) -> None:
    server = serve(
        commands(
            "if text == 'kick': [other.kick('because') for other in room.members if other is not member]",
            "room.publish(member, message)",
        )
    )
    slow = server.client(buffer=SMALL)
    talker = server.client()
    for _ in range(10):
        talker.say(*["x" * 1000] * 1000)
        for _ in range(1000):
            talker.line()
    talker.say("kick")
    talker.expect(PREFIX + b"kick")
    heard = slow.everything()
    assert heard.endswith(b"\n* You are disconnected: because.\n"), heard[-100:]
    assert set(heard[heard.index(b"\n") + 1 :].split(b"\n")) <= {
        PREFIX + b"x" * 1000,
        b"* You are disconnected: because.",
        b"",
    }


def test_a_handler_that_fails_is_told_so(serve: Serve) -> None:
    server = serve(commands("member.tell('before')", "1 / 0"))
    client = server.client()
    client.say("go")
    client.expect(b"before", b"* You are disconnected: its handler failed.")
    server.complaints.expect("ZeroDivisionError")
    server.finish(complaint=None)


# enter()


def test_entering_another_room_keeps_what_was_due_and_its_order(serve: Serve) -> None:
    server = serve(
        commands(
            "other = room.other('other')",
            "room.publish(member, 'one')",
            "member.tell('two')",
            "member.enter(other)",
            "assert member.room is other",
            "room.publish(member, 'not heard')",
            "other.publish(member, 'three')",
            "member.tell('four')",
            "member.enter(room)",
            "other.announce('not heard')",
            "room.announce('five')",
        )
    )
    client, bystander = server.client(), server.client()
    client.say(*["go"] * 50)
    client.expect(*[PREFIX + b"one", b"two", PREFIX + b"three", b"four", b"five"] * 50)
    bystander.expect(*[PREFIX + b"one", PREFIX + b"not heard", b"five"] * 50)


def test_a_member_that_is_behind_enters_another_room_in_order(serve: Serve) -> None:
    server = serve(
        commands(
            "if text == 'go': member.enter(room.other('other'))",
            "else: (room.other('other') if text == 'there' else room).publish(member, message + b' x' * 400)",
        )
    )
    slow, talker = server.client(buffer=SMALL), server.client()
    talker.say(*[f"{number}" for number in range(5000)])
    for _ in range(5000):
        talker.line()
    slow.say("go")
    slow.say("there")
    slow.finish()
    lines = slow.everything().split(b"\n")[:-1]
    assert [line.split()[1] for line in lines] == [b"%d" % number for number in range(5000)] + [b"there"]


def test_a_member_to_which_nothing_can_be_sent_still_changes_rooms(serve: Serve) -> None:
    """What it said before its connection failed is read to the end, and goes where it belongs."""
    server = serve("""
        def handle(member, room):
            member.tell("Welcome")
            while messages := (yield from member.receive()):
                for message in messages:
                    if message == b"go":
                        while not member.failure:  # until a send has learnt that the client is gone
                            member.tell("?")
                            yield from sleep(0.01)
                        member.enter(None)
                        member.enter(room.other("cellar"))
                        room.announce(f"{len(room.members)} left here")
                    elif message == b"down":
                        member.enter(room.other("cellar"))
                    else:
                        member.room.publish(member, message)
    """)
    above, below, rude = server.client(), server.client(), server.client()
    below.say("down", "I am here")
    below.expect(PREFIX + b"I am here")
    rude.say("go", "a secret")
    rude.wait_for(b"?")
    rude.reset()
    below.expect(PREFIX + b"a secret")
    above.expect(b"1 left here")
    server.terminated()
    above.say("done")
    above.expect(PREFIX + b"done")


def test_a_member_that_is_kicked_changes_rooms_for_its_handler_alone(serve: Serve) -> None:
    """So what a handler notes about rooms stays right, up to its `finally`."""
    server = serve("""
        def handle(member, room):
            member.tell("Welcome")
            try:
                yield from member.receive()
                member.kick("go")
                member.enter(room.other("inn"))
                yield from sleep(0)
            finally:
                room.announce(f"it was in {member.room.name}, with {len(member.room.members)} members")
    """)
    stays, goes = server.client(), server.client()
    goes.say("x")
    stays.expect(b"it was in inn, with 0 members")
    assert goes.everything() == b"* You are disconnected: go.\n"


def test_in_no_room_one_hears_only_what_one_is_told(serve: Serve) -> None:
    server = serve("""
        def handle(member, room):
            member.enter(None)
            member.tell("Welcome")
            for message in (yield from member.receive()):
                room.publish(member, message)
                member.tell(f"{member.room} {len(room.members)}")
            member.enter(room)
            while messages := (yield from member.receive()):
                room.publish(member, messages)
    """)
    ann, ben = server.client(), server.client()
    ann.say("hello?")
    ann.expect(b"None 0")
    ann.say("now")
    ann.expect(PREFIX + b"now")
    ben.say("hi")
    ann.expect(PREFIX + b"hi")
    ben.expect(b"None 1")


# publish(), announce()


def test_publish_spares_the_members_that_are_named(serve: Serve) -> None:
    server = serve(
        commands(
            "room.publish(member, 'before')",
            "room.publish(member, message, but=[member])",
            "member.tell('sent')",
            "room.publish(member, 'after')",
        )
    )
    ann, ben = server.client(), server.client()
    ann.say(*["hi"] * 100)
    ann.expect(*[PREFIX + b"before", b"sent", PREFIX + b"after"] * 100)
    ben.expect(*[PREFIX + b"before", PREFIX + b"hi", PREFIX + b"after"] * 100)


@pytest.mark.parametrize("messages", every(2, ["'a'", "b'a'", "[b'a']", "['a']", "(word for word in 'a')", "{'a': 1}"]))
def test_messages_are_one_or_many_text_or_bytes(serve: Serve, messages: str) -> None:
    server = serve(commands(f"room.publish(member, {messages})", "room.publish(member, [])", "member.tell('done')"))
    client = server.client()
    client.say("go")
    client.expect(PREFIX + b"a", b"done")


def test_the_prefix_is_text_or_bytes(serve: Serve) -> None:
    server = serve(commands("member.prefix = text + '> '", "room.publish(member, ['a', b'b'])"))
    client = server.client()
    client.say("ann")
    client.expect(b"ann> a", b"ann> b")


def test_long_messages_go_in_parts_each_with_the_prefix(serve: Serve) -> None:
    server = serve(commands("room.publish(member, ['x' * 1024, 'y' * 1025, 'z' * 1023 + 'ä', 'end'])"))
    client = server.client()
    client.say("go")
    client.expect(PREFIX + b"x" * 1024, PREFIX + b"y" * 1024, PREFIX + b"y")
    client.expect(PREFIX + b"z" * 1023, PREFIX + "ä".encode(), PREFIX + b"end")


@pytest.mark.parametrize("messages", ["'a\\nb'", "[b'a', b'\\n']", "b'a\\n'"])
def test_a_newline_in_a_message_is_refused_in_words(serve: Serve, messages: str) -> None:
    server = serve(commands(f"room.publish(member, {messages})"))
    bystander, client = server.client(), server.client()
    client.say("go")
    assert client.everything() == b"* You are disconnected: its handler failed.\n"
    server.complaints.expect(
        "ValueError: a message is one line: publish a list of messages instead of one with a newline in it"
    )
    server.process.send_signal(signal.SIGTERM)
    assert bystander.everything() == b"* You are disconnected: the server is ending.\n"
    server.finish(complaint=None)


def test_a_line_for_one_is_one_line(serve: Serve) -> None:
    server = serve(commands("member.tell('a\\nann: b') if text == 'tell' else member.kick('c\\nann: d')"))
    client = server.client()
    client.say("tell")
    client.expect(b"a ann: b")
    client.say("kick")
    assert client.everything() == b"* You are disconnected: c ann: d.\n"


def test_an_announcement_is_heard_by_all_in_the_room_without_a_prefix(serve: Serve) -> None:
    server = serve(commands("room.announce('text')", "room.announce(b'bytes')", "room.announce('two\\nlines')"))
    ann, ben = server.client(), server.client()
    ann.say("go")
    for client in ann, ben:
        client.expect(b"text", b"bytes", b"two lines")


# other(), members


def test_a_room_is_gone_when_it_is_empty(serve: Serve) -> None:
    server = serve(
        commands(
            "other = room.other('other')",
            "assert room.other('other') is other and other.other(room.name) is room",
            "if text == 'in': member.enter(other); other.mark = getattr(other, 'mark', 0) + 1",
            "if text == 'out': member.enter(room)",
            "member.tell(f\"{getattr(other, 'mark', 'new')} {len(other.members)} {len(room.members)}\")",
            "del other",
        )
    )
    ann, ben = server.client(), server.client()
    for client, word, answer in (
        (ann, "in", b"1 1 1"),
        (ben, "in", b"2 2 0"),
        (ann, "out", b"2 1 1"),
        (ben, "look", b"2 1 1"),
        (ben, "out", b"2 0 2"),
        (ben, "look", b"new 0 2"),
    ):
        client.say(word)
        client.expect(answer)


def test_a_task_that_does_not_use_its_room_does_not_keep_it(serve: Serve) -> None:
    server = serve(
        commands(
            "other = room.other('other')",
            "if text == 'in': member.enter(other); other.mark = 'known'; other.spawn(clock(), 'clock')",
            "if text == 'out': member.enter(room)",
            "member.tell(getattr(other, 'mark', 'new'))",
            "del other",
        )
        + "\ndef clock():\n    yield from sleep(1000)\n"
    )
    client = server.client()
    for word, answer in ("in", b"known"), ("out", b"known"), ("look", b"new"):
        client.say(word)
        client.expect(answer)


def test_a_member_that_is_dropped_is_in_no_room_whatever_its_handler_does_at_the_end(serve: Serve) -> None:
    server = serve("""
        def handle(member, room):
            member.tell("Welcome")
            try:
                while True:
                    try:
                        messages = yield from member.receive()
                        room.publish(member, f"{len(room.members)} {len(room.other('other').members)}")
                    except BaseException as error:
                        if type(error) is GeneratorExit:
                            raise
            finally:
                member.enter(room.other("other"))
    """)
    bystander, client = server.client(), server.client()
    client.finish()
    server.terminated()
    bystander.say("who")
    bystander.wait_for(PREFIX + b"1 0")
    server.process.kill()
    server.finish(status=-signal.SIGKILL, complaint=None)


def test_members_are_the_oldest_first_and_may_be_kicked_while_one_loops_over_them(serve: Serve) -> None:
    server = serve(
        commands(
            "if text == 'who': member.tell(' '.join(other.name for other in room.members))",
            "else:",
            "    for other in room.members:",
            "        if other is not member:",
            "            other.kick(text)",
            "    member.tell(f'{len(room.members)} here')",
        )
    )
    clients = [server.client() for _ in range(5)]
    names = " ".join(client.name for client in clients).encode()
    clients[3].say("who", "away with you", "who")
    clients[3].expect(names, b"1 here", clients[3].name.encode())
    for client in clients[:3] + clients[4:]:
        assert client.everything() == b"* You are disconnected: away with you.\n"


def test_members_that_have_left_are_in_no_room_also_for_those_that_are_leaving(serve: Serve) -> None:
    server = serve("""
        def handle(member, room):
            member.tell("Welcome")
            try:
                while messages := (yield from member.receive()):
                    if b"all" in messages:
                        for other in room.members:
                            other.kick("all go")
                    elif b"last" in messages:
                        return
            finally:
                print(f"left: {sorted(other.name == member.name for other in room.members)}", flush=True)
    """)
    clients = [server.client() for _ in range(3)]
    clients[0].say("all")
    for client in clients:
        assert client.everything() == b"* You are disconnected: all go.\n"
    assert server.journal
    assert server.journal.expect("left: ", 3) == ["left: []"] * 3
    one, other = server.client(), server.client()
    one.say("last")
    server.journal.expect("left: [False, True]")
    one.everything()
    other.say("last")
    server.journal.expect("left: [True]")


# spawn(), start()


def test_a_task_of_the_room_goes_on_without_its_member_until_it_is_cancelled(serve: Serve) -> None:
    server = serve("""
        def handle(member, room):
            member.tell("Welcome")
            if not hasattr(room, "task"):
                room.task = room.spawn(clock(room), "clock")
            while messages := (yield from member.receive()):
                room.task.cancel()

        def clock(room):
            try:
                while True:
                    room.announce("tick")
                    yield from sleep(0.01)
            finally:
                room.announce("stopped")
    """)
    first, second = server.client(), server.client()
    first.close()
    server.terminated()
    second.wait_for(b"tick")
    second.say("stop")
    second.wait_for(b"stopped")
    assert not select.select([second.sock], [], [], 0.1)[0], "it has not stopped"


def test_a_task_that_fails_is_reported_and_costs_nobody_anything(serve: Serve) -> None:
    server = serve(
        commands("room.spawn(fail(room), 'game')", "member.tell('go on')")
        + "\ndef fail(room):\n    yield from sleep(0)\n    room.announce('now')\n    raise LookupError('no luck')\n"
    )
    client = server.client()
    client.say("go")
    client.expect(b"go on", b"now")
    server.complaints.expect("LookupError: no luck")
    assert "game" in server.complaints.text()
    client.say("go")
    client.expect(b"go on", b"now")
    server.finish(complaint=None)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no groups of exceptions")
def test_a_handler_or_a_task_that_raises_what_ends_it_in_a_group_has_not_failed(serve: Serve) -> None:
    server = serve("""
        def handle(member, room):
            member.tell("Welcome")
            room.spawn(wait())
            yield from wait()

        def wait():
            try:
                yield from sleep(1000)
            except BaseException as end:
                raise BaseExceptionGroup("several", [end])
    """)
    client = server.client()
    server.process.send_signal(signal.SIGTERM)
    assert client.everything() == b"* You are disconnected: the server is ending.\n"
    server.finish(complaint=None)
    assert not server.complaints.lines("failed")


def test_tasks_end_with_the_server_before_the_goodbyes(serve: Serve) -> None:
    server = serve("""
        def handle(member, room):
            room.spawn(game(room))
            member.tell("Welcome")
            yield from member.receive()

        def game(room):
            try:
                yield from sleep(1000)
            finally:
                room.announce("game over")
    """)
    client = server.client()
    server.process.send_signal(signal.SIGTERM)
    assert client.everything() == b"game over\n* You are disconnected: the server is ending.\n"


def test_a_task_that_does_not_end_is_dropped_and_it_is_said_where_it_hangs(serve: Serve) -> None:
    server = serve("""
        def handle(member, room):
            room.spawn(game(room), "game")
            member.tell("Welcome")
            yield from member.receive()

        def game(room):
            while True:
                try:
                    yield from sleep(1000)
                except BaseException:
                    pass
    """)
    client = server.client()
    server.process.send_signal(signal.SIGTERM)
    assert client.everything() == b"* You are disconnected: the server is ending.\n"
    server.wait()
    server.complaints.expect("chatsrv: the task game does not end; it was dropped")
    (place,) = server.complaints.lines("    game at ")
    assert place.endswith("handler.py:12")
    server.finish(complaint=None)


def test_what_is_told_to_be_dropped_has_been_dropped(serve: Serve) -> None:
    server = serve("""
        import sys

        def handle(member, room):
            room.spawn(stubborn("task"), "stubborn")
            member.tell("Welcome")
            yield from stubborn("handler")

        def stubborn(kind):
            while True:
                try:
                    yield from sleep(1000)
                except BaseException as error:
                    print(kind, repr(error), file=sys.stderr, flush=True)
    """)
    server.client()
    server.end()
    told = server.complaints.text()
    for kind in "handler", "task":
        before, _, after = told.partition(f"chatsrv: the {kind} ")
        assert f"{kind} GeneratorExit()" in before and f"{kind} GeneratorExit()" not in after
    assert "Traceback" not in told
    server.finish(complaint=None)


def test_what_spawn_cannot_run_is_refused_in_words(serve: Serve) -> None:
    server = serve(commands("room.spawn(room.announce)"))
    client = server.client()
    client.say("go")
    assert client.everything() == b"* You are disconnected: its handler failed.\n"
    server.complaints.expect("TypeError: spawn() takes a generator")
    server.finish(complaint=None)


def test_start_runs_once_when_the_server_starts(serve: Serve) -> None:
    server = serve("""
        def start(room):
            room.ticks = 0
            try:
                while True:
                    room.ticks += 1
                    yield from sleep(0.01)
            finally:
                room.announce(f"the clock stops")

        def handle(member, room):
            member.tell("Welcome")
            while messages := (yield from member.receive()):
                member.tell(f"{room.ticks}")
    """)
    client = server.client()

    def ticks() -> int:
        client.say("?")
        return int(client.line())

    first = ticks()
    assert first > 0
    eventually(lambda: ticks() > first + 2)
    server.process.send_signal(signal.SIGTERM)
    assert client.everything() == b"the clock stops\n* You are disconnected: the server is ending.\n"


# What else there is on a member and a room


def test_a_start_that_is_none_after_all_costs_nobody_anything(serve: Serve) -> None:
    """A decorator can hide what is wrong with it from all who look before it is called."""
    server = serve(
        commands("room.publish(member, text)")
        + """
from functools import wraps

def decorated(function):
    @wraps(function)
    def forgetful(room):
        function(room)
    return forgetful

@decorated
def start(room):
    yield from sleep(1)
"""
    )
    client = server.client()
    server.complaints.expect("task start failed")
    client.say("hi")
    client.expect(PREFIX + b"hi")
    server.finish(complaint=None)


def test_members_and_rooms_have_attributes_of_the_handlers_own(serve: Serve) -> None:
    server = serve(
        commands(
            "member.count = getattr(member, 'count', 0) + 1",
            "room.count = getattr(room, 'count', 0) + 1",
            "member.tell(f'{member.count} {room.count} {member.host} {member.name} {member.room.name}')",
        )
    )
    ann, ben = server.client(), server.client()
    ann.say("go", "go")
    ann.expect(*[f"{count} {count} 127.0.0.1 {ann.name} lobby".encode() for count in (1, 2)])
    ben.say("go")
    ben.expect(f"1 3 127.0.0.1 {ben.name} lobby".encode())


# Handlers as people write them


def test_a_throttle_is_a_sleep(serve: Serve) -> None:
    server = serve(commands("room.publish(member, message)", "yield from sleep(0.1)"))
    ann, ben = server.client(), server.client()
    ann.say("1", "2", "3")
    ben.expect(PREFIX + b"1")
    ben.say("between")
    lines = [ben.line() for _ in range(3)]
    assert lines.index(PREFIX + b"between") < lines.index(PREFIX + b"3")


def test_http_is_a_handler_of_a_few_lines(serve: Serve) -> None:
    server = serve("""
        def handle(member, room):
            request = ""
            while messages := (yield from member.receive(10)):
                request = request or messages[0].decode()
                if b"" in messages:
                    break
            body = f"You asked for {request.split()[1]}."
            for line in "HTTP/1.0 200 OK", "Content-Type: text/plain", f"Content-Length: {len(body) + 1}", "":
                member.tell(line + "\\r")
            member.tell(body)
    """)
    client = Client(server.port)
    server.clients.append(client)
    client.send(b"GET /index HTTP/1.0\r\nHost: here\r\n\r\n")
    assert client.everything().endswith(b"\r\nContent-Length: 22\r\n\r\nYou asked for /index.\n")
