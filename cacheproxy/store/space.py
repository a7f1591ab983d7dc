"""Room in the file: evict by score, reclaim rows that nobody names, keep the write-ahead log short.

Everything here runs on the writer's connection, between or inside its transactions.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiosqlite

from cacheproxy.store.batch import Batch
from cacheproxy.store.schema import FILE_NAME, PAGE_BYTES, scalar

CHECKPOINT_BYTES = 16 * 1024 * 1024
WAL_LIMIT_BYTES = 64 * 1024 * 1024
RECLAIM_ROWS = 64
_WAL_MARGIN_BYTES = 12 * 1024 * 1024
_MARGIN_PAGES = 64


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """Sizes in bytes."""

    disk_bytes: int
    keep_free_bytes: int = 256 * 1024 * 1024
    queue_bytes: int = 8 * 1024 * 1024


class NoRoom(Exception):
    """The file cannot take the batch: everything that could be evicted is in use."""


class Space:
    """The file's pages. `inflation` is the L of the eviction score. Methods raise sqlite3.Error, OSError."""

    def __init__(
        self,
        db: aiosqlite.Connection,
        directory: Path,
        options: WriterOptions,
        on_evicted: Callable[[int], None],
    ) -> None:
        self._db = db
        self._directory = directory
        self._options = options
        self._on_evicted = on_evicted
        self._since_checkpoint = 0
        self.inflation = 0.0
        # Bodies that must keep their rows: being written, or being read.
        self.writing: set[int] = set()
        self.pins: Counter[int] = Counter()

    async def make_room(self, batch: Batch) -> None:
        """Evict until the batch fits. Raises NoRoom where it cannot."""
        pages = await scalar(self._db, "PRAGMA page_count")
        free = await scalar(self._db, "PRAGMA freelist_count")
        needed = batch.data_bytes // PAGE_BYTES + len(batch.rows) + len(batch.entries) + _MARGIN_PAGES
        limit = self._page_limit(int(pages))
        # Freed pages stay in the file and are used again: what counts is what is in use.
        while pages - free + needed > limit:
            if not await self._evict(int(pages - free + needed - limit)):
                raise NoRoom("the cache is full of bodies in use")
            pages = await scalar(self._db, "PRAGMA page_count")
            free = await scalar(self._db, "PRAGMA freelist_count")

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

    async def _evict(self, pages: int) -> bool:
        """Remove the lowest scores until about `pages` are free; False if nothing could be."""
        freed = 0
        any_gone = False
        while freed < pages:
            victims = list(
                await self._db.execute_fetchall(
                    "SELECT entry_id, body_id, score, length FROM entries ORDER BY score LIMIT 16"
                )
            )
            freed_now = await self._reclaim(RECLAIM_ROWS * 4)
            freed += freed_now
            if not victims and not freed_now:
                return any_gone
            any_gone = True
            if freed >= pages:
                break
            for entry_id, body_id, score, _ in victims:
                if freed >= pages:
                    break
                self.inflation = max(self.inflation, score)
                await self._db.execute("DELETE FROM entries WHERE entry_id = ?", (entry_id,))
                self._on_evicted(entry_id)
                freed += 1
                if body_id not in self.writing and not self.pins[body_id]:
                    freed += await self._drop_rows(body_id, 1 << 30)
        return True

    async def _reclaim(self, rows: int) -> int:
        """Delete up to `rows` rows of bodies that nobody names, writes or reads; about the pages freed."""
        freed = 0
        loose = await self._db.execute_fetchall("SELECT body_id FROM loose ORDER BY body_id LIMIT 256")
        for (body_id,) in loose:
            if freed >= rows * 16:
                break
            if body_id not in self.writing and not self.pins[body_id]:
                freed += await self._drop_rows(body_id, rows)
        return freed

    async def _drop_rows(self, body_id: int, rows: int) -> int:
        found = list(
            await self._db.execute_fetchall(
                "SELECT rowid, length FROM chunks WHERE body_id = ? LIMIT ?", (body_id, min(rows, 4096))
            )
        )
        await self._db.executemany("DELETE FROM chunks WHERE rowid = ?", [(row[0],) for row in found])
        if len(found) < rows:
            await self._db.execute("DELETE FROM loose WHERE body_id = ?", (body_id,))
        return sum(int(row[1]) // PAGE_BYTES + 1 for row in found) + 1

    async def reclaim_step(self) -> bool:
        """One short transaction of reclaiming; whether there was anything."""
        await self._db.execute("BEGIN IMMEDIATE")
        try:
            freed = await self._reclaim(RECLAIM_ROWS)
            pages = await scalar(self._db, "PRAGMA page_count")
            limit = self._options.disk_bytes // PAGE_BYTES
            await self._db.commit()
        except BaseException:
            await self._db.rollback()
            raise
        self._since_checkpoint += (freed // 8 + 4) * PAGE_BYTES
        if pages > limit:
            # The limit was lowered since: give the pages back to the file system, a little at a time.
            await self._db.execute_fetchall(f"PRAGMA incremental_vacuum({min(1024, int(pages) - limit)})")
            self._since_checkpoint += CHECKPOINT_BYTES
        return freed > 0

    def written(self, count: int) -> None:
        """A transaction wrote about `count` bytes."""
        self._since_checkpoint += count + PAGE_BYTES * 4

    async def checkpoint(self, *, final: bool = False) -> None:
        """Move the write-ahead log into the file where it is due."""
        if final:
            await self._db.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        elif self._since_checkpoint >= CHECKPOINT_BYTES:
            self._since_checkpoint = 0
            rows = list(await self._db.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)"))
            _, frames, done = rows[0] if rows else (0, 0, 0)
            if frames != done or frames * PAGE_BYTES > WAL_LIMIT_BYTES // 2:
                # A reader keeps the log from starting anew: wait for it, within the busy time-out.
                await self._db.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")

    def check_wal(self) -> None:
        """Raise NoRoom rather than let the log grow past its limit."""
        wal = self._directory / (FILE_NAME + "-wal")
        try:
            size = wal.stat().st_size
        except OSError:
            return
        if size > WAL_LIMIT_BYTES - _WAL_MARGIN_BYTES:
            self._since_checkpoint = CHECKPOINT_BYTES
            raise NoRoom("another process keeps the write-ahead log from being emptied")
