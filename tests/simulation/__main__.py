"""Many seeds: progress, and what was covered. Or one, with its history."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from .chart import chart
from .run import CLUSTERS, failure_of

FAULTS = """
accept failed: ECONNABORTED; accept failed: EMFILE; accept failed: ENOBUFS; accept would block after all;
clock leaped; timers all at once; closed at once; closed with something unread; connection lost;
descriptor number used again; ended by an error; ended by FIN; ended by shutdown; half-close; FIN with a rest;
FIN without a rest; hang-up without IN or OUT; journal left lines out; kicked: idle; kicked: stalled;
kicked: too far behind; refused: address; refused: full; left by itself; long message of UTF-8;
message of about 1024 bytes or more; meddling: cancel its task; meddling: cancel its writer; meddling: kick;
reader stopped; reader went on; readiness in any order; readiness told later; readiness without cause;
recv would block after all; send would block after all; stdout would block after all; reset; reset before accept;
reset between accept and greeting; reset inside a message; reset with something unsent;
reset destroyed what was unread; sent to a peer that had closed; short recv; short send; short write on stdout;
shutdown at rest; shutdown while clients talk; slow drip; something happened between two system calls; stdout closed;
stdout full; stdout stalled; text read after a failed send; the server closed with something unread; the chat handler;
the echo handler; the nick handler; the epoll poller; the kqueue poller; the select poller;
a client with a browser; a client with TLS; a client with a browser over TLS; a stranger; a TLS record was changed;
a browser's ping; a browser's pong; a browser's pings; a browser's flood; a browser's empty; the server's ping;
broke off: fin; broke off: close; broke off: reset; several lines in one frame; waits for the server's own end;
told something by a task other than its own
"""
OF_CLUSTERS = """
a cluster settled; a loss was told; a node has joined; accident: a file is kept; accident: a node stops;
accident: a state is deleted; accident: a stranger from the future writes; accident: a stranger writes;
accident: a stream is deleted; accident: a stream is trimmed; accident: another master;
accident: another master falls back;
accident: another node comes; accident: cut a line; accident: cut a line at a byte; accident: everything is flushed;
accident: numbers are forgotten; accident: part or mend a node; accident: redis falls back; accident: redis refuses;
accident: redis starts again; accident: scripts are flushed; accident: silence a line; accident: slow the lines;
accident: the clock is put back; accident: the ids are used up
"""


def replay(seed: int, picture: str = "", cluster: bool | None = None) -> int:
    """Run one seed and print its history; draw it, too, if there is a file for the picture."""
    history: list[str] = []
    failure, _ = failure_of(seed, history, cluster)
    if picture:
        Path(picture).write_text(chart(seed, history, failure), encoding="utf-8")
    print("\n".join(history))
    print(f"seed {seed}: {failure or 'all is well'}")
    return 1 if failure else 0


def many(first: int, number: int, cluster: bool | None = None) -> int:
    """Run many seeds; stops at the first failure."""
    covered: Counter[str] = Counter()
    begin = told = time.monotonic()
    terminal = sys.stdout.isatty()
    for done in range(number):
        failure, hits = failure_of(first + done, None, cluster)
        if failure:
            print("\r\x1b[K" if terminal else "", end="")
            return replay(first + done, cluster=cluster)
        covered.update(hits)
        now = time.monotonic()
        if now - told > (0.2 if terminal else 10) or done + 1 == number:
            told = now
            pace = (done + 1) / (now - begin)
            line = f"{done + 1} of {number} seeds, {pace:.0f} a second, {(number - done - 1) / pace:.0f} s left"
            print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", flush=True)
    print()
    for fault, times in sorted(covered.items()):
        print(f"{times:10}  {fault}")
    expected = [FAULTS, OF_CLUSTERS] if CLUSTERS else [FAULTS]
    never = [fault for text in expected for fault in " ".join(text.split()).split("; ") if not covered[fault]]
    if never:
        print("never occurred:", ", ".join(never))
    return 1 if never and number >= 1000 else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one and print its history")
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--cluster", action="store_true", help="let all of them be clusters, not only every fifth one")
    parser.add_argument("--chart", default="", metavar="FILE.svg", help="draw the one run as a sequence chart")
    options = parser.parse_args()
    cluster = options.cluster or None
    if options.seed is not None:
        return replay(options.seed, options.chart, cluster)
    return many(options.first, options.seeds, cluster)


if __name__ == "__main__":
    sys.exit(main())
