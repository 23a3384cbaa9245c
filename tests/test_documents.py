"""README.md, NOTES.md and their further pages: what they show is run, what they name exists.

Each fenced block says by its language what happens to it here: `python` is a program, whose name is in its first line
(README.md's is a handler); `python FILE` an excerpt from that file; `pycon` a session with the interpreter; `sh` is
commands; `console` commands and what they print; `diff` a change that makes a test fail; `diff FILE` one that makes
another program of that one; `text` is something else. What a program does has a test of its own.
"""

from __future__ import annotations

import ast
import doctest
import re
import subprocess

import pytest
from chatting import ROOT
from documents import BLOCKS, HANDLERS, KINDS, RUNGS, TEXT, Block


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert [block for block in BLOCKS if block.kind not in KINDS] == []
    assert RUNGS == ["rung1", "rung2", "rung3", "rung4", "rung5", "rung5half", "rung6", "rung7"]
    assert len(RUNGS) == len(re.findall(r"^### Rung \d", TEXT["NOTES.md"], re.MULTILINE))
    assert len(HANDLERS) == 2


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.kind == "python" and block.source], ids=lambda block: str(block.line)
)
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


def test_the_top_level_has_nothing_else() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = {name.partition("/")[0] for name in listed.stdout.splitlines() if not name.startswith(".")}
    programs = {"chatsrv", "chatclient", "test.py", "Makefile", "pyproject.toml"}
    assert names <= {*programs, "README.md", "NOTES.md", "loop", "chat", "tests"}


@pytest.mark.parametrize("document", TEXT)
def test_links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT[document]):
        path, _, place = target.partition("#")
        if not target.startswith("https://"):
            file = (ROOT / document).parent / path if path else ROOT / document
            assert file.exists(), target
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if place else []
            places = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert not place or place in places, target
