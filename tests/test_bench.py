"""The benchmark's oracle sees what it must see, and the benchmark runs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import select
import shutil
import signal
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from bench import contest, loops, plan
from bench.bounds import BOUNDS, Bound, judge
from bench.measure import Case, Measure, carry_out, measure
from bench.oracle import CYCLE, Cycles, Verifier, Violation, Wire
from bench.report import beside, ratio, report, short_table, table
from bench.servers import PROJECT, Server, chatsrv, find
from bench.turns import Process
from more import every, only_with_more

pytestmark = pytest.mark.more  # the benchmark is no part of the server


def heard(cycles: Cycles, *lines: tuple[int, int]) -> bytes:
    """The stream of these lines, (sender, number) each."""
    size = cycles.hear_size
    return b"".join(cycles.heard[sender][number % CYCLE * size :][:size] for sender, number in lines)


def check(cycles: Cycles, stream: bytes, piece: int = 1 << 17) -> Verifier:
    """An oracle that has got all of `stream`, in pieces."""
    oracle = Verifier(cycles)
    for start in range(0, len(stream), piece):
        data = stream[start : start + piece]
        oracle.buffer[oracle.kept : oracle.kept + len(data)] = data
        oracle.check(oracle.kept + len(data))
    oracle.finish()
    return oracle


CYCLES = Cycles(Wire(), 3, 16)
GOOD = heard(CYCLES, (0, 0), (1, 0), (0, 1), (0, 2), (2, 0), (1, 1))


@pytest.mark.parametrize("piece", range(1, 60))
def test_a_good_stream_passes_however_it_is_cut(piece: int) -> None:
    assert check(CYCLES, GOOD, piece).next == [3, 2, 1]


def test_the_cycle_goes_round() -> None:
    assert check(CYCLES, CYCLES.heard[0] * 3).next == [3 * CYCLE, 0, 0]


@pytest.mark.parametrize(
    "stream",
    [
        heard(CYCLES, (0, 0), (0, 2)),  # a gap
        heard(CYCLES, (0, 0), (0, 0)),  # a repeat
        heard(CYCLES, (1, 0), (0, 1)),  # a gap at the beginning
        GOOD[:-1],  # half a line
        GOOD[1:],
        GOOD[:40] + GOOD[41:],
        GOOD[:40] + b"x" + GOOD[41:],
        GOOD[:27] + heard(CYCLES, (2, 0)) + GOOD[27:],  # a line in the middle of another
        b"127.0.0.1: \xff0000000000000000\n",  # a sender there is not
        b"127.0.0.1: zzzzzzzzzzzzzzzz\n",
    ],
)
def test_a_bad_stream_is_a_violation(stream: bytes) -> None:
    with pytest.raises(Violation):
        check(CYCLES, stream)


def test_two_receivers_of_different_orders_differ() -> None:
    one = check(CYCLES, heard(CYCLES, (0, 0), (1, 0)))
    other = check(CYCLES, heard(CYCLES, (1, 0), (0, 0)))
    assert one.next == other.next and one.order != other.order


def test_a_ratio_compares_neighbours_and_tells_how_much_better() -> None:
    assert ratio([10, 20, 90], [5, 10, 10], more_is_better=True) == 2
    assert ratio([10, 20, 90], [5, 10, 10], more_is_better=False) == 0.5
    assert ratio([1.0], [0.0], more_is_better=True) is None


linux = pytest.mark.skipif(not hasattr(select, "epoll"), reason="the load generator needs Linux")


@linux
def test_each_workload_runs_and_is_reported() -> None:
    servers = ["chatsrv"]
    cases = [
        plan.fanout(12, servers, 0.1, warm=0.05),
        plan.fanout(12, servers, 0.1, warm=0.05, rate=1000, stuck=1, burst=0, title="paced"),
        plan.fanout(12, servers, 0.1, warm=0.05, **plan.TELL),
        plan.latency(12, servers, 20),
        plan.idle(12, servers, 0.05),
        plan.churn(servers, 0.05),
        plan.start(servers, 1),
    ]
    for case in cases:
        case.rounds = 1
    rows = carry_out(cases)
    assert not [row for row in rows if "violation" in row]
    found = report(cases, rows, "test")
    assert "| fan-out, 12 clients, 64 B | ns of CPU a delivery | chatsrv |" in table(json.loads(json.dumps(found)))
    assert "fan-out, 12 clients, 64 B" in short_table(found)


@linux
def test_tls_is_measured_beside_stunnel() -> None:
    names = ["chatsrv-tls", "chatsrv-stunnel"]
    _, missing = find(names)
    if missing:
        pytest.skip("; ".join(missing))
    case = plan.idle(12, names, 0.05, "idle-tls")
    case.rounds = 1
    ours, theirs = (row["values"]["bytes_per_client"][0] for row in carry_out([case]))
    assert 0 < ours < theirs, "what stunnel needs is not counted"


@linux
@pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="no history here")
def test_the_server_is_compared_with_itself_at_another_commit() -> None:
    case = plan.fanout(3, ["chatsrv", "chatsrv@HEAD"], 0.05, warm=0.05)
    case.rounds = 1
    rows = carry_out([case])
    assert not [row for row in rows if "violation" in row]
    assert ", was " in beside(report([case], rows, ""))


@linux
def test_a_server_that_breaks_the_promise_is_found_out() -> None:
    """Without the prefix, what comes is not what was asked for."""
    server = chatsrv()
    server.command.append("--no-prefix")
    job = {"workload": "fanout", "clients": 3, "size": 64, "seconds": 0.05, "warm": 0.05}
    assert "no lines of ours" in measure([server], job)["chatsrv"]["violation"]


class TestContest:
    """Two servers by turns."""

    JOB: ClassVar[dict[str, Any]] = {
        "workload": "fanout", "clients": 20, "size": 64, "burst": 64, "seconds": 0.1, "warm": 0.05, "slice": 0.02
    }  # fmt: skip

    def two(self) -> list[Server]:
        return [chatsrv(), replace(chatsrv(), name="other")]

    @linux
    @pytest.mark.parametrize(
        "job",
        [JOB, only_with_more({**JOB, "workload": "latency", "samples": 50}), {**JOB, "workload": "churn"}],
        ids=["fanout", "latency", "churn"],
    )
    def test_while_one_has_its_turn_the_other_rests(self, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        order: list[str] = []
        rest: list[float] = []
        pids: dict[str, int] = {}

        class Watched(contest.Contender):
            def turn(self) -> None:
                name = self.running.server.name
                order.append(name)
                pids[name] = self.running.pid
                before = [Process(pid).times()[0] for other, pid in pids.items() if other != name]
                super().turn()
                if self.result:
                    del pids[name]
                after = [Process(pid).times()[0] for other, pid in pids.items() if other != name]
                rest.extend(now - then for then, now in zip(before, after))

        monkeypatch.setattr(contest, "Contender", Watched)
        slow = find(["asyncio-streams"])[0][0]  # it would have much to do in the other's turn
        results = measure([slow, replace(slow, name="other")], job)
        assert not [result for result in results.values() if "violation" in result]
        assert order[:4] == ["asyncio-streams", "other"] * 2
        assert max(rest) < 0.002, "a server works in another's turn"

    @linux
    def test_one_that_breaks_the_promise_leaves_the_other_its_turns(self) -> None:
        servers = self.two()
        servers[0].command.append("--no-prefix")
        results = measure(servers, self.JOB)
        assert "no lines of ours" in results["chatsrv"]["violation"]
        assert results["other"]["cpu_ns_per_delivery"] > 0

    @linux
    @pytest.mark.parametrize("victim", every(2, ["server", "generator", "generator that hangs"]))
    def test_one_that_dies_or_hangs_leaves_the_other_its_turns(
        self, victim: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Mortal(contest.Contender):
            turns = 0

            def turn(self) -> None:
                self.turns += 1
                with monkeypatch.context() as patch:
                    if self.running.server.name == "chatsrv" and self.turns == 2:
                        if "hangs" in victim:
                            patch.setattr(contest, "TIMEOUT", 0.1)
                        pid = self.running.pid if victim == "server" else self.generator.pid
                        os.kill(pid, signal.SIGSTOP if "hangs" in victim else signal.SIGKILL)
                    super().turn()

        monkeypatch.setattr(contest, "Contender", Mortal)
        results = measure(self.two(), self.JOB)
        expected = {
            "server": "closed a client's connection|reset by peer|Broken pipe",
            "generator": "the load generator failed",
            "generator that hangs": "no answer within 0.1 s",
        }
        assert re.search(expected[victim], results["chatsrv"]["violation"])
        assert results["other"]["cpu_ns_per_delivery"] > 0


@linux
@pytest.mark.skipif(not shutil.which(os.environ.get("CC", "cc")), reason="no C compiler")
@pytest.mark.parametrize("case", every(3, (plan.fanout(12, [], 0.1, **more) for more in ({}, plan.ROOMS, plan.TELL))))
def test_the_limit_and_the_peers_do_the_same(case: Case) -> None:
    case.servers = ["limit", "asyncio-streams", "asyncio-protocol", "asyncio-batch"]
    case.job.update(clients=12, warm=0.05)
    if "rooms" in case.job:
        case.job["rooms"] = 3
    case.rounds = 1
    rows = carry_out([case])
    assert len(rows) == 4 and not [row for row in rows if "violation" in row]


@linux
def test_rooms_that_hear_each_other_are_found_out() -> None:
    """Without the handler, all are in one."""
    job = {"workload": "fanout", "clients": 4, "size": 64, "seconds": 0.05, "warm": 0.05, "rooms": 2}
    found = measure([chatsrv()], job)["chatsrv"]["violation"]
    assert "no lines of ours" in found or "more than what was said" in found


def test_each_bound_is_measured_in_the_full_run() -> None:
    cases = {case.name: case for case in plan.full_plan()}
    for bound in BOUNDS:
        case = cases[bound.case]
        assert {bound.server, bound.beside or bound.server} <= set(case.servers)
        assert bound.key in [measure.key for measure in case.measures]


def test_a_bound_is_judged_by_the_median_of_neighbours() -> None:
    def verdict(bound: Bound, ours: list[float], theirs: list[float]) -> str:
        measures = [Measure("cost", "ns"), Measure("rate", "/s", True)]
        rows = [
            {"name": "x", "case": "X", "job": {}, "server": name, "values": {"cost": values, "rate": values}}
            for name, values in (("chatsrv", ours), ("limit", theirs))
        ]
        found = report([Case("x", "X", [], {}, measures)], rows, "")
        return judge(bound, found)[1]

    assert verdict(Bound("x", "cost", 0.5, 0.9), [20, 100, 10], [10, 10, 10]) == "holds"
    assert verdict(Bound("x", "cost", 0.5, 0.9), [30, 100, 10], [10, 10, 10]) == "missed"
    assert verdict(Bound("x", "rate", 0.5, 0.9), [10, 10, 10], [10, 10, 10]) == "goal"
    assert verdict(Bound("x", "cost", 1.1, 1.0, at_most=True), [11, 11, 11], [10.5, 10.5, 10.5]) == "holds"
    assert verdict(Bound("x", "cost", 15, 10, beside="", at_most=True), [11, 16, 17], []) == "missed"
    assert verdict(Bound("x", "none", 15, 10), [11], [11]) == "?"


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the memory of a process is not known here")
@pytest.mark.parametrize("name", loops.LOOPS)
def test_each_loop_is_measured(name: str) -> None:
    if not importlib.util.find_spec(name):
        pytest.skip(f"{name} is not installed")
    loops.memory.clear()
    *took, _ = loops.measure(name, times=20, parked=100).values()
    assert len(took) == 4 and min(took) > 0
    assert len(loops.memory) == 2, "all tasks of a round have waited at the same time"
