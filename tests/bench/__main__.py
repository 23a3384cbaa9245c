"""The benchmark's command line.

python -m tests.bench                 everything: half an hour
python -m tests.bench --quick         the short one: some three minutes
python -m tests.bench --only NAMES    some workloads of it, with commas between: --only fanout-100,talk
python -m tests.bench --against REV   the server beside itself at another commit, by turns; also with --only
python -m tests.bench count           instructions for a message, by valgrind; with --only, --against, --server
python -m tests.bench sweep           how the server grows
python -m tests.bench chart KIND      draw the charts anew from the JSON of `full`, `quick` or `sweep`
python -m tests.bench table KIND      print the table anew
python -m tests.bench fanout --clients 100 --size 64 --server chatsrv,limit --rounds 5
python -m tests.bench latency|churn|idle|start ...
"""

from __future__ import annotations

import argparse
import sys

from . import plan
from .bounds import bounds_table
from .count import count
from .measure import Case, carry_out
from .report import Report, beside, disturbance, load, report, save, short_table, table
from .servers import find

MEASURES = {
    "fanout": [*plan.FANOUT, plan.PEAK],
    "latency": plan.LATENCY,
    "churn": plan.CHURN,
    "idle": plan.IDLE,
    "start": plan.START,
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flag = parser.add_argument
    flag("what", nargs="?", default="all", choices=["all", "count", "sweep", "chart", "table", *MEASURES])
    flag("kind", nargs="?", default="full", choices=["full", "quick", "sweep"])
    flag("--quick", action="store_true")
    flag("--only", metavar="NAMES", help=f"of {', '.join(case.name for case in plan.full_plan())}")
    flag("--against", metavar="REV", help="compare the server with what it was at this commit, and with nothing else")
    flag("--server", metavar="NAMES", help="with commas between; the first is compared with the others")
    flag("--seconds", type=float, help="of measuring, in each round")
    flag("--rounds", type=int)
    flag("--clients", type=int, default=100)
    flag("--size", type=int, default=64, help="bytes of a message, at least 8")
    flag("--samples", type=int, default=1000, help="messages, for latency")
    flag("--starts", type=int, default=10, help="for start")
    flag("--rate", type=float, default=0, help="messages a second; 0: as many as the server takes")
    flag("--senders", type=int, default=10)
    flag(
        "--burst",
        type=int,
        default=0,
        help="lines a sender has on their way at most; 0: as many as keep the server busy",
    )
    flag("--stuck", type=int, default=0, help="clients that never read")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else []
    options.servers = options.server.split(",") if options.server else []
    if options.against:
        options.servers = ["chatsrv", f"chatsrv@{options.against}"]
    return options


def choose(options: argparse.Namespace) -> list[Case]:
    """The cases that are asked for. Raises ValueError if there are none such."""
    if options.what in MEASURES:
        keys = ("clients", "size", "samples", "starts", "rate", "senders", "burst", "stuck")
        job = {"workload": options.what, **{key: getattr(options, key) for key in keys}, "seconds": 1.0}
        cases = [Case(options.what, options.what, plan.OURS[::-1], job, MEASURES[options.what])]
    elif options.what == "sweep":
        cases = plan.sweep_plan()
    else:
        cases = plan.quick_plan() if options.quick else plan.full_plan()
    if options.only:
        cases = [case for case in cases if case.name in options.only]
        if unknown := set(options.only) - {case.name for case in cases}:
            raise ValueError(f"there is no workload {', '.join(sorted(unknown))}")
    for case in cases:
        case.servers = options.servers or case.servers
        case.rounds = options.rounds or (5 if options.against else case.rounds)
        if options.seconds and "seconds" in case.job:
            case.job["seconds"] = options.seconds
    return cases


def check(servers: list[str]) -> None:
    """Raises ValueError if one of them is not to be had."""
    try:
        _, missing = find(servers)
    except KeyError as error:
        raise ValueError(f"there is no server {error.args[0]}") from None
    if missing:
        raise ValueError("; ".join(missing))


def main() -> int:
    options = parse()
    if options.what == "chart":
        return draw(options.kind)
    if options.what == "table":
        show(load(options.kind))
        return 0
    try:
        check(options.servers)
        if options.what == "count":
            for line in count(options.servers or ["chatsrv"], options.only):
                print(line, flush=True)
            return 0
        cases = choose(options)
    except ValueError as error:
        print(f"python -m tests.bench: {error}", file=sys.stderr)
        return 2
    rows = carry_out(cases)
    whole = not (options.only or options.against or options.server or options.what in MEASURES)
    kind = "" if not whole else "sweep" if options.what == "sweep" else "quick" if options.quick else "full"
    found = report(cases, rows, kind)
    if options.against:
        print(beside(found))
    else:
        show(found)
    if kind:
        print(f"\nall of it: {save(found)}")
        draw(kind)
    wrong = [row for row in rows if "violation" in row and row["server"].startswith(("chatsrv", "limit"))]
    return 1 if wrong else 0


def show(found: Report) -> None:
    print(table(found))
    if remark := disturbance(found):
        print(f"\nThis machine was busy{remark}. Trust the processor times, not the rates and latencies.")
    print("\nHow many times better chatsrv is (below 1: worse), by the server's processor time and (by the clock);")
    print("medians of ratios in the same round:\n")
    print(short_table(found))
    if bounds := bounds_table(found):
        print(f"\nWhat it has to reach:\n\n{bounds}")


def draw(kind: str) -> int:
    """The charts, if there is something to draw them with."""
    try:
        from . import chart
    except ImportError:
        print("matplotlib is not installed, so there are no charts")
        return 1
    for path in chart.draw(load(kind)):
        print(f"a chart: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
