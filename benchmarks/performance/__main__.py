"""`python -m benchmarks.performance`: the whole run, its table, its JSON lines, its picture."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.performance.driver import Driver
from benchmarks.performance.origin import start_origin
from benchmarks.performance.peers.registry import Stable, absent
from benchmarks.performance.processes import BenchmarkError, cores, missing
from benchmarks.performance.report import table, targets_table, versions, write_json
from benchmarks.performance.suites import SUITES, Suite
from benchmarks.performance.targets import judged

ROUNDS = 5
QUICK_ROUNDS = 3


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance", description=__doc__)
    names = ", ".join(suite.name for suite in SUITES)
    parser.add_argument("--quick", action="store_true", help="few suites, few rounds: under two minutes")
    parser.add_argument("--suites", default="", metavar="A,B", help=f"only these: {names}")
    parser.add_argument("--peers", default="", metavar="A,B", help="only these, and ours")
    parser.add_argument("--rounds", type=int, default=0, help=f"slots per peer and suite (default {ROUNDS})")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write JSON lines")
    return parser.parse_args(argv)


def chosen(options: argparse.Namespace) -> list[Suite]:
    """The suites to run. Raises BenchmarkError for a name that none has."""
    wanted = [name for name in options.suites.split(",") if name]
    known = {suite.name: suite for suite in SUITES}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise BenchmarkError(f"no suite is called {unknown[0]}; there are {', '.join(known)}")
    if wanted:
        return [known[name] for name in wanted]
    return [suite for suite in SUITES if suite.quick or not options.quick]


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; the exit code is 1 when the run could not be made, not when a target is missed."""
    options = arguments(argv)
    try:
        suites = chosen(options)
        if missing("wrk", "taskset"):
            raise BenchmarkError("wrk and taskset are needed (Debian packages wrk, util-linux)")
        directory = Path(tempfile.mkdtemp(prefix="cacheproxy-bench-"))
        directory.chmod(0o755)  # squid's own user reads below it
        try:
            run(options, suites, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    except BenchmarkError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace, suites: Sequence[Suite], directory: Path) -> None:
    """Start everything, measure, report, end everything."""
    os.sched_setaffinity(0, cores()[1])
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    names = {name for suite in suites for name in suite.peers}
    lacking = absent(names)
    for name, reason in sorted(lacking.items()):
        print(f"skipped: {name}: {reason}")
    if options.peers:
        only = set(options.peers.split(","))
        lacking |= {name: "not asked for" for name in names - only if not name.startswith("ours")}
    began = time.monotonic()
    origin = start_origin(directory / "origin")
    peers = Stable(directory, origin)
    driver = Driver(directory, origin, peers, lacking, print)
    found = versions()
    print("versions: " + ", ".join(f"{name} {version}" for name, version in found.items()))
    try:
        for suite in suites:
            print(table(suite, driver.run(suite, rounds)), flush=True)
    finally:
        peers.stop()
        origin.running.stop()
    results = judged(suites, driver.slots)
    print(targets_table(results))
    print(f"\n{time.monotonic() - began:.0f} s")
    if options.json:
        head: dict[str, object] = {"kind": "run", "versions": found, "origin": origin.kind, "rounds": rounds}
        write_json(options.json, [head, *(slot.record() for slot in driver.slots)])


if __name__ == "__main__":
    sys.exit(main())
