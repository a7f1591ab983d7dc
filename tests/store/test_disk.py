"""The file: what a restart, a crash, damage and a kill leave of it."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cacheproxy.errors import StoreError
from cacheproxy.ports import Selector
from tests.store.conftest import (
    KIB,
    MIB,
    URL,
    House,
    Tap,
    content,
    damage_error,
    failing,
    read,
    response,
    until,
)

ROW = 256 * KIB
SIZES = {f"http://h/{size}": size for size in (0, 1, 64 * KIB, 64 * KIB + 1, ROW, MIB + 7)}


async def fill(house: House) -> None:
    """One body of each kind."""
    for key, size in SIZES.items():
        await house.put(response(key), content(key, size), whole=size == 1)
    await house.flush()


async def assert_never_wrong(house: House, keys: list[str] | None = None) -> list[str]:
    """Every look-up is right, a miss or a StoreError; the keys that are right."""
    right: list[str] = []
    for key in keys or list(SIZES):
        try:
            for candidate in await house.store.lookup(key):
                assert candidate.stored.fields == response().fields
                assert await read(candidate) == content(key, SIZES.get(key, candidate.stored.length))
                right.append(key)
        except StoreError:
            pass
    return right


async def assert_works(house: House) -> None:
    """Something new can be stored, found and found again."""
    assert await house.put(response("http://new/"), content("new", MIB)) is not None
    house.forget_memory()
    assert await house.bodies("http://new/") == [content("new", MIB)]
    await house.reopen()
    assert await house.bodies("http://new/") == [content("new", MIB)]


# restarts


async def test_survives_reopening(house: House) -> None:
    """Everything is there, small and large; ids go on."""
    await fill(house)
    ids = {row[0] for row in house.sql("SELECT entry_id FROM entries")}
    for _ in range(2):
        await house.reopen()
        assert await assert_never_wrong(house) == list(SIZES)
    made = await house.put(response("http://new/"), b"x")
    assert made is not None
    assert made.stored.entry_id > max(ids)
    assert house.wal_bytes >= 0
    await house.close()
    assert house.wal_bytes == 0
    assert house.recorder.failures == []
    await house.open()


async def test_bodies_never_share_an_id(house: House) -> None:
    """Also where the last one stored has no rows: what is removed with it must not be another's."""
    await house.put(response("http://empty/"), b"")
    await house.reopen()
    await house.put(response(), content("large", MIB))
    bodies = [row[0] for row in house.sql("SELECT body_id FROM entries")]
    assert len(set(bodies)) == len(bodies)
    (empty,) = await house.store.lookup("http://empty/")
    house.store.discard(empty)
    await house.flush()
    await house.reopen()
    await until(lambda: house.sql("SELECT COUNT(*) FROM loose") == [(0,)])
    assert await house.bodies(URL) == [content("large", MIB)]


async def test_what_was_never_committed_is_swept(house: House) -> None:
    """A crash in the middle of a body leaves rows without an entry; the next start reclaims them."""
    await house.put(response(), content("kept", 3 * ROW))
    writer = house.store.begin(response("http://cut/"), None)
    assert writer is not None
    await writer.write(content("cut", 3 * ROW))
    await house.flush()
    assert house.sql("SELECT COUNT(*) FROM chunks") == [(6,)]
    copy = House(house.directory / "crashed")
    copy.directory.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(house.directory / f"cache.db{suffix}", copy.directory / f"cache.db{suffix}")
    writer.abort()
    await copy.open()
    try:
        assert list(await copy.store.lookup("http://cut/")) == []
        await until(lambda: copy.sql("SELECT COUNT(*) FROM chunks") == [(3,)])
        assert copy.sql("SELECT COUNT(*) FROM loose") == [(0,)]
        assert await copy.bodies(URL) == [content("kept", 3 * ROW)]
    finally:
        await copy.close()
    copy.check_file()


async def test_closing_answers_who_still_waits(house: House, tap: Tap) -> None:
    """Nobody hangs on a store that closes: look-ups end, with or without a result."""
    await fill(house)
    held = asyncio.Event()

    async def hold(sql: str) -> None:
        if sql.startswith("SELECT e.key"):
            held.set()
            await asyncio.Event().wait()

    tap.before = hold
    looking = [asyncio.ensure_future(house.store.lookup(key)) for key in SIZES]
    await held.wait()
    looking += [asyncio.ensure_future(house.store.lookup(key)) for key in SIZES]
    await asyncio.sleep(0)
    await house.close()
    tap.before = None
    async with asyncio.timeout(2):
        results = await asyncio.gather(*looking, return_exceptions=True)
    assert {type(one) for one in results} <= {StoreError, asyncio.CancelledError}
    await house.open()


async def test_a_closed_store_takes_no_more(house: House) -> None:
    """What a fetch does after the end is in vain, not an error and not a wait for ever."""
    store = house.store
    writer = store.begin(response(), None)
    assert writer is not None
    await writer.write(content(1, 2 * ROW))
    await house.close()
    async with asyncio.timeout(5):
        await writer.write(content(1, 2 * ROW))
        assert await writer.commit(response(), None) is None
    writer.abort()
    with pytest.raises(StoreError):
        await store.lookup(URL)
    with pytest.raises(StoreError):
        await store.purge(Selector(everything=True), dry_run=False, soft=False)
    await house.open()


# damage in what is stored


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE chunks SET data = CAST(x'00' || substr(data, 2) AS BLOB) WHERE length > 0",
        "UPDATE chunks SET data = CAST(substr(data, 1, length - 1) || x'00' AS BLOB) WHERE length > 0",
        "UPDATE chunks SET data = substr(data, 1, length - 1)",
        "UPDATE chunks SET data = CAST(data || x'00' AS BLOB)",
        "UPDATE chunks SET data = x''",
        "UPDATE chunks SET checksum = checksum + 1",
        "DELETE FROM chunks",
        "DELETE FROM chunks WHERE first = 0",
        "DELETE FROM chunks WHERE first = (SELECT MAX(first) FROM chunks c WHERE c.body_id = chunks.body_id)",
        "UPDATE chunks SET first = first + 1",
        "UPDATE entries SET length = length - 1 WHERE length > 0",
        "UPDATE entries SET length = length + 1",
        "UPDATE entries SET head = CAST(substr(head, 1, 20) || x'00' || substr(head, 22) AS BLOB)",
        "UPDATE entries SET head = x''",
        "UPDATE entries SET head_checksum = head_checksum + 1",
        "UPDATE entries SET head = x'00', head_checksum = crc32(x'00')",
        "UPDATE entries SET body_id = (SELECT MAX(body_id) FROM entries e) + 1 - body_id",
    ],
)
@pytest.mark.usefixtures("quick")
async def test_damage_is_a_miss(house: House, damage: str) -> None:
    """Whatever is wrong with rows, heads or columns: a miss or a StoreError, never wrong bytes."""
    await fill(house)
    await house.close()
    house.sql(damage)
    await house.open()
    right = await assert_never_wrong(house)
    assert len(right) < len(SIZES)
    await assert_works(house)
    for key in SIZES:
        for candidate in await house.store.lookup(key):
            house.store.discard(candidate)
    for key in SIZES:
        await house.put(response(key), content(key, SIZES[key]))
    assert await assert_never_wrong(house) == list(SIZES)


async def test_a_damaged_head_is_dropped(house: House) -> None:
    """It is counted once and removed; its neighbours stay."""
    await fill(house)
    await house.close()
    house.sql("UPDATE entries SET head = x'00' WHERE key = 'http://h/1'")
    await house.open()
    assert list(await house.store.lookup("http://h/1")) == []
    assert house.recorder.failures == ["checksum"]
    assert set(await assert_never_wrong(house)) == set(SIZES) - {"http://h/1"}
    await house.flush()
    assert house.sql("SELECT COUNT(*) FROM entries") == [(len(SIZES) - 1,)]
    assert [entry.key async for entry in house.store.entries(None)] == [
        key for key in SIZES if key != "http://h/1"
    ]


async def test_a_damaged_row_breaks_off(house: House) -> None:
    """The rows before it are right, then StoreError: a client sees a cut, never wrong bytes."""
    data = content("rows", 4 * ROW)
    await house.put(response(), data)
    await house.close()
    house.sql("UPDATE chunks SET data = zeroblob(length) WHERE first = ?", 2 * ROW)
    await house.open()
    (found,) = await house.store.lookup(URL)
    got = b""
    with pytest.raises(StoreError):
        async for piece in found.body.read(None):
            got += piece
    assert got == data[: 2 * ROW]
    assert house.recorder.failures == ["checksum"]


@pytest.mark.usefixtures("quick")
async def test_random_bytes_flipped(fresh: House, tmp_path: Path) -> None:
    """Twenty copies, each with fifty bytes of the file changed: it starts, and no byte is wrong."""
    await fresh.open()
    await fill(fresh)
    await fresh.close()
    raw = fresh.path.read_bytes()
    for seed in range(20):
        rng = random.Random(seed)
        house = House(tmp_path / str(seed))
        house.directory.mkdir()
        changed = bytearray(raw)
        for _ in range(50):
            changed[rng.randrange(len(raw))] ^= rng.randrange(1, 256)
        house.path.write_bytes(changed)
        await house.open()
        try:
            await assert_never_wrong(house)
            await until(lambda house=house: house.disk._recovery is None)
            await assert_never_wrong(house)
        finally:
            await house.close()


# damage of the file


GARBAGE = random.Random(0).randbytes(100)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda raw: GARBAGE + raw[100:], id="garbage header"),
        pytest.param(lambda raw: GARBAGE * 1000, id="all garbage"),
        pytest.param(lambda raw: raw[: len(raw) // 2], id="truncated in the middle"),
        pytest.param(lambda raw: raw[: len(raw) // 32768 * 16384], id="truncated at a page"),
        pytest.param(lambda raw: raw[:50], id="truncated header"),
        pytest.param(lambda raw: b"", id="empty"),
        pytest.param(lambda raw: raw[:100] + bytes(16284) + raw[16384:], id="schema wiped"),
        pytest.param(lambda raw: raw[:16384] + bytes(len(raw) - 16384), id="all but the schema wiped"),
        pytest.param(lambda raw: raw[:60] + b"\0\0\0\x63" + raw[64:], id="another version"),
        pytest.param(None, id="a foreign database"),
        pytest.param("wal", id="a torn log"),
    ],
)
async def test_a_damaged_file_never_stops_the_start(
    fresh: House, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set aside, said once, and a new one works; at worst that takes a look-up or two."""
    house = fresh
    await house.open()
    await fill(house)
    await house.close()
    raw = house.path.read_bytes()
    if damage == "wal":
        (house.directory / "cache.db-wal").write_bytes(GARBAGE * 1000)
        (house.directory / "cache.db-shm").write_bytes(GARBAGE * 500)
    elif damage is None:
        house.path.unlink()
        foreign = sqlite3.connect(house.path)
        foreign.execute("CREATE TABLE mine(x)")
        foreign.close()
    else:
        house.path.write_bytes(damage(raw))  # type: ignore[operator]
    await house.open()
    right = await assert_never_wrong(house)
    await until(lambda: house.disk._recovery is None)
    right = await assert_never_wrong(house)
    if damage == "wal":
        assert right == list(SIZES)
    elif house.path.with_suffix(".damaged").exists():
        assert right == []
        assert sum("set aside" in record.getMessage() for record in caplog.records) == 1
    await assert_works(house)
    await house.close()
    house.check_file()


async def test_a_file_that_vanishes_under_us(house: House) -> None:
    """Deleted while it runs: no exception but StoreError, and a restart works."""
    await fill(house)
    for suffix in ("", "-wal", "-shm"):
        (house.directory / f"cache.db{suffix}").unlink(missing_ok=True)
    await assert_never_wrong(house)
    await house.put(response("http://new/"), content("new", MIB))
    await house.close()
    await house.open()
    await assert_works(house)


async def test_damage_found_while_running(house: House, tap: Tap) -> None:
    """The file is set aside once; whoever asks or stores meanwhile gets StoreError or a miss, and nobody hangs."""
    await fill(house)
    house.forget_memory()
    reading = content("reading", 3 * ROW)
    await house.put(response("http://reading/"), reading)
    (found,) = await house.store.lookup("http://reading/")
    source = found.body.read(None)
    await anext(source)
    writer = house.store.begin(response("http://writing/"), None)
    assert writer is not None
    await writer.write(content("writing", 2 * ROW))
    tap.before = failing(lambda sql: sql.startswith("SELECT e.key"), damage_error())
    with pytest.raises(StoreError):
        await house.store.lookup(URL)
    turns = 0
    async with asyncio.timeout(10):
        while house.disk._recovery is not None:
            turns += 1
            for work in (
                house.store.lookup("http://h/1"),
                house.store.usage(),
                house.store.purge(Selector(glob="http://x/*"), dry_run=True, soft=False),
                anext(aiter(house.store.entries(None)), None),
            ):
                try:
                    await work
                except StoreError:
                    pass
            await asyncio.sleep(0)
        assert turns
        try:
            await writer.write(content("writing", 2 * ROW))
            await writer.commit(response("http://writing/"), None)
        finally:
            writer.abort()
        with pytest.raises(StoreError):
            async for _ in source:
                pass
    # Half of it went into the file that is gone: it must not be published in the new one.
    assert list(await house.store.lookup("http://writing/")) == []
    assert house.path.with_suffix(".damaged").exists()
    await assert_works(house)


async def test_storing_during_a_recovery(house: House, tap: Tap) -> None:
    """A fetch that ends while the file is replaced: its commit ends too, in a miss or with the new file."""
    await fill(house)
    opening, go = asyncio.Event(), asyncio.Event()

    async def hold(sql: str) -> None:
        if sql.startswith("SELECT e.key") and not opening.is_set():
            raise damage_error()
        if sql.startswith("PRAGMA page_size="):
            opening.set()
            await go.wait()

    tap.before = hold
    with pytest.raises(StoreError):
        await house.store.lookup(URL)
    await opening.wait()
    tasks = [asyncio.ensure_future(house.put(response(f"http://r/{n}"), content(n, 2 * ROW))) for n in range(3)]
    house.store.invalidate(URL)
    for _ in range(100):
        await asyncio.sleep(0)
    go.set()
    async with asyncio.timeout(5):
        made = await asyncio.gather(*tasks)
    for n, candidate in enumerate(made):
        if candidate is not None:
            assert await house.bodies(f"http://r/{n}") == [content(n, 2 * ROW)]
    await until(lambda: house.disk._recovery is None)
    await assert_works(house)


@pytest.mark.parametrize("turns", [0, 20, 28, 36, 40, 44, 52])
async def test_what_was_removed_from_a_damaged_file_does_not_come_back(house: House, turns: int) -> None:
    """Also where the store is closed while it recovers: the file is set aside, not opened again."""
    await fill(house)
    house.disk._damaged()
    for _ in range(turns):
        await asyncio.sleep(0)
    house.forget_memory()
    for key in SIZES:
        house.store.invalidate(key)
    await house.reopen()
    assert [key for key in SIZES if await house.bodies(key)] == []
    await assert_works(house)


async def test_a_recovery_that_fails(house: House, tap: Tap) -> None:
    """Not even a new file can be made: the proxy goes on without a store, and nobody hangs."""
    await fill(house)
    tap.before = failing(
        lambda sql: sql.startswith(("SELECT e.key", "PRAGMA page_size=")), damage_error(), times=3
    )
    with pytest.raises(StoreError):
        await house.store.lookup(URL)
    await until(lambda: house.disk._recovery is None)
    async with asyncio.timeout(5):
        await house.put(response(), content(1, 2 * ROW))
        house.store.invalidate(URL)
        with pytest.raises(StoreError):
            await house.store.lookup("http://no/")
    tap.before = None
    await house.close()
    await house.open()
    await assert_works(house)


# another process, and the end of ours


@pytest.mark.parametrize("seed", range(2))
async def test_kill_in_the_middle_of_stores(fresh: House, seed: int) -> None:
    """reliability.md §6.1: what was committed more than a second before a kill is there, and right."""
    script = Path(__file__).with_name("store_until_killed.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(fresh.directory), str(seed)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged: list[tuple[float, str, int]] = []
    started = None
    for line in process.stdout:
        key, size = line.split()
        now = time.monotonic()
        started = started or now
        acknowledged.append((now, key, int(size)))
        if now - started > 1.6 + seed * 0.37:
            break
    killed_at = time.monotonic()
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    process.stdout.close()
    before = time.monotonic()
    await fresh.open()
    assert time.monotonic() - before < 2
    durable = [(key, size) for at, key, size in acknowledged if at < killed_at - 1.0]
    assert len(durable) > 20
    for key, size in durable:
        assert await fresh.bodies(key) == [content(key, size)], key
    for _, key, size in acknowledged:
        assert await fresh.bodies(key) in ([], [content(key, size)])
    assert fresh.recorder.failures == []
    await fresh.flush()
    await until(lambda: fresh.sql("SELECT COUNT(*) FROM loose") == [(0,)])
    await fresh.close()
    fresh.check_file()


async def test_a_file_without_digests_gets_them(house: House) -> None:
    await fill(house)
    await house.close()
    house.sql("DROP TRIGGER digests_removed")
    house.sql("DROP TABLE digests")
    await house.open()
    await assert_works(house)
    assert house.sql("SELECT COUNT(*) FROM digests") == [(0,)]
    assert sorted(await assert_never_wrong(house)) == sorted(SIZES)
