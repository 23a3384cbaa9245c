"""What is measured: the workloads, with whom, and how often.

A case's first figure is the server's processor time, where it has one: that holds on a busy machine, too.
"""

from __future__ import annotations

from typing import Any

from .measure import Case, Measure

COST = Measure("cpu_ns_per_delivery", "ns of CPU a delivery")
RATE = Measure("deliveries_per_s", "M deliveries/s", True, 1e-6)
PEAK = Measure("memory_peak", "MiB at most", False, 1 / (1 << 20))
FANOUT = [COST, RATE]
LATENCY = [
    COST,
    *(
        Measure(f"{who}_{part}_us", f"us, {name} {label}")
        for who, name in (("last", "last receiver"), ("echo", "own echo"))
        for part, label in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"))
    ),
]
CHURN = [
    Measure("cpu_us_per_connection", "us of CPU a connection"),
    Measure("connections_per_s", "connections/s", True),
]
IDLE = [
    Measure("bytes_per_client", "KiB a client", False, 1 / (1 << 10)),
    Measure("idle_cpu_percent", "% of a core while idle"),
]
START = [
    Measure("cpu_ms_over_bare", "ms of CPU more than `python -c pass`"),
    Measure("over_bare_ms", "ms more than `python -c pass`"),
    Measure("start_ms", "ms in all"),
]

OURS = ["limit", "chatsrv"]
PEERS = [f"{loop}-{kind}" for kind in ("streams", "protocol", "batch") for loop in ("asyncio", "uvloop")]
GREETERS = [*OURS, *PEERS]
ALL = [*GREETERS, "redis", "ncat"]

WINDOW = 64  # lines that each sender has on their way
TALK: dict[str, Any] = {
    "name": "talk",
    "title": "90 of 100 clients talk, up to four lines in flight each",
    "senders": 90,
    "burst": 4,
}
JOURNAL: dict[str, Any] = {"name": "journal", "title": "fan-out, 100 clients, 64 B, journal to a file", "journal": True}
FLOOD: dict[str, Any] = {
    "name": "flood",
    "title": "fan-out, 100 clients, 64 B, as much as the server takes",
    "burst": 0,
}
ROOMS: dict[str, Any] = {"name": "rooms", "title": "10 rooms of 100 clients, 64 B", "rooms": 10, "handler": "rooms"}
OTHER: dict[str, Any] = {
    "name": "other", "title": "1000 clients in a room of `other`, 64 B", "rooms": 1, "handler": "rooms"
}  # fmt: skip
TELL: dict[str, Any] = {
    "name": "tell", "title": "one private line to each of 1,000 clients", "senders": 1, "burst": 1, "handler": "tell"
}  # fmt: skip
CLUSTER: dict[str, Any] = {"name": "cluster", "title": "fan-out, 100 clients, 64 B, a cluster of 1"}
WEB: dict[str, Any] = {  # at a rate that both can keep: else those that take longer to read get more at once
    "name": "web",
    "title": "100 clients, 90 of them browsers, 3,000 messages/s",
    "rate": 3000,
    "burst": 0,
}
TLS: dict[str, Any] = {**WEB, "name": "tls", "title": "100 clients, 90 of them with TLS, 3,000 messages/s"}
SECURE = "chatsrv", "chatsrv-tls", "chatsrv-stunnel"
STUCK: dict[str, Any] = {"name": "stuck", "title": "fan-out, 100 clients, 64 B, and one that never reads", "stuck": 1}


def fanout(clients: int, servers: list[str], seconds: float, size: int = 64, **more: Any) -> Case:
    """Ten clients talk, and all hear them."""
    name = more.pop("name", f"fanout-{clients}" + (f"-{size}b" if size != 64 else ""))
    title = more.pop("title", f"fan-out, {clients} clients, {size} B")
    job = {"workload": "fanout", "clients": clients, "size": size, "burst": WINDOW, "seconds": seconds, **more}
    return Case(name, title, servers, job, FANOUT)


def latency(clients: int, servers: list[str], samples: int) -> Case:
    job = {"workload": "latency", "clients": clients, "size": 64, "samples": samples}
    return Case(f"latency-{clients}", f"one message to {clients} clients", servers, job, LATENCY)


def churn(servers: list[str], seconds: float) -> Case:
    return Case("churn", "connect, be greeted, close", servers, {"workload": "churn", "seconds": seconds}, CHURN)


def idle(clients: int, servers: list[str], seconds: float, name: str = "idle", what: str = "idle clients") -> Case:
    job = {"workload": "idle", "clients": clients, "seconds": seconds}
    return Case(name, f"{clients:,} {what}", servers, job, IDLE)


def idle_tls(seconds: float) -> Case:
    return idle(500, [*SECURE], seconds, "idle-tls", "idle clients with TLS, or plain ones")


def start(servers: list[str], starts: int) -> Case:
    return Case("start", "from exec to the greeting", servers, {"workload": "start", "starts": starts}, START)


def quick_plan() -> list[Case]:
    """Some three minutes."""
    seconds = 0.4
    few = [*OURS, "uvloop-batch"]
    cases = [
        fanout(10, few, seconds),
        fanout(100, [*few, "asyncio-streams", "redis"], seconds),
        fanout(1000, few, seconds),
        fanout(100, few, seconds, **TALK),
        fanout(100, few, seconds, **JOURNAL),
        fanout(1000, few, seconds, **ROOMS),
        fanout(1000, few, seconds, **TELL),
        fanout(100, ["chatsrv", "chatsrv-cluster"], seconds, **CLUSTER),
        fanout(100, ["chatsrv", "chatsrv-web"], seconds, **WEB),
        fanout(100, [*SECURE], seconds, **TLS),
        latency(100, few, 300),
        churn(few, seconds),
        idle(1000, few, seconds),
        idle_tls(seconds),
        start(["chatsrv", "uvloop-batch"], 5),
    ]
    for case in cases:
        case.rounds = 1 if case.job["workload"] == "idle" else 3
    return cases


def full_plan() -> list[Case]:
    """Half an hour."""
    seconds = 1.0
    cases = [fanout(clients, ALL, seconds) for clients in (10, 100, 1000)]
    cases.append(fanout(5000, [*OURS, "uvloop-batch", "redis"], seconds))
    cases += [fanout(100, OURS, seconds, size) for size in (16, 256, 1024)]
    stuck = fanout(100, GREETERS, seconds, **STUCK)
    stuck.measures = [*FANOUT, PEAK]
    return [
        *cases,
        fanout(100, ALL, seconds, **FLOOD),
        fanout(100, ALL, seconds, **TALK),
        fanout(100, GREETERS, seconds, **JOURNAL),
        fanout(1000, [*GREETERS, "redis"], seconds, **ROOMS),
        fanout(1000, OURS, seconds, **OTHER),
        fanout(1000, GREETERS, seconds, **TELL),
        fanout(100, ["chatsrv", "chatsrv-cluster"], seconds, **CLUSTER),
        fanout(100, ["chatsrv", "chatsrv-web"], seconds, **WEB),
        fanout(100, [*SECURE], seconds, **TLS),
        stuck,
        latency(100, ALL, 2000),
        latency(1000, ALL, 1000),
        churn(GREETERS, seconds),
        idle(10_000, GREETERS, 2),
        idle_tls(2),
        start(["chatsrv", *PEERS], 10),
    ]


def sweep_plan() -> list[Case]:
    """How it grows: with clients, with the rate of messages, with their size. The project's server alone."""
    sizes = [
        Measure("memory", "MiB", False, 1 / (1 << 20)),
        Measure("memory_peak", "MiB at most", False, 1 / (1 << 20)),
    ]
    shapes = [(clients, rate, 64) for rate in (10, 100, 1000, 0) for clients in (10, 30, 100, 300, 1000, 3000, 10_000)]
    shapes += [(100, rate, 64) for rate in (30, 300, 3000, 10_000, 30_000, 100_000)]
    shapes += [(100, rate, size) for size in (16, 256, 1024) for rate in (1000, 0)]
    cases = [fanout(clients, ["chatsrv"], 2.0, size, rate=rate, burst=0) for clients, rate, size in shapes]
    for case in cases:
        case.measures = [*FANOUT, *sizes]
        case.title += f", {case.job['rate']:,} messages/s" if case.job["rate"] else ", as fast as it goes"
    return cases
