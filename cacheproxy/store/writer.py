"""The one task that writes: groups operations into short transactions, evicts, reclaims, checkpoints.

Bounds: `queue_bytes` of data wait at most, `BATCH_BYTES` or `BATCH_OPERATIONS` go into a transaction, the
file stays within `disk_bytes`, the WAL within 64 MiB (storing is refused rather than let it grow).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

import aiosqlite

from cacheproxy.ports import Recorder
from cacheproxy.store.batch import Batch, EntryRow, NewHead, Row
from cacheproxy.store.schema import is_damage, scalar
from cacheproxy.store.space import NoRoom, Space, WriterOptions

log = logging.getLogger("cacheproxy")

BATCH_BYTES = 2 * 1024 * 1024
BATCH_OPERATIONS = 50
BATCH_DELAY_S = 0.05
TOUCH_DELAY_S = 2.0
MAX_TOUCHES = 50_000
STALL_S = 2.0


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
        self._options = options
        self._recorder = recorder
        self._on_damage = on_damage
        self.space = Space(db, directory, options, on_evicted)
        self._batch = Batch()
        self._wake = asyncio.Event()
        self._room: deque[asyncio.Future[None]] = deque()
        self._queued_bytes = 0
        self._flush_now = False
        self._stopping = False
        self._reclaim_due = True
        self._logged_at = 0.0

    @property
    def writing(self) -> set[int]:
        """Bodies being written: their rows stay."""
        return self.space.writing

    @property
    def pins(self) -> Counter[int]:
        """Bodies being read, and by how many: their rows stay."""
        return self.space.pins

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
        self.space.inflation = await scalar(self._db, "SELECT inflation FROM totals")
        while not self._stopping or self._batch.count:
            await self._wait_for_work()
            batch, self._batch = self._batch, Batch()
            self._flush_now = False
            if not batch.is_empty:
                await self._commit(batch)
            await self._keep_house()
        try:
            await self.space.checkpoint(final=True)
        except sqlite3.Error as error:
            self._failed(error)

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
            self.space.written(batch.data_bytes)
        self._queued_bytes -= sum(len(row.data) for row in batch.rows)
        for callback in outcome:
            callback()
        while self._room and self._queued_bytes <= self._options.queue_bytes:
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)

    async def _in_transaction(self, batch: Batch) -> None:
        before = self.space.inflation
        if batch.rows or batch.entries:
            self.space.check_wal()
            await self.space.make_room(batch)
        await self._db.execute("BEGIN IMMEDIATE")
        try:
            await batch.carry_out(self._db, self.space.inflation)
            if self.space.inflation != before:
                await self._db.execute("UPDATE totals SET inflation = ?", (self.space.inflation,))
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

    async def _keep_house(self) -> None:
        try:
            if self._reclaim_due and not self._batch.rows:
                self._reclaim_due = False
                self._reclaim_due = await self.space.reclaim_step()
            await self.space.checkpoint()
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
