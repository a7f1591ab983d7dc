"""The writer: short transactions, the file's limit, the write-ahead log's limit, orders that must not get lost."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from cacheproxy.errors import StoreError
from cacheproxy.ports import Selector
from cacheproxy.store.space import DiskOptions
from tests.store.conftest import (
    KIB,
    MIB,
    URL,
    WAL_LIMIT,
    House,
    Tap,
    content,
    failing,
    io_error,
    read,
    response,
    until,
)

EVERYTHING = Selector(everything=True)


async def test_writes_are_grouped(house: House, tap: Tap) -> None:
    """What comes in one turn of the loop goes into few transactions."""
    begun = 0

    async def count(sql: str) -> None:
        nonlocal begun
        begun += sql.startswith("BEGIN")

    await house.flush()
    tap.before = count
    await asyncio.gather(*[house.put(response(f"http://h/{n}"), b"x" * n) for n in range(200)])
    assert begun <= 12
    assert house.sql("SELECT COUNT(*) FROM entries") == [(200,)]


async def test_whoever_waits_for_room_does_not_wait_for_a_full_batch(
    fresh: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cacheproxy.store.writer.BATCH_DELAY_S", 3600.0)
    fresh.options = DiskOptions(1024 * MIB, keep_free_bytes=0, queue_bytes=256 * KIB)
    store = await fresh.open()
    writer = store.begin(response(URL), 8 * MIB)
    assert writer is not None
    for _ in range(32):
        await writer.write(bytes(256 * KIB))
    assert writer.is_open, "the queue never stood still"
    writer.abort()


async def test_looking_up_is_grouped(house: House, tap: Tap) -> None:
    """One statement for what is asked within a turn of the loop, never one a key."""
    asked = 0

    async def count(sql: str) -> None:
        nonlocal asked
        asked += sql.startswith("SELECT e.key")

    tap.before = count
    await asyncio.gather(*[house.store.lookup(f"http://h/{n}") for n in range(200)])
    assert asked <= 5


@pytest.mark.parametrize("tail", [300 * KIB, 20 * KIB], ids=["rows", "inline"])
@pytest.mark.usefixtures("quick")
async def test_the_file_keeps_its_limit(fresh: House, tail: int) -> None:
    """Five times the limit: file and log stay within theirs throughout, the newest can be read."""
    house = fresh
    limit = 16 * MIB
    house.memory_bytes = 2 * MIB
    house.options = DiskOptions(limit, keep_free_bytes=0)
    await house.open()
    rng = random.Random(1)
    sizes = {f"http://h/{n}": rng.choice([tail, tail, 5000, MIB]) for n in range(5000)}
    stored = 0
    keys: list[str] = []
    largest = 0

    async def store(key: str) -> None:
        nonlocal stored, largest
        data = content(key, sizes[key])
        assert await house.put(response(key), data) is not None
        stored += len(data)
        keys.append(key)
        assert house.file_bytes <= limit
        largest = max(largest, house.wal_bytes)

    left = iter(sizes)

    async def work() -> None:
        while stored < 5 * limit:
            await store(next(left))

    await asyncio.gather(*[work() for _ in range(6)])
    assert largest <= WAL_LIMIT
    assert house.recorder.failures == []
    for _ in range(2):
        house.forget_memory()
        for key in keys[-8:]:
            assert await house.bodies(key) == [content(key, sizes[key])]
        usage = await house.store.usage()
        assert limit * 3 // 4 <= usage.disk_bytes <= usage.disk_file_bytes <= limit
        await house.reopen()
        assert house.file_bytes <= limit
    await house.close()
    house.check_file()


async def test_a_burst_of_small_bodies(fresh: House) -> None:
    """100 MiB in small bodies as fast as memory takes them: the log stays within its limit all the same."""
    house = fresh
    await house.open()
    largest = 0
    for n in range(512):
        await house.put(response(f"http://h/{n}"), bytes(200 * KIB), whole=True)
        largest = max(largest, house.wal_bytes)
    for _ in range(50):
        await house.flush()
        largest = max(largest, house.wal_bytes)
    assert largest <= WAL_LIMIT
    await house.put(response(), b"still working")
    house.forget_memory()
    assert await house.bodies(URL) == [b"still working"]
    await house.close()
    house.check_file()


@pytest.mark.usefixtures("quick")
async def test_purge_all_under_load(fresh: House) -> None:
    """The log stays bounded while everything goes, others store on, and the freed pages are used again."""
    house = fresh
    house.memory_bytes = MIB
    house.options = DiskOptions(128 * MIB, keep_free_bytes=0)
    await house.open()
    largest = 0

    async def fill(name: str, count: int) -> None:
        nonlocal largest
        for n in range(count):
            key = f"http://{name}/{n}"
            await house.put(response(key), content(key, 200 * KIB))
            largest = max(largest, house.wal_bytes)

    await asyncio.gather(*[fill(f"before{n}", 40) for n in range(5)])
    await house.flush()
    before = (await house.store.usage()).disk_file_bytes
    async with asyncio.TaskGroup() as load:
        for n in range(3):
            load.create_task(fill(f"during{n}", 30))
        purging = load.create_task(house.store.purge(EVERYTHING, dry_run=False, soft=False))
        while not purging.done():
            largest = max(largest, house.wal_bytes)
            await asyncio.sleep(0)
        assert purging.result() >= 200
        for key in [f"http://before{n}/{m}" for n in range(5) for m in range(40)]:
            assert list(await house.store.lookup(key)) == []
    await asyncio.gather(*[fill(f"after{n}", 20) for n in range(5)])
    assert largest <= WAL_LIMIT
    after = (await house.store.usage()).disk_file_bytes
    assert after <= before + 110 * 200 * KIB
    house.forget_memory()
    assert await house.bodies("http://after0/19") == [content("http://after0/19", 200 * KIB)]
    await house.close()
    house.check_file()


async def test_a_large_body_is_evicted_whole(fresh: House) -> None:
    """More rows than one statement takes: none is left behind without an owner."""
    house = fresh
    house.options = DiskOptions(16 * MIB, keep_free_bytes=0)
    await house.open()
    await house.put(response(), b"x")
    await house.close()
    count = 5000
    body_id = house.sql("SELECT body_id FROM entries")[0][0]
    house.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)"
        " INSERT INTO chunks SELECT ?1, i, 1, crc32(x'78'), x'78' FROM n",
        body_id,
        count - 1,
    )
    house.sql("UPDATE entries SET length = ?", count)
    house.sql("UPDATE ranks SET score = -1")
    house.check_file()
    await house.open()
    for n in range(70):
        await house.put(response(f"http://h/{n}"), content(n, 300 * KIB))
    assert house.sql("SELECT COUNT(*) FROM entries WHERE body_id = ?", body_id) == [(0,)]
    await house.close()
    house.check_file()


@pytest.mark.usefixtures("quick")
async def test_a_lower_limit_shrinks_the_file(fresh: House) -> None:
    """After a restart with a smaller setting pages go back to the file system, and storing works."""
    house = fresh
    house.options = DiskOptions(32 * MIB, keep_free_bytes=0)
    await house.open()
    for n in range(24):
        await house.put(response(f"http://h/{n}"), content(n, MIB))
    await house.close()
    assert house.file_bytes > 20 * MIB
    house.options = DiskOptions(8 * MIB, keep_free_bytes=0)
    await house.open()
    for n in range(40):
        assert await house.put(response(f"http://new/{n}"), content(n, 100 * KIB)) is not None
    assert await house.bodies("http://new/39") == [content(39, 100 * KIB)]
    await house.reopen()
    await house.put(response(), b"x")
    await until(lambda: house.sql("PRAGMA page_count")[0][0] * 4 * KIB <= 8 * MIB)
    await house.close()
    assert house.file_bytes <= 8 * MIB
    house.check_file()


@pytest.mark.usefixtures("quick")
async def test_full_of_bodies_in_use(fresh: House) -> None:
    """Everything is being read: storing is refused, no reader suffers, and later there is room again."""
    house = fresh
    house.options = DiskOptions(8 * MIB, keep_free_bytes=0)
    await house.open()
    for n in range(7):
        await house.put(response(f"http://h/{n}"), content(n, MIB))
    readers = []
    for n in range(7):
        (found,) = await house.store.lookup(f"http://h/{n}")
        source = found.body.read(None)
        readers.append((n, source, [await anext(source)]))
    refused = [await house.put(response(f"http://new/{n}"), content(n, MIB)) for n in range(3)]
    assert None in refused
    assert house.file_bytes <= 8 * MIB
    for n, source, got in readers:
        assert b"".join([*got, *[piece async for piece in source]]) == content(n, MIB)
    assert await house.put(response(), content("room", 2 * MIB)) is not None
    assert await house.bodies(URL) == [content("room", 2 * MIB)]
    await house.close()
    house.check_file()


@pytest.mark.usefixtures("quick")
async def test_a_file_system_without_room(fresh: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is stored, what is stored can be read, and storing resumes by itself (reliability.md §5)."""
    house = fresh
    house.options = DiskOptions(64 * MIB)
    await house.open()
    await house.put(response(), content("old", 300 * KIB))
    real = os.statvfs

    class Full:
        """No byte for us."""

        f_bavail = 0
        f_frsize = 4096

    monkeypatch.setattr(os, "statvfs", lambda path: Full())
    assert await house.put(response("http://new/"), content("new", 300 * KIB)) is None
    assert await house.put(response("http://small/"), b"small") is None
    house.forget_memory()
    assert await house.bodies(URL) == [content("old", 300 * KIB)]
    assert house.recorder.failures
    monkeypatch.setattr(os, "statvfs", real)
    assert await house.put(response("http://new/"), content("new", 300 * KIB)) is not None
    await house.close()
    house.check_file()


# orders that fail


@pytest.mark.parametrize(
    "selector", [Selector(urls=(URL,)), Selector(glob="*"), EVERYTHING], ids=["url", "glob", "all"]
)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
async def test_a_purge_that_fails_says_so(house: House, tap: Tap, selector: Selector, soft: bool) -> None:
    """The operator hears of it, and the second try does it."""
    await house.put(response(), b"body")
    tap.before = failing(lambda sql: sql.startswith(("DELETE FROM entries", "UPDATE entries")), io_error())
    with pytest.raises(StoreError):
        await house.store.purge(selector, dry_run=False, soft=soft)
    # What was ordered once may have been done by now.
    assert await house.store.purge(selector, dry_run=False, soft=soft) in (0, 1)
    await house.reopen()
    assert [one.stored.forced_stale for one in await house.store.lookup(URL)] == [True] * soft


@pytest.mark.parametrize("how", ["invalidate", "discard", "freshen"])
async def test_a_failed_transaction_loses_no_order(house: House, tap: Tap, how: str) -> None:
    """RFC 9111 §4.4: what was invalidated must not be back once the disk works again."""
    await house.put(response(), b"body")
    (found,) = await house.store.lookup(URL)
    tap.before = failing(lambda sql: sql.startswith(("DELETE FROM entries", "UPDATE entries")), io_error())
    match how:
        case "invalidate":
            house.store.invalidate(URL)
        case "discard":
            house.store.discard(found)
        case "freshen":
            house.store.freshen(found, found.stored.stale())
    try:
        await house.flush()
    finally:
        tap.before = None
    await house.put(response("http://other/"), b"other")
    await house.reopen()
    left = await house.store.lookup(URL)
    assert [one.stored.forced_stale for one in left] == [True] * (how == "freshen")


async def test_one_bad_body_costs_no_other_its_place(house: House, tap: Tap) -> None:
    """A transaction that fails once does not keep later ones from working."""
    tap.before = failing(lambda sql: sql.startswith("INSERT INTO chunks"), io_error(), 3)
    for n in range(3):
        assert await house.put(response(f"http://h/{n}"), content(n, 100 * KIB)) is None
    assert await house.put(response(), content("good", 100 * KIB)) is not None
    (found,) = await house.store.lookup(URL)
    assert await read(found) == content("good", 100 * KIB)
    assert len(house.recorder.failures) == 3


async def test_reclaiming_survives_a_failure(house: House, tap: Tap) -> None:
    """Rows are reclaimed by the next attempt where one failed."""
    await house.put(response(), content("reclaim", MIB))
    tap.before = failing(lambda sql: sql.startswith("DELETE FROM chunks"), io_error())
    (found,) = await house.store.lookup(URL)
    source = found.body.read(None)
    await anext(source)
    house.store.discard(found)
    await house.flush()
    await source.aclose()  # type: ignore[attr-defined]
    await until(lambda: house.recorder.failures)
    await house.put(response("http://other/"), b"other")
    await until(lambda: house.sql("SELECT COUNT(*) FROM chunks") == [(1,)], 3)
