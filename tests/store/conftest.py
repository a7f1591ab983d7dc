"""Builders for the tests of the store: real files in tmp_path, faults between the store and SQLite."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from aiosqlite.context import contextmanager

from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.caching.options import CachingOptions
from cacheproxy.errors import StoreError
from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.http.ranges import Slice
from cacheproxy.ports import Candidate, ExchangeRecord
from cacheproxy.store.disk import DiskTier
from cacheproxy.store.memory import MemoryTier
from cacheproxy.store.schema import FILE_NAME
from cacheproxy.store.space import DiskOptions
from cacheproxy.store.tiered import TieredStore

KIB = 1024
MIB = 1024 * KIB
URL = "http://example.com/a"
WAL_LIMIT = 64 * MIB
OPTIONS = CachingOptions()
BASE_FIELDS = (
    ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("Cache-Control", "max-age=60"),
    ("Content-Type", "text/plain"),
)


class Recorder:
    """Counts what the store reports."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def origin_received(self, count: int) -> None:
        """Not the store's business."""

    def client_sent(self, count: int) -> None:
        """Not the store's business."""

    def tunnelled(self, up: int, down: int) -> None:
        """Not the store's business."""

    def finished(self, exchange: ExchangeRecord) -> None:
        """Not the store's business."""

    def store_failed(self, what: str) -> None:
        """The store failed once."""
        self.failures.append(what)


def content(seed: object, size: int) -> bytes:
    """Bytes that belong to `seed` and to nothing else."""
    return random.Random(repr(seed)).randbytes(size)


def response(
    key: str = URL,
    *,
    etag: str = '"1"',
    nominated: tuple[str, ...] = (),
    variant: tuple[str | None, ...] = (),
    extra: tuple[tuple[str, str], ...] = (),
    status: int = 200,
    at: float = 784111777.0,
) -> StoredResponse:
    """A response as the engine hands it to the store: no ids, no length."""
    fields = Fields((*BASE_FIELDS, ("ETag", etag), *extra))
    return StoredResponse.build(
        key, nominated, variant, ResponseHead(status, "OK", fields), Timing(at - 1, at), OPTIONS
    )


async def read(candidate: Candidate, part: Slice | None = None) -> bytes:
    """All bytes of a part, by the way that the engine takes."""
    pieces: list[bytes] = []
    source = candidate.body.read(part)
    try:
        async for piece in source:
            assert piece, "a piece of a body is never empty"
            pieces.append(piece)
    finally:
        await source.aclose()  # type: ignore[attr-defined]
    return b"".join(pieces)


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Let the loop turn until the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0)


class House:
    """A store with its directory, to be opened, closed and opened again."""

    def __init__(self, directory: Path, *, on_disk: bool = True) -> None:
        self.directory = directory
        self.on_disk = on_disk
        self.memory_bytes = 16 * MIB
        self.heads_bytes = 16 * MIB
        self.max_object_bytes = 1 << 40
        self.options = DiskOptions(1024 * MIB, keep_free_bytes=0)
        self.recorder = Recorder()
        self.memory: MemoryTier
        self._disk: DiskTier | None = None
        self._store: TieredStore | None = None

    @property
    def store(self) -> TieredStore:
        """The store while it is open."""
        assert self._store is not None
        return self._store

    @property
    def disk(self) -> DiskTier:
        """Its disk tier."""
        assert self._disk is not None
        return self._disk

    @property
    def path(self) -> Path:
        """The database file."""
        return self.directory / FILE_NAME

    @property
    def wal_bytes(self) -> int:
        """The size of the write-ahead log now."""
        try:
            return (self.directory / (FILE_NAME + "-wal")).stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def file_bytes(self) -> int:
        """The size of the file now."""
        return self.path.stat().st_size

    async def open(self) -> TieredStore:
        """Open what is in the directory; memory is empty."""
        memory = MemoryTier(self.memory_bytes, self.heads_bytes)
        disk = None
        if self.on_disk:
            disk = DiskTier(self.directory, self.options, OPTIONS, self.recorder, memory)
            await disk.open()
        self.memory, self._disk = memory, disk
        self._store = TieredStore(memory, disk, self.max_object_bytes)
        return self._store

    async def close(self) -> None:
        """Close if it is open."""
        store, self._store = self._store, None
        if store is not None:
            async with asyncio.timeout(20):
                await store.close()

    async def reopen(self) -> TieredStore:
        """Close and open: what is known then comes from disk."""
        await self.close()
        return await self.open()

    async def flush(self) -> None:
        """Have everything queued so far committed."""
        if self._disk is not None:
            async with asyncio.timeout(10):
                with suppress(StoreError):
                    await self._disk.changes.mark_stale([0])

    def forget_memory(self) -> None:
        """Empty the memory tier, so that look-ups go to disk."""
        for candidate in list(self.memory):
            self.memory.drop(candidate.stored.entry_id)

    async def put(
        self,
        stored: StoredResponse,
        body: bytes,
        *,
        whole: bool = False,
        piece: int = 100_000,
        announced: bool = True,
    ) -> Candidate | None:
        """Store a body. `whole`: the spool still has it, so that memory takes it too."""
        writer = self.store.begin(stored, len(body) if announced else None)
        if writer is None:
            return None
        for at in range(0, len(body), piece):
            await writer.write(body[at : at + piece])
        async with asyncio.timeout(20):
            return await writer.commit(stored, body if whole or not self.on_disk else None)

    async def bodies(self, key: str) -> list[bytes]:
        """The bodies that a look-up finds."""
        return [await read(candidate) for candidate in await self.store.lookup(key)]

    def sql(self, statement: str, *parameters: object) -> list[Any]:
        """One statement by a second connection."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            connection.create_function("crc32", 1, zlib.crc32, deterministic=True)
            return connection.execute(statement, parameters).fetchall()
        finally:
            connection.close()

    def check_file(self) -> None:
        """What holds in every closed file: it is sound, nothing is orphaned, no body has a hole."""
        assert self.sql("PRAGMA quick_check") == [("ok",)]
        known = "(SELECT body_id FROM entries UNION SELECT body_id FROM loose)"
        assert self.sql(f"SELECT body_id, first FROM chunks WHERE body_id NOT IN {known}") == []
        holes = (
            "SELECT e.entry_id, e.length, IFNULL(SUM(c.length), 0) AS found FROM entries e"
            " LEFT JOIN chunks c ON c.body_id = e.body_id GROUP BY e.entry_id HAVING found != e.length"
        )
        assert self.sql(holes) == []
        assert self.sql("SELECT body_id FROM loose INTERSECT SELECT body_id FROM entries") == []
        assert self.sql("SELECT entry_id FROM entries EXCEPT SELECT entry_id FROM ranks") == []
        (entries, size), *_ = self.sql("SELECT COUNT(*), IFNULL(SUM(size), 0) FROM ranks")
        assert self.sql("SELECT entries, bytes FROM totals") == [(entries, size)]
        assert self.sql("SELECT COUNT(*) FROM entries") == [(entries,)]


class Tap:
    """Stands between the store and SQLite: sees every call, may hold it back or make it fail.

    `before(sql)` runs ahead of a call, `after(sql)` between its end and its result.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.connections: set[aiosqlite.Connection] = set()
        self.before: Callable[[str], Awaitable[None]] | None = None
        self.after: Callable[[str], Awaitable[None]] | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wrap aiosqlite's connection."""
        for name in ("execute", "executemany", "execute_fetchall", "executescript", "commit"):
            monkeypatch.setattr(aiosqlite.Connection, name, self._wrapped(name))

    async def stop_left_open(self) -> int:
        """End the connections that nobody closed; how many. Their threads would outlive the test run."""
        left = [one for one in self.connections if one._running]
        self.connections.clear()
        for one in left:
            await one.close()
        return len(left)

    def _wrapped(self, name: str) -> Callable[..., Any]:
        original = getattr(aiosqlite.Connection, name)

        @contextmanager
        async def call(connection: aiosqlite.Connection, sql: str = "COMMIT", *parameters: Any) -> Any:
            self.calls += 1
            self.connections.add(connection)
            if self.before is not None:
                await self.before(sql)
            result = await (
                original(connection) if name == "commit" else original(connection, sql, *parameters)
            )
            if self.after is not None:
                await self.after(sql)
            return result

        return call


def io_error() -> sqlite3.OperationalError:
    """What SQLite raises when the disk fails."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


def damage_error() -> sqlite3.DatabaseError:
    """What SQLite raises for a broken file."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def failing(
    matches: Callable[[str], bool], error: sqlite3.Error, times: int = 1
) -> Callable[[str], Awaitable[None]]:
    """A `Tap.before` that fails the first calls that match."""
    left = times

    async def before(sql: str) -> None:
        nonlocal left
        if left and matches(sql):
            left -= 1
            raise error

    return before


@pytest.fixture
async def tap(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tap]:
    """A tap that does nothing until told."""
    tap = Tap()
    tap.install(monkeypatch)
    yield tap
    tap.before = tap.after = None


@pytest.fixture(autouse=True)
def _logged() -> Iterator[None]:
    """What is logged reaches caplog, also after a test that set the level as `serve` does."""
    log = logging.getLogger("cacheproxy")
    before = log.level
    log.setLevel(logging.INFO)
    yield
    log.setLevel(before)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches leave at once: for tests of many small steps."""
    monkeypatch.setattr("cacheproxy.store.writer.BATCH_DELAY_S", 0.001, raising=False)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Memory and disk, opened; at the end the closed file is checked."""
    house = House(tmp_path)
    await house.open()
    yield house
    await house.close()
    house.check_file()


@pytest.fixture(params=["memory", "memory+disk"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    """Both forms of the store in turn."""
    house = House(tmp_path, on_disk=request.param != "memory")
    if not house.on_disk:
        # A body must fit in 1/64 of memory.
        house.memory_bytes = 256 * MIB
    await house.open()
    yield house
    await house.close()
    if house.on_disk:
        house.check_file()


@pytest.fixture
async def fresh(tmp_path: Path) -> AsyncIterator[House]:
    """Memory and disk, not opened yet; closed whatever happens."""
    house = House(tmp_path)
    yield house
    await house.close()
