"""Loads: what is put on a program during one slot, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.performance.peers.peer import Running
from benchmarks.performance.processes import BenchmarkError, cores, pinned, program


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a load did in one slot."""

    requests: int
    seconds: float
    bytes: int
    errors: int
    p50_ms: float | None
    p99_ms: float | None
    cpu_s: float  # of the load generator


class Load(Protocol):
    """Something that works a running program for about a second."""

    def run(self, target: Running, slot: int) -> Outcome:
        """Work `target`; `slot` is a number that no other slot has."""


@dataclass(frozen=True, slots=True)
class Wrk:
    """wrk with one thread."""

    script: Path
    connections: int
    seconds: int = 1

    def run(self, target: Running, slot: int) -> Outcome:
        """Run wrk and read the line that the script writes at the end."""
        argv = [
            *(program("wrk"), "-t", "1", "-c", str(self.connections), "-d", f"{self.seconds}s"),
            *("--timeout", "10s", "-s", str(self.script), f"http://127.0.0.1:{target.port}", "--", str(slot)),
        ]
        process = subprocess.Popen(
            pinned(cores()[1], argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        return parse(output, usage.ru_utime + usage.ru_stime)


def parse(output: str, cpu_s: float) -> Outcome:
    """The script's line in what wrk printed. Raises BenchmarkError when it is not there."""
    found = [line for line in output.splitlines() if line.startswith("RESULT ")]
    if not found:
        raise BenchmarkError(f"wrk printed no result:\n{output[-1000:]}")
    values = json.loads(found[-1].removeprefix("RESULT "))
    return Outcome(
        requests=values["requests"],
        seconds=values["duration_us"] / 1e6,
        bytes=values["bytes"],
        errors=values["failed"],
        p50_ms=values["p50_us"] / 1e3,
        p99_ms=values["p99_us"] / 1e3,
        cpu_s=cpu_s,
    )
