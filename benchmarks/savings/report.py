"""The table, the targets, the JSON lines and the picture."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from benchmarks.savings.judging import Row, Verdict, rows, total, verdicts
from benchmarks.savings.play import Figure

COLOURS = {
    "ours": "#0b6e4f", "S0": "#9aa5b1", "S1": "#d98324", "S2": "#5b7db1", "LFUDA": "#b0413e", "LRU": "#8a6f9e",
    "sim LRU": "#dddddd", "sim LFUDA": "#cccccc", "sim LFUDA+": "#bbbbbb",
}  # fmt: skip
PROXIES = tuple(COLOURS)
NO_SQUID = "Squid is not installed or did not start: a run without Squid is no result."


def _mb(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.2f}"


def _line(row: Row, names: list[str]) -> list[str]:
    ours = row.origin.get("ours", 0)
    saved = f"{1 - ours / row.delivered:.2f}" if row.delivered and "ours" in row.origin else "-"
    ratio = row.ratio()
    cells = [row.group, row.workload, _mb(row.delivered), *(_mb(row.origin.get(name)) for name in names), saved]
    return [
        *cells,
        "-" if ratio is None or row.group == "D" else f"{ratio:.2f} {row.best()}",
        "/".join(str(row.requests[name]) for name in names if name in row.requests),
        "/".join(str(row.wrong[name]) for name in names if name in row.wrong),
        "/".join(str(row.failed[name]) for name in names if name in row.failed),
    ]


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def table(figures: list[Figure]) -> str:
    """Origin MB of every proxy for every workload, added up over the seeds; eviction apart."""
    parts = []
    found = rows(figures)
    for evicting in (False, True):
        some = [row for row in found if (row.group == "E") is evicting]
        if not some:
            continue
        names = [name for name in PROXIES if any(name in row.origin for row in some)]
        head = ["", "workload", "delivered MB", *(f"{name} MB" for name in names), "saved", "ours/best"]
        lines = [[*head, "requests", "wrong", "failed"], *(_line(row, names) for row in some)]
        for group in sorted({row.group for row in some} & set("ABC")):
            sum_line = _line(total(some, group, "sum"), names)
            last = max(n for n, line in enumerate(lines) if line[0] == group)
            lines.insert(last + 1, sum_line)
        parts.append(_aligned(lines))
    return "\n\n".join(parts)


def targets(found: list[Verdict]) -> str:
    """A line for each target."""
    words = {True: "pass", False: "FAIL", None: "not judged"}
    lines = [["", "target", "limit", "value"]]
    for one in found:
        value = "-" if one.value is None else f"{one.value:.3f}"
        lines += [[words[one.passed], one.name, f"{one.limit:g}", value]]
    return _aligned(lines)


def problems(figures: list[Figure]) -> str:
    """The first few wrong bodies and failures of each workload."""
    lines = [f"{one.proxy} {one.group} {one.workload}: {text}" for one in figures for text in one.problems[:3]]
    return "\n".join(lines)


def write_json(figures: list[Figure], path: Path) -> None:
    """A line for each figure, then one for each target."""
    records = [{"kind": "figure", **one.record()} for one in figures]
    records += [
        {"kind": "target", "name": one.name, "limit": one.limit, "value": one.value, "passed": one.passed}
        for one in verdicts(figures)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def draw(figures: list[Figure], path: Path) -> bool:
    """Bars for each workload: origin bytes as a share of what was delivered. False without matplotlib."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        plot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return False
    found = [row for row in rows(figures) if row.group != "D" and row.delivered]
    names = [name for name in PROXIES if any(name in row.origin for row in found)]
    figure, axes = plot.subplots(figsize=(max(7.0, 0.85 * len(found) + 2), 5.0))
    for row_number, row in enumerate(found):
        here = [name for name in names if name in row.origin]
        width = 0.8 / len(here)
        for n, name in enumerate(here):
            share = row.origin[name] / row.delivered
            place = row_number - 0.4 + width * (n + 0.5)
            axes.bar(place, min(share, 1.25), width * 0.92, color=COLOURS[name])
            if share > 1.25:
                axes.text(place, 1.26, f"{share:.0f}x", ha="center", va="bottom", fontsize=7)
    axes.axhline(1.0, color="#444444", linewidth=0.6)
    axes.set_ylim(0, 1.35)
    axes.margins(x=0.01)
    axes.set_ylabel("origin bytes / delivered bytes (less is better)")
    axes.set_xticks(
        range(len(found)), [f"{row.group} {row.workload}" for row in found], rotation=45, ha="right"
    )
    handles = [plot.Rectangle((0, 0), 1, 1, color=COLOURS[name]) for name in names]
    labels = [name if name == "ours" or name.startswith("sim") else f"Squid {name}" for name in names]
    axes.legend(
        handles, labels, ncols=len(names), loc="upper center", bbox_to_anchor=(0.5, 1.12), frameon=False
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plot.close(figure)
    return True
