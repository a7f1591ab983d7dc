"""One slot: a load on one program for about a second, and everything that is counted meanwhile."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass

from benchmarks.performance.load import Load
from benchmarks.performance.origin import Origin
from benchmarks.performance.peers.peer import Running
from benchmarks.performance.processes import Machine, run_ns

NOISY_CORES = 0.5
MISS_SHARE = 0.9  # requests at the origin per request, below which a run of misses is none


@dataclass(frozen=True, slots=True)
class Slot:
    """What one slot measured."""

    suite: str
    peer: str
    round: int
    requests: int
    seconds: float
    bytes: int
    p50_ms: float | None
    p99_ms: float | None
    cpu_ns: int
    foreign_cores: float  # used by others, or stolen, on average
    errors: int
    origin_requests: int
    void: str  # why it does not count; empty when it does

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of the program's run time per request."""
        return self.cpu_ns / 1e3 / self.requests if self.requests else float("nan")

    @property
    def megabytes(self) -> float:
        """10^6 bytes per second."""
        return self.bytes / 1e6 / self.seconds

    @property
    def cpu_s_per_gb(self) -> float:
        """Seconds of the program's run time per 10^9 bytes."""
        return self.cpu_ns / self.bytes if self.bytes else float("nan")

    @property
    def noisy(self) -> bool:
        """Others took more than half a core."""
        return self.foreign_cores > NOISY_CORES

    def record(self) -> dict[str, object]:
        """As a line of JSON."""
        return {
            "kind": "slot",
            **asdict(self),
            "rps": round(self.rate, 1),
            "cpu_us_per_request": round(self.cpu_us, 3),
            "noisy": self.noisy,
        }


def verdict(expect: str, outcome_requests: int, errors: int, origin_requests: int, may_lose: float) -> str:
    """Why a slot does not count."""
    if outcome_requests == 0:
        return "nothing was answered"
    if errors > outcome_requests * 0.01:
        return f"{errors} errors"
    if expect == "hit" and origin_requests > outcome_requests * may_lose:
        return f"{origin_requests} requests at the origin in a run of hits"
    if expect == "miss" and origin_requests < outcome_requests * MISS_SHARE:
        return f"only {origin_requests} requests at the origin in a run of misses"
    return ""


@dataclass(slots=True)
class Meter:
    """Runs slots; each gets a number of its own."""

    origin: Origin
    slot: int = 0

    def measure(self, suite: str, expect: str, target: Running, load: Load, number: int) -> Slot:
        """One slot of `load` on `target` in round `number`."""
        self.slot += 1
        pids = target.pids()
        origin_pids = self.origin.running.pids()
        origin_before = self.origin.requests()
        machine, own, began = Machine.now(), _own_cpu_s(), time.monotonic()
        cpu, origin_cpu = run_ns(pids), run_ns(origin_pids)
        outcome = load.run(target, os.getpid() % 1000 * 100_000 + self.slot)
        cpu, origin_cpu = run_ns(pids) - cpu, run_ns(origin_pids) - origin_cpu
        took = time.monotonic() - began
        own, after = _own_cpu_s() - own, Machine.now()
        foreign_s = after.busy_s - machine.busy_s - cpu / 1e9 - origin_cpu / 1e9 - own - outcome.cpu_s
        foreign = max(foreign_s, 0.0) / took + (after.steal_s - machine.steal_s) / took
        asked = self.origin.requests() - origin_before
        return Slot(
            suite=suite,
            peer=target.name,
            round=number,
            requests=outcome.requests,
            seconds=outcome.seconds,
            bytes=outcome.bytes,
            p50_ms=outcome.p50_ms,
            p99_ms=outcome.p99_ms,
            cpu_ns=cpu,
            foreign_cores=round(foreign, 3),
            errors=outcome.errors,
            origin_requests=asked,
            void=verdict(
                expect if target.peer.proxy else "any",
                outcome.requests,
                outcome.errors,
                asked,
                target.peer.may_lose,
            ),
        )


def _own_cpu_s() -> float:
    """Processor time of this process alone; loads that run inside it are part of it."""
    times = os.times()
    return times.user + times.system
