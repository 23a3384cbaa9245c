"""One message, from the poller's report to the send, drawn from a trace (loop/trace.py) of the server's tasks."""

from __future__ import annotations

from typing import Any

from loop.trace import TracedKernel

from .inside import Inside
from .svg import Picture

Event = dict[str, Any]
TRACKS = {"kernel": "ink", "ann": "blue", "spread": "green", "journal": "violet", "ben": "orange"}
LEFT, TOP, HEIGHT, WIDTH = 110, 62, 62, 920


def run() -> dict[str, list[Event]]:
    """What the tracks show from a message's arrival until all tasks wait again; times are numbered, not measured."""
    ticks = [0]

    def tick() -> float:
        ticks[0] += 1
        return 1000 + ticks[0] / 1e6

    with Inside(lambda poller, clock: TracedKernel(poller, tick)) as inside:
        inside.members("ann", "ben")
        kernel: Any = inside.kernel
        for task, step in kernel.coming.items():
            step.name = task.name
        origin = kernel.steps[0].start
        begin = (tick() - origin) * 1e6
        inside.people["ann"].send(b"hi\n")
        inside.settle()
        events = list(kernel.events())
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    tracks: dict[str, list[Event]] = {name: [] for name in TRACKS}
    for event in events:
        name = names[event["tid"]]
        if name in tracks and event["ph"] in "Xsf" and event["ts"] + event.get("dur", 0) > begin:
            start = max(event["ts"], begin)
            tracks[name].append({**event, "ts": start, "dur": event["ts"] + event.get("dur", 0) - start})
    return tracks


WORDS = {
    ("ann", "readable"): "Ann's handler goes on: it reads “hi”, appends it to the feed, and wakes two tasks.",
    ("spread", "WaitQueue.wait"): "spread sends the line to Ann and to Ben, a call each.",
    ("journal", "WaitQueue.wait"): "The journal writes its line.",
}


def draw() -> str:
    tracks = run()
    pieces = [event for events in tracks.values() for event in events if event["ph"] == "X"]
    last = max(event["ts"] + event["dur"] for event in pieces if event["cat"] != "wait")
    for event in pieces:
        event["end"] = min(event["ts"] + event["dur"], last + 1)
    ranks = {
        moment: rank for rank, moment in enumerate(sorted({event[at] for event in pieces for at in ("ts", "end")}))
    }
    unit = (WIDTH - LEFT - 24) / (len(ranks) - 1)
    rows = {name: TOP + 30 + HEIGHT * number for number, name in enumerate(tracks)}
    bottom = TOP + 30 + HEIGHT * len(rows)

    def x(moment: float) -> float:
        return round(LEFT + unit * ranks[min(ranks, key=lambda other: abs(other - moment))], 1)

    steps = sorted((event["ts"], name, event) for name, events in tracks.items() for event in events if is_step(event))
    told = [WORDS[name, event["name"]] for _, name, event in steps]
    picture = Picture(
        WIDTH,
        bottom + 24 + 21 * len(told),
        "One message: two turns, three steps, and none of them is Ben's",
        " ".join(told),
    )
    turns = [event["ts"] for event in tracks["kernel"] if event["ph"] == "X" and event["name"] == "poll"]
    for number, moment in enumerate(turns, 1):
        picture.path(f"M{x(moment)} {TOP}V{bottom - 10}", "line dash")
        picture.text(x(moment) + 6, TOP + 8, f"turn {number}", "small soft")
    begins: dict[int, tuple[float, float]] = {}
    for name, events in tracks.items():
        begins.update({event["id"]: (x(event["ts"]), rows[name] + 12) for event in events if event["ph"] == "s"})
    for name, events in tracks.items():
        y, colour = rows[name], TRACKS[name]
        picture.text(20, y + 17, name, f"bold {colour}")
        for event in events:
            if event["ph"] == "X" and event["cat"] == "wait":
                ready = event["name"] == "ready"
                start, end = x(event["ts"]), x(event["end"])
                picture.path(f"M{start} {y + 12}H{end}", f"{colour} {'thick' if ready else 'line dash'}")
                words = event["name"] if ready else event["name"].partition(" ")[0]
                if end - start > 9 * len(words) + 20:
                    picture.text((start + end) / 2, y + 5, words, "small soft", "middle")
    for name, events in tracks.items():
        for event in events:
            if event["ph"] == "f" and event["id"] in begins:
                (x0, y0), x1, y1 = begins[event["id"]], x(event["ts"]), rows[name] + 12
                along = y0 + 20 + 7 * (event["id"] % 2)
                picture.path(f"M{x0} {y0}V{along - 5}q0 5 5 5H{x1}q5 0 5 5V{y1 - 14}", "ink", "ink")
    for name, events in tracks.items():
        for event in events:
            if event["ph"] == "X" and event["cat"] != "wait":
                start, width = x(event["ts"]), x(event["end"]) - x(event["ts"])
                picture.box(start, rows[name], width, 24, TRACKS[name], 3)
                words = event["name"]
                if is_step(event):
                    words = str(1 + [step for *_, step in steps].index(event))
                    picture.text(start + 16, rows[name] - 5, event["name"].rpartition(".")[2] + "()", "code soft")
                picture.text(start + width / 2, rows[name] + 17, words, "on small bold", "middle")
    for number, words in enumerate(told):
        picture.text(20, bottom + 18 + 21 * number, f"{number + 1}  {words}", "soft")
    picture.text(WIDTH - 20, 32, "in order, not to scale", "small soft", "end")
    return str(picture)


def is_step(event: Event) -> bool:
    return (event["ph"], event["cat"]) == ("X", "step")
