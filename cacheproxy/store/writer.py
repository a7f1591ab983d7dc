"""The one task that writes: groups operations into short transactions, evicts, reclaims, checkpoints.

Bounds: `queue_bytes` of data wait at most, `BATCH_BYTES` or `BATCH_OPERATIONS` go into a transaction, the
file stays within `disk_bytes`, the WAL within 64 MiB (storing is refused rather than let it grow).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiosqlite

from cacheproxy.ports import Recorder
from cacheproxy.store.batch import Batch, EntryRow, NewHead, Row
from cacheproxy.store.schema import FILE_NAME, PAGE_BYTES, is_damage, scalar

log = logging.getLogger("cacheproxy")

BATCH_BYTES = 4 * 1024 * 1024
BATCH_OPERATIONS = 50
BATCH_DELAY_S = 0.05
TOUCH_DELAY_S = 2.0
MAX_TOUCHES = 50_000
CHECKPOINT_BYTES = 16 * 1024 * 1024
WAL_LIMIT_BYTES = 64 * 1024 * 1024
RECLAIM_ROWS = 64
STALL_S = 2.0
_PAGES_PER_TRANSACTION_MARGIN = 64


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """Sizes in bytes."""

    disk_bytes: int
    keep_free_bytes: int = 256 * 1024 * 1024
    queue_bytes: int = 8 * 1024 * 1024


class NoRoom(Exception):
    """The file cannot take the batch: everything that could be evicted is in use."""


class Writer:
    """Owned by the disk tier, which runs `run()` in a task and calls `stop()` at the end."""

    def __init__(
        self,
        db: aiosqlite.Connection,
        directory: Path,
        options: WriterOptions,
        recorder: Recorder,
        on_damage: Callable[[], None],
        on_evicted: Callable[[int], None],
    ) -> None:
        self._db = db
        self._directory = directory
        self._options = options
        self._recorder = recorder
        self._on_damage = on_damage
        self._on_evicted = on_evicted
        self._batch = Batch()
        self._wake = asyncio.Event()
        self._room: deque[asyncio.Future[None]] = deque()
        self._queued_bytes = 0
        self._flush_now = False
        self._stopping = False
        self._since_checkpoint = 0
        self._reclaim_due = True
        self._logged_at = 0.0
        self._held_since = 0.0
        self.inflation = 0.0
        # Bodies that must keep their rows: being written, or being read.
        self.writing: set[int] = set()
        self.pins: Counter[int] = Counter()

    # enqueueing: plain calls, no waiting

    def open_body(self, body_id: int) -> None:
        """Rows of `body_id` will follow."""
        self._batch.opened.append(body_id)

    def add_row(self, row: Row, committed: Callable[[], None], failed: Callable[[], None]) -> None:
        """Write a piece of a body."""
        self._batch.rows.append(row)
        self._batch.data_bytes += len(row.data)
        self._queued_bytes += len(row.data)
        self._batch.committed.append(committed)
        self._batch.failed.append(failed)
        self._wake.set()

    def publish(self, entry: EntryRow, committed: Callable[[], None], failed: Callable[[], None]) -> None:
        """Make a stored response visible."""
        self._batch.entries.append(entry)
        self._batch.data_bytes += len(entry.head)
        self._batch.committed.append(committed)
        self._batch.failed.append(failed)
        self._wake.set()

    def update_head(self, new: NewHead, settled: Callable[[], None]) -> None:
        """Replace an entry's fields."""
        self._batch.heads.append(new)
        self._batch.committed.append(settled)
        self._batch.failed.append(settled)
        self._wake.set()

    def remove_key(self, key: str, up_to: int, settled: Callable[[], None]) -> None:
        """Remove the entries of `key` with ids up to `up_to`."""
        self._batch.removed_keys.append((key, up_to))
        self._batch.committed.append(settled)
        self._batch.failed.append(settled)
        self._wake.set()

    def remove_ids(self, entry_ids: list[int]) -> asyncio.Future[bool]:
        """Remove entries; the future tells when that is committed, and whether it was."""
        return self._with_result(self._batch.removed_ids, entry_ids)

    def mark_stale(self, entry_ids: list[int]) -> asyncio.Future[bool]:
        """Mark entries stale; the future as in `remove_ids`."""
        return self._with_result(self._batch.stale_ids, entry_ids)

    def _with_result(self, target: list[int], entry_ids: list[int]) -> asyncio.Future[bool]:
        target.extend(entry_ids)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def settle(result: bool) -> None:
            if not done.done():
                done.set_result(result)

        self._batch.committed.append(lambda: settle(True))
        self._batch.failed.append(lambda: settle(False))
        self._flush_now = True
        self._wake.set()
        return done

    def touch(self, entry_id: int) -> None:
        """Count a use; flushed every few seconds."""
        touches = self._batch.touches
        if entry_id in touches or len(touches) < MAX_TOUCHES:
            touches[entry_id] = touches.get(entry_id, 0) + 1

    def body_released(self) -> None:
        """A body is no longer written or read: its rows may be reclaimed."""
        self._reclaim_due = True
        self._wake.set()

    async def room(self) -> bool:
        """Wait until the queue has room; False where the writer stands still for `STALL_S`."""
        if self._queued_bytes <= self._options.queue_bytes:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room.append(waiter)
        self._wake.set()
        try:
            async with asyncio.timeout(STALL_S):
                await waiter
        except TimeoutError:
            return False
        return True

    # the task

    async def run(self) -> None:
        """Write until `stop()`; then what is queued, and a last checkpoint."""
        self.inflation = await scalar(self._db, "SELECT inflation FROM totals")
        while not self._stopping or self._batch.count:
            await self._wait_for_work()
            batch, self._batch = self._batch, Batch()
            self._flush_now = False
            if not batch.is_empty:
                await self._commit(batch)
            await self._keep_house()
        await self._checkpoint("TRUNCATE")

    async def _wait_for_work(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + TOUCH_DELAY_S
        while not self._stopping:
            batch = self._batch
            if batch.count:
                if self._flush_now or batch.count >= BATCH_OPERATIONS or batch.data_bytes >= BATCH_BYTES:
                    return
                deadline = min(deadline, loop.time() + BATCH_DELAY_S)
            elif self._reclaim_due:
                return
            self._wake.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._wake.wait()
            except TimeoutError:
                return

    def stop(self) -> None:
        """Finish what is queued and end."""
        self._stopping = True
        self._wake.set()

    async def _commit(self, batch: Batch) -> None:
        try:
            await self._in_transaction(batch)
        except (sqlite3.Error, OSError, NoRoom, ValueError) as error:
            self._failed(error)
            outcome = batch.failed
        else:
            outcome = batch.committed
            self._since_checkpoint += batch.data_bytes + PAGE_BYTES * 4
        self._queued_bytes -= sum(len(row.data) for row in batch.rows)
        for callback in outcome:
            callback()
        while self._room and self._queued_bytes <= self._options.queue_bytes:
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)

    async def _in_transaction(self, batch: Batch) -> None:
        if batch.rows or batch.entries:
            self._check_wal()
        await self._db.execute("BEGIN IMMEDIATE")
        try:
            before = self.inflation
            if batch.rows or batch.entries:
                await self._make_room(batch)
            await batch.carry_out(self._db, self.inflation)
            if self.inflation != before:
                await self._db.execute("UPDATE totals SET inflation = ?", (self.inflation,))
            await self._db.commit()
        except BaseException:
            try:
                await self._db.rollback()
            except sqlite3.Error:
                log.debug("rollback failed", exc_info=True)
            raise

    def _failed(self, error: Exception) -> None:
        self._recorder.store_failed(type(error).__name__)
        now = asyncio.get_running_loop().time()
        # One line a minute: a full disk fails every batch.
        if now - self._logged_at >= 60 or not self._logged_at:
            self._logged_at = now
            log.warning("the store cannot be written (%s); responses pass through unstored", error)
        if is_damage(error):
            self._on_damage()

    # room

    async def _make_room(self, batch: Batch) -> None:
        pages = await scalar(self._db, "PRAGMA page_count")
        free = await scalar(self._db, "PRAGMA freelist_count")
        needed = (
            batch.data_bytes // PAGE_BYTES
            + len(batch.rows)
            + len(batch.entries)
            + _PAGES_PER_TRANSACTION_MARGIN
        )
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

    # house-keeping between transactions

    async def _keep_house(self) -> None:
        try:
            if self._reclaim_due and not self._batch.rows:
                await self._reclaim_step()
            if self._since_checkpoint >= CHECKPOINT_BYTES:
                await self._checkpoint("PASSIVE")
        except (sqlite3.Error, OSError) as error:
            self._reclaim_due = False
            self._failed(error)

    async def _reclaim_step(self) -> None:
        await self._db.execute("BEGIN IMMEDIATE")
        try:
            freed = await self._reclaim(RECLAIM_ROWS)
            pages = await scalar(self._db, "PRAGMA page_count")
            limit = self._options.disk_bytes // PAGE_BYTES
            await self._db.commit()
        except BaseException:
            await self._db.rollback()
            raise
        self._reclaim_due = freed > 0
        self._since_checkpoint += (freed // 8 + 4) * PAGE_BYTES
        if pages > limit:
            # The limit was lowered since: give the pages back to the file system, a little at a time.
            await self._db.execute_fetchall(f"PRAGMA incremental_vacuum({min(1024, int(pages) - limit)})")
            self._since_checkpoint += CHECKPOINT_BYTES

    async def _checkpoint(self, mode: str) -> None:
        try:
            rows = list(await self._db.execute_fetchall(f"PRAGMA wal_checkpoint({mode})"))
            self._since_checkpoint = 0
            _, frames, done = rows[0] if rows else (0, 0, 0)
            if mode == "PASSIVE" and (frames != done or frames * PAGE_BYTES > WAL_LIMIT_BYTES // 2):
                # A reader keeps the WAL from starting anew: wait for it, within the busy time-out.
                await self._db.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            self._failed(error)

    def _check_wal(self) -> None:
        wal = self._directory / (FILE_NAME + "-wal")
        try:
            size = wal.stat().st_size
        except OSError:
            return
        if size > WAL_LIMIT_BYTES - BATCH_BYTES * 3:
            self._since_checkpoint = CHECKPOINT_BYTES
            raise NoRoom("another process keeps the write-ahead log from being emptied")
