"""`python -m benchmarks.performance`: the whole run, its table, its JSON lines, its picture."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.performance import growth, picture, resting
from benchmarks.performance.driver import Driver
from benchmarks.performance.origin import start_origin
from benchmarks.performance.peers.registry import Stable, absent
from benchmarks.performance.processes import BenchmarkError, cores, missing
from benchmarks.performance.report import resting_table, table, targets_table, versions, write_json
from benchmarks.performance.suites import SUITES, Suite, shortened
from benchmarks.performance.targets import judged

ROUNDS = 5
QUICK_ROUNDS = 3
GROWTH_ROUNDS = 3
IDLE = "idle-memory"  # a suite of its own kind: nothing is asked while it is measured


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few suites and peers: under two minutes")
    parser.add_argument("--full", action="store_true", help="also growth curves and 10,000 idle connections")
    parser.add_argument("--suites", default="", metavar="A,B", help="only these: " + ", ".join(known()))
    parser.add_argument("--peers", default="", metavar="A,B", help="only these, and ours")
    parser.add_argument("--rounds", type=int, default=0, help=f"slots per peer and suite (default {ROUNDS})")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write JSON lines")
    parser.add_argument("--picture", type=Path, default=None, metavar="FILE", help="write a PNG")
    return parser.parse_args(argv)


def known() -> list[str]:
    """All names that --suites takes."""
    return [suite.name for suite in (*SUITES, *growth.by_connections(), *growth.by_stored())] + [IDLE]


def chosen(options: argparse.Namespace) -> tuple[list[Suite], bool]:
    """The suites to run, and whether idle memory is measured. Raises BenchmarkError for a name that none has."""
    wanted = [name for name in options.suites.split(",") if name]
    grown = [*growth.by_connections(), *growth.by_stored()]
    unknown = [name for name in wanted if name not in known()]
    if unknown:
        raise BenchmarkError(f"no suite is called {unknown[0]}; there are {', '.join(known())}")
    if wanted:
        return [suite for suite in (*SUITES, *grown) if suite.name in wanted], IDLE in wanted
    if options.quick:
        return [shortened(suite) for suite in SUITES if suite.quick], False
    return [*SUITES, *(grown if options.full else [])], True


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; the exit code is 1 when the run could not be made, not when a target is missed."""
    options = arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        suites, idle = chosen(options)
        if lacking := missing("wrk", "taskset"):
            raise BenchmarkError(f"{lacking} is not installed (Debian packages wrk and util-linux are needed)")
        directory = Path(tempfile.mkdtemp(prefix="cacheproxy-bench-"))
        directory.chmod(0o755)  # squid's own user reads below it
        try:
            run(options, suites, directory, idle=idle)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    except BenchmarkError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def not_here(options: argparse.Namespace, suites: Sequence[Suite]) -> dict[str, str]:
    """Peers that are left out, each with the reason; what is not installed is printed."""
    names = {name for suite in suites for name in suite.peers} | set(resting.PEERS)
    lacking = absent(sorted(names))
    for name, reason in lacking.items():
        print(f"skipped: {name}: {reason}")
    if options.peers:
        only = set(options.peers.split(","))
        lacking |= {name: "not asked for" for name in names - only if not name.startswith("ours")}
    if options.quick and not options.suites:
        lacking |= {name: "not in the short form" for name in names if name.endswith("-log")}
    return lacking


def run(options: argparse.Namespace, suites: Sequence[Suite], directory: Path, *, idle: bool) -> None:
    """Start everything, measure, report, end everything."""
    began = time.monotonic()
    lacking = not_here(options, suites)
    found = versions()
    shown = ", ".join(f"{name} {version}" for name, version in found.items())
    print(f"versions: {shown}")
    print("per core: the program under test on one core, load and origin on another; ratios of the same round")
    os.sched_setaffinity(0, cores()[1])
    origin = start_origin(directory / "origin")
    driver = Driver(directory, origin, Stable(directory, origin), lacking, print)
    at_rest: list[resting.Resting] = []
    try:
        for suite in suites:
            grown = suite.name.startswith(picture.GROWING)
            usual = GROWTH_ROUNDS if grown else QUICK_ROUNDS if options.quick else ROUNDS
            print(table(suite, driver.run(suite, options.rounds or usual)), flush=True)
        if idle:
            at_rest = driver.rest(10_000 if options.full else 1_000)
            print(resting_table(at_rest))
    finally:
        driver.peers.stop()
        origin.running.stop()
    print(targets_table(judged(suites, driver.slots)))
    print(f"\n{time.monotonic() - began:.0f} s")
    if options.json:
        head: dict[str, object] = {"kind": "run", "versions": found, "origin": origin.kind}
        measured = [slot.record() for slot in driver.slots] + [one.record() for one in at_rest]
        write_json(options.json, [head, *measured])
    if options.picture:
        picture.draw(options.picture, suites, driver.slots, shown)


if __name__ == "__main__":
    sys.exit(main())
