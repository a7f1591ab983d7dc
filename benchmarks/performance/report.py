"""The run as text and as lines of JSON."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.performance.peers.registry import PEERS
from benchmarks.performance.processes import missing, program
from benchmarks.performance.ratios import Ratio, middle, paired
from benchmarks.performance.resting import Resting
from benchmarks.performance.slots import Slot
from benchmarks.performance.suites import Suite
from benchmarks.performance.targets import Result

SHOWN_LOSS = 0.001
VERSIONS = {
    "squid": ("-v",),
    "traffic_server": ("--version",),
    "nginx": ("-v",),
    "wrk": ("-v",),
}


def versions() -> dict[str, str]:
    """Versions of everything that was measured, and of the kernel."""
    found = {"kernel": platform.release(), "python": platform.python_version()}
    for name, arguments in VERSIONS.items():
        if missing(name):
            continue
        shown = subprocess.run(
            [program(name), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
        match = re.search(r"\d+\.\d+(\.\d+)?", shown.stdout + shown.stderr)
        found[name] = match[0] if match else "unknown"
    return found


def shown_ratio(ratio: Ratio | None) -> str:
    """A ratio with its interval."""
    return f"{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})" if ratio else "-"


def number(value: float | None) -> str:
    """A number with three digits that matter."""
    if value is None or value != value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(suite: Suite, slots: Sequence[Slot]) -> str:
    """One suite: a line per peer."""
    rows: list[list[str]] = []
    heads = ["peer"]
    for figure in suite.figures:
        heads += [f"{figure.name} {figure.unit}", "ours is better by"]
    heads += ["p50 / p99 ms", "notes", "configuration"]
    ours = [slot for slot in slots if slot.peer == suite.subject]
    for name in suite.peers:
        mine = [slot for slot in slots if slot.peer == name]
        if not mine:
            continue
        row = [name]
        for figure in suite.figures:
            ratio = paired(ours, mine, figure.of, lower_is_better=figure.lower_is_better)
            row += [number(middle(mine, figure.of)), "" if name == suite.subject else shown_ratio(ratio)]
        latency = f"{number(middle(mine, lambda s: s.p50_ms))} / {number(middle(mine, lambda s: s.p99_ms))}"
        rows.append([*row, latency, notes(mine, suite.expect), PEERS[name].shown])
    others = number(middle(slots, lambda slot: slot.foreign_cores))
    return f"\n{suite.name}: {suite.title} (others used {others} cores)\n" + columns([heads, *rows])


def notes(slots: Sequence[Slot], expect: str = "any") -> str:
    """Void, noisy and faulty slots."""
    found = []
    void = [slot for slot in slots if slot.void]
    if void:
        found.append(f"{len(void)}/{len(slots)} void ({void[0].void})")
    noisy = sum(slot.noisy for slot in slots)
    if noisy:
        found.append(f"{noisy}/{len(slots)} noisy")
    lost = sum(slot.origin_requests for slot in slots) / max(1, sum(slot.requests for slot in slots))
    if expect == "hit" and lost > SHOWN_LOSS:
        found.append(f"{lost:.1%} asked of the origin")
    errors = sum(slot.errors for slot in slots)
    if errors:
        found.append(f"{errors} errors")
    return ", ".join(found)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text, aligned."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) if at in (0, len(row) - 1) else cell.rjust(width)
                 for at, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def targets_table(results: Sequence[Result]) -> str:
    """Every target with what was measured."""
    rows = [["suite", "against", "figure", "must", "aim", "measured", "verdict"]]
    for result in results:
        target = result.target
        rows.append(
            [
                target.suite,
                target.peer,
                target.figure.name + " " + target.figure.unit,
                f"{target.must}x" if target.must is not None else "",
                f"{target.aim}x" if target.aim is not None else "",
                shown_ratio(result.ratio),
                result.reached,
            ]
        )
    return "\ntargets (how many times better ours is; median of the same round, 90 % interval)\n" + columns(
        rows
    )


def resting_table(found: Sequence[Resting]) -> str:
    """Memory at rest: a line per peer."""
    rows = [["peer", "connections", "KiB per idle connection", "MiB before"]]
    rows += [
        [
            one.peer,
            str(one.connections),
            f"{one.bytes_per_connection / 1024:.1f}",
            f"{one.base_bytes / 2**20:.0f}",
        ]
        for one in found
    ]
    return (
        "\nidle-memory: proportional set size of idle keep-alive connections (ours must be at most 12 KiB)\n"
        + columns(rows)
    )


def write_json(path: Path, records: Iterable[dict[str, object]]) -> None:
    """One object a line."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
