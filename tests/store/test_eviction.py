"""The eviction score: as a function, and as the file applies it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheproxy.store.eviction import score, weight
from cacheproxy.store.space import DiskOptions
from tests.store.conftest import KIB, MIB, House, content, response

SIZES = st.integers(0, 1 << 40)
REQUESTS = st.integers(1, 10_000)
LEVELS = st.floats(0, 1e6)
QUIET = settings(deadline=None, database=None, derandomize=True)


@pytest.mark.parametrize(
    ("inflation", "requests", "size", "expected"),
    [
        (0.0, 1, 1, 0.25),
        (0.0, 2, 1, 2.0),
        (0.0, 3, 1, 3.0),
        (5.0, 1, 1, 5.25),
        (0.0, 1, 1024, 0.125),
        (0.0, 4, 1 << 20, 1.0),
        (0.0, 1, 0, 0.25),
    ],
)
def test_scores(inflation: float, requests: int, size: int, expected: float) -> None:
    """L + w(n) / size^0.1, w(1) = 1/4."""
    assert score(inflation, requests, size) == pytest.approx(expected)


@given(LEVELS, REQUESTS, SIZES)
@QUIET
def test_uses_and_inflation_raise_it(inflation: float, requests: int, size: int) -> None:
    """A use never lowers a score, nor does storing later."""
    assert score(inflation, requests + 1, size) >= score(inflation, requests, size) > inflation - 1e-9
    assert score(inflation + 1, requests, size) > score(inflation, requests, size)


@given(SIZES, SIZES)
@QUIET
def test_smaller_weighs_more(one: int, other: int) -> None:
    """Size counts, mildly: 10 % of a decade a decade."""
    assert (weight(min(one, other)) >= weight(max(one, other))) and 0 < weight(one) <= 1


async def test_the_file_keeps_the_same_scores(house: House) -> None:
    """What SQL computes for a new row and for its uses is what the function says."""
    await house.put(response(), content(1, 5000))
    (candidate,) = await house.store.lookup(response().key)
    (size,) = house.sql("SELECT size FROM ranks")[0]
    assert house.sql("SELECT score, hits FROM ranks") == [(pytest.approx(score(0.0, 1, size)), 1)]
    for _ in range(3):
        house.store.touch(candidate.stored)
    await house.reopen()
    assert house.sql("SELECT score, hits FROM ranks") == [(pytest.approx(score(0.0, 4, size)), 4)]
    house.store.touch(candidate.stored)
    await house.reopen()
    assert house.sql("SELECT score, hits FROM ranks") == [(pytest.approx(score(0.0, 5, size)), 5)]


async def test_what_was_used_outlives_what_was_not(fresh: House) -> None:
    """Storing twice what fits: the used ones are still there, and L was kept for the next start."""
    house = fresh
    house.options = DiskOptions(8 * MIB, keep_free_bytes=0)
    await house.open()
    keys = [f"http://h/{n}" for n in range(16 * MIB // (256 * KIB))]
    used = keys[:4]
    for n, key in enumerate(keys):
        await house.put(response(key), content(key, 256 * KIB - 2000))
        if n == len(used) - 1:
            for one in used:
                (found,) = await house.store.lookup(one)
                for _ in range(20):
                    house.store.touch(found.stored)
    house.forget_memory()
    for key in used:
        assert await house.bodies(key) == [content(key, 256 * KIB - 2000)]
    assert await house.store.lookup(keys[5]) == ()
    await house.close()
    inflation = house.sql("SELECT inflation FROM totals")[0][0]
    assert inflation > 0
    await house.open()
    await house.put(response("http://h/new"), b"x")
    await house.close()
    (value, size), *_ = house.sql(
        "SELECT score, size FROM ranks JOIN entries USING (entry_id) WHERE key = 'http://h/new'"
    )
    assert value == pytest.approx(score(inflation, 1, size))
    house.check_file()


async def test_memory_forgets_what_the_disk_evicts(fresh: House) -> None:
    """A head in memory whose body has left the disk would be a hit without bytes."""
    house = fresh
    house.options = DiskOptions(6 * MIB, keep_free_bytes=0)
    await house.open()
    keys = [f"http://h/{n}" for n in range(40)]
    for key in keys:
        await house.put(response(key), content(key, 300 * KIB))
    on_disk = {row[0] for row in house.sql("SELECT key FROM entries")}
    assert len(on_disk) < len(keys)
    for key in keys:
        assert await house.bodies(key) == ([content(key, 300 * KIB)] if key in on_disk else [])
    await house.close()
