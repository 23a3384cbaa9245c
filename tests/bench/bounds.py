"""What the server has to reach, and whether a run reached it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from .report import Report, figure, ratio

COST = "cpu_ns_per_delivery"


@dataclass(frozen=True)
class Bound:
    """A figure of chatsrv in one case: what it must be at least, and what it would better be.

    With `beside`, it is how many times better chatsrv is than that server; else the figure itself, in what the table
    shows it in. `at_most` turns it round: how many times the other's figure it may be at most. `server` is what stands
    for chatsrv there.
    """

    case: str
    key: str
    bound: float
    goal: float
    beside: str = "limit"
    at_most: bool = False
    server: str = "chatsrv"

    def value(self, found: Report) -> float | None:
        """None if the run does not tell."""
        rows = {row["server"]: row for row in found["rows"] if row.get("name") == self.case}
        own = rows.get(self.server, {"values": {}})["values"].get(self.key)
        if not own:
            return None
        measure = found["measures"][self.key]
        if not self.beside:
            return float(median(own) * measure["scale"])
        theirs = rows.get(self.beside, {"values": {}})["values"].get(self.key, [])
        times = ratio(own, theirs, measure["more_is_better"])
        return 1 / times if times and self.at_most else times

    def keeps(self, value: float, limit: float) -> bool:
        """Whether the value keeps to `limit`, the bound or the goal."""
        return value <= limit if self.at_most else value >= limit


BOUNDS = [
    Bound("fanout-100", COST, 0.85, 0.90),
    Bound("fanout-1000", COST, 0.92, 0.97),
    Bound("fanout-5000", COST, 0.85, 0.95),
    Bound("fanout-10", COST, 0.50, 0.65),
    Bound("talk", COST, 0.50, 0.70),
    Bound("journal", COST, 0.70, 0.80),
    Bound("latency-100", "last_p50_us", 1.10, 1.03, at_most=True),
    Bound("latency-1000", "last_p50_us", 1.08, 1.03, at_most=True),
    Bound("churn", "cpu_us_per_connection", 0.60, 0.75),
    Bound("rooms", COST, 0.80, 0.90),
    Bound("other", COST, 0.87, 0.92),  # within 5 % of the first room
    Bound("tell", COST, 0.70, 0.85),
    Bound("idle", "bytes_per_client", 2.2, 1.5, beside="", at_most=True),
    Bound("start", "cpu_ms_over_bare", 20.0, 12.0, beside="", at_most=True),
    Bound("cluster", COST, 0.60, 0.75, beside="chatsrv", server="chatsrv-cluster"),
    Bound("web", COST, 0.80, 0.90, beside="chatsrv", server="chatsrv-web"),
]
# The best that asyncio can do: chatsrv needs less processor time in each of its rows.
AHEAD = [
    bound.case
    for bound in BOUNDS
    if bound.key in (COST, "last_p50_us") and bound.case not in ("cluster", "web", "other")
]
BOUNDS += [Bound(case, COST, 1.0, 1.5, beside="uvloop-batch") for case in AHEAD]
BOUNDS += [
    Bound("churn", "cpu_us_per_connection", 1.0, 1.5, beside="uvloop-batch"),
    Bound("start", "cpu_ms_over_bare", 1.0, 1.5, beside="uvloop-batch"),
]


def judge(bound: Bound, found: Report) -> tuple[float | None, str]:
    """What the run says: the value, and "missed", "holds", "goal" or "?"."""
    value = bound.value(found)
    if value is None:
        return None, "?"
    if not bound.keeps(value, bound.bound):
        return value, "missed"
    return value, "goal" if bound.keeps(value, bound.goal) else "holds"


def bounds_table(found: Report) -> str:
    """Markdown: which bounds hold, and how many; empty if the run has none of them."""
    titles = {row["name"]: row["case"] for row in found["rows"] if "name" in row}
    measured = {(row.get("name"), row["server"]) for row in found["rows"]}
    lines = ["| workload | what | is | bound | goal | |", "|---|---|--:|--:|--:|---|"]
    verdicts = []
    for bound in BOUNDS:
        if {(bound.case, bound.server), (bound.case, bound.beside or bound.server)} <= measured:
            value, verdict = judge(bound, found)
            verdicts.append(verdict)
            unit = found["measures"][bound.key]["unit"]
            cells = [
                titles[bound.case],
                f"{unit}, beside {bound.beside}" if bound.beside else unit,
                "" if value is None else figure(value),
                f"{'≤' if bound.at_most else '≥'} {figure(bound.bound)}",
                figure(bound.goal),
                verdict,
            ]
            lines.append("| " + " | ".join(cells) + " |")
    if not verdicts:
        return ""
    kept = sum(verdict in ("holds", "goal") for verdict in verdicts)
    lines.append(f"\n{kept} of {len(verdicts)} bounds hold; {verdicts.count('goal')} goals are reached.")
    return "\n".join(lines)
