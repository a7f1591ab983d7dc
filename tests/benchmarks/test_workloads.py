"""The office day's shares add up, seeds fix everything, and no two resources are confused."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from benchmarks.savings.group_a import group_a
from benchmarks.savings.group_bc import group_b, group_c
from benchmarks.savings.group_f import CLIENTS, DAY_BYTES, DAY_S, MAKERS, SHARES, office_day, percentages
from benchmarks.savings.plan import Workload


def asked(workload: Workload) -> Counter[str]:
    found: Counter[str] = Counter()
    for episode in workload.episodes:
        for lane in episode.lanes:
            for ask in lane:
                found[ask.resource.label] += ask.asked
    return found


def test_the_shares_are_those_of_the_issue() -> None:
    assert sum(SHARES.values()) == pytest.approx(100)
    assert sum(percentages().values()) == pytest.approx(100)
    assert set(percentages()) == set(MAKERS)
    assert CLIENTS == 60


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_office_day_has_its_shares(seed: int) -> None:
    day = office_day(random.Random(f"F{seed}"))
    assert day.asked == pytest.approx(DAY_BYTES, rel=0.02)
    found = asked(day)
    for kind, share in percentages().items():
        assert 100 * found[kind] / day.asked == pytest.approx(share, rel=0.06, abs=0.1), kind
    assert all(0 <= episode.start_s <= DAY_S for episode in day.episodes)


@pytest.mark.parametrize("make", [group_a, group_b, group_c])
def test_a_seed_fixes_a_group(make: object) -> None:
    assert callable(make)
    first, again, other = (make(random.Random(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_paths_name_one_resource_each() -> None:
    for make in (group_a, group_b, group_c):
        for workload in make(random.Random(1)):
            paths = [resource.path for resource in workload.resources()]
            assert len(paths) == len(set(paths)), workload.name
