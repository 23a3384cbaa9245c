"""README.md and NOTES.md: what they show is run, what they name exists.

Each fenced block says by its language what happens to it here: `python` is a program, whose name is in its first line
(README.md's is a handler); `python FILE` an excerpt from that file; `pycon` a session with the interpreter; `sh` is
commands; `console` commands and what they print; `diff` a change that makes a test fail; `text` is something else. What
a program does has a test of its own.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from chatting import HERE, PATIENCE, ROOT, Client, Output, Start, asleep, cpu_seconds, eventually

from chat.server.flags import Options, parse
from chat.server.journal import Journal
from chat.server.listen import prepare
from chat.server.loading import load_handler
from chat.server.server import Server
from loop import Kernel

if TYPE_CHECKING:
    from types import FrameType

TEXT = {name: (ROOT / name).read_text() for name in ("README.md", "NOTES.md")}
KINDS = ("python", "pycon", "sh", "console", "diff", "text", "ini")


class Block(NamedTuple):
    document: str
    line: int
    kind: str
    source: str
    text: str


def blocks() -> Iterator[Block]:
    for document, text in TEXT.items():
        for match in re.finditer(r"^```(\w*) ?(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
            yield Block(document, text.count("\n", 0, match.start()) + 2, *match.groups())


def section(document: str, heading: str) -> str:
    """What stands between a heading and the next one of its rank or higher."""
    rank = heading.index(" ")
    match = re.search(rf"^{re.escape(heading)}\n((?:.*\n)*?)(?=^#{{1,{rank}}} |\Z)", TEXT[document], re.MULTILINE)
    assert match, f"{document} has no section {heading!r}"
    return match[1]


BLOCKS = list(blocks())
PROGRAMS = {
    re.findall(r"# (\w+\.py)\n", block.text)[0]: block.text
    for block in BLOCKS
    if block.document == "NOTES.md" and block.kind == "python" and not block.source
}
RUNGS = [name[:-3] for name in PROGRAMS if name.startswith("rung")]
HANDLERS = [block.text for block in BLOCKS if block.document == "README.md" and block.kind == "python"]


# Both documents.


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert [block for block in BLOCKS if block.kind not in KINDS] == []
    assert RUNGS == ["rung1", "rung2", "rung3", "rung4", "rung5", "rung5half", "rung6", "rung7"]
    assert len(RUNGS) == len(re.findall(r"^### Rung \d", TEXT["NOTES.md"], re.MULTILINE))
    assert len(HANDLERS) == 1


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.source], ids=lambda block: str(block.line))
def test_an_excerpt_is_what_the_file_has(block: Block) -> None:
    text = (ROOT / block.source).read_text()
    at = 0
    for part in block.text.split("...\n"):
        assert part in text[at:], f"{block.source} has no such lines, or not there:\n{part}"
        at += text[at:].index(part) + len(part)


@pytest.mark.parametrize("document", TEXT)
def test_sessions_print_what_they_say(document: str) -> None:
    names: dict[str, object] = {}
    runner = doctest.DocTestRunner(verbose=False)
    for block in BLOCKS:
        if (block.document, block.kind) == (document, "pycon"):
            session = doctest.DocTestParser().get_doctest(block.text, names, document, document, block.line)
            runner.run(session, clear_globs=False)
            names = session.globs
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("document", TEXT)
def test_every_file_and_function_named_exists(document: str) -> None:
    for path, name in re.findall(r"`((?:loop|chat|tests)/[\w/.]*)(?::([\w.]+))?`", TEXT[document]):
        assert (ROOT / path).exists(), path
        body = ast.parse((ROOT / path).read_text()).body if name else []
        for part in name.split(".") if name else ():
            found = [node for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == part]
            assert found, f"{path} has no {name}"
            body = found[0].body


@pytest.mark.parametrize("document", TEXT)
def test_links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT[document]):
        path, _, place = target.partition("#")
        if not target.startswith("https://"):
            assert (ROOT / path).exists(), target
            headings = re.findall(r"^#+ (.*)$", TEXT[path or document], re.MULTILINE) if place else []
            places = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert not place or place in places, target


# NOTES.md: the ladder.


STINGY = """
import socket
send = socket.socket.send
socket.socket.send = lambda sock, data: send(sock, data[:100])
"""  # a system whose buffers are nearly full
FICKLE = """
import socket
false_alarms = set()
def fickle(call):
    def tried(sock, *arguments):
        if (sock, call) not in false_alarms:
            false_alarms.add((sock, call))
            raise BlockingIOError("a false alarm")
        return call(sock, *arguments)
    return tried
socket.socket.accept, socket.socket.recv = fickle(socket.socket.accept), fickle(socket.socket.recv)
"""  # a system that once says "ready" of each socket when it is not
RUN = """
import runpy, sys
sys.argv[:1] = []
sys.path.insert(0, ".")
runpy.run_path(sys.argv[0], run_name="__main__")
"""  # the program in its argument


def save_programs(directory: Path) -> None:
    """All of them, since they may import one another."""
    for name, text in PROGRAMS.items():
        (directory / name).write_text(text)


class Rung:
    """One program of the ladder as a process; `before` is run first, in the same process."""

    def __init__(self, name: str, directory: Path, stack: ExitStack, before: str = "pass", *arguments: str) -> None:
        save_programs(directory)
        self.stack = stack
        self.process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", f"{before}\n{RUN}", f"{name}.py", *arguments],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        assert self.process.stdout and self.process.stderr
        self.output, self.errors = Output(self.process.stdout), Output(self.process.stderr)
        stack.callback(self.errors.close)
        stack.callback(self.output.close)
        stack.callback(self.process.kill)
        self.port = int(self.output.expect("port ")[0].split()[1])

    def client(self) -> Client:
        client = Client(self.port)
        self.stack.callback(client.close)
        return client

    def dying_words(self) -> str:
        """What it says on stderr when it ends by an error."""
        assert self.process.wait(PATIENCE) == 1
        return self.errors.expect("Error: ")[-1]

    def sleeps(self) -> bool:
        """Whether the system says that it sleeps; False once it has used the processor for a while instead."""
        start = cpu_seconds(self.process.pid)
        eventually(lambda: asleep(self.process.pid) or self.runs_since(start))
        return not self.runs_since(start)

    def runs_since(self, start: float) -> bool:
        return cpu_seconds(self.process.pid) > start + 0.04


@pytest.fixture
def rung(tmp_path: Path) -> Iterator[Callable[..., Rung]]:
    with ExitStack() as stack:
        yield lambda name, *more: Rung(name, tmp_path, stack, *more)


def echoes(client: Client, text: bytes) -> bool:
    client.say(text)
    return client.line() == text


def test_rung_1_serves_one_after_the_other(rung: Callable[..., Rung]) -> None:
    server = rung("rung1")
    one, two = server.client(), server.client()
    assert echoes(one, b"first")
    two.say(b"second")
    assert echoes(one, b"again") and echoes(one, b"and again")
    assert not select.select([two.sock], [], [], 0)[0], "rung 1 serves two at once; what are the others for?"
    one.close()
    assert two.line() == b"second"


@pytest.mark.parametrize("name", RUNGS[1:])
def test_all_others_serve_two_at_once(rung: Callable[..., Rung], name: str) -> None:
    server = rung(name)
    one, two = server.client(), server.client()
    assert echoes(one, b"first") and echoes(two, b"second") and echoes(one, b"again")
    two.finish()
    assert two.everything() == b"", "when the client ends its stream, so does the server"
    if sys.platform == "linux":
        assert server.sleeps() == (name not in ("rung2", "rung4")), "only the rungs 2 and 4 ask all the time"


@pytest.mark.parametrize("name", RUNGS[1:])
def test_a_client_that_sends_much_and_reads_nothing_ends_rung_2_only(rung: Callable[..., Rung], name: str) -> None:
    server = rung(name)
    greedy = server.client()
    data, sent = os.urandom(1 << 16) * 256, 0  # 16 MiB; the buffers between us hold less
    wait = PATIENCE if name == "rung2" else 0.05  # rung 2 takes everything, until it dies
    try:
        while sent < len(data) and select.select([], [greedy.sock], [], wait)[1]:
            greedy.sock.setblocking(False)
            sent += greedy.sock.send(data[sent : sent + (1 << 20)])
    except ConnectionError:
        assert name == "rung2"
    greedy.sock.settimeout(PATIENCE)
    if name == "rung2":
        assert "BlockingIOError" in server.dying_words()
        return
    assert echoes(server.client(), b"nobody waits for it")
    back = bytearray()
    while len(back) < sent:
        back += greedy.sock.recv(1 << 20)
    assert back == data[:sent]


@pytest.mark.parametrize("name", RUNGS[1:])
def test_what_a_send_did_not_take_is_lost_by_rung_2_only(rung: Callable[..., Rung], name: str) -> None:
    client = rung(name, STINGY).client()
    client.say(b"x" * 1000)
    client.finish()
    assert len(client.everything()) == (100 if name == "rung2" else 1001)


@pytest.mark.parametrize("name", RUNGS)
def test_a_false_alarm_ends_the_rungs_that_believe_it(rung: Callable[..., Rung], name: str) -> None:
    server = rung(name, FICKLE)
    client = server.client()
    if name in ("rung1", "rung3", "rung5"):
        assert "BlockingIOError" in server.dying_words()
    else:
        assert echoes(client, b"wait, try, and wait again")


@pytest.mark.parametrize("name", RUNGS)
def test_a_reset_ends_all_but_rung_7(rung: Callable[..., Rung], name: str) -> None:
    server = rung(name)
    rude = server.client()
    assert echoes(rude, b"I am off")
    rude.reset()
    if name < "rung7":
        assert "ConnectionResetError" in server.dying_words()
    else:
        server.errors.expect("ConnectionResetError")
        assert "task echo" in server.errors.text()
        assert echoes(server.client(), b"still there")


def test_the_relay_copies_both_ways_and_passes_every_end_on(rung: Callable[..., Rung]) -> None:
    server = rung("rung7")
    relay = rung("relay", "pass", str(server.port))
    polite, rude, other = relay.client(), relay.client(), relay.client()
    assert echoes(polite, b"there and back") and echoes(rude, b"here, too")
    polite.finish()
    assert polite.everything() == b""
    rude.reset()
    assert echoes(other, b"still there")
    server.process.kill()
    with suppress(ConnectionResetError):
        assert other.everything() == b""
    assert relay.errors.text() == ""


# NOTES.md: the exercises.


def test_programs_print_what_they_say(tmp_path: Path) -> None:
    save_programs(tmp_path)
    for block in BLOCKS:
        if block.document == "NOTES.md" and block.kind == "console":
            for command, output in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block.text, re.MULTILINE):
                program, *arguments = shlex.split(command)
                assert program == "python3"
                done = subprocess.run(
                    [sys.executable, *arguments], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE,
                )  # fmt: skip
                assert (done.stdout, done.returncode) == (output, 0), command


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.kind == "diff"], ids=lambda block: str(block.line)
)
def test_a_change_makes_the_test_fail_that_is_named(block: Block, tmp_path: Path) -> None:
    head, *lines = block.text.splitlines()
    path, test = head.split(", ")
    before, after = ("".join(line[1:] + "\n" for line in lines if line[0] == sign) for sign in "-+")
    for folder in "loop", "chat", "tests":
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    file = tmp_path / path.strip()
    assert before in file.read_text(), "the notes change what is not there any more"
    file.write_text(file.read_text().replace(before, after))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--timeout=2", "tests/loop/test_kernel.py"]
    command += ["-k", f"{test} and plain"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert f"{test}[plain] _" in done.stdout and "\n1 failed, " in done.stdout, done.stdout


# NOTES.md: the rest.


def test_no_word_is_used_before_it_is_explained() -> None:
    prose = re.sub(r"^```(?:.*\n)*?```$|^#.*$|`[^`]*`|\[[^]]*\]\([^)]*\)", " ", TEXT["NOTES.md"], flags=re.MULTILINE)
    prose = re.sub(r"\s+", " ", prose)
    words = (
        "callback", "generator", "descriptor", "readiness", "task", "trap", "kernel", "ready queue", "turn",
        "coroutine", "undo", "wait queue", "poller", "message", "member", "feed", "outbox", "segment", "journal",
        "handler", "node", "seed", "offset", "epoch",
    )  # fmt: skip
    glossary = section("NOTES.md", "## 13. Glossary")
    for word in words:
        first = re.search(rf"\b(?<!in ){word}s?\b", prose, re.IGNORECASE)
        assert first, f"{word} is not explained"
        assert re.search(rf"^\| (.*, )?{word}(, .*)? \|", glossary, re.MULTILINE), f"{word} is not in the glossary"
        around = prose[max(0, first.start() - 60) : first.end() + 20]
        bold = prose[first.start() - 2 : first.end() + 2] == f"**{word}**"
        assert bold, f"{word!r} is used before it is explained: {around}"


def test_the_house_names_every_file() -> None:
    house = section("NOTES.md", "## 3. The house")
    files = {path.relative_to(ROOT).as_posix() for floor in ("loop", "chat") for path in ROOT.glob(f"{floor}/**/*.py")}
    for path in files:
        if path.endswith("__init__.py") or path.startswith("chat/handlers/"):
            continue
        assert f"`{path}`" in house, f"NOTES.md, The house: what is {path} for?"


def test_a_server_that_is_asked_tells_what_its_tasks_wait_for(chatsrv: Start) -> None:
    shown = next(block.text for block in BLOCKS if block.kind == "text" and "Park" in block.text)
    server = chatsrv()
    server.client()
    server.process.send_signal(signal.SIGUSR1)
    server.complaints.expect("bytes behind")
    told = re.sub(r"(\.py):\d+", r"\1", server.complaints.text())
    server.finish(complaint=None)
    assert re.sub(r"\d+", "N", shown) in re.sub(r"\d+", "N", told), told


def test_one_messages_way_is_the_order_of_the_calls() -> None:
    calls: list[tuple[str, str]] = []

    def note(frame: FrameType, kind: str, _: object) -> None:
        if kind == "call":
            calls.append((frame.f_code.co_filename, frame.f_code.co_name))

    kernel = Kernel()
    with ExitStack() as stack:
        stack.callback(kernel.poller.close)
        listener = socket.create_server((HERE, 0))
        prepare(listener, None)
        journal = Journal(stack.enter_context(open(os.devnull, "wb", buffering=0)))
        server = Server(kernel, [listener], journal, Options())
        kernel.spawn(server.run(), "server")
        stack.callback(kernel.run)
        stack.callback(server.stop)
        ann, ben = (Client(listener.getsockname()[1]) for _ in range(2))
        for client in (ann, ben):
            stack.callback(client.close)
            turn_until_heard(kernel, client)
            client.expect(b"Welcome", starts=True)
        ann.say(b"hi")
        sys.setprofile(note)
        try:
            for client in (ann, ben):
                turn_until_heard(kernel, client)
        finally:
            sys.setprofile(None)
        for client in (ann, ben):
            client.expect(b"127.0.0.1: hi")

    way = re.findall(r"`((?:loop|chat)/[\w/.]*):(?:\w+\.)?(\w+)`", section("NOTES.md", "## 4. One message's way"))
    assert len(way) > 15
    at = 0
    for path, name in way:
        called = (str(ROOT / path), name)
        assert called in calls[at:], f"{path}:{name} is not called there; {calls[at : at + 20]} follow"
        at = calls.index(called, at) + 1


def turn_until_heard(kernel: Kernel, client: Client) -> None:
    while not select.select([client.sock], [], [], 0)[0]:
        kernel.turn()


def test_a_members_states_are_those_of_the_code() -> None:
    states = re.findall(r"^\| `([A-Z]+)` \|", section("NOTES.md", "### A member's life"), re.MULTILINE)
    code = (ROOT / "chat/server/member.py").read_text()
    assert sorted(states) == sorted(re.findall(r"^([A-Z]+) = \"[a-z]+\"", code, re.MULTILINE))


def test_the_hazards_are_numbered_and_have_the_tests_that_are_named() -> None:
    tests = "".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    numbers = []
    for number, text in re.findall(r"^\*\*(\d+)\. ((?:.+\n)*)", section("NOTES.md", "## 7. Hazards"), re.MULTILINE):
        numbers.append(int(number))
        names = re.findall(r"`(test_\w+)`", text)
        assert names, f"no test is named for hazard {number}"
        for name in names:
            assert f"def {name}(" in tests, f"hazard {number}: there is no {name}"
            cited = re.match(r"test_hazard_(\d+)", name)
            assert not cited or int(cited[1]) == numbers[-1], f"hazard {number} names a test of another one: {name}"
    assert numbers == list(range(1, len(numbers) + 1))
    numbered = {int(number) for number in re.findall(r"def test_hazard_(\d+)_", tests)}
    assert numbered <= set(numbers), "tests are named after hazards that the notes don't have"


# README.md


def test_the_flags_are_those_of_the_program() -> None:
    command = [sys.executable, str(ROOT / "chatsrv"), "--help"]
    wide = {**os.environ, "COLUMNS": "1000"}
    output = subprocess.run(command, env=wide, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True).stdout
    flags = re.findall(r"^  (--\S+(?: \S+)?)\s{2,}(\S.*)$", output, re.MULTILINE)
    table = "| flag | |\n|---|---|\n" + "".join(f"| `{flag}` | {meaning} |\n" for flag, meaning in flags)
    assert table in section("README.md", "## Flags"), f"the table of flags in README.md should be\n\n{table}"


def test_commands_are_possible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "names.py").write_text(HANDLERS[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for block in BLOCKS:
        for line in block.text.splitlines() if block.kind == "sh" else ():
            program, *words = shlex.split(line.rstrip("& "), comments=True)
            if program == "./chatsrv":
                load_handler(parse(words).handler)
            elif program == "./chatclient":
                assert os.access(ROOT / program, os.X_OK)
            elif program == "make":
                assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
            elif program == ".venv/bin/python":
                assert words[:2] == ["-m", "pytest"] and (ROOT / words[2]).exists(), line
            elif program == "python3":
                assert words[0] == "test.py"
                assert all(f"class {word}" in (ROOT / words[0]).read_text() for word in words[1:]), line
            else:
                assert program in ("nc", "redis-server", "pip", "pipx", "sudo"), (
                    f"{line!r} has no test"
                )  # what these do has tests elsewhere


needs_nc = pytest.mark.skipif(
    not (nc := shutil.which("nc"))
    or "-N\t" not in subprocess.run([nc, "-h"], stderr=subprocess.PIPE, text=True).stderr,
    reason="an nc that knows -N",
)


@needs_nc
def test_nc_in_three_lines(chatsrv: Start) -> None:
    first, *rest = next(block.text for block in BLOCKS if "\nnc " in block.text).splitlines()
    assert first == "./chatsrv"
    server = chatsrv()
    with ExitStack() as stack:
        windows = []
        for line in rest:
            command = shlex.split(line.replace("3100", str(server.port)))
            window = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            stack.callback(window.kill)
            assert window.stdin and window.stdout
            windows.append((window.stdin, window.stdout))
            assert window.stdout.readline().startswith(b"Welcome")
        typed = windows[0][0]
        typed.write(b"hello\n")
        typed.flush()
        assert [shown.readline() for _, shown in windows] == [b"127.0.0.1: hello\n"] * 2


@needs_nc
def test_a_command_prints_what_it_says(chatsrv: Start) -> None:
    consoles = [block.text for block in BLOCKS if block.document == "README.md" and block.kind == "console"]
    assert consoles
    for console in consoles:
        command, _, output = console.partition("\n")
        command = command[2:].replace("3100", str(chatsrv().port))
        done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True)
        assert done.stdout == output


def test_the_journal_looks_like_this(chatsrv: Start) -> None:
    server = chatsrv()
    client = server.client()
    client.say(b"hi", b"\x1b[31mred")
    client.finish()
    server.terminated()
    assert server.journal
    log = server.journal.text()
    (shown,) = (block.text for block in BLOCKS if "accepted connection" in block.text)
    assert re.sub(r"\d{4,}", "PORT", shown) == re.sub(r"\d{4,}", "PORT", log)


def test_names_for_type_hints_can_be_imported() -> None:
    (names,) = re.findall(r"For type hints there are (.*?)\.\n", TEXT["README.md"], re.DOTALL)
    for path in re.findall(r"`([\w.]+)`", names):
        module, _, name = path.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), name), type)


def test_the_nickname_handler(chatsrv: Start, tmp_path: Path) -> None:
    (tmp_path / "names.py").write_text(HANDLERS[0])
    server = chatsrv("--handler", "names.py:names", cwd=tmp_path)
    ann, ben = server.client(), server.client()
    ann.say("/nick Ann")
    for client in (ann, ben):
        client.expect(b"* 127.0.0.1 is now Ann")
    ben.say("/nick Ann", "/nick Ben", "hello", "/who", "/nick", "/what", "/quit", "nobody hears this")
    ben.expect(b"That did not work.", b"* 127.0.0.1 is now Ben", b"Ben: hello", b"Here: Ann, Ben")
    ben.expect(b"That did not work.", b"That did not work.", b"* Ben has left")
    assert ben.everything() == b""
    ann.expect(b"* 127.0.0.1 is now Ben", b"Ben: hello", b"* Ben has left")
