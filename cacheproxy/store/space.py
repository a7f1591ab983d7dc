"""Room in the file: evict by score, reclaim rows that nobody names, keep the write-ahead log short.

Everything here runs on the writer's connection, between or inside its transactions.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiosqlite

from cacheproxy.store.batch import Batch, write_touches
from cacheproxy.store.eviction import PINNED
from cacheproxy.store.ranking import Ranking
from cacheproxy.store.schema import FILE_NAME, scalar

log = logging.getLogger("cacheproxy")

CHECKPOINT_BYTES = 32 * 1024 * 1024
_LEAST_CHECKPOINT_BYTES = 2 * 1024 * 1024
WAL_LIMIT_BYTES = 64 * 1024 * 1024
RECLAIM_ROWS = 128
_VICTIMS = 64
_RECLAIMED_BODIES = 16
_WAL_MARGIN_BYTES = 12 * 1024 * 1024
_VACUUM_PAGES = 256
# What a batch evicts beyond this goes in transactions of its own.
_TOGETHER_BYTES = 4 * 1024 * 1024
_ROUNDS = 256

_MEASURE = (
    "SELECT page_count, freelist_count, (SELECT entries FROM totals)"
    " FROM pragma_page_count(), pragma_freelist_count()"
)
_CHOOSE = (
    "SELECT r.entry_id, e.body_id, r.score, r.size, r.hits, e.key_hash FROM ranks r"
    " JOIN entries e ON e.entry_id = r.entry_id"
    f" WHERE r.score < {PINNED} ORDER BY r.score LIMIT ?"
)
_HORIZON = f"SELECT entry_id, size, score, hits, weight FROM ranks WHERE score < {PINNED} ORDER BY score LIMIT {_VICTIMS * 2}"


@dataclass(frozen=True, slots=True)
class DiskOptions:
    """Sizes in bytes. `wait_s`: what a small read may take of the loop's time; 0: nothing."""

    disk_bytes: int
    keep_free_bytes: int = 256 * 1024 * 1024
    queue_bytes: int = 4 * 1024 * 1024
    wait_s: float = 0.0005


class NoRoom(Exception):
    """The file cannot take the batch: everything that could be evicted is in use."""


class InUse:
    """Bodies whose rows must stay: being written or read, and by how many."""

    def __init__(self) -> None:
        self._writers: Counter[int] = Counter()
        self._readers: Counter[int] = Counter()
        # Bodies whose rows the transaction under way deletes: it is too late to begin reading them.
        self.going: set[int] = set()

    def __len__(self) -> int:
        return len(self._writers) + len(self._readers)

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
    """The file's pages. Methods raise sqlite3.Error, OSError."""

    def __init__(
        self,
        db: aiosqlite.Connection,
        directory: Path,
        options: DiskOptions,
        page_bytes: int,
        in_use: InUse,
        ranking: Ranking,
        on_evicted: Callable[[int], None],
    ) -> None:
        self._db = db
        self._directory = directory
        self._options = options
        self._page_bytes = page_bytes
        self._on_evicted = on_evicted
        self._checkpoint_bytes = max(_LEAST_CHECKPOINT_BYTES, min(CHECKPOINT_BYTES, options.disk_bytes // 4))
        self._checkpoint_at = self._checkpoint_bytes
        self._in_use = in_use
        self._ranking = ranking
        self._changing = asyncio.Lock()
        self._evicted: list[int] = []
        self._taken: list[tuple[int, int]] = []

    def needed(self, batch: Batch, *, tries: int = 0) -> int:
        """Pages that a batch may take, rather too many; more with each try that failed."""
        page = self._page_bytes
        taken = 0.0
        for row in batch.rows:
            size = len(row.data) + 64
            # Small ones share a page, not quite without gaps; from half a page on each has its own.
            taken += size * 1.1 / page if size * 2 < page else size // page + 1
        taken += sum(len(entry.head) + len(entry.key) + 256 for entry in batch.entries) * 1.2 / page
        return int(taken) + self.margin_pages * (tries + 1)

    def pages_of(self, size: int) -> int:
        """Pages for one row of `size` bytes, and some."""
        return size // self._page_bytes + self.margin_pages

    @property
    def margin_pages(self) -> int:
        """What stays free for the indexes to grow."""
        return max(8, min(64, self._options.disk_bytes // self._page_bytes // 64))

    async def _measure(self) -> tuple[int, int, int]:
        ((pages, free, entries),) = await self._db.execute_fetchall(_MEASURE)
        return int(pages), int(free), int(entries)

    async def _missing(self, needed: int) -> int:
        pages, free, _ = await self._measure()
        # Freed pages stay in the file and are used again: what counts is what is in use.
        return pages - free + needed - self._page_limit(pages)

    async def make_room(self, needed: int) -> None:
        """Before a transaction: evict in transactions of bounded size until little is missing."""
        while (missing := await self._missing(needed)) * self._page_bytes > _TOGETHER_BYTES:
            if not await self.in_transaction(partial(self._free, missing)):
                raise NoRoom("the cache is full of bodies in use")
            await self.checkpoint()

    async def free_within(self, needed: int) -> None:
        """Inside a transaction: evict what is missing for what follows. Raises NoRoom."""
        for _ in range(_ROUNDS):
            missing = await self._missing(needed)
            if missing <= 0:
                return
            if not await self._free(missing):
                break
        raise NoRoom("the cache is full of bodies in use")

    async def in_transaction(self, work: Callable[[], Awaitable[int]]) -> int:
        """Run `work` in a transaction; what it returns. L is kept with what it evicts."""
        async with self._changing:
            return await self._in_transaction(work)

    async def quiet(self) -> None:
        """Wait for a transaction under way: it may evict what was pinned after it had looked."""
        if self._changing.locked():
            async with self._changing:
                return

    async def _in_transaction(self, work: Callable[[], Awaitable[int]]) -> int:
        await self.check_wal()
        before = self._ranking.inflation
        await self._db.execute("BEGIN IMMEDIATE")
        try:
            result = await work()
            if self._ranking.inflation != before:
                await self._db.execute("UPDATE totals SET inflation = ?", (self._ranking.inflation,))
            await self._db.commit()
        except BaseException:
            self._evicted, taken, self._taken = [], self._taken, []
            self._ranking.touches.give_back(taken)
            try:
                await self._db.rollback()
            except sqlite3.Error:
                log.debug("rollback failed", exc_info=True)
            raise
        finally:
            self._in_use.going.clear()
        evicted, self._evicted, self._taken = self._evicted, [], []
        for entry_id in evicted:
            self._on_evicted(entry_id)
        return result

    async def _free(self, pages: int) -> int:
        """Free about `pages` pages, or a transaction's worth; 0 where nothing can go."""
        if reclaimed := await self._reclaim():
            return reclaimed
        found = list(await self._db.execute_fetchall(_CHOOSE, (_VICTIMS + min(len(self._in_use), 4096),)))
        touches = self._ranking.touches
        if used := touches.take([row[0] for row in found if touches.pending(row[0])]):
            # Their scores are higher than the file knows.
            self._taken += used
            await write_touches(self._db, used, self._ranking.inflation)
            return 1
        victims, freed = [], 0.0
        for entry_id, body_id, score, size, hits, hashed in found:
            # What is being read would free nothing now.
            if body_id in self._in_use:
                continue
            victims.append((entry_id, body_id))
            self._in_use.going.add(body_id)
            self._ranking.evicted(entry_id, hashed, score, hits)
            freed += size / self._page_bytes
            if freed >= min(pages, RECLAIM_ROWS * 16):
                break
        await self._db.executemany("DELETE FROM entries WHERE entry_id = ?", [(one[0],) for one in victims])
        self._evicted += [one[0] for one in victims]
        await self._drop_rows([one[1] for one in victims])
        return len(victims)

    def _page_limit(self, pages: int) -> int:
        limit = self._options.disk_bytes // self._page_bytes
        system = os.statvfs(self._directory)
        spare = system.f_bavail * system.f_frsize - self._options.keep_free_bytes
        if spare < 0:
            # The file must not grow: SQLite cannot even delete on a full file system.
            if spare < -self._options.keep_free_bytes * 15 // 16:
                raise NoRoom("the file system is full")
            limit = min(limit, pages)
        return limit

    async def _reclaim(self) -> int:
        """Delete rows of bodies that nobody names, writes or reads, a transaction's worth; how many bodies."""
        loose = await self._db.execute_fetchall("SELECT body_id FROM loose ORDER BY body_id LIMIT 256")
        bodies = [row[0] for row in loose if row[0] not in self._in_use][:_RECLAIMED_BODIES]
        self._in_use.going.update(bodies)
        await self._drop_rows(bodies)
        return len(bodies)

    async def _drop_rows(self, bodies: Sequence[int]) -> None:
        """The first rows of each; where there are more the body stays loose."""
        if not bodies:
            return
        parameters = [(body_id,) for body_id in bodies]
        await self._db.executemany(
            "DELETE FROM chunks WHERE rowid IN"
            f" (SELECT rowid FROM chunks WHERE body_id = ? LIMIT {RECLAIM_ROWS})",
            parameters,
        )
        await self._db.executemany(
            "DELETE FROM loose WHERE body_id = ?1 AND NOT EXISTS (SELECT 1 FROM chunks WHERE body_id = ?1)",
            parameters,
        )

    async def look_ahead(self, waiting_bytes: int) -> None:
        """Tell the ranking how much is free, and what would have to go first for more."""
        pages, free, entries = await self._measure()
        self._ranking.ghosts.fit(entries)
        limit = self._options.disk_bytes // self._page_bytes
        left = (limit - (pages - free) - self.margin_pages) * self._page_bytes
        victims: list[tuple[int, float]] = []
        if left * 8 < self._options.disk_bytes:
            for entry_id, size, score, hits, weight in await self._db.execute_fetchall(_HORIZON):
                uses = self._ranking.touches.pending(entry_id)
                now = max(score, self._ranking.inflation + (hits + uses) * weight) if uses else score
                victims.append((size, now))
            victims.sort(key=lambda victim: -victim[1])
        self._ranking.horizon.renew(left - waiting_bytes, self._ranking.inflation, victims)

    async def reclaim_step(self) -> bool:
        """One short transaction of reclaiming, or of shrinking the file; whether there may be more."""
        if await self.in_transaction(self._reclaim):
            return True
        pages, free, _ = await self._measure()
        excess = min(pages - self._options.disk_bytes // self._page_bytes, free)
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
            self._checkpoint_at = max(self._checkpoint_bytes, left + 8 * 1024 * 1024 if left else 0)

    async def check_wal(self) -> None:
        """Raise NoRoom rather than let the log grow past its limit."""
        if self._wal_bytes() > WAL_LIMIT_BYTES - _WAL_MARGIN_BYTES:
            self._checkpoint_at = self._checkpoint_bytes
            await self.checkpoint()
            if self._wal_bytes() > WAL_LIMIT_BYTES - _WAL_MARGIN_BYTES:
                raise NoRoom("another process keeps the write-ahead log from being emptied")
