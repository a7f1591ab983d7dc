"""Medians, ratios of the same round, and how sure they are."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.performance.slots import Slot

RESAMPLES = 2000
COVERAGE = 0.90


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times better ours is than a peer, with the bounds of a bootstrap interval."""

    value: float
    low: float
    high: float
    rounds: int


def paired(
    ours: Sequence[Slot], theirs: Sequence[Slot], figure: Callable[[Slot], float], *, lower_is_better: bool
) -> Ratio | None:
    """The median over rounds of the ratio within a round, above 1 where ours is better; None without a common round."""
    mine = {slot.round: figure(slot) for slot in ours if not slot.void}
    other = {slot.round: figure(slot) for slot in theirs if not slot.void}
    found = [
        other[number] / mine[number] if lower_is_better else mine[number] / other[number]
        for number in sorted(mine.keys() & other.keys())
        if mine[number] > 0 and other[number] > 0
    ]
    if not found:
        return None
    low, high = interval(found)
    return Ratio(median(found), low, high, len(found))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Bounds that hold the median of 90 % of resamples; the same for the same values."""
    chance = random.Random(len(values))
    medians = sorted(median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    cut = (1 - COVERAGE) / 2
    return medians[int(RESAMPLES * cut)], medians[int(RESAMPLES * (1 - cut)) - 1]


def middle(slots: Sequence[Slot], figure: Callable[[Slot], float | None]) -> float | None:
    """The median of a figure over the slots that count."""
    found = [value for slot in slots if not slot.void and (value := figure(slot)) is not None]
    return median(found) if found else None
