"""The timeline: what it says, that others can read it, and that it is bounded. (That a traced kernel does what a plain
one does, all other tests of the kernel say: they run with both.)"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chatting import PATIENCE, ROOT, Start, eventually
from pairs import Pair
from timeless import Timeless

from loop import WaitQueue, recv, send, sleep
from loop.trace import TracedKernel

if TYPE_CHECKING:
    from loop.traps import Coroutine

Event = dict[str, Any]


def check(text: str) -> list[Event]:
    """Hold a file against the description of the format, and against what ui.perfetto.dev leaves out; its events."""
    events: list[Event] = json.loads(text)["traceEvents"]
    names: dict[int, str] = {}
    slices = defaultdict(list)
    flows: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        assert event["pid"] == 1 and event["tid"] >= 1 and isinstance(event["name"], str)
        if event["ph"] == "M":
            if event["name"] == "thread_name":
                assert event["tid"] not in names, "a track has one name"
                names[event["tid"]] = event["args"]["name"]
            continue
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0 and event["cat"] in ("turn", "wait", "step")
            slices[event["tid"]].append(event)
        elif event["ph"] == "C":
            assert all(type(value) in (int, float) for value in event["args"].values())
        else:
            flows[event["id"]].append(event)
    assert names[1] == "kernel"
    for track, pieces in slices.items():
        assert track in names
        pieces.sort(key=lambda piece: (piece["ts"], piece["dur"]))
        for piece, following in zip(pieces, pieces[1:]):
            assert piece["ts"] + piece["dur"] <= following["ts"] + 0.0005, f"{piece} and {following} overlap"
    for begin, end in flows.values():
        assert (begin["ph"], end["ph"], end["bp"]) == ("s", "f", "e")
        assert (begin["cat"], begin["name"]) == (end["cat"], end["name"]) and begin["ts"] <= end["ts"]
        assert any(piece["ts"] <= begin["ts"] <= piece["ts"] + piece["dur"] + 0.001 for piece in slices[begin["tid"]])
        assert any(piece["ts"] == end["ts"] and piece["cat"] == "step" for piece in slices[end["tid"]])
    return events


def told(events: list[Event]) -> dict[str, list[str]]:
    """What stands on each track, in order; of what takes time, its milliseconds."""
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    tracks: dict[str, list[str]] = {name: [] for name in names.values()}
    for event in sorted((event for event in events if event["ph"] == "X"), key=lambda event: event["ts"]):
        length = f" {event['dur'] / 1000:g}" if event["dur"] else ""
        tracks[names[event["tid"]]].append(event["name"].rpartition("<locals>.")[2] + length)
    return tracks


def arrows(events: list[Event]) -> list[tuple[str, str, str]]:
    """From which track to which, and what it says."""
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    return [
        (names[event["tid"]], event["name"], names[ends[event["id"]]["tid"]]) for event in events if event["ph"] == "s"
    ]


@pytest.fixture
def traced(world: Timeless) -> TracedKernel:
    return TracedKernel(world, world.clock)


def test_steps_waits_and_what_woke_whom(traced: TracedKernel, world: Timeless, pair: Pair) -> None:
    near, far = pair
    queue = WaitQueue()

    def work(seconds: float) -> None:
        world.now += seconds

    def reader() -> Coroutine[None]:
        work(0.001)
        yield from recv(near, 10)
        work(0.002)
        queue.wake()

    def waiter() -> Coroutine[None]:
        yield from queue.wait()
        work(0.003)

    def sender() -> Coroutine[None]:
        yield from sleep(1)
        yield from send(far, b"x")
        work(0.004)

    for coroutine in reader(), waiter(), sender():
        traced.spawn(coroutine)
    traced.run()
    events = list(traced.events())
    fd = near.fileno()
    assert told(events) == {
        "kernel": ["poll 1000"],
        "reader": ["reader 1", f"ReadWait {fd} 1004", "recv 2"],
        "waiter": ["ready 1", "waiter", "Park 1006", "WaitQueue.wait 3"],
        "sender": ["ready 1", "sender", "Sleep 1000", "sleep 4"],
    }
    assert arrows(events) == [
        ("kernel", "timer", "sender"),
        ("kernel", "poll", "reader"),
        ("reader", "task", "waiter"),
    ]
    steps = [event["args"] for event in events if event.get("cat") == "step"]
    assert [step["outcome"] for step in steps if step["outcome"]] == ["returned"] * 3
    (read,) = (step for step in steps if step["stack"].endswith("recv"))
    assert read["stack"].count(" > ") == 1 and "stream.py:" in read["at"]


def test_what_has_not_ended_is_drawn_up_to_now(traced: TracedKernel, world: Timeless) -> None:
    def coroutine() -> Coroutine[None]:
        yield from sleep(10)

    traced.spawn(coroutine(), "sleeper")
    traced.turn()
    world.now += 2
    assert told(list(traced.events()))["sleeper"] == ["coroutine", "Sleep 2000"]


def test_counters(traced: TracedKernel) -> None:
    members = [0]
    traced.counters["members"] = lambda: members[0]

    def coroutine() -> Coroutine[None]:
        for members[0] in 1, 1, 2:
            yield from sleep(1)

    traced.spawn(coroutine())
    traced.spawn(coroutine())
    traced.run()
    drawn = [(event["name"], event["args"]["now"]) for event in traced.events() if event["ph"] == "C"]
    assert drawn == [("ready tasks", 2), ("members", 0), ("members", 1), ("members", 2)]


def test_the_last_steps_are_kept_and_the_last_seconds_written(world: Timeless, tmp_path: Path) -> None:
    traced = TracedKernel(world, world.clock, most=100)

    def ticker() -> Coroutine[None]:
        for _ in range(1000):
            yield from sleep(1)

    traced.spawn(ticker())
    traced.run()
    path = tmp_path / "trace.json"

    def steps(*seconds: float) -> int:
        traced.write_to(str(path), *seconds)
        traced.save()
        return sum(event.get("cat") == "step" for event in check(path.read_text()))

    before = signal.getsignal(signal.SIGUSR2)
    try:
        assert (steps(), steps(30), steps(0.5)) == (100, 31, 1)
        assert len(traced.turns) == 100 and not traced.coming
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_it_keeps_nothing_of_a_task_that_has_ended(traced: TracedKernel) -> None:
    def coroutine() -> Coroutine[None]:
        yield from sleep(0)

    for _ in range(3):
        traced.spawn(coroutine())
        traced.spawn(coroutine()).cancel()
        dropped = traced.spawn(coroutine())
        traced.turn()
        traced.drop(dropped)
        traced.run()
    assert not traced.coming and not traced.tasks
    assert [name for name in told(list(traced.events())) if name != "kernel"] == ["coroutine"]


SCRIPT = """\
import sys
from beside import NAME
from loop import Kernel, sleep

def coroutine():
    yield from sleep(0.001)

kernel = Kernel()
kernel.spawn(coroutine(), NAME + sys.argv[1])
kernel.run()
sys.exit(3)
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from loop.trace import main; main()",
    ]
    return subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=PATIENCE)


def test_any_script(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "script.py").write_text(SCRIPT)
    (tmp_path / "there" / "beside.py").write_text("NAME = 'task '")
    done = run(tmp_path, "there/script.py", "7")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    assert told(check((tmp_path / "trace.json").read_text()))["task 7"][0].startswith("coroutine")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "usage: python3 -m loop.trace SCRIPT [ARGUMENT ...]"),
        (["missing.py"], "loop.trace: cannot open missing.py: No such file or directory"),
        (["."], "loop.trace: cannot open .: Is a directory"),
    ],
)
def test_no_script(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", complaint + "\n")


# The server.


def test_a_server_draws_what_it_does_when_it_is_asked_and_at_the_end(chatsrv: Start, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    server = chatsrv("--trace", f"{path},60")
    client = server.client()
    assert path.read_text() == ""
    server.process.send_signal(signal.SIGUSR2)

    def events() -> list[Event]:
        text = path.read_text()
        return check(text) if text.endswith("]}\n") else []

    eventually(lambda: client.name in told(events()), "a track for the client")
    client.say("hello")
    client.expect(b"127.0.0.1: hello")
    client.finish()
    server.terminated()
    server.finish()
    tracks = told(events())
    assert {"accept", "signals", "journal", "spread", client.name} <= tracks.keys()
    woken = arrows(events())
    assert ("kernel", "poll", client.name) in woken and (client.name, "task", "journal") in woken
    members = [event["args"]["now"] for event in events() if event["name"] == "members"]
    assert members[:2] == [0, 1] and members[-1] == 0


@pytest.mark.parametrize("path", ["/nowhere/trace.json", "/"])
def test_a_file_that_cannot_be_written(path: str) -> None:
    command = [sys.executable, str(ROOT / "chatsrv"), "--port", "0", "--trace", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"chatsrv: --trace: cannot write {path}: ") and done.stderr.count("\n") == 1


def test_a_fifo_is_refused_because_its_reader_could_stop_the_server(tmp_path: Path) -> None:
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    test_a_file_that_cannot_be_written(path)
