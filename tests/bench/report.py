"""What was measured, as JSON and as a table."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from statistics import median
from typing import Any

from .measure import Case, Measure
from .plan import ALL
from .servers import find

SHORT = ["limit", "redis", "uvloop-batch", "uvloop-protocol", "asyncio-protocol", "asyncio-streams"]
RESULTS = Path(__file__).resolve().parent / "results"

Row = dict[str, Any]
Report = dict[str, Any]


def report(cases: list[Case], rows: list[Row], kind: str) -> Report:
    """All there is to know about a run of the benchmark; nothing that tells whose machine it was."""
    return {
        "kind": kind,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": {server.name: server.version for server in find(ALL)[0]},
        "notes": {server.name: server.note for server in find(ALL)[0] if server.note},
        "measures": {
            measure.key: {"unit": measure.unit, "more_is_better": measure.more_is_better, "scale": measure.scale}
            for case in cases
            for measure in case.measures
        },
        "rows": rows,
    }


def machine() -> dict[str, Any]:
    processor = platform.machine()
    memory = 0
    try:
        with open("/proc/cpuinfo") as file:
            models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        processor = models[0] if models else processor
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    except (OSError, ValueError):
        pass
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_gib": memory,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def save(found: Report) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{found['kind']}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    return path


def load(kind: str) -> Report:
    found: Report = json.loads((RESULTS / f"{kind}.json").read_text())
    return found


def ratio(ours: list[float], theirs: list[float], more_is_better: bool) -> float | None:
    """How many times better than theirs ours is: the median over the rounds, each compared with its own neighbour."""
    found = ratios(ours, theirs, more_is_better)
    return median(found) if found else None


def ratios(ours: list[float], theirs: list[float], more_is_better: bool) -> list[float]:
    """How many times better ours is in each round; nothing if that cannot be said."""
    pairs = list(zip(ours, theirs))
    if not more_is_better:
        pairs = [(other, own) for own, other in pairs]
    return [above / below for above, below in pairs] if all(below for _, below in pairs) else []


def beside(found: Report) -> str:
    """The server, and what it was at another commit: each figure, and how many times better it has become."""
    lines = []
    for case in dict.fromkeys(row["case"] for row in found["rows"]):
        lines.append(case)
        now, then = (row for row in found["rows"] if row["case"] == case)
        for row in now, then:
            if "violation" in row:
                lines.append(f"  {row['server']}: {row['violation']}")
        for key in now["values"]:
            measure = Measure(key, **found["measures"][key])
            figures = [spread([value * measure.scale for value in row["values"].get(key, [])]) for row in (now, then)]
            times = ratios(now["values"][key], then["values"].get(key, []), measure.more_is_better)
            lines.append(f"  {measure.unit}: {figures[0]}, was {figures[1]}; better by {spread(times)} x")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """The median, and from where to where."""
    return f"{figure(median(values))} ({figure(min(values))} to {figure(max(values))})" if values else "?"


def table(found: Report) -> str:
    """Markdown: a line for each case, measure and server."""
    measures = {key: Measure(key, **rest) for key, rest in found["measures"].items()}
    cases: dict[str, list[Row]] = {}
    for row in found["rows"]:
        cases.setdefault(row["case"], []).append(row)
    lines = ["| workload | figure | server | median | spread | chatsrv is better by | busy: server, generator |",
             "|---|---|---|--:|--:|--:|--:|"]  # fmt: skip
    for case, rows in cases.items():
        own = next((row for row in rows if row["server"].startswith("chatsrv")), None)
        for key in dict.fromkeys(key for row in rows for key in row["values"]):
            measure = measures[key]
            for row in rows:
                lines.append(table_line(case, measure, row, own))
        for row in rows:
            if "violation" in row:
                lines.append(f"| {case} | | {row['server']} | | | | {row['violation']} |")
            if "journal_share" in row:
                lines.append(f"| {case} | of all messages in the journal | {row['server']} | "
                             f"{min(1.0, row['journal_share']):.1%} | | | |")  # fmt: skip
    return "\n".join(line for line in lines if line)


def table_line(case: str, measure: Measure, row: Row, own: Row | None) -> str:
    values = [value * measure.scale for value in row["values"].get(measure.key, [])]
    if not values:
        return ""
    times = None
    if own is not None and row is not own and own["values"].get(measure.key):
        times = ratio(own["values"][measure.key], row["values"][measure.key], measure.more_is_better)
    cells = [
        case,
        measure.unit,
        row["server"],
        figure(median(values)),
        f"{figure(min(values))} to {figure(max(values))}",
        f"{figure(times)} x" if times is not None else "",
        busy(row),
    ]
    return "| " + " | ".join(cells) + " |"


def busy(row: Row) -> str:
    """How much of a core server and generator wanted.

    The one with nearly all of it was the limit. If neither had, each waited for the other: one message at a time.
    """
    shares = [f"{row[name]:.0%}" for name in ("server_busy", "generator_busy") if name in row]
    disturbed = max(row.get("server_kept_waiting", 0), row.get("generator_kept_waiting", 0))
    return ", ".join(shares) + (f" (others took {disturbed:.0%})" if disturbed > 0.05 else "")


def disturbance(found: Report) -> str:
    """A remark if the machine did something else meanwhile: the median over the runs of what was taken from them."""
    taken = [max(row["server_kept_waiting"], row["generator_kept_waiting"]) for row in found["rows"]
             if "generator_kept_waiting" in row]  # fmt: skip
    most = median(taken) if taken else 0.0
    return f"; others took {most:.0%} of a core" if most > 0.05 else ""


def short_table(found: Report) -> str:
    """Markdown: a line for each case at 64 bytes; what most would pick instead, side by side.

    A cell says how many times better chatsrv is: by the server's processor time, and in brackets by the clock. Where
    there is only one of them, or something else, that stands alone.
    """
    others = [name for name in SHORT if any(row["server"] == name for row in found["rows"])]
    lines = ["| workload | chatsrv | " + " | ".join(f"to {name}" for name in others) + " |",
             "|---|--:|" + "--:|" * len(others)]  # fmt: skip
    for case in dict.fromkeys(row["case"] for row in found["rows"] if row["job"].get("size", 64) == 64):
        rows = {row["server"]: row for row in found["rows"] if row["case"] == case}
        own = rows.get("chatsrv")
        if own is None or not own["values"]:
            continue
        keys = main_keys(own)
        cells = [case, ", ".join(one_figure(found, own, key) for key in keys)]
        for name in others:
            theirs = rows[name]["values"] if name in rows else {}
            times = [ratio(own["values"][key], theirs.get(key, []), found["measures"][key]["more_is_better"])
                     for key in keys]  # fmt: skip
            first, *rest = [figure(value) for value in times if value is not None] or [""]
            cells.append(" ".join([first, *(f"({text})" for text in rest)]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main_keys(row: Row) -> list[str]:
    """The figures that say most: processor time, and time or rate by the clock; or the first one there is."""
    keys = list(row["values"])
    by_clock = [key for key in ("last_p50_us", "deliveries_per_s", "connections_per_s", "over_bare_ms") if key in keys]
    return [key for key in keys if key.startswith("cpu_")][:1] + by_clock[:1] or keys[:1]


def one_figure(found: Report, row: Row, key: str) -> str:
    measure = Measure(key, **found["measures"][key])
    return f"{figure(median(row['values'][key]) * measure.scale)} {measure.unit}"


def figure(value: float) -> str:
    """Three digits that mean something."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}" if abs(value) >= 0.1 else f"{value:.2g}"
