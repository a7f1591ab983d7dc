"""The one task that writes: groups operations into short transactions, evicts, reclaims, checkpoints.

Bounds: `queue_bytes` of data wait at most, `BATCH_BYTES` or `BATCH_OPERATIONS` go into a transaction, the
file stays within `disk_bytes`, the WAL within 64 MiB (storing is refused rather than let it grow).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosqlite

from cacheproxy.ports import Recorder
from cacheproxy.store.batch import ORDERS_AT_ONCE, Batch, EntryRow, Order, Row
from cacheproxy.store.ranking import Ranking
from cacheproxy.store.schema import is_damage
from cacheproxy.store.space import DiskOptions, InUse, NoRoom, Space

log = logging.getLogger("cacheproxy")

BATCH_BYTES = 2 * 1024 * 1024
BATCH_OPERATIONS = 200
# Every transaction writes a dozen pages of indexes again: few long ones instead of many short.
BATCH_DELAY_S = 0.25
TOUCH_DELAY_S = 3.0
GHOSTS_DELAY_S = 300.0
RETRY_S = 0.5
MAX_ORDERS = 10_000
STALL_S = 2.0


class Writer:
    """Owned by the disk tier, which runs `run()` in a task and calls `stop()` at the end.

    `forget_all` is called when more orders wait than can be kept: it hides everything that is stored and
    returns the highest id, and the file is emptied once it works again.
    """

    def __init__(
        self,
        db: aiosqlite.Connection,
        directory: Path,
        options: DiskOptions,
        recorder: Recorder,
        in_use: InUse,
        ranking: Ranking,
        page_bytes: int,
        on_damage: Callable[[], None],
        on_evicted: Callable[[int], None],
        forget_all: Callable[[], int],
    ) -> None:
        self._db = db
        self._recorder = recorder
        self._on_damage = on_damage
        self._forget_all = forget_all
        # A batch takes a small part of a small cache: what it evicts at once is not chosen one by one.
        self._batch_bytes = min(BATCH_BYTES, options.disk_bytes // 10)
        self._queue_bytes = min(options.queue_bytes, options.disk_bytes // 8)
        self._ranking = ranking
        self.space = Space(db, directory, options, page_bytes, in_use, ranking, on_evicted)
        self._batch = Batch()
        self._wake = asyncio.Event()
        self._room: deque[tuple[int, asyncio.Future[bool]]] = deque()
        self._queued_bytes = 0
        self._flush_now = False
        self._stopping = False
        self._has_ended = False
        self._reclaim_due = True
        self._retry_at = 0.0
        self._logged_at = 0.0
        self._touched_at = 0.0
        self._remembered_at = asyncio.get_running_loop().time()
        self._is_fresh = False

    # enqueueing: plain calls, no waiting; what comes after the end fails at once

    def add_row(self, row: Row) -> None:
        """Write a piece of a body."""
        if self._has_ended:
            row.settled(False)
            return
        self._batch.rows.append(row)
        self._batch.data_bytes += len(row.data)
        self._queued_bytes += len(row.data)
        self._wake.set()

    def publish(self, entry: EntryRow) -> None:
        """Make a stored response visible."""
        if self._has_ended:
            entry.settled(False)
            return
        self._batch.entries.append(entry)
        self._batch.data_bytes += len(entry.head)
        self._wake.set()

    def order(self, order: Order, *, at_once: bool = False) -> None:
        """Change entries, after what was queued before."""
        if self._has_ended:
            if order.attempted is not None:
                order.attempted(False)
            return
        self._batch.orders.append(order)
        self._flush_now = self._flush_now or at_once
        self._wake.set()

    def order_and_tell(
        self, sql: str, parameters: list[tuple[Any, ...]], committed: Callable[[], None]
    ) -> asyncio.Future[bool]:
        """An order that goes out at once; the future tells whether its first try succeeded."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def attempted(result: bool) -> None:
            if not done.done():
                done.set_result(result)

        self.order(Order(sql, parameters, committed, attempted), at_once=True)
        return done

    def body_released(self) -> None:
        """A body is no longer written or read: its rows may be reclaimed."""
        self._reclaim_due = True
        self._wake.set()

    def commit_soon(self) -> None:
        """Commit what is queued without waiting for more."""
        self._flush_now = True
        self._wake.set()

    @property
    def has_room(self) -> bool:
        """Whether the queue takes more without waiting."""
        return not self._has_ended and self._queued_bytes <= self._queue_bytes

    async def room(self, size: int) -> bool:
        """Wait until the queue has room; `size`: about how much will come then.

        False where the writer stands still for `STALL_S`, or has ended.
        """
        if self._has_ended:
            return False
        if self._queued_bytes <= self._queue_bytes:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._room.append((size, waiter))
        self._wake.set()
        try:
            async with asyncio.timeout(STALL_S):
                return await waiter
        except TimeoutError:
            return False

    async def quiet(self) -> None:
        """Wait for a transaction under way."""
        await self.space.quiet()

    # the task

    async def run(self) -> None:
        """Write until `stop()`; then what is queued, and a last checkpoint."""
        try:
            while not self._stopping or self._batch.count:
                await self._wait_for_work()
                batch, self._batch = self._batch, Batch()
                self._batch.orders = batch.take_orders(ORDERS_AT_ONCE)
                self._flush_now = bool(self._batch.orders)
                batch.touches = self._touches_due()
                if batch.count or batch.touches:
                    await self._commit(batch)
                await self._keep_house()
            await self._say_goodbye()
        except (sqlite3.Error, OSError, NoRoom) as error:
            self._failed(error)
        finally:
            self._end()

    def _touches_due(self) -> list[tuple[int, int]]:
        now = asyncio.get_running_loop().time()
        if now - self._touched_at < TOUCH_DELAY_S:
            return []
        self._touched_at = now
        return self._ranking.touches.take_due()

    async def _say_goodbye(self) -> None:
        while touches := self._ranking.touches.take_due(everything=True):
            await self._in_transaction(Batch(touches=touches))
        await self._keep_ghosts()
        await self.space.checkpoint(final=True)

    async def _keep_ghosts(self) -> None:
        if not self._ranking.ghosts.is_changed:
            return
        for number, part in enumerate(self._ranking.ghosts.to_parts()):

            async def write(number: int = number, part: bytes = part) -> int:
                await self.space.free_within(self.space.pages_of(len(part)))
                await self._db.execute("INSERT OR REPLACE INTO ghosts VALUES (?, ?)", (number, part))
                return 1

            await self.space.in_transaction(write)

    async def _wait_for_work(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + TOUCH_DELAY_S
        while not self._stopping:
            now, batch = loop.time(), self._batch
            if batch.count:
                # Where somebody waits for room, a batch that is not full does not become any fuller.
                if (
                    self._flush_now
                    or self._room
                    or batch.count >= BATCH_OPERATIONS
                    or batch.data_bytes >= self._batch_bytes
                ):
                    return
                # Orders of a transaction that failed wait a little longer, unless there is news.
                deadline = min(deadline, max(now + BATCH_DELAY_S, 0.0 if batch.is_new_data else self._retry_at))
            elif self._reclaim_due:
                if now >= self._retry_at:
                    return
                deadline = min(deadline, self._retry_at)
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

    def _end(self) -> None:
        self._has_ended = True
        batch, self._batch = self._batch, Batch()
        batch.settle(False)
        for order in batch.orders:
            if order.attempted is not None:
                order.attempted(False)
        for _, waiter in self._room:
            if not waiter.done():
                waiter.set_result(False)

    async def _commit(self, batch: Batch) -> None:
        try:
            await self._in_transaction(batch)
        except (sqlite3.Error, OSError, NoRoom, ValueError) as error:
            self._failed(error)
            done = False
        else:
            done = True
            self._reclaim_due = self._reclaim_due or bool(batch.orders or batch.entries)
        self._queued_bytes -= sum(len(row.data) for row in batch.rows)
        batch.settle(done)
        for order in batch.orders:
            if order.attempted is not None:
                order.attempted(done)
            if done:
                order.committed()
        if not done:
            self._ranking.touches.give_back(batch.touches)
            self._after_failure(batch)
        self._let_in()

    def _let_in(self) -> None:
        # As many as fill the queue: all at once would overfill it.
        expected = self._queued_bytes
        while self._room and expected <= self._queue_bytes:
            size, waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(True)
                expected += size

    def _after_failure(self, failed: Batch) -> None:
        self._queued_bytes -= self._batch.drop_bodies({row.body_id for row in failed.rows})
        self._retry_at = asyncio.get_running_loop().time() + RETRY_S
        # At the end one try must do: the process may not wait for a disk that does not work.
        if self._stopping:
            return
        orders = [*failed.orders, *self._batch.orders]
        if sum(len(order.parameters) for order in orders) > MAX_ORDERS:
            waiting = orders

            def committed() -> None:
                for order in waiting:
                    order.committed()

            bound = self._forget_all()
            orders = [Order("DELETE FROM entries WHERE entry_id <= ?", [(bound,)], committed)]
        self._batch.orders = orders

    async def _in_transaction(self, batch: Batch) -> None:
        try:
            await self._try(batch, 0)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            # The estimate was too low, or the file system is full: once more with more room.
            await self._try(batch, 2)

    async def _try(self, batch: Batch, tries: int) -> None:
        needed = self.space.needed(batch, tries=tries)
        if batch.is_new_data:
            await self.space.make_room(needed)

        async def work() -> int:
            if batch.is_new_data:
                await self.space.free_within(needed)
            await batch.carry_out(self._db, self._ranking.inflation)
            return batch.count

        await self.space.in_transaction(work)
        self._is_fresh = False

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
            if self._reclaim_due and not self._batch.rows and not self._stopping:
                self._reclaim_due = False
                # Only ever set: a body may be released while this runs.
                if await self.space.reclaim_step():
                    self._reclaim_due = True
            if not self._is_fresh:
                self._is_fresh = True
                await self.space.look_ahead(self._queued_bytes)
            now = asyncio.get_running_loop().time()
            if now - self._remembered_at >= GHOSTS_DELAY_S:
                self._remembered_at = now
                await self._keep_ghosts()
            await self.space.checkpoint()
        except (sqlite3.Error, OSError, NoRoom) as error:
            self._reclaim_due = True
            self._retry_at = asyncio.get_running_loop().time() + RETRY_S
            self._failed(error)
