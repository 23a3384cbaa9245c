"""The benchmark's command line.

python -m tests.bench                 everything: some twenty minutes
python -m tests.bench --quick         the short one: less than two minutes
python -m tests.bench sweep           how the server grows
python -m tests.bench chart KIND      draw the charts anew from the JSON of `full`, `quick` or `sweep`
python -m tests.bench table KIND      print the table anew
python -m tests.bench fanout --clients 100 --size 64 --server chatsrv,limit --rounds 5
python -m tests.bench latency|churn|idle|start ...
"""

from __future__ import annotations

import argparse
import sys

from . import measure
from .measure import Case, carry_out
from .report import Report, disturbance, load, report, save, short_table, table

MEASURES = {
    "fanout": [measure.RATE, measure.COST, measure.PEAK],
    "latency": measure.LATENCY,
    "churn": measure.CHURN,
    "idle": measure.IDLE,
    "start": measure.START,
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flag = parser.add_argument
    flag("what", nargs="?", default="all", choices=["all", "sweep", "chart", "table", *MEASURES])
    flag("kind", nargs="?", default="full", choices=["full", "quick", "sweep"])
    flag("--quick", action="store_true")
    flag("--server", default="chatsrv,limit", help="names, with commas between; the first is compared with the others")
    flag("--clients", type=int, default=100)
    flag("--size", type=int, default=64, help="bytes of a message, at least 8")
    flag("--seconds", type=float, help="of measuring, in each round")
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
    flag("--rounds", type=int)
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    if options.what == "chart":
        return draw(options.kind)
    if options.what == "table":
        show(load(options.kind))
        return 0
    if options.what in MEASURES:
        keys = ("clients", "size", "samples", "starts", "rate", "senders", "burst", "stuck")
        job = {"workload": options.what, **{key: getattr(options, key) for key in keys}, "seconds": 1.0}
        cases = [Case(options.what, options.server.split(","), job, MEASURES[options.what])]
        kind = ""
    elif options.what == "sweep":
        cases, kind = measure.sweep_plan(), "sweep"
    elif options.quick:
        cases, kind = measure.quick_plan(), "quick"
    else:
        cases, kind = measure.full_plan(), "full"
    for case in cases:
        case.rounds = options.rounds or case.rounds
        if options.seconds and "seconds" in case.job:
            case.job["seconds"] = options.seconds
    rows = carry_out(cases)
    found = report(cases, rows, kind)
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
    print("\nHow many times better chatsrv is (below 1: worse), medians of ratios in the same round:\n")
    print(short_table(found))


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
