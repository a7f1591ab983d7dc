"""What this proxy is to reach, as ratios to a peer in the same run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.performance.ratios import Ratio, paired
from benchmarks.performance.slots import Slot
from benchmarks.performance.suites import BULK, CPU, CPU_BULK, P99, Figure, Suite


@dataclass(frozen=True, slots=True)
class Target:
    """Ours must be this many times better than a peer; `aim` is what we would like."""

    suite: str
    peer: str
    figure: Figure
    must: float | None
    aim: float | None


TARGETS: Final = (
    Target("hit-1k", "squid", CPU, 2.5, 4.0),
    Target("hit-1k", "ats", CPU, 1.3, 2.0),
    Target("hit-1k", "nginx", CPU, None, 1.0),
    Target("hit-new-fields", "squid", CPU, 2.0, 3.0),
    Target("hit-16k", "squid", CPU, 3.0, 5.0),
    Target("hit-1m", "squid", CPU, 5.0, 8.0),
    Target("hit-500", "squid", P99, 1.0, 3.0),
    Target("disk-1k", "squid-rock", CPU, 2.0, 3.0),
    Target("disk-16k", "squid-rock", CPU, 2.0, 3.0),
    Target("disk-1k", "nginx-cache", CPU, None, 1.0),
    Target("disk-16k", "nginx-cache", CPU, None, 1.0),
    Target("miss-1k", "squid", CPU, 1.5, 3.0),
    Target("miss-16k", "squid", CPU, 1.5, 3.0),
    Target("miss-1k", "ats", CPU, None, 1.0),
    Target("miss-16k", "ats", CPU, None, 1.0),
    Target("tunnel-bulk", "squid", BULK, 1.5, None),
    Target("tunnel-bulk", "direct", BULK, None, 0.8),
    Target("tunnel-bulk", "squid", CPU_BULK, None, 3.0),
)


@dataclass(frozen=True, slots=True)
class Result:
    """A target and what was measured."""

    target: Target
    ratio: Ratio

    @property
    def reached(self) -> str:
        """aim, must, or missed."""
        if self.target.aim is not None and self.ratio.value >= self.target.aim:
            return "aim reached"
        if self.target.must is None:
            return "aim missed"
        return "reached" if self.ratio.value >= self.target.must else "MISSED"


def judged(suites: Sequence[Suite], slots: Sequence[Slot]) -> list[Result]:
    """Every target whose suite and peer were measured."""
    found = []
    for target in TARGETS:
        suite = next((suite for suite in suites if suite.name == target.suite), None)
        if suite is None:
            continue
        ours = [slot for slot in slots if slot.suite == suite.name and slot.peer == suite.subject]
        theirs = [slot for slot in slots if slot.suite == suite.name and slot.peer == target.peer]
        lower = target.figure.lower_is_better
        ratio = paired(ours, theirs, target.figure.of, lower_is_better=lower)
        if ratio is not None:
            found.append(Result(target, ratio))
    return found
