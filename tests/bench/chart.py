"""Charts of the results, drawn from the JSON alone."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .report import RESULTS, Report, Row, disturbance

# One colour for each server in all charts; what is not the project's own or the limit stays in the background.
COLOURS = {
    "chatsrv": "#c2410c",
    "limit": "#111827",
    "redis": "#b91c8c",
    "uvloop-batch": "#0369a1",
    "asyncio-batch": "#38bdf8",
    "uvloop-protocol": "#15803d",
    "asyncio-protocol": "#4ade80",
    "uvloop-streams": "#a16207",
    "asyncio-streams": "#eab308",
    "ncat": "#6b7280",
}
NAMES = {"limit": "limit (C)", "redis": "Redis pub/sub", "ncat": "ncat --broker"}
STYLE = {
    "svg.hashsalt": "chatsrv",  # the same data gives the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.facecolor": "white",  # readable on a dark page too
}


def draw(found: Report) -> list[Path]:
    """Draw what `found` has; the files that were written."""
    with pyplot.rc_context(STYLE):
        figure = growth(found) if found["kind"] == "sweep" else comparison(found)
    figure.text(0.01, 0.005, caption(found), fontsize=7, color="#555555")
    path = RESULTS / f"{found['kind']}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return [path]


def caption(found: Report) -> str:
    machine = found["machine"]
    return (
        f"{found['date']}, {machine['processor']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}; server and load on a core each; medians{disturbance(found)}"
    )


def middle(row: Row, key: str) -> float:
    return float(median(row["values"][key]))


def rows_of(found: Report, key: str, **wanted: object) -> list[Row]:
    """The rows that have a figure `key`, and a job with these values (None: not mentioned there)."""
    return [
        row
        for row in found["rows"]
        if row["values"].get(key) and all(row["job"].get(name) == value for name, value in wanted.items())
    ]


# Compared with others.


def comparison(found: Report) -> Figure:
    figure, ((fan, talk), (last, memory)) = pyplot.subplots(2, 2, figsize=(10, 8), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.025, 1, 0.975))

    fanout = rows_of(found, "deliveries_per_s", workload="fanout", size=64, stuck=None, senders=None, journal=None)
    for name, colour in COLOURS.items():
        rows = [row for row in fanout if row["server"] == name]
        if rows:
            curve(fan, rows, "clients", "deliveries_per_s", colour, NAMES.get(name, name))
    fan.set(xscale="log", yscale="log", xlabel="clients", ylabel="deliveries a second")
    fan.xaxis.set_major_formatter(lambda value, _: short(value))
    fan.yaxis.set_major_formatter(lambda value, _: short(value))
    fan.set_title("10 clients talk without a pause, 64 bytes a message")
    fan.set_ylim(bottom=2e3)  # room for the legend
    fan.legend(fontsize=7, ncols=2, loc="lower right")

    rows = rows_of(found, "deliveries_per_s", senders=90)
    bars(talk, rows, "deliveries_per_s", "deliveries a second", "90 of 100 clients talk, a line at a time")
    rows = rows_of(found, "last_p50_us", workload="latency", clients=100)
    title = "One message to 100 clients: the last has it (median, line to p99)"
    bars(last, rows, "last_p50_us", "microseconds", title, reach="last_p99_us")
    idle = [row for row in rows_of(found, "bytes_per_client", workload="idle") if row.get("name") != "idle-tls"]
    clients = idle[0]["job"]["clients"] if idle else 0
    bars(
        memory, idle, "bytes_per_client", "KiB", f"Memory of the server for each of {clients:,} idle clients", 1 / 1024
    )
    return figure


def bars(axes: Axes, rows: list[Row], key: str, unit: str, title: str, scale: float = 1.0, reach: str = "") -> None:
    """A bar for each server, the best on top."""
    more_is_better = key == "deliveries_per_s"
    rows = sorted(rows, key=lambda row: middle(row, key), reverse=not more_is_better)
    values = [middle(row, key) * scale for row in rows]
    names = [NAMES.get(row["server"], row["server"]) for row in rows]
    axes.barh(names, values, color=[COLOURS.get(row["server"], "#6b7280") for row in rows], height=0.7)
    for place, (row, value) in enumerate(zip(rows, values)):
        end = value
        if reach:
            end = max(value, middle(row, reach) * scale)
            axes.plot([value, end], [place, place], color="#555555", linewidth=1)
        axes.annotate(short(value), (end, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.15)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.set(xlabel=unit, title=title)


def short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    return f"{value / 1e3:.3g} k" if value >= 1e4 else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# How it grows.


def growth(found: Report) -> Figure:
    figure, ((cost, room), (rate, size)) = pyplot.subplots(2, 2, figsize=(10, 8), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.025, 1, 0.975))
    for number, asked in enumerate((10, 100, 1000, 0)):
        rows = rows_of(found, "cpu_ns_per_delivery", size=64, rate=asked)
        colour = pyplot.get_cmap("viridis")(number / 3.5)
        curve(cost, rows, "clients", "cpu_ns_per_delivery", colour, pace(asked))
        curve(room, rows, "clients", "memory", colour, pace(asked), 1 / (1 << 20))
    cost.set(xlabel="clients", ylabel="ns", title="Processor time for each delivery, 64 bytes a message")
    room.set(xlabel="clients", ylabel="MiB", title="Memory of the server, 64 bytes a message")

    rows = rows_of(found, "cpu_ns_per_delivery", size=64, clients=100)
    curve(rate, [row for row in rows if row["job"]["rate"]], "rate", "cpu_ns_per_delivery", COLOURS["chatsrv"], "paced")
    for row in rows:
        if not row["job"]["rate"]:
            fastest = middle(row, "deliveries_per_s") / row["job"]["clients"]
            cheapest = middle(row, "cpu_ns_per_delivery")
            rate.plot([fastest], [cheapest], marker="*", markersize=10, linestyle="", color="#111827", label=pace(0))
    rate.set(xlabel="messages a second", ylabel="ns", title="Processor time for each delivery, 100 clients, 64 bytes")

    for asked, colour in (1000, COLOURS["chatsrv"]), (0, COLOURS["limit"]):
        rows = rows_of(found, "cpu_ns_per_delivery", clients=100, rate=asked)
        curve(size, rows, "size", "cpu_ns_per_delivery", colour, pace(asked))
    size.set(xlabel="bytes of a message", ylabel="ns", title="Processor time for each delivery, 100 clients")
    for axes in cost, rate, size:
        axes.legend(fontsize=8)
    for axes in cost, room, rate, size:
        axes.set(xscale="log", yscale="log")
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
        axes.yaxis.set_major_formatter(lambda value, _: short(value))
    room.set(yscale="linear", ylim=(0, None))
    return figure


def pace(rate: float) -> str:
    return f"{rate:,} messages/s" if rate else "as fast as it goes"


def curve(axes: Axes, rows: list[Row], across: str, key: str, colour: str, label: str, scale: float = 1.0) -> None:
    """The figure `key` over what the job says of `across`."""
    rows = sorted(rows, key=lambda row: float(row["job"][across]))
    values = [middle(row, key) * scale for row in rows]
    width = 2.4 if label in ("chatsrv", NAMES["limit"]) else 1.3
    axes.plot([row["job"][across] for row in rows], values, "o-", markersize=4, lw=width, color=colour, label=label)
