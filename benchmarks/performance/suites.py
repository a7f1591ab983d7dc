"""The suites: which load on which peers, and which figure decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.performance.slots import Slot
from benchmarks.performance.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a slot, with what it is called and whether less of it is better."""

    name: str
    unit: str
    of: Callable[[Slot], float]
    lower_is_better: bool


CPU = Figure("CPU/req", "µs", lambda slot: slot.cpu_us, lower_is_better=True)
CPU_BULK = Figure("CPU", "s/GB", lambda slot: slot.cpu_s_per_gb, lower_is_better=True)
BULK = Figure("rate", "MB/s", lambda slot: slot.megabytes, lower_is_better=False)
RATE = Figure("rate", "1/s", lambda slot: slot.rate, lower_is_better=False)
P99 = Figure("p99", "ms", lambda slot: slot.p99_ms or float("nan"), lower_is_better=True)


@dataclass(frozen=True, slots=True)
class Suite:
    """One load, put on several programs in turn."""

    name: str
    title: str
    load: str  # wrk, download, tunnel, tunnel-setup
    expect: str  # hit, miss, any: what the origin must have seen
    peers: tuple[str, ...]
    traffic: Traffic
    figures: tuple[Figure, ...] = (CPU, RATE)  # the first decides about targets
    seconds: int = 1
    quick: bool = False

    @property
    def subject(self) -> str:
        """The peer that is ours."""
        return next(name for name in self.peers if name.startswith("ours"))


MEMORY = ("ours", "squid", "squid-log", "ats", "nginx", "nginx-cache")
DISK = ("ours-disk", "squid-rock", "squid-rock-log", "ats-disk", "nginx-cache")
MISSING = ("ours", "squid", "squid-log", "ats", "nginx-cache")
STORING = ("ours", "squid", "squid-log", "squid-rock", "squid-rock-log", "ats", "nginx-cache")
SMALL = Traffic(("1k",), 5000, 50)

QUICK_OBJECTS = 1000  # filling takes longer than measuring


def shortened(suite: Suite) -> Suite:
    """The suite with fewer objects, for the short form."""
    objects = min(suite.traffic.objects, QUICK_OBJECTS)
    return replace(suite, traffic=replace(suite.traffic, objects=objects))


SUITES: Final = (
    Suite("hit-1k", "memory hit 1 KB", "wrk", "hit", (*MEMORY, "workers-2", "echo-1k"), SMALL, quick=True),
    Suite(
        "hit-new-fields",
        "memory hit 1 KB, headers all new",
        "wrk",
        "hit",
        (*MEMORY, "echo-1k"),
        replace(SMALL, new_fields=True),
        quick=True,
    ),
    Suite("hit-16k", "memory hit 16 KB", "wrk", "hit", (*MEMORY, "echo-16k"), Traffic(("16k",), 2000, 50)),
    Suite("hit-1m", "memory hit 1 MB", "wrk", "hit", MEMORY, Traffic(("1m",), 64, 20), (CPU, BULK)),
    Suite(
        "hit-500",
        "memory hit 1 KB, 500 connections",
        "wrk",
        "hit",
        (*MEMORY, "echo-1k"),
        replace(SMALL, connections=500),
        (P99, CPU, RATE),
        seconds=2,
    ),
    # As `ab -k` asks.
    Suite(
        "hit-old",
        "memory hit 1 KB, HTTP/1.0 with keep-alive",
        "wrk",
        "hit",
        MISSING,
        replace(SMALL, version="1.0", connection="keep-alive"),
    ),
    Suite(
        "hit-close",
        "memory hit 1 KB, a connection each",
        "wrk",
        "hit",
        MISSING,
        replace(SMALL, connection="close"),
    ),
    Suite(
        "check-1k",
        "stored 1 KB, validated each time (304)",
        "wrk",
        "miss",
        MISSING,
        Traffic(("1k",), 500, 50, kind="check"),
    ),
    Suite("disk-1k", "disk hit 1 KB", "wrk", "hit", DISK, Traffic(("1k",), 4000, 50, uniform=True), quick=True),
    Suite("disk-16k", "disk hit 16 KB", "wrk", "hit", DISK, Traffic(("16k",), 4000, 50, uniform=True)),
    Suite(
        "miss-1k",
        "miss 1 KB",
        "wrk",
        "miss",
        (*MISSING, "workers-2"),
        Traffic(("1k",), 5000, 50, kind="nc"),
        quick=True,
    ),
    # More clients than connections to one origin (`upstream.connections_per_origin`).
    Suite(
        "miss-200",
        "miss 1 KB, 200 connections",
        "wrk",
        "miss",
        MISSING,
        Traffic(("1k",), 5000, 200, kind="nc"),
        (CPU, RATE, P99),
    ),
    Suite("miss-16k", "miss 16 KB", "wrk", "miss", MISSING, Traffic(("16k",), 5000, 50, kind="nc")),
    Suite(
        "miss-100m",
        "miss 100 MB, one client",
        "download",
        "any",
        (*MISSING, "direct"),
        Traffic(("100m",), 1, 1, kind="nc"),
        (CPU_BULK, BULK),
    ),
    Suite(
        "store-1k",
        "miss 1 KB that is stored",
        "wrk",
        "miss",
        (*STORING, "workers-2"),
        Traffic(("1k",), 1, 50, new_share=1.0),
    ),
    Suite(
        "tunnel-bulk",
        "tunnel bulk",
        "tunnel",
        "any",
        ("ours", "squid", "squid-log", "ats", "direct"),
        Traffic(("100m",), 1, 1, kind="nc"),
        (BULK, CPU_BULK),
        quick=True,
    ),
    Suite(
        "tunnel-setup",
        "tunnel set-up, one request, close",
        "tunnel-setup",
        "any",
        ("ours", "squid", "squid-log", "ats"),
        Traffic(("1k",), 100, 50, kind="nc"),
    ),
    # Zipf over the sizes; a tenth of the requests for new objects, a tenth for no-store
    Suite(
        "mixed",
        "mixed trace, 1 to 256 KB",
        "wrk",
        "any",
        ("ours", "squid", "squid-log", "squid-both", "ats", "nginx-cache"),
        Traffic(
            ("1k", "4k", "1k", "16k", "1k", "64k", "4k", "256k"), 2000, 50, new_share=0.1, private_share=0.1
        ),
    ),
)
