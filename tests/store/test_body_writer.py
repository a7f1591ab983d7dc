"""The store's end of a fetch: rows, back-pressure, and what a failure at any moment leaves behind."""

from __future__ import annotations

import asyncio

import pytest

from cacheproxy.errors import StoreError
from cacheproxy.store.body_writer import TieredBodyWriter
from cacheproxy.store.space import DiskOptions
from tests.store.conftest import KIB, MIB, URL, House, Tap, content, failing, io_error, read, response, until

ROW = 256 * KIB


def begin(house: House, key: str = URL) -> TieredBodyWriter:
    """A writer for a body of unknown length."""
    writer = house.store.begin(response(key), None)
    assert writer is not None
    return writer


class Gate:
    """Holds the first matching call until `open`; may fail it then."""

    def __init__(self, tap: Tap, prefix: str, *, fail: bool = False, skip: int = 0) -> None:
        self._prefix, self._fail, self._skip = prefix, fail, skip
        self.reached, self.open = asyncio.Event(), asyncio.Event()
        tap.before = self._before

    async def _before(self, sql: str) -> None:
        if not sql.startswith(self._prefix) or self.reached.is_set():
            return
        if self._skip:
            self._skip -= 1
            return
        self.reached.set()
        await self.open.wait()
        if self._fail:
            raise io_error()


@pytest.mark.parametrize("piece", [1000, ROW - 1, ROW, ROW + 1, 3 * ROW])
async def test_pieces_become_rows(house: House, piece: int) -> None:
    """Rows of 256 KiB one after the other, whatever the origin's pieces were."""
    data = content(piece, 3 * ROW + 5)
    await house.put(response(), data, piece=piece)
    rows = house.sql("SELECT first, length, data FROM chunks ORDER BY first")
    assert [(first, length) for first, length, _ in rows] == [
        (0, ROW),
        (ROW, ROW),
        (2 * ROW, ROW),
        (3 * ROW, 5),
    ]
    assert b"".join(row[2] for row in rows) == data


async def test_reading_back(house: House) -> None:
    """Whoever lags behind finds every byte up to `readable`, before and after it is on disk; then StoreError."""
    data = content("back", 3 * ROW)
    writer = begin(house)
    assert writer.readable == 0
    await writer.write(data[: ROW + 10])
    for _ in range(2):
        end = writer.readable
        assert end <= ROW + 10
        at = 0
        while at < end:
            piece = await writer.read_back(at)
            assert piece
            assert data.startswith(piece, at)
            at += len(piece)
        assert await writer.read_back(1) == data[1:ROW]
        with pytest.raises(StoreError):
            await writer.read_back(ROW)
        await house.flush()
    writer.abort()


async def test_a_pin_outlives_an_abort(house: House) -> None:
    """Rows stay for the reader that lags behind, and go with it."""
    data = content("pin", 2 * ROW)
    writer = begin(house)
    writer.pin()
    writer.pin()
    await writer.write(data)
    await house.flush()
    writer.abort()
    writer.unpin()
    await house.flush()
    assert await writer.read_back(ROW) == data[ROW:]
    writer.unpin()
    await until(lambda: house.sql("SELECT COUNT(*) FROM chunks") == [(0,)])


@pytest.mark.parametrize("size", [0, 10, ROW, 2 * ROW + 1])
async def test_commit_tells_the_truth(house: House, tap: Tap, size: int) -> None:
    """A candidate only where the transaction was committed; otherwise nothing is found, now or later."""
    await house.flush()
    tap.before = failing(lambda sql: sql.startswith("INSERT INTO entries"), io_error())
    assert await house.put(response(), content(size, size)) is None
    tap.before = None
    assert list(await house.store.lookup(URL)) == []
    await house.reopen()
    assert list(await house.store.lookup(URL)) == []
    assert house.recorder.failures == ["OperationalError"]
    assert await house.put(response(), content(size, size)) is not None
    assert await house.bodies(URL) == [content(size, size)]


async def test_memory_keeps_what_the_disk_refused(house: House, tap: Tap) -> None:
    """A small body is a hit from memory although the disk failed."""
    tap.before = failing(lambda sql: sql.startswith("INSERT INTO entries"), io_error())
    assert await house.put(response(), b"body", whole=True) is not None
    await house.flush()
    assert await house.bodies(URL) == [b"body"]
    assert house.sql("SELECT COUNT(*) FROM entries") == [(0,)]


async def test_a_failed_row_ends_the_storing(house: House, tap: Tap) -> None:
    """The fetch hears of it and goes on; nothing of it is found afterwards."""
    writer = begin(house)
    progress: list[bool] = []
    writer.on_progress = lambda: progress.append(writer.is_open)
    tap.before = failing(lambda sql: sql.startswith("INSERT INTO chunks"), io_error())
    await writer.write(content(1, ROW))
    await house.flush()
    assert progress[-1] is False
    assert not writer.is_open
    await writer.write(content(2, ROW))
    assert await writer.commit(response(), None) is None
    writer.abort()
    await house.flush()
    assert list(await house.store.lookup(URL)) == []
    assert house.sql("SELECT COUNT(*) FROM chunks") == [(0,)]


async def test_commit_while_a_row_fails(house: House, tap: Tap) -> None:
    """The entry is queued behind rows that turn out to be lost: it must never be visible."""
    gate = Gate(tap, "INSERT INTO chunks", fail=True)
    writer = begin(house)
    await writer.write(content("lost", 2 * ROW))
    await gate.reached.wait()
    await writer.write(content("tail", ROW))
    committing = asyncio.ensure_future(writer.commit(response(), None))
    await asyncio.sleep(0)
    gate.open.set()
    assert await committing is None
    await house.flush()
    assert list(await house.store.lookup(URL)) == []
    await house.reopen()
    assert list(await house.store.lookup(URL)) == []


async def test_no_other_body_takes_a_lost_ones_place(house: House, tap: Tap) -> None:
    """Lost rows, then a restart: ids that come round again must not lend their bytes to an old entry."""
    gate = Gate(tap, "INSERT INTO chunks", fail=True)
    writer = begin(house)
    await writer.write(content("lost", 2 * ROW))
    await gate.reached.wait()
    committing = asyncio.ensure_future(writer.commit(response(), None))
    await asyncio.sleep(0)
    gate.open.set()
    await committing
    await house.reopen()
    for n in range(3):
        await house.put(response(f"http://other/{n}"), content("other", 2 * ROW))
    for candidate in await house.store.lookup(URL):
        with pytest.raises(StoreError):
            await read(candidate)


async def test_rows_behind_a_failed_transaction_are_reclaimed(house: House, tap: Tap) -> None:
    """The transaction that made the body known failed, the next one brought more rows: nobody may own them."""
    gate = Gate(tap, "INSERT INTO chunks", fail=True)
    writer = begin(house)
    await writer.write(content("lost", 2 * ROW))
    await gate.reached.wait()
    await writer.write(content("tail", 2 * ROW))
    gate.open.set()
    await house.flush()
    writer.abort()
    await house.flush()
    await until(lambda: house.sql("SELECT COUNT(*) FROM chunks") == [(0,)], 3)


async def test_abort_while_room_is_made(fresh: House, tap: Tap) -> None:
    """Rows of a body that is given up while its transaction evicts: they are reclaimed in the end."""
    house = fresh
    house.options = DiskOptions(8 * MIB, keep_free_bytes=0)
    await house.open()
    for n in range(6):
        await house.put(response(f"http://h/{n}"), content(n, MIB))
    writer = begin(house)
    await writer.write(content("first", ROW))
    await house.flush()
    gate = Gate(tap, "BEGIN IMMEDIATE")
    await writer.write(content("more", 8 * ROW))
    await gate.reached.wait()
    writer.abort()
    gate.open.set()
    await house.flush()
    await house.reopen()
    await until(lambda: house.sql("SELECT COUNT(*) FROM loose") == [(0,)])
    await house.close()
    house.check_file()


async def test_back_pressure(fresh: House, tap: Tap) -> None:
    """While the disk stands still at most the queue's bytes and one row are taken; then it goes on."""
    house = fresh
    house.options = DiskOptions(1024 * MIB, keep_free_bytes=0, queue_bytes=4 * ROW)
    await house.open()
    gate = Gate(tap, "BEGIN IMMEDIATE")
    data = content("pressure", 12 * ROW)
    taken = 0

    async def feed() -> None:
        nonlocal taken
        for at in range(0, len(data), ROW):
            await writer.write(data[at : at + ROW])
            taken = at + ROW

    writer = begin(house)
    feeding = asyncio.ensure_future(feed())
    await gate.reached.wait()
    for _ in range(1000):
        await asyncio.sleep(0)
    assert taken <= 5 * ROW
    assert not feeding.done()
    gate.open.set()
    await feeding
    assert await writer.commit(response(), None) is not None
    assert await house.bodies(URL) == [data]


async def test_a_disk_that_stands_still(fresh: House, tap: Tap, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while storing is given up and the fetch goes on without it; later storing works again."""
    monkeypatch.setattr("cacheproxy.store.writer.STALL_S", 0.4)
    house = fresh
    house.options = DiskOptions(1024 * MIB, keep_free_bytes=0, queue_bytes=2 * ROW)
    await house.open()
    gate = Gate(tap, "BEGIN IMMEDIATE")
    writer = begin(house)
    async with asyncio.timeout(3):
        for n in range(8):
            await writer.write(content(n, ROW))
    assert not writer.is_open
    gate.open.set()
    assert await writer.commit(response(), None) is None
    writer.abort()
    assert list(await house.store.lookup(URL)) == []
    assert await house.put(response(), content("again", 3 * ROW)) is not None
    assert await house.bodies(URL) == [content("again", 3 * ROW)]
    await house.close()
    house.check_file()


async def test_the_queue_is_bounded_for_small_bodies_too(fresh: House, tap: Tap) -> None:
    """Bodies that memory has need no waiting: what the disk cannot take in time it must do without."""
    house = fresh
    await house.open()
    gate = Gate(tap, "BEGIN IMMEDIATE")
    queued = 0
    async with asyncio.timeout(20):
        for n in range(400):
            writer = begin(house, f"http://h/{n}")
            body = bytes(200 * KIB)
            await writer.write(body)
            committing = asyncio.ensure_future(writer.commit(response(f"http://h/{n}"), body))
            for _ in range(3):
                await asyncio.sleep(0)
            if not committing.done():
                break
            queued += len(body) if writer._disk is not None else 0
            if house.disk.writer._queued_bytes > 40 * MIB:
                break
    held = house.disk.writer._queued_bytes
    gate.open.set()
    await committing
    await house.close()
    assert held <= 16 * MIB
