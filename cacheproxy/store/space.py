"""Room in the file: evict by score, reclaim rows that nobody names, keep the write-ahead log short.

Everything here runs on the writer's connection, between or inside its transactions.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiosqlite

from cacheproxy.store.batch import Batch
from cacheproxy.store.schema import FILE_NAME, PAGE_BYTES, scalar

CHECKPOINT_BYTES = 16 * 1024 * 1024
WAL_LIMIT_BYTES = 64 * 1024 * 1024
RECLAIM_ROWS = 128
_VICTIMS = 64
_WAL_MARGIN_BYTES = 12 * 1024 * 1024
_MARGIN_PAGES = 64
_VACUUM_PAGES = 256


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """Sizes in bytes."""

    disk_bytes: int
    keep_free_bytes: int = 256 * 1024 * 1024
    queue_bytes: int = 4 * 1024 * 1024


class NoRoom(Exception):
    """The file cannot take the batch: everything that could be evicted is in use."""


class InUse:
    """Bodies whose rows must stay: being written or read, and by how many."""

    def __init__(self) -> None:
        self._writers: Counter[int] = Counter()
        self._readers: Counter[int] = Counter()

    def __contains__(self, body_id: int) -> bool:
        return body_id in self._writers or body_id in self._readers

    def begin_writing(self, body_id: int) -> None:
        """Rows will come."""
        self._writers[body_id] += 1

    def end_writing(self, body_id: int) -> None:
        """No more rows from one that began."""
        _less(self._writers, body_id)

    def pin(self, body_id: int) -> None:
        """A reader begins."""
        self._readers[body_id] += 1

    def unpin(self, body_id: int) -> bool:
        """A reader ends; whether it was the last."""
        return _less(self._readers, body_id)


def _less(counter: Counter[int], body_id: int) -> bool:
    counter[body_id] -= 1
    if counter[body_id] > 0:
        return False
    del counter[body_id]
    return True


class Space:
    """The file's pages. `inflation` is the L of the eviction score. Methods raise sqlite3.Error, OSError."""

    def __init__(
        self,
        db: aiosqlite.Connection,
        directory: Path,
        options: WriterOptions,
        in_use: InUse,
        inflation: float,
        on_evicted: Callable[[int], None],
    ) -> None:
        self._db = db
        self._directory = directory
        self._options = options
        self._on_evicted = on_evicted
        self._checkpoint_at = CHECKPOINT_BYTES
        self._in_use = in_use
        self.inflation = inflation

    async def make_room(self, batch: Batch) -> None:
        """Evict until the batch fits, in transactions of bounded size. Raises NoRoom where it cannot."""
        needed = batch.data_bytes // PAGE_BYTES + len(batch.rows) + len(batch.entries) + _MARGIN_PAGES
        while True:
            pages = int(await scalar(self._db, "PRAGMA page_count"))
            free = int(await scalar(self._db, "PRAGMA freelist_count"))
            # Freed pages stay in the file and are used again: what counts is what is in use.
            missing = pages - free + needed - self._page_limit(pages)
            if missing <= 0:
                return
            if not await self._in_transaction(partial(self._free, missing)):
                raise NoRoom("the cache is full of bodies in use")
            await self.checkpoint()

    async def _in_transaction(self, work: Callable[[], Awaitable[int]]) -> int:
        await self.check_wal()
        await self._db.execute("BEGIN IMMEDIATE")
        try:
            freed = await work()
            await self._db.commit()
        except BaseException:
            await self._db.rollback()
            raise
        return freed

    async def _free(self, pages: int) -> int:
        """Free about `pages` pages, or a transaction's worth; how many it were."""
        freed = await self._reclaim()
        if freed:
            return freed
        victims = await self._db.execute_fetchall(
            f"SELECT entry_id, body_id, score FROM entries ORDER BY score LIMIT {_VICTIMS}"
        )
        for entry_id, body_id, score in victims:
            # What is being read would free nothing now.
            if body_id in self._in_use:
                continue
            self.inflation = max(self.inflation, score)
            await self._db.execute("DELETE FROM entries WHERE entry_id = ?", (entry_id,))
            self._on_evicted(entry_id)
            freed += 1 + await self._drop_rows(body_id, RECLAIM_ROWS)
            if freed >= min(pages, RECLAIM_ROWS * 16):
                break
        return freed

    def _page_limit(self, pages: int) -> int:
        limit = self._options.disk_bytes // PAGE_BYTES
        system = os.statvfs(self._directory)
        spare = system.f_bavail * system.f_frsize - self._options.keep_free_bytes
        if spare < 0:
            # The file must not grow: SQLite cannot even delete on a full file system.
            if spare < -self._options.keep_free_bytes * 15 // 16:
                raise NoRoom("the file system is full")
            limit = min(limit, pages)
        return limit

    async def _reclaim(self) -> int:
        """Delete rows of bodies that nobody names, writes or reads, a transaction's worth; pages freed."""
        freed = 0
        loose = await self._db.execute_fetchall("SELECT body_id FROM loose ORDER BY body_id LIMIT 256")
        for (body_id,) in loose:
            if freed >= RECLAIM_ROWS * 16:
                break
            if body_id not in self._in_use:
                freed += await self._drop_rows(body_id, RECLAIM_ROWS)
        return freed

    async def _drop_rows(self, body_id: int, rows: int) -> int:
        found = list(
            await self._db.execute_fetchall(
                "SELECT rowid, length FROM chunks WHERE body_id = ? LIMIT ?", (body_id, rows)
            )
        )
        await self._db.executemany("DELETE FROM chunks WHERE rowid = ?", [(row[0],) for row in found])
        if len(found) < rows:
            await self._db.execute("DELETE FROM loose WHERE body_id = ?", (body_id,))
        return sum(int(row[1]) // PAGE_BYTES + 1 for row in found)

    async def reclaim_step(self) -> bool:
        """One short transaction of reclaiming, or of shrinking the file; whether there may be more."""
        if await self._in_transaction(self._reclaim):
            return True
        pages = int(await scalar(self._db, "PRAGMA page_count"))
        free = int(await scalar(self._db, "PRAGMA freelist_count"))
        excess = min(pages - self._options.disk_bytes // PAGE_BYTES, free)
        if excess <= 0:
            return False
        # The limit was lowered since: give the pages back to the file system, a little at a time.
        # A script: as a statement Python would step it once, and that is one page.
        await self._db.executescript(f"PRAGMA incremental_vacuum({min(_VACUUM_PAGES, excess)})")
        return int(await scalar(self._db, "PRAGMA page_count")) < pages

    def _wal_bytes(self) -> int:
        try:
            return (self._directory / (FILE_NAME + "-wal")).stat().st_size
        except OSError:
            return 0

    async def checkpoint(self, *, final: bool = False) -> None:
        """Move the write-ahead log into the file where it is due; the log's size is what tells."""
        size = self._wal_bytes()
        if final or size >= self._checkpoint_at:
            # Waits for readers that began earlier, within the busy time-out; no reader waits for it.
            await self._db.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
            left = self._wal_bytes()
            # A reader was in the way: not again for every transaction.
            self._checkpoint_at = max(CHECKPOINT_BYTES, left + CHECKPOINT_BYTES // 2 if left else 0)

    async def check_wal(self) -> None:
        """Raise NoRoom rather than let the log grow past its limit."""
        if self._wal_bytes() > WAL_LIMIT_BYTES - _WAL_MARGIN_BYTES:
            self._checkpoint_at = CHECKPOINT_BYTES
            await self.checkpoint()
            if self._wal_bytes() > WAL_LIMIT_BYTES - _WAL_MARGIN_BYTES:
                raise NoRoom("another process keeps the write-ahead log from being emptied")
