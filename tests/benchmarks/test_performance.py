"""The performance benchmark's own arithmetic, its texts, and a run without peers where wrk is there."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from benchmarks.performance import growth
from benchmarks.performance.__main__ import ROUNDS, arguments, chosen
from benchmarks.performance.bulk import read_answer, value_of
from benchmarks.performance.driver import rotated
from benchmarks.performance.load import parse
from benchmarks.performance.peers.registry import PEERS
from benchmarks.performance.processes import BenchmarkError, Machine, missing, pinned, run_ns, tree
from benchmarks.performance.ratios import interval, middle, paired
from benchmarks.performance.report import columns, number, table
from benchmarks.performance.slots import Slot, verdict
from benchmarks.performance.suites import CPU, RATE, SUITES, shortened
from benchmarks.performance.targets import TARGETS, judged
from benchmarks.performance.traffic import Traffic, script

ROOT = Path(__file__).parents[2]


def slot(peer: str, number: int, cpu_us: float, *, suite: str = "hit-1k", void: str = "") -> Slot:
    """A slot of a thousand requests in a second."""
    return Slot(suite, peer, number, 1000, 1.0, 1_000_000, 1.0, 2.0, int(cpu_us * 1_000_000), 0.0, 0, 0, void)


# ratios


def test_ratio_is_paired_within_a_round() -> None:
    ours = [slot("ours", 0, 10), slot("ours", 1, 100)]
    theirs = [slot("squid", 1, 300), slot("squid", 0, 30)]
    ratio = paired(ours, theirs, CPU.of, lower_is_better=True)
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high, ratio.rounds) == (3.0, 3.0, 3.0, 2)


def test_ratio_of_a_rate_is_above_one_where_ours_is_faster() -> None:
    ratio = paired([slot("ours", 0, 1)], [slot("squid", 0, 1)], RATE.of, lower_is_better=False)
    assert ratio is not None and ratio.value == 1.0


def test_void_slots_do_not_count() -> None:
    ours = [slot("ours", 0, 10), slot("ours", 1, 10)]
    theirs = [slot("squid", 0, 30), slot("squid", 1, 3000, void="misses")]
    ratio = paired(ours, theirs, CPU.of, lower_is_better=True)
    assert ratio is not None and ratio.rounds == 1 and ratio.value == 3.0
    assert middle(theirs, CPU.of) == 30.0
    assert paired(ours, theirs[1:], CPU.of, lower_is_better=True) is None


def test_interval_holds_the_median_and_is_the_same_again() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 50.0]
    low, high = interval(values)
    assert low <= 3.0 <= high and low < high
    assert interval(values) == (low, high)


# slots


@pytest.mark.parametrize(
    ("expect", "requests", "errors", "asked", "counts"),
    [
        ("hit", 10_000, 0, 0, True),
        ("hit", 10_000, 0, 10, True),
        ("hit", 10_000, 0, 11, False),
        ("miss", 10_000, 0, 10_000, True),
        ("miss", 10_000, 0, 8_999, False),
        ("any", 10_000, 0, 5_000, True),
        ("any", 10_000, 101, 0, False),
        ("any", 0, 0, 0, False),
    ],
)
def test_verdict(expect: str, requests: int, errors: int, asked: int, *, counts: bool) -> None:
    assert (verdict(expect, requests, errors, asked, may_lose=0.001) == "") is counts


def test_record_is_json_with_what_is_derived() -> None:
    record = json.loads(json.dumps(slot("ours", 3, 12.5).record()))
    assert record["kind"] == "slot" and record["round"] == 3
    assert record["rps"] == 1000.0 and record["cpu_us_per_request"] == 12.5 and record["noisy"] is False


def test_order_rotates() -> None:
    assert [rotated(["a", "b", "c"], number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


# load


def test_result_line_is_read() -> None:
    line = 'RESULT {"requests": 10, "duration_us": 2000000, "bytes": 99, "p50_us": 1500, "p99_us": 9000, "failed": 1}'
    outcome = parse(f"Running\n\n{line}\n", 0.5)
    assert (outcome.requests, outcome.seconds, outcome.errors, outcome.p50_ms) == (10, 2.0, 1, 1.5)
    with pytest.raises(BenchmarkError):
        parse("unable to connect", 0.0)


def test_script_has_no_gap_left_and_names_what_is_left_out() -> None:
    text = script(Traffic(("1k", "4k"), 100, 50, new_share=0.25), "127.0.0.1:1", {7, 3})
    assert "@" not in text
    assert '{"1k", "4k"}' in text and "{[3] = true, [7] = true}" in text and "= 0.25, 0.0" in text


def test_paths_agree_with_the_script() -> None:
    traffic = Traffic(("1k", "4k"), 3, 50)
    assert traffic.paths() == ["/obj/4k/1", "/obj/1k/2", "/obj/4k/3"]
    assert "sizes[number % #sizes + 1]" in script(traffic, "h:1")
    assert traffic.warmed and not Traffic(("1k",), 3, 50, kind="nc").warmed


def test_answer_is_read_to_its_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        body = b"x" * 200_000
        head = b"HTTP/1.1 200 OK\r\nX-Fetched: abc\r\nContent-Length: 200000\r\n\r\n"
        sender = threading.Thread(target=theirs.sendall, args=(head + body,))
        sender.start()
        lines, length = read_answer(ours)
        sender.join()
    assert length == 200_000 and value_of(lines, "x-fetched") == "abc" and value_of(lines, "Age") == ""


# what is there


def test_suites_name_peers_that_exist_and_have_one_of_ours() -> None:
    for suite in (*SUITES, *growth.by_connections(), *growth.by_stored()):
        assert set(suite.peers) <= set(PEERS), suite.name
        assert suite.subject in suite.peers
    names = [suite.name for suite in SUITES]
    assert len(names) == len(set(names))
    assert max(shortened(suite).traffic.objects for suite in SUITES) <= 1000


def test_targets_are_about_figures_that_their_suite_measures() -> None:
    suites = {suite.name: suite for suite in SUITES}
    for target in TARGETS:
        assert target.peer in suites[target.suite].peers
        assert target.figure in suites[target.suite].figures


def test_targets_are_judged() -> None:
    suite = next(suite for suite in SUITES if suite.name == "hit-1k")
    slots = [slot("ours", 0, 10), slot("squid", 0, 30), slot("ats", 0, 10), slot("nginx", 0, 12)]
    verdicts = {result.target.peer: result.reached for result in judged([suite], slots)}
    assert verdicts == {"squid": "reached", "ats": "MISSED", "nginx": "aim reached"}


def test_table_shows_every_peer_that_was_measured() -> None:
    suite = next(suite for suite in SUITES if suite.name == "hit-1k")
    shown = table(suite, [slot("ours", 0, 10), slot("squid", 0, 30), slot("ats", 0, 9, void="5 errors")])
    assert "3.00 (3.00-3.00)" in shown and "1/1 void (5 errors)" in shown and "nginx" not in shown


def test_columns_and_numbers() -> None:
    assert columns([["a", "b", "c"], ["long", "1", ""]]) == "a     b  c\nlong  1"
    assert [number(value) for value in (None, math.nan, 1234.5, 12.345)] == ["-", "-", "1,234", "12.3"]


def test_command_line() -> None:
    suites, idle = chosen(arguments(["--suites", "miss-1k,idle-memory"]))
    assert [suite.name for suite in suites] == ["miss-1k"] and idle
    quick, idle = chosen(arguments(["--quick"]))
    assert {suite.name for suite in quick} >= {"hit-1k", "miss-1k"} and not idle
    assert len(chosen(arguments(["--full"]))[0]) > len(chosen(arguments([]))[0]) == len(SUITES)
    with pytest.raises(BenchmarkError, match="no suite is called hits"):
        chosen(arguments(["--suites", "hits"]))
    assert ROUNDS >= 5


# the machine


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="Linux only: no /proc with schedstat here"
)
def test_run_time_of_a_tree_grows_with_work() -> None:
    # The child works once its parent has said so; both live until the pipe is closed.
    code = (
        "import os, sys\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.read(0, 1)\n"
        "    sum(range(3_000_000))\n"
        "    os.write(1, b'!')\n"
        "os.wait() if child else os.read(0, 1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    with process:
        while len(tree(process.pid)) < 2:
            assert process.poll() is None
        alone, both = run_ns([process.pid]), run_ns(tree(process.pid))
        process.stdin.write(b"1")
        process.stdin.flush()
        assert process.stdout.read(1) == b"!"
        assert run_ns(tree(process.pid)) - both > 1_000_000 > run_ns([process.pid]) - alone
        process.stdin.close()
    assert process.returncode == 0
    assert Machine.now().busy_s > 0


def test_pinned_names_the_cores() -> None:
    assert pinned([0, 1], ["x", "y"]) == ["taskset", "-c", "0,1", "x", "y"]


@pytest.mark.skipif(bool(missing("wrk", "taskset")), reason="a real run: wrk or taskset is not installed")
def test_a_run_against_ourselves(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    argv = [
        "--suites",
        "hit-1k,miss-1k,tunnel-setup",
        "--rounds",
        "1",
        "--peers",
        "ours,echo-1k",
        "--json",
        str(lines),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.performance", *argv],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    head, *slots = [json.loads(line) for line in lines.read_text().splitlines()]
    assert head["kind"] == "run" and "kernel" in head["versions"]
    assert [(one["suite"], one["peer"]) for one in slots] == [
        ("hit-1k", "ours"),
        ("hit-1k", "echo-1k"),
        ("miss-1k", "ours"),
        ("tunnel-setup", "ours"),
    ]
    assert [one["void"] for one in slots] == [""] * 4
