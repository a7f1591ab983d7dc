"""Reads from disk: look-ups batched per turn of the loop, bodies a row at a time, every checksum verified."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, Protocol

import aiosqlite

from cacheproxy.errors import StoreError
from cacheproxy.http.ranges import Slice
from cacheproxy.ports import BodySource, Recorder
from cacheproxy.store.ghosts import key_hash
from cacheproxy.store.schema import is_damage
from cacheproxy.tasks import TaskGroup

log = logging.getLogger("cacheproxy")

INLINE_BYTES = 64 * 1024
"""Bodies up to this size come with the look-up; larger ones are read row by row."""
_LOOKUP_KEYS = 64
_GATHERING_TURNS = 3

LOOKUP = (
    # The checksums are compared by who decodes: SQLite would call back into Python for each.
    "SELECT e.key, e.body_id, e.length, e.parts, e.stale, e.head_checksum, e.head,"
    " e.entry_id, e.variant, c.data, c.checksum"
    " FROM entries e LEFT JOIN chunks c"
    f" ON c.body_id = e.body_id AND c.first = 0 AND e.length <= {INLINE_BYTES} AND e.parts = ''"
    " WHERE e.key_hash IN ({marks})"
)
_ROW = (
    "SELECT first, data, row_checksum(body_id, first, data) = checksum FROM chunks"
    " WHERE body_id = ?1 AND first <= ?2 AND first > ?2 - 262144 AND first + length > ?2"
    " ORDER BY first DESC LIMIT 1"
)


Answered = Callable[[list[Any] | StoreError], None]
"""Called with the rows of a look-up, or why there are none."""


class DiskReader:
    """One read-only connection; what queues up while a statement runs goes together into the next."""

    def __init__(
        self, db: aiosqlite.Connection, recorder: Recorder, tasks: TaskGroup, on_damage: Callable[[], None]
    ) -> None:
        self._db = db
        self._recorder = recorder
        self._tasks = tasks
        self._on_damage = on_damage
        self._queue: list[tuple[str, Answered]] = []
        self._is_looking = False

    async def rows_of(self, key: str) -> list[Any]:
        """The rows of a key: the columns of `LOOKUP`."""
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def answered(rows: list[Any] | StoreError) -> None:
            if future.done():
                return
            if isinstance(rows, StoreError):
                future.set_exception(rows)
            else:
                future.set_result(rows)

        self.ask(key, answered)
        return await future

    def ask(self, key: str, answered: Answered) -> None:
        """The same without waiting: `answered` is called later."""
        self._queue.append((key, answered))
        if not self._is_looking:
            self._is_looking = True
            self._tasks.spawn("look-up", self._look_up())

    async def _look_up(self) -> None:
        batch: list[tuple[str, Answered]] = []
        under_way: list[tuple[str, Answered]] = []
        try:
            while self._queue:
                if len(self._queue) > 1 or len(batch) > 1:
                    # Where several ask at once more are about to: together they cost less.
                    for _ in range(_GATHERING_TURNS):
                        await asyncio.sleep(0)
                batch, self._queue = self._queue[:_LOOKUP_KEYS], self._queue[_LOOKUP_KEYS:]
                under_way = batch
                await self._look_up_batch(batch)
                under_way = []
        finally:
            self._is_looking = False
            rest, self._queue = [*under_way, *self._queue], []
            for _, answered in rest:
                answered(StoreError("the store is closing"))

    async def _look_up_batch(self, batch: list[tuple[str, Answered]]) -> None:
        keys = list({key for key, _ in batch})
        found: dict[str, list[Any]] = {}
        error: StoreError | None = None
        try:
            hashes = [key_hash(key) for key in keys]
            for row in await self.select(LOOKUP.format(marks=",".join("?" * len(keys))), hashes):
                found.setdefault(row[0], []).append(row)
        except StoreError as failure:
            error = failure
        for key, answered in batch:
            try:
                answered(found.get(key, []) if error is None else error)
            except Exception:
                # What one does must not stop the others.
                log.exception("what was found of %s", key.partition("?")[0])

    async def select(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """The rows of a statement. Raises StoreError."""
        try:
            return list(await self._db.execute_fetchall(sql, parameters))
        except (sqlite3.Error, ValueError) as error:
            self._recorder.store_failed(type(error).__name__)
            if is_damage(error):
                self._on_damage()
            raise StoreError(str(error)) from error

    async def read_row(self, body_id: int, start: int) -> bytes:
        """The bytes from `start` to the end of its row. Raises StoreError where they are not whole."""
        rows = await self.select(_ROW, (body_id, start))
        if not rows:
            raise StoreError("a stored body has lost its bytes")
        first, data, is_whole = rows[0]
        if not is_whole:
            self._recorder.store_failed("checksum")
            raise StoreError("a stored body is damaged")
        if start >= first + len(data):
            raise StoreError("a stored body has lost its bytes")
        return bytes(data) if start == first else bytes(data[start - first :])


class RowSource(Protocol):
    """Where a disk body gets its rows, and how it keeps them while it reads."""

    async def read_row(self, body_id: int, start: int) -> bytes:
        """The bytes from `start` to the end of its row."""

    def pin(self, body_id: int) -> None:
        """Keep the rows of a body that is being read."""

    async def pinned(self, body_id: int) -> None:
        """Return once a body pinned just now cannot be reclaimed any more. Raises StoreError where it is too late."""

    def unpin(self, body_id: int) -> None:
        """A body is read no longer."""


class DiskBody:
    """A body in rows on disk. Each row is its own short read, so that a slow client does not pin the WAL."""

    __slots__ = ("_body_id", "_length", "_source")

    def __init__(self, source: RowSource, body_id: int, length: int) -> None:
        self._source = source
        self._body_id = body_id
        self._length = length

    @property
    def available(self) -> int:
        """Everything is on disk."""
        return self._length

    def whole(self) -> None:
        """Not in memory."""
        return

    def at_once(self) -> BodySource | None:
        """A large one takes its time."""
        return None

    async def read(self, part: Slice | None) -> AsyncGenerator[bytes, None]:
        """The bytes of `part`, a row at a time. While this runs the rows are not reclaimed."""
        start, end = (0, self._length) if part is None else (part.start, part.end)
        self._source.pin(self._body_id)
        try:
            await self._source.pinned(self._body_id)
            while start < end:
                piece = await self._source.read_row(self._body_id, start)
                if len(piece) > end - start:
                    piece = piece[: end - start]
                start += len(piece)
                yield piece
        finally:
            self._source.unpin(self._body_id)
