"""README.md: what it shows is what happens."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from chatting import PATIENCE, ROOT, Start
from documents import BLOCKS, HANDLERS, TEXT, section

from chat.server.certificate import Certificate
from chat.server.flags import parse
from chat.server.loading import load_handler


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
        for line in block.text.replace("\\\n", " ").splitlines() if block.kind == "sh" else ():
            program, *words = shlex.split(line.rstrip("& "), comments=True)
            if program == "./chatsrv":
                options = parse(words)
                load_handler(options.handler)
                if options.tls and shutil.which("openssl"):  # with which the line before has made it
                    Certificate(*options.tls)
            elif program == "./chatclient":
                assert os.access(ROOT / program, os.X_OK)
            elif program == "openssl":
                if shutil.which(program):
                    subprocess.run([program, *words], check=True, capture_output=True)
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


def test_names_that_a_handler_may_import_exist() -> None:
    names = set(re.findall(r"`((?:loop|chat)\.[\w.]+)`", TEXT["README.md"]))
    assert {"chat.framing.Rest", "chat.server.member.Member", "loop.Coroutine"} <= names
    for path in names:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path


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


def test_the_handler_with_rooms(chatsrv: Start, tmp_path: Path) -> None:
    (tmp_path / "places.py").write_text(HANDLERS[1])
    server = chatsrv("--handler", "places.py:places", cwd=tmp_path)
    ann, ben = server.client(), server.client()
    ann.say("/where")
    ann.expect(f"You are in lobby, with {ben.name}.".encode())
    ann.say("/join red", "/where", "nobody hears this")
    ben.expect(f"* {ann.name} goes to red".encode())
    ann.expect(f"* {ann.name} goes to red".encode(), f"* {ann.name} has come".encode())
    ann.expect(b"You are in red, with nobody.", b"127.0.0.1: nobody hears this")
    ben.say("/join red", "hello")
    ann.expect(f"* {ben.name} has come".encode(), b"127.0.0.1: hello")
    ben.expect(f"* {ben.name} goes to red".encode(), f"* {ben.name} has come".encode(), b"127.0.0.1: hello")
