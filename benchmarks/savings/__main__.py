"""`python -m benchmarks.savings`: the savings benchmark (WORKLOADS.md)."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from benchmarks.savings import quick, report, runs
from benchmarks.savings.judging import verdicts
from benchmarks.savings.play import Figure
from benchmarks.savings.runs import Options, say


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench savings", description="Origin bytes, beside Squid.")
    parser.add_argument("--groups", default="A,B,C,D,E,F", help="of A to F, separated by commas")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--quick", action="store_true", help="one seed, a short day, short traces: no result")
    parser.add_argument("--user", action="store_true", help="three passes over one workload, without a peer")
    parser.add_argument("--proxies", default="", help="only these: ours,S0,S1,S2,LFUDA,LRU")
    traces = os.environ.get("SAVINGS_TRACES")
    parser.add_argument("--traces", type=Path, default=Path(traces) if traces else None, metavar="DIR")
    parser.add_argument("--scale", type=int, default=8, help="divides the sizes of traces")
    parser.add_argument("--sample", type=float, default=0.25, help="share of the ids of traces")
    parser.add_argument("--trace-requests", type=int, default=0, help="only the first N requests")
    parser.add_argument("--pace", type=float, default=150.0, help="most misses per second in group E")
    parser.add_argument("--out", type=Path, default=Path(".bench/savings"), help="folder of the results")
    return parser


def _options(given: argparse.Namespace) -> Options:
    groups = "".join(group for group in "ABCDEF" if group in given.groups.upper())
    return Options(
        groups=groups,
        seeds=1 if given.quick else given.seeds,
        quick=given.quick,
        proxies=tuple(name for name in given.proxies.split(",") if name),
        traces=given.traces,
        scale=given.scale,
        sample=given.sample,
        most=given.trace_requests,
        pace=given.pace,
    )


async def _measure(options: Options, out: Path) -> list[Figure]:
    found: list[Figure] = []
    async for figure in runs.figures(options):
        found.append(figure)
        report.write_json(found, out / "savings.jsonl")
    return found


def main() -> int:
    """0, or 1 when our proxy delivered a wrong body."""
    given = _parser().parse_args()
    if given.user:
        return asyncio.run(quick.run())
    given.out.mkdir(parents=True, exist_ok=True)
    found = asyncio.run(_measure(_options(given), given.out))
    print(report.table(found), end="\n\n")
    print(report.targets(verdicts(found)), end="\n\n")
    if text := report.problems(found):
        print(text, end="\n\n")
    if not any(one.proxy in ("S0", "S1", "S2", "LFUDA", "LRU") for one in found):
        print(report.NO_SQUID)
    drawn = report.draw(found, given.out / "savings.png")
    say(
        f"written: {given.out}/savings.jsonl"
        + (f", {given.out}/savings.png" if drawn else " (no picture: matplotlib)")
    )
    return int(any(one.proxy == "ours" and one.wrong for one in found))


if __name__ == "__main__":
    sys.exit(main())
