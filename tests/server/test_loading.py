"""--handler: what is found, and what is said of a handler that is none or has a mistake in it."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chatting import PATIENCE, PREFIX, ROOT, Start

from chat.server import lint
from chat.server.loading import load_handler

LOUD = """
import functools
def loud(function):
    @functools.wraps(function)
    def louder(*arguments):
        return function(*arguments)
    return louder
@loud
"""
GOOD = "def handle(member, room):\n    yield from member.receive()\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Writes a file in an empty directory, which is the current one; what was imported from it is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def write(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(where: str) -> str:
    with pytest.raises(ValueError) as refused:
        load_handler(where)
    line = str(refused.value)
    assert "\n" not in line
    return line


# What is no handler.


@pytest.mark.parametrize("where", ["nowhere", ":f", "nowhere:", "", ":"])
def test_half_a_name(where: str) -> None:
    assert refusal(where) == f"takes FILE_OR_MODULE:FUNCTION, not {where!r}"


@pytest.mark.parametrize(
    "where, words",
    [
        ("nowhere:f", "there is no module nowhere (the name of a file ends in .py)"),
        ("no/where:f", "there is no module no/where (the name of a file ends in .py)"),
        ("nowhere.py:f", "nowhere.py: No such file or directory"),
        ("chat.server.room:Room", "Room is not a function"),
    ],
)
def test_nothing_there(write: Callable[..., Path], where: str, words: str) -> None:
    assert refusal(where) == words


def test_a_directory_or_a_fifo_is_no_file(write: Callable[..., Path]) -> None:
    write("", "beside.py")
    os.mkfifo("pipe.py")
    os.mkdir("folder.py")
    assert refusal("pipe.py:f") == "pipe.py: Not a regular file"  # it would wait for somebody to write
    assert refusal("folder.py:f") == "folder.py: Is a directory"


def test_a_wrong_name_is_answered_with_those_there_are(write: Callable[..., Path]) -> None:
    write("from loop import sleep\ndef f(): pass\n" + GOOD + "def other(member, room):\n    yield\n")
    assert refusal("mine.py:handel") == "mine.py has no handel; its generator functions: handle, other"
    write("", "empty.py")
    assert refusal("empty.py:handle") == "empty.py has no handle; nor any generator function"


@pytest.mark.parametrize(
    "text, words",
    [
        ("handle = 1", "handle is not a function"),
        ("handle = print", "handle is not a function"),
        ("\ndef handle(member, room):\n    member.tell('x')", "mine.py:2: handle has no `yield from`"),
        ("async def handle(member, room):\n    pass", "mine.py:1: handle is an `async def`"),
        ("async def handle(member, room):\n    yield 1", "mine.py:1: handle is an `async def`"),
        (
            "def handle():\n    yield",
            "mine.py:1: handle() does not fit; a handler takes two parameters: member and room",
        ),
        ("def handle(member):\n    yield", "mine.py:1: handle(member) does not fit; a handler takes two"),
        ("def handle(a, b, c):\n    yield", "mine.py:1: handle(a, b, c) does not fit"),
        ("def handle(a, b, *, c):\n    yield", "mine.py:1: handle(a, b, c) does not fit"),
    ],
)
def test_a_function_that_is_no_handler(write: Callable[..., Path], text: str, words: str) -> None:
    write(text)
    assert refusal("mine.py:handle").startswith(words)


@pytest.mark.parametrize(
    "text, words",
    [
        (GOOD + "nonsense\n", "mine.py:3: NameError: name 'nonsense' is not defined"),
        ("import os\nimport nowhere\n", "mine.py:2: ModuleNotFoundError: No module named 'nowhere'"),
        ("from json import lods\n", "mine.py:1: ImportError: cannot import name 'lods'"),
        ("def f(:\n    pass\n", "mine.py:1: SyntaxError: "),
        ("def f():\n  if 1:\n      x\n    y\n", "mine.py:4: IndentationError: "),
        (
            "def f(m, r):\n    await m.receive()\n",
            "mine.py:2: SyntaxError: 'await' outside async function (a coroutine is",
        ),
        (
            "async def f(m, r):\n    yield from x\n",
            "mine.py:2: SyntaxError: 'yield from' inside async function (a corou",
        ),
        ("import json\njson.loads('{')\n", "mine.py:2: JSONDecodeError: "),
        ("open('nowhere.txt')\n", "mine.py:1: FileNotFoundError: "),
        ("import sys\nsys.exit('bye')\n", "mine.py:2: SystemExit: bye"),
        ("raise ValueError('one\\ntwo')\n", "mine.py:1: ValueError: one two"),
        ("raise ValueError\n", "mine.py:1: ValueError"),
        ("raise KeyboardInterrupt\n", "mine.py:1: KeyboardInterrupt"),
        ("from . import other\n", "mine.py:1: ImportError: attempted relative import"),
        ("import helper\n", "helper.py:2: ZeroDivisionError: division by zero"),
        ("\0", "mine.py: "),
    ],
)
def test_a_file_that_cannot_be_imported(write: Callable[..., Path], text: str, words: str) -> None:
    write(text)
    write("\n1 / 0\n", "helper.py")
    for where in "mine.py:handle", "mine:handle":
        assert refusal(where).startswith(words) or text == "\0"


def test_the_program_says_so_and_ends(write: Callable[..., Path]) -> None:
    write(GOOD + "nonsense\n")
    command = [sys.executable, str(ROOT / "chatsrv"), "--port", "0", "--handler", "mine.py:handle"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "chatsrv: --handler: mine.py:3: NameError: name 'nonsense' is not defined\n"


# What is one.


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "def handle(member, room, topic='none', *more, **others):\n    yield from member.receive()\n",
        "handle = lambda member, room: (yield from member.receive())\n",
        "import functools\ndef any(topic, member, room):\n    yield\nhandle = functools.partial(any, 'x')\n",
        "class Game:\n    def play(self, member, room):\n        yield\nhandle = Game().play\n",
        LOUD + GOOD,
        "start = 5\n" + GOOD,
        "from time import time as start\n" + GOOD,
    ],
)
def test_all_that_can_be_called_like_one(
    write: Callable[..., Path], capfd: pytest.CaptureFixture[str], text: str
) -> None:
    write(text)
    handler, start = load_handler("mine.py:handle")
    assert callable(handler) and start is None
    assert capfd.readouterr().err == ""


def test_a_file_that_another_one_imports_may_ask_in_a_third(
    write: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    write("def hear(member):\n    return (yield from member.receive())\n", "third.py")
    write(
        "import third\n"
        "def talk(member, room):\n"
        "    while messages := (yield from third.hear(member)):\n"
        "        room.publish(member, messages)\n",
        "second.py",
    )
    write("import second\ndef handle(member, room):\n    yield from second.talk(member, room)\n")
    handler, _ = load_handler("mine.py:handle")
    assert callable(handler)
    assert capfd.readouterr().err == ""


def test_an_attribute_of_an_object_in_a_third_file_may_be_set(write: Callable[..., Path]) -> None:
    write("class State:\n    pass\nstate = State()\n", "third.py")
    write("import third\ndef note(room):\n    third.state.latest = room.name\n", "second.py")
    write("import second\ndef handle(member, room):\n    second.note(room)\n    yield from member.receive()\n")
    handler, _ = load_handler("mine.py:handle")
    assert callable(handler)


def test_start_is_found(write: Callable[..., Path]) -> None:
    write(GOOD + "def start(room):\n    yield\n")
    handler, start = load_handler("mine.py:handle")
    assert start is not None and (handler.__name__, start.__name__) == ("handle", "start")
    assert load_handler("chat.handlers.nick:nick")[1] is None


@pytest.mark.parametrize(
    "text, words",
    [
        ("def start(room):\n    pass\n", "mine.py:3: start has no `yield from`; `start` is a generator function"),
        ("def start():\n    yield\n", "mine.py:3: start() does not fit; `start` takes one parameter: room"),
        ("def start(member, room):\n    yield\n", "mine.py:3: start(member, room) does not fit"),
        ("async def start(room):\n    pass\n", "mine.py:3: start is an `async def`"),
    ],
)
def test_a_start_that_cannot_be_run(write: Callable[..., Path], text: str, words: str) -> None:
    write(GOOD + text)
    assert refusal("mine.py:handle").startswith(words)


def test_start_is_run(chatsrv: Start, write: Callable[..., Path]) -> None:
    write(GOOD + "def start(room):\n    room.topic = 'cats'\n    room.announce('* ' + room.topic)\n    yield from ()\n")
    server = chatsrv("--handler", "mine.py:handle", cwd=os.getcwd())
    assert server.journal
    server.journal.expect("room > * cats")


def test_a_start_may_be_a_partial(write: Callable[..., Path]) -> None:
    write(GOOD + "import functools\ndef begin(topic, room):\n    yield\nstart = functools.partial(begin, 'cats')\n")
    assert load_handler("mine.py:handle")[1] is not None
    write(GOOD + "start = 5\n", "other.py")
    assert load_handler("other.py:handle")[1] is None


def test_modules_beside_it_can_be_imported_and_are_imported_once(chatsrv: Start, write: Callable[..., Path]) -> None:
    """The name of the handler's file may be that of a module of Python's own; and its helper may import it."""
    write("import http\nimport mine\nassert http.HTTPStatus.OK\nwords = [b'from the helper']\n", "at/helper.py")
    text = (
        "import helper\ndef handle(member, room):\n    member.tell('Welcome')\n"
        "    while messages := (yield from member.receive()):\n        room.publish(member, [b'' + helper.words[0]])\n"
    )
    write(text, "at/mine.py")
    write(text, "at/http.py")
    for name in "mine", "http":
        server = chatsrv("--handler", f"at/{name}.py:handle", cwd=os.getcwd())
        client = server.client()
        client.say("go")
        client.expect(PREFIX + b"from the helper")


# Mistakes that Python passes over in silence. Each line that ends in a # is one.


def expected(path: Path) -> set[int]:
    return {number for number, line in enumerate(path.read_text().splitlines(), 1) if line.endswith("#")}


def warned(path: Path) -> set[int]:
    module_spec = importlib.util.spec_from_file_location("mine", path)
    assert module_spec and module_spec.loader
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    refused, reported = lint.mistakes(module, "handle")
    lines = refused + reported
    matches = [re.fullmatch(rf"{re.escape(str(path))}:(\d+): .+", line) for line in lines]
    assert all(matches), lines
    return {int(match[1]) for match in matches if match}


FORGOTTEN = {
    "a loop": "for m in member.receive():  #\n    pass",
    "a statement": "member.receive()  #",
    "an assignment": "messages = member.receive()  #\nroom.publish(member, messages)",
    "an assignment in a condition": "while messages := member.receive():  #\n    room.publish(member, messages)",
    "a condition": "if not member.receive():  #\n    return",
    "sleep": "sleep(1)  #",
    "under another name": "nap(1)  #",
    "of the module": "loop.sleep(1)  #\nloop.stream.sleep(1)  #",
    "yield without from": "yield member.receive()  #\nyield sleep(1)  #",
    "one's own": "ask(member)  #\nfor line in ask(member):  #\n    pass",
    "one's own, by a plain function": "indirect(member)  #",
    "one's own, handed on to one that loops": "show(member.receive())  #",
    "of a class": "game = Game(member)\ngame.play()  #\nyield from game.play()",
    "of an attribute": "room.game = Game(member)\nroom.game.play()  #",
    "of an attribute that is a method": "member.turn = Game(member).turn\nmember.turn(member)  #",
    "a lambda": "wait = lambda: (yield from member.receive())\nwait()  #",
    "a generator expression": "yield from (member.receive() for _ in range(3))  #",
    "a list": "yield from [member.receive()]  #",
    "unpacking": "first, second = member.receive()  #\nroom.publish(member, [*member.receive()])  #",
    "sent": "member.tell(member.receive())  #\nroom.publish(member, member.receive())  #",
    "an index": "first = member.receive()[0]  #",
    "a method": "text = member.receive().decode()  #",
    "a string": "member.tell(f'{member.receive()}')  #",
    "len and list": "len(member.receive())  #\nlist(member.receive())  #",
    "another member's": "for other in room.members:\n    other.receive()  #",
    "a name for the method": "receive = member.receive\nreceive()  #",
    "a wait queue": "queue = loop.WaitQueue()\nqueue.wait()  #",
    "one of several that are assigned": "room.turn, (room.queue, _) = 1, [loop.WaitQueue(), 2]\nroom.queue.wait()  #",
    "one of several names": "turn, queue = 1, loop.WaitQueue()\nqueue.wait()  #",
    "with an annotation": "room.queue: loop.WaitQueue = loop.WaitQueue()\nroom.queue.wait()  #",
    "the value of the handler": "return member.receive()  #",
    "no call": "def inner():\n    yield from sleep(1)\nyield from member.receive  #\nyield from inner  #",
    "an inner function": "def inner():\n    yield from sleep(1)\ninner()  #\nyield from inner()",
    "parallel branches": "x = 5 if room else 6\nmember.receive() if x else sleep(1)  #",
}
BEFORE = """
import loop
from loop import sleep, sleep as nap

class Game:
    def __init__(self, player):
        self.player = player
    def play(self):
        yield from self.turn(self.player)
    def turn(self, who):
        return (yield from who.receive())

def ask(whom):
    return (yield from whom.receive())

def indirect(whom):
    return ask(whom)

def show(lines):
    for line in lines:
        print(line)

def handle(member, room):
    yield from member.receive()
"""


@pytest.mark.parametrize("name", FORGOTTEN)
def test_a_coroutine_that_does_not_run(write: Callable[..., Path], name: str) -> None:
    path = write(BEFORE + "".join(f"    {line}\n" for line in FORGOTTEN[name].splitlines()))
    assert warned(path) == expected(path) != set()


HELPED = """
import helper
class Game:
    def play(self, member):
        self.turn(member)
        helper.ask(member)
        yield from helper.ask(member)
    def turn(self, member):
        yield from member.receive()
def handle(member, room):
    yield from Game().play(member)
"""


def test_one_in_a_method_or_in_a_helper(write: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> None:
    write(HELPED)
    write("def ask(whom):\n    whom.receive()\n    return (yield from whom.receive())\n", "helper.py")
    load_handler("mine.py:handle")
    places = [line.partition(": ")[2].partition(": ")[0] for line in capfd.readouterr().err.splitlines()]
    assert places == ["helper.py:2", "mine.py:5", "mine.py:6"]


RIGHT = {
    "plain generators": "for n in numbers():\n    member.tell(str(n))\nlist(delegating())\nnumbers()",
    "kept for later": "later = sleep(1)\nyield from later\nsoon = sleep(2)\nroom.spawn(soon, 'soon')",
    "in a list": "several = [sleep(1), sleep(2)]\nfor one in several:\n    room.spawn(one)",
    "made by a generator": "for job in jobs(member):\n    room.spawn(job)",
    "handed on": "keep(sleep(1))\nunknown.take(sleep(1))\nroom.spawn(ask(member), name='x')",
    "in a dict": "table = {'a': sleep(1)}\nyield from table['a']",
    "one of two": "yield from (sleep(1) if member else member.receive())",
    "a lambda": "wait = lambda: sleep(1)\nyield from wait()",
    "a partial": "from functools import partial\nwait = partial(sleep, 1)\nyield from wait()",
    "closed": "one = member.receive()\none.close()",
    "a name that is somebody else's": "def sleep(seconds):\n    pass\nsleep(1)",
    "a name that is bound twice": "ask = print\nask = len\nask('x')",
    "another class": "inbox = Inbox()\nfor line in inbox.receive():\n    pass\ninbox.receive()\ninbox.wait()",
    "a member that is none": "member = Inbox()\nmember.receive()\nfor m in member.receive():\n    pass",
    "attributes of one's own": "member.nick = 'ann'\nroom.topic = 'cats'\nmember.prefix = b'ann: '",
    "attributes of others": "inbox = Inbox()\ninbox.task = 1\ninbox.members = []",
    "a dict of others": "jobs = {}\njobs['x'] = Inbox()\njobs['x'].task = 1\nfor job in jobs.values(): job.task = 2",
    "a dict that is handed on": "all = {}\nall['who'] = member\nkeep(all)\nall['job'].task = 1",
    "a dict that is updated": "all = {}\nall['who'] = member\nall.update(job=Inbox())\nall['job'].task = 1",
    "a dict with defaults": "all = {}\nall['who'] = member\nall.get('job', Inbox()).task = 1\n"
    "all.setdefault('job', Inbox()).task = 1",
    "a dict under two names": "all = {}\nall['who'] = member\nroom.all = all\nall['job'].task = 1",
    "a dict of all sorts": "state = {}\nstate['who'] = member\nstate['job'] = Inbox()\nstate['job'].task = 1",
    "a dict that is not empty": "state = {'job': Inbox()}\nstate['who'] = member\nstate['job'].task = 1",
    "a dict by members": "jobs = {}\njobs[member] = Inbox()\njobs[member].task = 1",
    "something with iter": "for line in Lines():\n    pass",
    "one of several that a call gives": "room.q = WaitQueue()\nroom.q, _ = unknown.take([Inbox(), 1])\nroom.q.wait()",
    "one of several, the others in a list": "room.q = WaitQueue()\n*_, room.q = 1, 2, Inbox()\nroom.q.wait()",
    "one of several of another kind": "room.q = WaitQueue()\nroom.q, room.x = Inbox(), WaitQueue()\nroom.q.wait()",
    "one of a loop": "room.q = WaitQueue()\nfor room.q in [Inbox()]:\n    room.q.wait()",
    "one of a comprehension": "room.q = WaitQueue()\n[room.q.wait() for room.q in [Inbox()]]",
    "one of a with": "room.q = WaitQueue()\nwith managed(1) as room.q:\n    room.q.wait()",
    "something in a member's place": "room.m = member\nfor room.m in [Inbox()]:\n    room.m.task = 1",
    "a decorated one": "managed(1)\nwith managed(1):\n    pass",
}
GENERATORS = """
import contextlib
from loop import sleep, WaitQueue
unknown = __import__("types").SimpleNamespace(take=id)

def numbers():
    yield 1

def delegating():
    yield from numbers()
    yield from [2, 3]

def jobs(member):
    yield sleep(1)
    yield member.receive()

def ask(whom):
    return (yield from whom.receive())

def keep(job):
    kept.append(job)

kept = []

class Inbox:
    def receive(self):
        return []
    def wait(self):
        yield 1

class Lines:
    def __iter__(self):
        yield from numbers()

@contextlib.contextmanager
def managed(seconds):
    yield from numbers()

def handle(member, room):
    yield from member.receive()
"""


@pytest.mark.parametrize("name", RIGHT)
def test_no_false_alarm(write: Callable[..., Path], name: str) -> None:
    path = write(GENERATORS + "".join(f"    {line}\n" for line in RIGHT[name].splitlines()))
    assert warned(path) == set()


def test_no_false_alarm_in_the_handlers_that_come_with_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ("PASSWORD", "x"), ("MODERATOR", "x"), ("BRIDGE", "127.0.0.1:9"):
        monkeypatch.setenv(f"CHATSRV_{name}", value)
    paths = [
        path for path in (ROOT / "chat" / "handlers").glob("*.py") if f"def {path.stem}(member" in path.read_text()
    ]
    assert paths
    for path in paths:
        load_handler(f"chat.handlers.{path.stem}:{path.stem}")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("document", ["README.md", "NOTES.md", "tests/solutions.md"])
def test_no_false_alarm_in_what_the_documents_show(write: Callable[..., Path], document: str) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        path = write(block, f"block{number}.py")
        module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(path.stem, path))  # type: ignore[arg-type]
        functions = [node.name for node in ast.parse(block).body if isinstance(node, ast.FunctionDef)]
        assert {lint.mistakes(module, name) == ([], []) for name in functions} <= {True}


# Mistakes because of which a handler does not end.

LOOP = "while True:\n    try:\n        yield from sleep(1)\n    "
UNENDING = {
    "a bare except": LOOP + "except:  #\n        pass",
    "BaseException": LOOP + "except BaseException as error:  #\n        print(error)",
    "Cancelled": LOOP + "except (OSError, loop.Cancelled):  #\n        continue",
    "in an inner block": LOOP.replace("yield", "if room: yield") + "except:  #\n        pass",
    "in finally": "try:\n    yield from member.receive()\nfinally:\n    yield from sleep(1)  #",
    "in a task": "def game():\n    try:\n        yield from sleep(1)\n    finally:\n        yield from sleep(1)  #\n"
    "room.spawn(game())",
}
ENDING = {
    "except Exception": LOOP + "except Exception:\n        pass",
    "raised again": LOOP + "except BaseException:\n        raise",
    "returns": LOOP + "except:\n        return",
    "breaks": LOOP + "except:\n        break",
    "returns in finally": LOOP + "except:\n        pass\n    finally:\n        return",
    "Cancelled goes by": LOOP + "except Cancelled:\n        raise\n    except:\n        pass",
    "no loop": "try:\n    yield from sleep(1)\nexcept:\n    pass",
    "a loop that ends": LOOP.replace("True", "(yield from member.receive())") + "except:\n        pass",
    "nothing waits in it": LOOP.replace("yield from sleep(1)", "print()") + "except:\n        yield from sleep(1)",
    "the try is around the loop": "try:\n    while True:\n        yield from sleep(1)\nexcept:\n    pass",
    "no task": "def numbers():\n    try:\n        yield 1\n    finally:\n        yield from [2]\nlist(numbers())",
}


@pytest.mark.parametrize("name", [*UNENDING, *ENDING])
def test_a_handler_that_goes_on_after_its_end_is_reported(write: Callable[..., Path], name: str) -> None:
    lines = {**UNENDING, **ENDING}[name].splitlines()
    path = write("from loop import Cancelled\n" + BEFORE + "".join(f"    {line}\n" for line in lines))
    assert warned(path) == expected(path)
    assert bool(expected(path)) == (name in UNENDING)


def test_a_warning_comes_before_the_server_listens(chatsrv: Start, write: Callable[..., Path]) -> None:
    write(
        "def handle(member, room):\n    member.tell('Welcome')\n    yield from member.receive()\n    member.receive()\n"
    )
    server = chatsrv("--handler", "mine.py:handle", cwd=os.getcwd())
    complaint = "chatsrv: mine.py:4: member.receive() does not run without `yield from` in front of it"
    assert server.complaints.expect("yield from") == [complaint]  # by another pipe than the journal's
    server.client()
    server.finish(complaint=complaint)


# Attributes of the server's own.


TAKEN = {
    "set": "member.task = 1  #\nroom.members = []  #\nmember.name += 'x'  #\nmember.reason, room.told = 'afk', True  #",
    "deleted": "del member.socket  #\ndel room.feed, member.nick  #\ndelattr(member, 'task')  #",
    "by its name": "setattr(member, 'task', 1)  #\nsetattr(room, 'quiet', True)  #\nsetattr(member, 'nick', 'ann')",
    "another member's": "for other in room.members:\n    other.reason = 'afk'  #\n    other.away = True",
    "another room's": "room.other('red').present = []  #\nmember.room.feed = 'rss'  #",
    "of a member that was kept": "game = Game(member)\ngame.player.writer = True  #\ngame.player.points = 1",
    "of one in a dict": "players = {}\nplayers[member.name] = member\nplayers['ann'].reason = 'afk'  #\n"
    "players.get('ann').task = 1  #\nfor other in players.values():\n    other.writer = True  #\n    other.nick = 'x'",
    "of one in a list": "room.queue_of = []\nroom.queue_of.append(member)\nroom.queue_of.pop(0).reason = 'afk'  #",
    "in a function": "def mark(whom):\n    whom.kicked = True  #\nmark(member)",
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_handler_that_overwrites_what_is_the_servers_is_refused(write: Callable[..., Path], name: str) -> None:
    path = write(BEFORE + "".join(f"    {line}\n" for line in TAKEN[name].splitlines()))
    assert warned(path) == expected(path) != set()
    first = min(expected(path))
    assert refusal("mine.py:handle").startswith(f"mine.py:{first}: ")
    assert refusal("mine.py:handle").endswith(" belongs to the server; rename your attribute")


def test_it_does_not_start_and_says_all_that_is_wrong(write: Callable[..., Path]) -> None:
    write(GOOD + "    member.reason = 'afk'\n    member.receive()\n    room.told = True\n")
    command = [sys.executable, str(ROOT / "chatsrv"), "--port", "0", "--handler", "mine.py:handle"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "chatsrv: mine.py:4: member.receive() does not run without `yield from` in front of it\n"
        "chatsrv: mine.py:5: room.told belongs to the server; rename your attribute\n"
        "chatsrv: --handler: mine.py:3: member.reason belongs to the server; rename your attribute\n"
    )


def test_readme_shows_the_line_that_refuses_a_name_that_is_taken(write: Callable[..., Path]) -> None:
    write(GOOD + "    member.reason = 'afk'\n")
    assert f"`{refusal('mine.py:handle')}`" in " ".join((ROOT / "README.md").read_text().split())


def test_what_is_nested_too_deep_is_not_looked_at(write: Callable[..., Path]) -> None:
    write("x = " + "+".join(["1"] * 900) + "\n" + GOOD)
    assert callable(load_handler("mine.py:handle")[0])


def test_what_is_not_text_is_not_looked_at(write: Callable[..., Path]) -> None:
    write(GOOD).write_bytes(b"# caf\xe9\n" + GOOD.encode())
    try:
        assert callable(load_handler("mine.py:handle")[0])
    except ValueError as error:  # the latest versions of Python do not take it either
        assert "SyntaxError" in str(error)
