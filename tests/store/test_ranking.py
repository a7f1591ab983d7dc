"""Who stays: ghosts, pending uses, refusal, pins; kept over a restart; no scan at the start."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheproxy.caching.overrides import Overrides
from cacheproxy.store.eviction import PINNED
from cacheproxy.store.ghosts import Ghosts, key_hash
from cacheproxy.store.ranking import MAX_TOUCHED, Horizon, Touches
from cacheproxy.store.space import DiskOptions
from tests.store.conftest import KIB, MIB, House, Tap, content, failing, io_error, response

PINS = Overrides(pin=True)


def test_ghosts_count_and_forget_the_oldest() -> None:
    """A table that is full keeps what was seen last, nearly as an LRU does."""
    ghosts = Ghosts()
    rng = random.Random(1)
    model: OrderedDict[int, int] = OrderedDict()
    for n in range(60_000):
        hashed = key_hash(f"http://h/{rng.randrange(500) if n % 2 else n}")
        model[hashed] = model.pop(hashed, 0) + 1
        ghosts.add(hashed)
    assert len(ghosts) <= ghosts.capacity
    recent = list(model)[-1000:]
    same = sum(ghosts.count(hashed) == model[hashed] for hashed in recent)
    assert same > 800
    assert ghosts.take(recent[-1]) == model[recent[-1]]
    assert ghosts.count(recent[-1]) == 0


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50), st.integers(0, 20_000))
@settings(deadline=None, database=None, derandomize=True, max_examples=30)
def test_ghosts_survive_growth_and_a_restart(hashes: list[int], stored: int) -> None:
    """Growing and writing down loses nothing where there is room."""
    ghosts = Ghosts()
    for hashed in hashes:
        ghosts.add(hashed, 3)
    before = [ghosts.count(hashed) for hashed in hashes]
    ghosts.fit(stored)
    assert ghosts.capacity >= 4 * stored
    assert [ghosts.count(hashed) for hashed in hashes] == before
    again = Ghosts.from_parts(ghosts.to_parts())
    assert [again.count(hashed) for hashed in hashes] == before


@pytest.mark.parametrize("parts", [[], [b""], [b"x"], [bytes(8 * 4096)], [bytes(8 * 5000)]])
def test_damaged_ghosts_are_no_ghosts(parts: list[bytes]) -> None:
    """Whatever is in the file: a table that works."""
    ghosts = Ghosts.from_parts(parts)
    assert len(ghosts) == 0
    assert ghosts.add(1) == 1


def test_touches_are_due_where_the_score_changes() -> None:
    """The first uses at once, later ones when they are an eighth more; all of them at the end."""
    touches = Touches()
    touches.add(1)
    assert touches.take_due() == [(1, 1)]
    for _ in range(100):
        touches.add(1)
    assert touches.take_due() == [(1, 100)]
    touches.add(1)
    assert touches.take_due() == []
    assert touches.pending(1) == 1
    assert touches.take_due(everything=True) == [(1, 1)]
    touches.give_back([(1, 1)])
    assert touches.take_due() == [(1, 1)]
    for n in range(2 * MAX_TOUCHED):
        touches.add(n)
    assert len(touches) <= MAX_TOUCHED


@pytest.mark.parametrize(
    ("free", "victims", "requests", "size", "admitted"),
    [
        (1000, [], 1, 1000, True),
        (0, [(1000, 0.05)], 1, 1000, True),
        (0, [(1000, 9.0)], 1, 1000, False),
        (0, [(1000, 9.0)], 40, 1000, True),
        (500, [(1000, 9.0), (500, 0.05)], 1, 1000, True),
        (499, [(1000, 9.0), (500, 0.05)], 1, 1000, False),
    ],
)
def test_refusal(free: int, victims: list[tuple[int, float]], requests: int, size: int, admitted: bool) -> None:
    """Only where something must go that is worth more."""
    horizon = Horizon()
    assert horizon.admits(1, 1 << 40)
    horizon.renew(free, 0.0, victims)
    assert horizon.admits(requests, size) is admitted


async def fill(house: House, count: int, uses: int = 0) -> None:
    """Bodies of 100 KiB, each used so often."""
    for n in range(count):
        made = await house.put(response(f"http://h/{n}"), content(n, 100 * KIB))
        for _ in range(uses if made is not None else 0):
            house.store.touch(made.stored)  # type: ignore[arg-type]


@pytest.mark.usefixtures("quick")
async def test_losers_are_refused_only_when_full(fresh: House) -> None:
    """Everything here is used often: a newcomer passes by until it has been asked for often enough, too."""
    house = fresh
    house.options = DiskOptions(8 * MIB, keep_free_bytes=0)
    await house.open()
    await fill(house, 85, uses=5)
    await house.flush()
    key = "http://new/"
    house.store.note_request(key)
    assert await house.put(response(key), content(key, 100 * KIB)) is None
    assert house.recorder.failures == []
    for _ in range(10):
        house.store.note_request(key)
    assert await house.put(response(key), content(key, 100 * KIB)) is not None
    await house.close()
    assert house.sql("SELECT hits FROM ranks JOIN entries USING (entry_id) WHERE key = ?", key) == [(11,)]
    house.check_file()


@pytest.mark.usefixtures("quick")
async def test_requests_are_remembered(fresh: House) -> None:
    """What was asked for before it was stored counts, after an eviction and over a restart too."""
    house = fresh
    house.options = DiskOptions(8 * MIB, keep_free_bytes=0)
    await house.open()
    for _ in range(3):
        house.store.note_request("http://h/0")
    house.store.note_request("http://ghost/")
    await fill(house, 1)
    for n in range(200):
        await house.put(response(f"http://more/{n}"), content(n, 100 * KIB))
        if n % 20 == 0:
            await house.flush()
    await house.reopen()
    assert house.disk.ranking.ghosts.count(key_hash("http://ghost/")) == 1
    gone = house.sql("SELECT key FROM entries WHERE key = 'http://h/0'") == []
    assert house.disk.ranking.ghosts.count(key_hash("http://h/0")) == (3 if gone else 0)
    assert house.disk.ranking.inflation > 0
    await house.close()


@pytest.mark.usefixtures("quick")
async def test_a_replacement_inherits(house: House) -> None:
    """A new version of what is used often is not a newcomer."""
    made = await house.put(response(), b"old")
    assert made is not None
    for _ in range(5):
        house.store.touch(made.stored)
    await house.reopen()
    house.store.note_request(response().key)
    await house.put(response(etag='"2"'), b"new")
    await house.reopen()
    assert house.sql("SELECT hits FROM ranks") == [(7,)]


@pytest.mark.usefixtures("quick")
async def test_pinned_stays(fresh: House) -> None:
    """Five times the limit later it is still there; where nothing else is left storing stops, quietly."""
    house = fresh
    house.options = DiskOptions(8 * MIB, keep_free_bytes=0)
    await house.open()
    pinned = response("http://pinned/")._replace(overrides=PINS)
    assert await house.put(pinned, content("pinned", 300 * KIB)) is not None
    await fill(house, 400)
    house.forget_memory()
    assert await house.bodies("http://pinned/") == [content("pinned", 300 * KIB)]
    (found,) = await house.store.lookup("http://pinned/")
    house.store.touch(found.stored)
    await house.close()
    assert house.sql("SELECT COUNT(*) FROM ranks WHERE score >= ?", PINNED) == [(1,)]
    house.check_file()


async def test_uses_survive_a_failed_transaction(house: House, tap: Tap) -> None:
    """They are counted by the next."""
    made = await house.put(response(), b"body")
    assert made is not None
    await house.flush()
    for _ in range(4):
        house.store.touch(made.stored)
    tap.before = failing(lambda sql: sql.startswith("UPDATE ranks"), io_error())
    house.disk.writer._touched_at = 0.0
    await house.flush()
    await house.reopen()
    assert house.sql("SELECT hits FROM ranks") == [(5,)]


async def test_the_start_scans_nothing(fresh: House) -> None:
    """Two hundred thousand entries: open, and look up, in a fraction of a second."""
    house = fresh
    await house.open()
    await house.put(response(), b"body")
    await house.close()
    house.sql("DROP TRIGGER entry_added")
    house.sql("DROP TRIGGER rank_added")
    numbers = "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)"
    house.sql(
        f"{numbers} INSERT INTO entries SELECT i, i * 7919, 'http://n/' || i, '', i, 0, '', 0, 0, 0,"
        " randomblob(300) FROM n"
    )
    house.sql(f"{numbers} INSERT INTO ranks SELECT i, i * 1.0, 1, 0.5, 300 FROM n")
    fastest = min([await timed(house) for _ in range(3)])
    assert fastest < 0.5


async def timed(house: House, clock: Callable[[], float] = time.process_time) -> float:
    """CPU seconds of opening, finding something and closing."""
    began = clock()
    await house.open()
    assert await house.bodies(response().key) == [b"body"]
    await house.close()
    return clock() - began
