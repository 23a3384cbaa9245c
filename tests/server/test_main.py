"""The program from its start to its end: what it says when it cannot start, and what signals do."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Authority
from chatting import (
    HERE,
    PATIENCE,
    PREFIX,
    ROOT,
    SMALL,
    Chatsrv,
    Crowd,
    Start,
    check_journal,
    eventually,
    handler,
    linux,
)
from more import only_with_more

from chat.server.main import raise_descriptor_limit
from chat.server.signals import tell

pytestmark = pytest.mark.usefixtures("started_anew")

TELLS = "another signal ends this at once"


def run(*flags: str, program: Path = ROOT / "chatsrv", **more: object) -> tuple[int, str, str]:
    """Run chatsrv to its own end; returns exit status, stdout and stderr."""
    command = [sys.executable, str(program), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **more)  # type: ignore[call-overload]
    return done.returncode, done.stdout, done.stderr


# The start.


@pytest.mark.parametrize("name", ["chatsrv", "chatclient"])
def test_a_copy_says_what_it_misses_and_a_link_works(tmp_path: Path, name: str) -> None:
    copy, link = tmp_path / "copy", tmp_path / "link"
    shutil.copy(ROOT / name, copy)
    link.symlink_to(ROOT / name)
    status, out, err = run(program=copy)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"{name}: needs the folders chat and loop beside it")
    assert run("--version", program=link) == (0, f"{name} 1.0\n", "")


@pytest.mark.skipif(shutil.which("pypy3") is None, reason="PyPy is not installed")
@pytest.mark.parametrize("secure", [False, only_with_more(True)], ids=["plain", "TLS"])
def test_both_programs_run_on_pypy(chatsrv: Start, authority: Authority, secure: bool) -> None:
    flags = ["--tls", authority.issue()] if secure else []
    server = chatsrv(*flags, program=("pypy3", str(ROOT / "chatsrv")))
    command = ["pypy3", str(ROOT / "chatclient"), HERE, str(server.port)]
    command += ["--tls", "--ca", authority.file] if secure else []
    done = subprocess.run(command, input=b"hi\n", capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.endswith(b"\n" + PREFIX + b"hi\n")
    server.finish()


@pytest.mark.parametrize(
    ("program", "module"), [("chatsrv", "chat.server.server"), ("chatclient", "chat.client.client")]
)
def test_ctrl_c_while_it_is_being_loaded_ends_it_without_a_word(program: str, module: str) -> None:
    """In a moment in which Python could only say so in a traceback."""
    code = f"""
import os, runpy, signal, sys

class Interrupts:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts)
runpy.run_path({str(ROOT / program)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@linux
@pytest.mark.parametrize("limit", [5, 6])
def test_too_few_descriptors_are_told_in_one_line(limit: int) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    assert run("--port", "0", preexec_fn=few) == (1, "", "chatsrv: cannot start: Too many open files\n")


@pytest.mark.parametrize(
    ("before", "after", "counted"),
    [
        ((256, 4096), (4096, 4096), 4096),
        ((256, resource.RLIM_INFINITY), (1 << 16, resource.RLIM_INFINITY), 1 << 16),
        ((200_000, resource.RLIM_INFINITY), (200_000, resource.RLIM_INFINITY), 200_000),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), (resource.RLIM_INFINITY, resource.RLIM_INFINITY), 1 << 16),
    ],
)
def test_the_limit_of_descriptors_is_never_lowered(
    monkeypatch: pytest.MonkeyPatch, before: tuple[int, int], after: tuple[int, int], counted: int
) -> None:
    """Many a system says that there is no limit."""
    limits = [before]
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, new: limits.append(new))
    assert raise_descriptor_limit() == counted
    assert limits[-1] == after


@linux
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_that_cannot_be_written_is_told_in_one_line(flag: str, unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "wb") as full:
        command = [sys.executable, str(ROOT / "chatsrv"), flag]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE, env=environment)
    assert (done.returncode, done.stderr) == (1, b"chatsrv: cannot write to stdout: no space left on device\n")


def test_a_wrong_cluster_is_a_mistake_on_the_command_line() -> None:
    pytest.importorskip("hiredis")
    status, out, err = run("--port", "0", "--cluster", "http://127.0.0.1")
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_a_shared_port_without_a_cluster_is_two_chats_and_that_is_said(chatsrv: Start) -> None:
    server = chatsrv("--share-port")
    server.complaints.expect("separate chats")
    server.finish(complaint="chatsrv: --share-port without --cluster")


def test_nothing_is_left_open(chatsrv: Start) -> None:
    """Python's development mode tells of each socket and file that nobody has closed."""
    strict = {**os.environ, "PYTHONDEVMODE": "1"}
    server = chatsrv(env=strict)
    server.client().say("hello")
    server.finish()
    with socket.create_server((HERE, 0)) as other:
        status, _, err = run("--host", HERE, "--port", str(other.getsockname()[1]), env=strict)
    assert (status, err.count("\n")) == (1, 1)


# The end.


@pytest.fixture
def stuck(chatsrv: Start, crowd: Crowd) -> Callable[..., Chatsrv]:
    """Starts a server with so many clients that are due more than they take: the first visitors of the crowd."""

    def start(count: int = 1) -> Chatsrv:
        server = chatsrv("--quiet")
        crowd.enter(server.port, *(f"stuck{number}" for number in range(count)), buffer=SMALL)
        (talker,) = crowd.enter(server.port, "talker")
        crowd.run(talker.talk(8000, padding=1000))
        crowd.run(talker.leave())
        server.terminated("end of stream")
        return server

    return start


def test_several_signals_at_once_are_one(stuck: Callable[..., Chatsrv], crowd: Crowd) -> None:
    """A terminal, a shell and a supervisor may all send theirs: nobody loses anything by that."""
    server = stuck()
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: not server.answers(), "the beginning of the end")
    for number in signal.SIGHUP, signal.SIGINT, signal.SIGTERM:
        server.process.send_signal(number)
    slow = crowd.visitors[0]
    crowd.run(slow.to_the_end())
    assert slow.heard.endswith(b"\n* You are disconnected: the server is ending.\n")
    assert slow.heard.count(b"\n") == 1 + 8000 + 1
    assert server.wait() == 0
    server.finish(complaint=None)  # on a busy machine, the end takes long enough to be told


def test_several_signals_at_once_do_not_change_the_status() -> None:
    """Also when nobody is there, and the process has nearly ended when the second one comes."""
    for _ in range(10):
        server = Chatsrv()
        try:
            while server.process.poll() is None:
                server.process.send_signal(signal.SIGTERM)
            assert server.process.returncode == 0
        finally:
            server.destroy()


def test_an_end_that_takes_time_says_what_it_waits_for_and_a_second_signal_ends_it(
    stuck: Callable[..., Chatsrv], crowd: Crowd
) -> None:
    server = stuck()
    name = crowd.visitors[0].sock.getsockname()
    server.process.send_signal(signal.SIGINT)
    (line,) = server.complaints.expect(TELLS)
    assert f"{name[0]}:{name[1]}" in line
    start = time.monotonic()
    assert server.end(signal.SIGINT) == 1
    assert time.monotonic() - start < 3  # the orderly end would take 5 s
    crowd.run(crowd.visitors[0].to_the_end())
    assert crowd.visitors[0].cut_off  # not a FIN, in the middle of a message
    server.terminated("the server is ending")
    server.finish(status=1, complaint=TELLS)


def test_the_journal_is_whole_when_the_end_is_at_once(stuck: Callable[..., Chatsrv]) -> None:
    server = stuck(30)
    server.process.send_signal(signal.SIGTERM)
    server.complaints.expect(TELLS)
    assert server.end() == 1
    server.finish(status=1, complaint=TELLS)
    assert server.journal
    check_journal(server.journal.text())
    assert len(server.journal.lines("connection terminated: the server is ending")) == 30


def test_a_handler_that_hangs_is_told_and_a_second_signal_ends_it(chatsrv: Start, tmp_path: Path) -> None:
    lines = "import time", "room.publish(member, messages)", "time.sleep(60)"
    server = chatsrv("--handler", handler(tmp_path, *lines))
    client = server.client()
    client.say("hang")
    server.complaints.expect("no other task can run")
    server.complaints.expect("handler.py:7")
    start = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    while server.process.poll() is None:
        assert time.monotonic() < start + PATIENCE
        time.sleep(0.2)
        server.process.send_signal(signal.SIGINT)
    assert server.process.returncode == 1
    server.complaints.expect("ended by signal 2, in the middle of this")
    with pytest.raises(ConnectionResetError):  # it has not got what was published
        client.everything()
    server.finish(status=1, complaint=None)


def test_without_memory_for_its_last_lines_it_ends_without_a_word(chatsrv: Start, tmp_path: Path) -> None:
    """Python would end each member's task itself, which needs memory, and print a traceback for each that fails."""
    where = handler(tmp_path, "member.hub.journal.finish = fail", "member.hub.kernel.stop()")
    with (tmp_path / "handler.py").open("a") as file:
        file.write("\n\ndef fail():\n    raise MemoryError\n")
    server = chatsrv("--handler", where)
    server.client().say("end")
    assert server.wait() == 1
    server.finish(status=1)


@pytest.mark.parametrize("error", ["SystemExit(0)", "KeyboardInterrupt()", "GeneratorExit()", "BaseException()"])
def test_a_task_cannot_end_the_program(chatsrv: Start, tmp_path: Path, error: str) -> None:
    lines = "if messages == [b'go']: room.spawn(leave(), 'leave')", "room.publish(member, messages)"
    where = handler(tmp_path, *lines)
    with (tmp_path / "handler.py").open("a") as file:
        file.write(f"\n\ndef leave():\n    yield from ()\n    raise {error}\n")
    server = chatsrv("--handler", where)
    client = server.client()
    client.say("go")
    client.expect(PREFIX + b"go")
    server.complaints.expect(error.partition("(")[0], 2)
    client.say("still here")
    client.expect(PREFIX + b"still here")
    assert server.complaints.lines("leave failed") == ["task leave failed"]
    server.finish(complaint=None)


# Being asked.


def test_being_asked_often_is_answered_in_whole_and_does_not_delay_the_end(chatsrv: Start) -> None:
    server = chatsrv()
    server.client()
    server.process.send_signal(signal.SIGUSR1)
    server.complaints.expect("bytes behind")
    for _ in range(900):
        server.process.send_signal(signal.SIGUSR1)
    assert server.end() == 0
    server.complaints.close()
    told = server.complaints.text()
    assert "Traceback" not in told
    lines = told.splitlines()
    starts = [place for place, line in enumerate(lines) if line.startswith("chatsrv: 1 members")]
    assert starts[0] == 0 and 2 <= len(starts) < 900
    answers = [lines[start:end] for start, end in zip(starts, [*starts[1:], len(lines)])]
    assert all(any("bytes behind" in line for line in answer) for answer in answers[:-1])
    server.finish(complaint=None)


@linux
def test_being_asked_again_while_the_answer_waits_for_its_reader_is_answered_once(chatsrv: Start) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ
    with open(reader, "rb", buffering=0) as answers:
        into_it = "import os, sys; os.dup2(int(sys.argv[1]), 2); os.execvp(sys.argv[2], sys.argv[2:])"
        server = chatsrv(through=[sys.executable, "-c", into_it, str(writer)], pass_fds=[writer])
        os.close(writer)
        clients = [server.client() for _ in range(30)]
        for _ in range(5):
            server.process.send_signal(signal.SIGUSR1)
            clients[0].say("has it been asked?")  # after that, it has
            clients[0].wait_for(b"has it been asked?")
        told = b""
        while not re.search(rb"^%s: \d+ bytes behind\n" % re.escape(clients[-1].name.encode()), told, re.MULTILINE):
            told += answers.read(1 << 16)
        assert server.end() == 0
        told += answers.read()
    assert told.count(b"chatsrv: 30 members") == 1 and b"Traceback" not in told
    server.finish()


def test_nobody_is_asked_in_vain_where_no_path_can_be_told(chatsrv: Start, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    gone = tmp_path / "gone"
    odd.mkdir()
    gone.mkdir()
    server = chatsrv("--handler", handler(odd, "room.publish(member, messages)"), cwd=gone)
    gone.rmdir()
    client = server.client()
    server.process.send_signal(signal.SIGUSR1)
    server.complaints.expect("bytes behind")
    client.say("still here")
    client.expect(PREFIX + b"still here")
    assert server.end() == 0
    assert "Traceback" not in server.complaints.text()
    server.finish(complaint=None)


def test_being_asked_for_a_timeline_that_there_is_not_ends_nothing(chatsrv: Start) -> None:
    server = chatsrv()
    client = server.client()
    server.process.send_signal(signal.SIGUSR2)
    server.complaints.expect("SIGUSR2 needs --trace")
    client.say("still here")
    client.expect(PREFIX + b"still here")
    server.finish(complaint="chatsrv: there is no timeline to write: SIGUSR2 needs --trace")


@pytest.mark.parametrize("flags", [(), ("--trace", os.devnull)])
def test_being_asked_at_the_very_end_does_not_change_the_exit_status(chatsrv: Start, flags: tuple[str, ...]) -> None:
    server = chatsrv(*flags)
    server.process.send_signal(signal.SIGTERM)
    end = time.monotonic() + PATIENCE
    while server.process.poll() is None:
        assert time.monotonic() < end
        for number in signal.SIGUSR1, signal.SIGUSR2:
            server.process.send_signal(number)
    assert server.process.returncode == 0
    server.finish(complaint=None)


def test_an_answer_about_thousands_is_given_in_small_steps() -> None:
    asked = iter(range(5000))
    answer = tell(map(str, asked))
    next(answer)
    assert next(asked) <= 100
