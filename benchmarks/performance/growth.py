"""How the cost of a hit grows with connections and with stored objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from benchmarks.performance.suites import CPU, P99, RATE, SMALL, Suite
from benchmarks.performance.traffic import Traffic

CONNECTIONS: Final = (1, 10, 100, 1000, 10_000)
STORED: Final = (1_000, 10_000, 100_000, 1_000_000)
HOLDS: Final = {
    "ours-disk": 1_000_000,
    "squid-rock": 10_000,
    "nginx-cache": 100_000,
}  # objects in the sizes given


def by_connections() -> list[Suite]:
    """Memory hits of 1 KB over more and more connections."""
    return [
        Suite(
            f"connections-{count}",
            f"memory hit 1 KB, {count} connections",
            "wrk",
            "hit",
            ("ours", "squid", "ats", "nginx-cache"),
            replace(SMALL, connections=count),
            (CPU, RATE, P99),
            seconds=1 if count <= 100 else 4,
        )
        for count in CONNECTIONS
    ]


def by_stored() -> list[Suite]:
    """Disk hits of 1 KB among more and more stored objects, each as likely as the other."""
    return [
        Suite(
            f"stored-{count}",
            f"disk hit 1 KB, {count} objects stored",
            "wrk",
            "hit",
            tuple(name for name, most in HOLDS.items() if count <= most),
            Traffic(("1k",), count, 50, uniform=True),
            (CPU, RATE),
        )
        for count in STORED
    ]
