"""README.md and NOTES.md: what they show is run, what they name exists.

Each fenced block says by its language what happens to it here: `python` is a program (a rung of the ladder, or a
handler), `pycon` a session with the interpreter, `sh` commands, `console` a command and what it prints, `text` is
something else, with a test of its own.
"""

from __future__ import annotations

import ast
import doctest
import os
import re
import select
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple

import pytest

from chat.journal import Journal
from chat.options import Options, load_handler, parse
from chat.server import Server, prepare
from loop import Kernel

if TYPE_CHECKING:
    from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "NOTES.md")
TEXT = {name: (ROOT / name).read_text() for name in DOCUMENTS}
PATIENCE = 10.0  # seconds for what has to happen; mostly it happens at once
HOST = "127.0.0.1"


class Block(NamedTuple):
    document: str
    line: int  # where its first line is, for messages
    language: str
    text: str


def blocks() -> list[Block]:
    found = []
    for document, text in TEXT.items():
        for match in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
            found.append(Block(document, text.count("\n", 0, match.start()) + 2, match[1], match[2]))
    return found


def section(document: str, heading: str) -> str:
    """What stands between a heading and the next one of its rank or higher."""
    rank = heading.index(" ")
    match = re.search(rf"^{re.escape(heading)}\n((?:.*\n)*?)(?=^#{{1,{rank}}} |\Z)", TEXT[document], re.MULTILINE)
    assert match, f"{document} has no section {heading!r}"
    return match[1]


BLOCKS = blocks()
RUNGS = dict(enumerate((block.text for block in BLOCKS if block[::2] == ("NOTES.md", "python")), 1))
HANDLERS = [block.text for block in BLOCKS if (block.document, block.language) == ("README.md", "python")]


def wait_until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.005)


class Program:
    """A server as a process of its own, and clients that talk to it."""

    def __init__(self, stack: ExitStack, directory: Path, *command: str) -> None:
        self.stack = stack
        self.stderr = directory / "stderr.txt"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        with open(self.stderr, "wb") as stderr:
            self.process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, *command], cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=stderr
                )
            )
        stack.callback(self.process.kill)
        self.log = b""
        self.port = int(self.read(rb"port (\d+)\n")[1])

    def read(self, pattern: bytes) -> re.Match[bytes]:
        """Read its stdout until `pattern` has come."""
        assert self.process.stdout is not None
        while (match := re.search(pattern, self.log)) is None:
            assert select.select([self.process.stdout], [], [], PATIENCE)[0], f"{pattern!r} is not in {self.log!r}"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, self.stderr.read_text()
            self.log += data
        return match

    def client(self) -> socket.socket:
        return self.stack.enter_context(socket.create_connection((HOST, self.port), timeout=PATIENCE))

    def uses_the_processor(self) -> bool:
        """Whether it runs although nobody speaks; False as soon as it is found asleep."""
        busy = -1
        while True:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            if fields[0] == "S":
                return False
            ticks = int(fields[11]) + int(fields[12])
            busy = ticks if busy < 0 else busy
            if ticks >= busy + 5:
                return True
            time.sleep(0.005)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def chatsrv(stack: ExitStack, tmp_path: Path) -> Callable[..., Program]:
    def start(*flags: str) -> Program:
        return Program(stack, tmp_path, str(ROOT / "chatsrv"), "--port", "0", *flags)

    return start


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def echoes(sock: socket.socket, data: bytes) -> bool:
    sock.sendall(data)
    return read_exactly(sock, len(data)) == data


def reset(sock: socket.socket) -> None:
    """Go away without saying goodbye."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# Both documents.


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    unknown = [block for block in BLOCKS if block.language not in ("python", "pycon", "sh", "console", "text")]
    assert not unknown
    assert sum(block.language == "python" for block in BLOCKS) == len(RUNGS) + len(HANDLERS)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_sessions_print_what_they_say(document: str) -> None:
    names: dict[str, object] = {}
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    for block in BLOCKS:
        if (block.document, block.language) == (document, "pycon"):
            examples = doctest.DocTestParser().get_doctest(block.text, names, document, document, block.line)
            runner.run(examples, clear_globs=False)
            names = examples.globs
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_and_function_named_exists(document: str) -> None:
    for path, name in re.findall(r"`((?:loop|chat|tests)/[\w/.]*)(?::([\w.]+))?`", TEXT[document]):
        assert (ROOT / path).exists(), path
        if name:
            body = ast.parse((ROOT / path).read_text()).body
            for part in name.split("."):
                found = [
                    node for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == part
                ]
                assert found, f"{path} has no {name}"
                body = found[0].body


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    headings = re.findall(r"^#+ (.*)$", TEXT[document], re.MULTILINE)
    places = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT[document]):
        assert target.startswith("https://") or (target[1:] in places if target[0] == "#" else (ROOT / target).exists())


# NOTES.md


def test_no_word_is_used_before_it_is_explained() -> None:
    prose = re.sub(r"^```(?:.*\n)*?```$|^#.*$|`[^`]*`|\[[^]]*\]\([^)]*\)", " ", TEXT["NOTES.md"], flags=re.MULTILINE)
    prose = re.sub(r"\s+", " ", prose)
    words = (
        "generator", "descriptor", "readiness", "task", "trap", "kernel", "turn", "coroutine", "undo", "wait queue",
        "poller", "message", "member", "feed", "cursor", "journal", "handler",
    )  # fmt: skip
    for word in words:
        first = re.search(rf"\b(?<!in ){word}s?\b", prose, re.IGNORECASE)
        assert first, f"{word} is not explained"
        around = prose[max(0, first.start() - 60) : first.end() + 20]
        bold = prose[first.start() - 2 : first.end() + 2] == f"**{word}**"
        assert bold, f"{word!r} is used before it is explained: {around}"


def test_the_house_names_every_file() -> None:
    house = section("NOTES.md", "## 2. The house")
    files = {path.relative_to(ROOT).as_posix() for floor in ("loop", "chat") for path in ROOT.glob(f"{floor}/*.py")}
    for path in files - {"loop/__init__.py", "chat/__init__.py"}:
        assert f"`{path}`" in house, f"NOTES.md, The house: what is {path} for?"


@pytest.mark.parametrize("number", RUNGS)
def test_rung(number: int, stack: ExitStack, tmp_path: Path) -> None:
    for rung, text in RUNGS.items():
        (tmp_path / f"rung{rung}.py").write_text(text)
    server = Program(stack, tmp_path, f"rung{number}.py")
    one, two = server.client(), server.client()
    assert echoes(one, b"first")
    if number == 1:  # one after the other
        two.sendall(b"second")
        assert echoes(one, b"again") and echoes(one, b"and again")
        assert not select.select([two], [], [], 0)[0], "rung 1 serves two at once; then what is rung 2 for?"
        one.close()
        assert read_exactly(two, 6) == b"second"
    else:
        assert echoes(two, b"second") and echoes(one, b"again")
    if sys.platform == "linux":
        assert server.uses_the_processor() == (number in (2, 4))
    two.shutdown(socket.SHUT_WR)
    assert two.recv(1) == b"", "the server closes when the client does"

    greedy = server.client()  # sends much, and reads nothing meanwhile
    if number == 2:
        with pytest.raises(OSError):
            while True:
                greedy.sendall(bytes(65536))
        assert "BlockingIOError" in ending(server)
        server = Program(stack, tmp_path, f"rung{number}.py")
    else:
        greedy.setblocking(False)
        data, sent = os.urandom(65536) * 128, 0  # 8 MiB, more than the buffers between us hold
        back = bytearray()
        while sent < len(data) and select.select([], [greedy], [], 0.05)[1]:
            sent += greedy.send(data[sent:])
        while len(back) < sent:
            assert select.select([greedy], [], [], PATIENCE)[0]
            back += greedy.recv(1 << 20)
        assert back == data[:sent]
        greedy.close()

    rude = server.client()
    assert echoes(rude, b"I am off")
    reset(rude)
    if number < 7:
        assert "ConnectionResetError" in ending(server)
    else:
        wait_until(lambda: "ConnectionResetError" in server.stderr.read_text(), "the failed task is told of")
        assert "task echo" in server.stderr.read_text()
        assert echoes(server.client(), b"still there")


def ending(server: Program) -> str:
    """What it says on stderr when it ends of its own accord."""
    assert server.process.wait(PATIENCE) != 0
    return server.stderr.read_text()


def test_one_messages_way_is_the_order_of_the_calls() -> None:
    kernel = Kernel()
    with ExitStack() as stack:
        stack.callback(kernel.poller.close)
        listener = stack.enter_context(socket.create_server((HOST, 0)))
        prepare(listener)
        journal = Journal(stack.enter_context(open(os.devnull, "wb", buffering=0)))
        server = Server(kernel, [listener], journal, Options())
        kernel.spawn(server.run(), "server")
        ann, ben = (
            stack.enter_context(socket.create_connection(listener.getsockname()[:2], PATIENCE)) for _ in range(2)
        )
        stack.callback(kernel.run)
        stack.callback(server.stop)
        for sock in (ann, ben):
            turn_until_line(kernel, sock, b"Welcome")

        calls: list[tuple[str, str]] = []

        def note(frame: FrameType, kind: str, _: object) -> None:
            if kind == "call":
                calls.append((frame.f_code.co_filename, frame.f_code.co_name))

        sys.setprofile(note)
        try:
            ann.sendall(b"hi\n")
            for sock in (ann, ben):
                turn_until_line(kernel, sock, b"127.0.0.1: hi\n")
        finally:
            sys.setprofile(None)
        ann.close()
        ben.close()

    way = re.findall(r"`((?:loop|chat)/[\w/.]*):(?:\w+\.)?(\w+)`", section("NOTES.md", "## 3. One message's way"))
    assert len(way) > 15
    at = 0
    for path, name in way:
        try:
            at = calls.index((str(ROOT / path), name), at) + 1
        except ValueError:
            pytest.fail(f"{path}:{name} is not called there; it goes on with {calls[at : at + 20]}")


def turn_until_line(kernel: Kernel, sock: socket.socket, start: bytes) -> None:
    while not select.select([sock], [], [], 0)[0]:
        kernel.turn()
    line = b""
    while not line.endswith(b"\n"):
        line += sock.recv(1)
    assert line.startswith(start)


# README.md


def test_the_flags_are_those_of_the_program() -> None:
    output = subprocess.run(
        [sys.executable, str(ROOT / "chatsrv"), "--help"],
        env={**os.environ, "COLUMNS": "1000"}, capture_output=True, text=True, timeout=PATIENCE, check=True,
    ).stdout  # fmt: skip
    flags = re.findall(r"^  (--\S+(?: \S+)?)\s{2,}(\S.*)$", output, re.MULTILINE)
    table = "| flag | |\n|---|---|\n" + "".join(f"| `{flag}` | {meaning} |\n" for flag, meaning in flags)
    assert table in section("README.md", "## Flags"), f"the table of flags in README.md should be\n\n{table}"


def test_commands_are_possible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "names.py").write_text(HANDLERS[0])
    monkeypatch.chdir(tmp_path)
    for block in BLOCKS:
        for line in block.text.splitlines() if block.language == "sh" else ():
            program, *words = shlex.split(line, comments=True)
            if program == "./chatsrv":
                load_handler(parse(words).handler)
            elif program == "./chatclient":
                assert os.access(ROOT / program, os.X_OK)
            elif program == "make":
                assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
            elif program == "python3":
                assert words[0] == "test.py"
                assert all(f"class {word}" in (ROOT / words[0]).read_text() for word in words[1:]), line
            else:
                assert program in ("nc", "kill"), f"{line!r} has no test"  # nc has, below


needs_nc = pytest.mark.skipif(
    not (nc := shutil.which("nc"))
    or " -N" not in subprocess.run([nc, "-h"], capture_output=True, text=True, check=False).stderr.replace("\t", " "),
    reason="an nc that knows -N",
)


@needs_nc
def test_nc_in_three_lines(chatsrv: Callable[..., Program], stack: ExitStack) -> None:
    first, *rest = next(block.text for block in BLOCKS if "\nnc " in block.text).splitlines()
    assert first == "./chatsrv"
    server = chatsrv()
    windows = []
    for line in rest:
        command = shlex.split(line.replace("3100", str(server.port)))
        window = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stack.enter_context(window)
        stack.callback(window.kill)
        windows.append(window)
        assert window.stdout is not None
        assert window.stdout.readline().startswith(b"Welcome")
    assert len(windows) == 2 and windows[0].stdin
    windows[0].stdin.write(b"hello\n")
    windows[0].stdin.flush()
    for window in windows:
        assert window.stdout and window.stdout.readline() == b"127.0.0.1: hello\n"


@needs_nc
def test_a_command_prints_what_it_says(chatsrv: Callable[..., Program]) -> None:
    consoles = [block.text for block in BLOCKS if block.language == "console"]
    assert consoles
    for console in consoles:
        command, _, output = console.removeprefix("$ ").partition("\n")
        command = command.replace("3100", str(chatsrv().port))
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=PATIENCE, check=True)
        assert done.stdout == output


def test_the_journal_looks_like_this(chatsrv: Callable[..., Program]) -> None:
    server = chatsrv()
    client = server.client()
    client.sendall(b"hi\n\x1b[31mred\n")
    client.shutdown(socket.SHUT_WR)
    log = server.read(rb"(?s).* connection terminated: .*\n")[0].decode()
    shown = [block.text for block in BLOCKS if "accepted connection" in block.text]
    assert [re.sub(r"\d{4,}", "PORT", text) for text in shown] == [re.sub(r"\d{4,}", "PORT", log)]


def test_the_nickname_handler(chatsrv: Callable[..., Program], tmp_path: Path) -> None:
    (tmp_path / "names.py").write_text(HANDLERS[0])
    server = chatsrv("--handler", "names.py:names")
    ann, ben = Talker(server), Talker(server)
    assert ann.hears("Welcome") and ben.hears("Welcome")
    ann.says("/nick Ann")
    assert ann.hears("* 127.0.0.1 is now Ann") and ben.hears("* 127.0.0.1 is now Ann")
    ben.says("/nick Ann")
    assert ben.hears("That did not work")
    ben.says("/nick Ben\nhello\n/who")
    for who in (ann, ben):
        assert who.hears("* 127.0.0.1 is now Ben") and who.hears("Ben: hello")
    assert ben.hears("Here: Ann, Ben")
    ben.says("/quit\nnobody hears this")
    assert ben.hears("* Ben has left") and ben.file.readline() == ""
    assert ann.hears("* Ben has left")
    for who in (ben, ann):
        who.file.close()  # it holds the socket open
        reset(who.socket)
        server.read(rb"connection terminated.*\n")
        server.log = b""
    assert server.stderr.read_text() == ""


class Talker:
    def __init__(self, server: Program) -> None:
        self.socket = server.client()
        self.file = server.stack.enter_context(self.socket.makefile(newline="\n"))

    def says(self, text: str) -> None:
        self.socket.sendall(text.encode() + b"\n")

    def hears(self, start: str) -> bool:
        line = self.file.readline()
        assert line.startswith(start), line
        return True
