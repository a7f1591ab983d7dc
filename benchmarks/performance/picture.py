"""The run as one picture; needs matplotlib (the optional extra `bench`)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.performance.processes import BenchmarkError
from benchmarks.performance.ratios import middle, paired
from benchmarks.performance.slots import Slot
from benchmarks.performance.suites import Suite
from benchmarks.performance.targets import TARGETS

COLOURS = {
    "ours": "#c0392b",
    "squid": "#2c3e50",
    "ats": "#2980b9",
    "nginx": "#27ae60",
    "echo": "#7f8c8d",
    "direct": "#7f8c8d",
}
MARKERS = {"log": "s", "rock": "D", "cache": "v", "both": "P"}
GROWING = ("connections-", "stored-")


def look(name: str) -> tuple[str, str]:
    """Colour and marker of a peer; related ones share the colour."""
    words = name.split("-")
    return COLOURS.get(words[0], "#8e44ad"), next((MARKERS[word] for word in words[1:] if word in MARKERS), "o")


def draw(path: Path, suites: Sequence[Suite], slots: Sequence[Slot], subtitle: str) -> None:
    """Write the picture. Raises BenchmarkError without matplotlib."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        plots = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise BenchmarkError("matplotlib is needed for the picture: pip install -e '.[bench]'") from error
    measured = [suite for suite in suites if any(slot.suite == suite.name for slot in slots)]
    plain = [suite for suite in measured if not suite.name.startswith(GROWING)]
    curves = [prefix for prefix in GROWING if any(suite.name.startswith(prefix) for suite in measured)]
    panels = [prefix for prefix in ("plain", *curves) if prefix != "plain" or plain]
    if not panels:
        raise BenchmarkError("nothing was measured that could be drawn")
    height = max(4.0, 0.55 * len(plain) + 2)
    figure, axes = plots.subplots(1, len(panels), figsize=(10 + 5 * len(curves), height), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        if panel == "plain":
            _suites(axis, plain, slots)
        else:
            _growth(axis, panel, [suite for suite in measured if suite.name.startswith(panel)], slots)
    figure.suptitle(subtitle, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plots.close(figure)


def _suites(axis: Any, suites: Sequence[Suite], slots: Sequence[Slot]) -> None:
    """A line per suite: how many times better ours is than each peer, and the targets."""
    known: set[str] = set()
    for row, suite in enumerate(suites):
        ours = [slot for slot in slots if slot.suite == suite.name and slot.peer == suite.subject]
        figure = suite.figures[0]
        for name in suite.peers:
            theirs = [slot for slot in slots if slot.suite == suite.name and slot.peer == name]
            ratio = paired(ours, theirs, figure.of, lower_is_better=figure.lower_is_better)
            if name == suite.subject or ratio is None:
                continue
            colour, marker = look(name)
            label = None if name in known else name
            known.add(name)
            axis.plot([ratio.low, ratio.high], [row, row], color=colour, linewidth=2, alpha=0.4)
            inside = "white" if name.endswith("-log") else colour
            axis.plot(
                [ratio.value],
                [row],
                marker=marker,
                color=colour,
                markerfacecolor=inside,
                linestyle="",
                label=label,
            )
        for target in TARGETS:
            if target.suite == suite.name and target.figure == figure and target.must is not None:
                axis.plot([target.must], [row], marker="|", color=look(target.peer)[0], markersize=22)
    axis.axvline(1.0, color="#c0392b", linewidth=1)
    axis.set_xscale("log")
    axis.set_yticks(range(len(suites)), [f"{suite.title} ({suite.figures[0].name})" for suite in suites])
    axis.set_ylim(len(suites) - 0.5, -0.5)
    axis.set_xlabel("times better ours is; tall strokes: must reach")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.grid(axis="x", alpha=0.3)
    if known:
        axis.legend(fontsize=7, ncols=6, loc="lower center", bbox_to_anchor=(0.3, 1.0))


def _growth(axis: Any, prefix: str, suites: Sequence[Suite], slots: Sequence[Slot]) -> None:
    """Cost per request over connections or stored objects."""
    for name in dict.fromkeys(name for suite in suites for name in suite.peers):
        points = []
        for suite in suites:
            mine = [slot for slot in slots if slot.suite == suite.name and slot.peer == name]
            cost = middle(mine, lambda slot: slot.cpu_us)
            if cost is not None:
                points.append((int(suite.name.removeprefix(prefix)), cost))
        if points:
            colour, marker = look(name)
            axis.plot(*zip(*points, strict=True), color=colour, marker=marker, label=name)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(prefix.rstrip("-"))
    axis.set_ylabel("CPU µs per request")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
