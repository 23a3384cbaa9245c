"""NOTES.md, after the ladder: the exercises with solutions.md, and what the text says of the code."""

from __future__ import annotations

import ast
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chatting import HERE, PATIENCE, ROOT, Client, Start
from documents import BLOCKS, TEXT, Block, save_programs, section
from more import every

from chat.server.flags import Options
from chat.server.journal import Journal
from chat.server.listen import prepare
from chat.server.server import Server
from loop import Kernel

if TYPE_CHECKING:
    from types import FrameType


def test_programs_print_what_they_say(tmp_path: Path) -> None:
    save_programs(tmp_path)
    for block in BLOCKS:
        if block.document == "tests/solutions.md" and block.kind == "console":
            for command, output in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block.text, re.MULTILINE):
                program, *arguments = shlex.split(command)
                assert program == "python3"
                done = subprocess.run(
                    [sys.executable, *arguments], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE,
                )  # fmt: skip
                assert (done.stdout, done.returncode) == (output, 0), command


@pytest.mark.parametrize(
    "block",
    every(3, (block for block in BLOCKS if block.kind == "diff" and not block.source)),  # each is a pytest of its own
    ids=lambda block: str(block.line),
)
def test_a_change_makes_the_test_fail_that_is_named(block: Block, tmp_path: Path) -> None:
    head, *lines = block.text.splitlines()
    path, test = head.split(", ")
    before, after = ("".join(line[1:] + "\n" for line in lines if line[0] == sign) for sign in "-+")
    for folder in "loop", "chat", "tests":
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("results"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    file = tmp_path / path.strip()
    assert before in file.read_text(), "the notes change what is not there any more"
    file.write_text(file.read_text().replace(before, after))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--timeout=5", "tests/loop/test_kernel.py"]
    command += ["-k", f"{test} and plain"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert f"{test}[plain] _" in done.stdout and "\n1 failed, " in done.stdout, done.stdout


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


def test_the_house_leads_to_every_file_and_each_says_what_it_is_for() -> None:
    house = section("NOTES.md", "## 3. The house")
    for path in (path.relative_to(ROOT) for floor in ("loop", "chat") for path in ROOT.glob(f"{floor}/**/*.py")):
        if path.name != "__init__.py":
            assert ast.get_docstring(ast.parse((ROOT / path).read_text())), f"{path} does not say what it is for"
            assert f"`{path}`" in house or f"`{path.parent}/`" in house, f"NOTES.md, The house: what is {path} for?"


def test_a_server_that_is_asked_tells_what_its_tasks_wait_for(chatsrv: Start) -> None:
    shown = next(block.text for block in BLOCKS if block.kind == "text" and "Park" in block.text)
    server = chatsrv()
    server.client()
    server.process.send_signal(signal.SIGUSR1)
    server.complaints.expect("bytes behind")
    told = re.sub(r"(\.py):\d+", r"\1", server.complaints.text())
    server.finish(complaint=None)
    for task in re.split(r"\n(?! )", shown.strip()):
        assert re.sub(r"\d+", "N", task) in re.sub(r"\d+", "N", told), told


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

    way = re.findall(r"`((?:loop|chat)/[\w/.]*):(?:\w+\.)?(\w+)`", section("NOTES.md", "### The path of one message"))
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
    hazards = section("NOTES.md", "## 7. Hazards")
    for number, text in re.findall(r"^- \*\*(\d+)\. ((?:(?!- ).+\n)*)", hazards, re.MULTILINE):
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
