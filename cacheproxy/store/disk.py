"""The disk tier: look-ups batched per turn of the loop, bodies read a row at a time, one writer."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.options import CachingOptions
from cacheproxy.errors import StoreError
from cacheproxy.http.ranges import Slice
from cacheproxy.ports import Candidate, ListedEntry, Recorder
from cacheproxy.store.batch import NewHead
from cacheproxy.store.codec import decode, encode
from cacheproxy.store.memory import MemoryBody
from cacheproxy.store.schema import FILE_NAME, PAGE_BYTES, is_damage, open_reader, open_writer, scalar
from cacheproxy.store.writer import Writer, WriterOptions
from cacheproxy.tasks import TaskGroup

log = logging.getLogger("cacheproxy")

INLINE_BYTES = 64 * 1024
"""Bodies up to this size come with the look-up; larger ones are read row by row."""
ROW_BYTES = 256 * 1024
_LOOKUP_KEYS = 64
_PAGE_ROWS = 1000
# Longer than any read statement runs.
_DEAD_S = 10.0

_LOOKUP = (
    "SELECT e.key, e.entry_id, e.body_id, e.length, e.stale, e.head, crc32(e.head) = e.head_checksum,"
    " c.data, crc32(c.data) = c.checksum"
    f" FROM entries e LEFT JOIN chunks c ON c.body_id = e.body_id AND c.first = 0 AND e.length <= {INLINE_BYTES}"
    " WHERE e.key IN ({marks})"
)
_ROW = (
    "SELECT first, data, crc32(data) = checksum FROM chunks"
    " WHERE body_id = ? AND first <= ? ORDER BY first DESC LIMIT 1"
)


class DiskBody:
    """A body in rows on disk; each row is its own short read, its checksum verified before it leaves."""

    __slots__ = ("_body_id", "_length", "_tier")

    def __init__(self, tier: DiskTier, body_id: int, length: int) -> None:
        self._tier = tier
        self._body_id = body_id
        self._length = length

    @property
    def available(self) -> int:
        """Everything is on disk."""
        return self._length

    def whole(self) -> None:
        """Not in memory."""
        return

    async def read(self, part: Slice | None) -> AsyncIterator[bytes]:
        """The bytes of `part`, a row at a time. While this runs the rows are not reclaimed."""
        start, end = (0, self._length) if part is None else (part.start, part.end)
        writer = self._tier.writer
        writer.pins[self._body_id] += 1
        try:
            while start < end:
                piece = await self._tier.read_row(self._body_id, start)
                piece = piece[: end - start]
                start += len(piece)
                yield piece
        finally:
            writer.pins[self._body_id] -= 1
            if writer.pins[self._body_id] <= 0:
                del writer.pins[self._body_id]
                writer.body_released()


@dataclass(slots=True)
class _LookUp:
    key: str
    future: asyncio.Future[list[Candidate]]


class DiskTier:
    """One SQLite file. Open with `open()`, close with `close()`; failures raise StoreError."""

    def __init__(
        self,
        directory: Path,
        options: WriterOptions,
        caching: CachingOptions,
        recorder: Recorder,
        on_evicted: Callable[[int], None],
    ) -> None:
        self.directory = directory
        self._options = options
        self._caching = caching
        self._recorder = recorder
        self._on_evicted = on_evicted
        self._tasks = TaskGroup("disk")
        self._queue: list[_LookUp] = []
        self._is_looking = False
        self._is_recovering = False
        self._dead_keys: dict[str, list[int]] = {}
        self._dead_ids: set[int] = set()
        self._dead_below = 0
        self._new_heads: dict[int, StoredResponse] = {}
        self._writer_db: aiosqlite.Connection | None = None
        self._reader: aiosqlite.Connection | None = None
        self._lister: aiosqlite.Connection | None = None
        self._writing: asyncio.Task[None] | None = None
        self.writer: Writer
        self.last_entry_id = 0
        self.last_body_id = 0

    async def open(self) -> None:
        """Open the file, making or replacing it where needed. Raises StoreError."""
        try:
            self._writer_db = await open_writer(self.directory, self._options.disk_bytes)
            self._reader = await open_reader(self.directory)
            self._lister = await open_reader(self.directory)
            self.last_entry_id = max(
                self.last_entry_id,
                int(await scalar(self._writer_db, "SELECT MAX(entry_id) FROM entries") or 0),
            )
            bodies = "SELECT MAX(MAX(IFNULL((SELECT MAX(body_id) FROM chunks), 0)), IFNULL((SELECT MAX(body_id) FROM loose), 0))"
            self.last_body_id = max(self.last_body_id, int(await scalar(self._writer_db, bodies) or 0))
        except (sqlite3.Error, OSError) as error:
            await self._close_connections()
            raise StoreError(f"{self.directory / FILE_NAME} cannot be opened: {error}") from error
        old = getattr(self, "writer", None)
        self.writer = Writer(
            self._writer_db, self.directory, self._options, self._recorder, self._damaged, self._on_evicted
        )
        if old is not None:
            self.writer.pins, self.writer.writing = old.pins, old.writing
        self._writing = self._tasks.spawn("writer", self.writer.run())

    async def close(self) -> None:
        """Write what is queued, checkpoint, close: readers first, so that the writer's close is the last."""
        self.writer.stop()
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=10)
        await self._tasks.close()
        await self._close_connections()

    async def _close_connections(self) -> None:
        for connection in (self._lister, self._reader, self._writer_db):
            if connection is not None:
                try:
                    await connection.close()
                except sqlite3.Error as error:
                    log.warning("closing the store: %s", error)
        self._lister = self._reader = self._writer_db = None

    def _damaged(self) -> None:
        """The file is broken: set it aside and start anew, once at a time."""
        if not self._is_recovering:
            self._is_recovering = True
            self._tasks.spawn("recover", self._recover())

    async def _recover(self) -> None:
        self.writer.stop()
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=5)
        await self._close_connections()
        path = self.directory / FILE_NAME
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.replace(path.with_name("cache.damaged" + suffix))
        log.warning("%s was damaged; it is set aside and a new one is made", path)
        try:
            await self.open()
        except StoreError as error:
            log.error("%s", error)
        self._is_recovering = False

    # reading

    async def lookup(self, key: str) -> list[Candidate]:
        """The stored responses of `key`. Raises StoreError."""
        future: asyncio.Future[list[Candidate]] = asyncio.get_running_loop().create_future()
        self._queue.append(_LookUp(key, future))
        if not self._is_looking:
            self._is_looking = True
            self._tasks.spawn("look-up", self._look_up())
        return await future

    async def _look_up(self) -> None:
        # What queues up while one statement runs goes together into the next.
        try:
            while self._queue:
                batch, self._queue = self._queue[:_LOOKUP_KEYS], self._queue[_LOOKUP_KEYS:]
                keys = list({one.key for one in batch})
                try:
                    rows = await self._select(_LOOKUP.format(marks=",".join("?" * len(keys))), keys)
                except StoreError as error:
                    for one in batch:
                        if not one.future.done():
                            one.future.set_exception(error)
                    continue
                found: dict[str, list[Candidate]] = {}
                for row in rows:
                    candidate = self._candidate(row)
                    if candidate is not None:
                        found.setdefault(row[0], []).append(candidate)
                for one in batch:
                    if not one.future.done():
                        one.future.set_result(found.get(one.key, []))
        finally:
            self._is_looking = False

    async def _select(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        if self._reader is None:
            raise StoreError("the store is not open")
        try:
            return list(await self._reader.execute_fetchall(sql, parameters))
        except (sqlite3.Error, ValueError) as error:
            self._recorder.store_failed(type(error).__name__)
            if is_damage(error):
                self._damaged()
            raise StoreError(str(error)) from error

    def _candidate(self, row: Any) -> Candidate | None:
        key, entry_id, body_id, length, stale, head, head_is_whole, data, data_is_whole = row
        if self.is_dead(key, entry_id):
            return None
        updated = self._new_heads.get(entry_id)
        try:
            if not head_is_whole:
                raise StoreError("a stored head is damaged")
            stored = updated or decode(
                head,
                self._caching,
                key=key,
                entry_id=entry_id,
                body_id=body_id,
                length=length,
                forced_stale=bool(stale),
            )
            if length == 0:
                return Candidate(stored, MemoryBody(b""), "disk")
            if length > INLINE_BYTES:
                return Candidate(stored, DiskBody(self, body_id, length), "disk")
            if data is not None and len(data) != length:
                # Small, but in several rows: read them one by one.
                return Candidate(stored, DiskBody(self, body_id, length), "disk")
            if not data_is_whole:
                raise StoreError("a stored body is damaged")
            return Candidate(stored, MemoryBody(bytes(data)), "disk")
        except StoreError as error:
            log.warning("%s: %s; it is dropped", key, error)
            self._recorder.store_failed("checksum")
            self.discard(entry_id)
            return None

    async def read_row(self, body_id: int, start: int) -> bytes:
        """The bytes from `start` to the end of its row. Raises StoreError where they are not whole."""
        rows = await self._select(_ROW, (body_id, start))
        if not rows:
            raise StoreError("a stored body has lost its bytes")
        first, data, is_whole = rows[0]
        if not is_whole:
            self._recorder.store_failed("checksum")
            raise StoreError("a stored body is damaged")
        if start >= first + len(data):
            raise StoreError("a stored body has lost its bytes")
        return bytes(data) if start == first else bytes(data[start - first :])

    # changing

    def next_entry_id(self) -> int:
        """A new id; ids grow with time."""
        self.last_entry_id += 1
        return self.last_entry_id

    def next_body_id(self) -> int:
        """A new id."""
        self.last_body_id += 1
        return self.last_body_id

    def update_head(self, stored: StoredResponse) -> None:
        """Replace an entry's fields; look-ups see the new ones at once."""
        entry_id = stored.entry_id
        self._new_heads[entry_id] = stored

        def settled() -> None:
            if self._new_heads.get(entry_id) is stored:
                del self._new_heads[entry_id]

        self.writer.update_head(NewHead(entry_id, stored.timing.response_time, encode(stored)), settled)

    def is_dead(self, key: str, entry_id: int) -> bool:
        """Whether an entry was removed lately: a statement that began before may still bring it."""
        return (
            entry_id <= self._dead_below
            or entry_id in self._dead_ids
            or entry_id <= max(self._dead_keys.get(key, (0,)))
        )

    def remove_key(self, key: str) -> None:
        """Remove what is stored under `key`; look-ups stop finding it at once."""
        bound = self.last_entry_id
        self._dead_keys.setdefault(key, []).append(bound)

        def forget() -> None:
            bounds = self._dead_keys[key]
            bounds.remove(bound)
            if not bounds:
                del self._dead_keys[key]

        self.writer.remove_key(key, bound, lambda: _later(forget))

    def discard(self, entry_id: int) -> None:
        """Remove one entry; look-ups stop finding it at once."""
        _ = self._remove_ids([entry_id])

    def _remove_ids(self, entry_ids: list[int]) -> asyncio.Future[bool]:
        self._dead_ids.update(entry_ids)
        done = self.writer.remove_ids(entry_ids)
        done.add_done_callback(lambda _: _later(lambda: self._dead_ids.difference_update(entry_ids)))
        return done

    # for operators

    async def scan(self) -> AsyncIterator[list[ListedEntry]]:
        """Every stored response in pages, oldest first; short statements, so that the WAL is not pinned."""
        last = 0
        while True:
            page = await self._page(last)
            if not page:
                return
            last = page[-1].entry_id
            yield [entry for entry in page if entry.entry_id > self._dead_below]

    async def _page(self, after: int) -> list[ListedEntry]:
        if self._lister is None:
            raise StoreError("the store is not open")
        try:
            rows = await self._lister.execute_fetchall(
                "SELECT entry_id, key, head, size, stored_at, hits FROM entries WHERE entry_id > ?"
                f" ORDER BY entry_id LIMIT {_PAGE_ROWS}",
                (after,),
            )
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error
        return [_listed(row) for row in rows]

    async def find_keys(self, keys: tuple[str, ...]) -> list[int]:
        """Ids of the entries under `keys`. Raises StoreError."""
        marks = ",".join("?" * len(keys))
        rows = await self._select(f"SELECT entry_id FROM entries WHERE key IN ({marks})", keys)
        return [row[0] for row in rows]

    async def remove(self, entry_ids: list[int]) -> bool:
        """Remove entries, in transactions of bounded size; False where one failed."""
        for at in range(0, len(entry_ids), _PAGE_ROWS):
            if not await self._remove_ids(entry_ids[at : at + _PAGE_ROWS]):
                return False
        return True

    async def remove_all(self) -> int:
        """Remove everything stored until now; look-ups stop finding it at once. How many there were."""
        self._dead_below = self.last_entry_id
        total = 0
        async for page in self._scan_up_to(self._dead_below):
            if not await self.writer.remove_ids(page):
                raise StoreError("the store cannot be written")
            total += len(page)
        return total

    async def _scan_up_to(self, bound: int) -> AsyncIterator[list[int]]:
        while True:
            if self._lister is None:
                raise StoreError("the store is not open")
            try:
                rows = await self._lister.execute_fetchall(
                    f"SELECT entry_id FROM entries WHERE entry_id <= ? ORDER BY entry_id LIMIT {_PAGE_ROWS * 2}",
                    (bound,),
                )
            except sqlite3.Error as error:
                raise StoreError(str(error)) from error
            page = [row[0] for row in rows]
            if not page:
                return
            yield page

    async def usage(self) -> tuple[int, int, int]:
        """(bytes in use, stored responses, bytes of the file)."""
        if self._lister is None:
            return 0, 0, 0
        try:
            pages = int(await scalar(self._lister, "PRAGMA page_count"))
            free = int(await scalar(self._lister, "PRAGMA freelist_count"))
            entries = int(await scalar(self._lister, "SELECT entries FROM totals"))
        except sqlite3.Error as error:
            log.debug("usage: %s", error)
            return 0, 0, 0
        return (pages - free) * PAGE_BYTES, entries, pages * PAGE_BYTES


def _later(forget: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(_DEAD_S, forget)


def _listed(row: Any) -> ListedEntry:
    entry_id, key, head, size, stored_at, hits = row
    status, content_type = 0, ""
    try:
        stored = decode(
            head, CachingOptions(), key=key, entry_id=entry_id, body_id=0, length=0, forced_stale=False
        )
        status, content_type = stored.status, stored.fields.get("content-type") or ""
    except StoreError:
        content_type = "(damaged)"
    return ListedEntry(entry_id, key, status, size, stored_at, hits, content_type)
