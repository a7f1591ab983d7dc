"""The disk tier: one SQLite file with one writer and two readers; failures raise StoreError, damage is set aside."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiosqlite

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.options import CachingOptions
from cacheproxy.errors import StoreError
from cacheproxy.ports import Candidate, ListedEntry, Recorder
from cacheproxy.store.batch import NewHead
from cacheproxy.store.codec import decode, encode
from cacheproxy.store.listing import PAGE_ROWS, Listing
from cacheproxy.store.memory import MemoryBody
from cacheproxy.store.reading import INLINE_BYTES, DiskBody, DiskReader
from cacheproxy.store.removed import Removed
from cacheproxy.store.schema import FILE_NAME, open_reader, open_writer, scalar, set_aside
from cacheproxy.store.space import WriterOptions
from cacheproxy.store.writer import Writer
from cacheproxy.tasks import TaskGroup

log = logging.getLogger("cacheproxy")

_LAST_BODY = (
    "SELECT MAX(IFNULL((SELECT MAX(body_id) FROM chunks), 0), IFNULL((SELECT MAX(body_id) FROM loose), 0),"
    " IFNULL((SELECT MAX(body_id) FROM entries), 0))"
)


class DiskTier:
    """Open with `open()`, close with `close()`."""

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
        self._removed = Removed()
        self._new_heads: dict[int, StoredResponse] = {}
        self._connections: list[aiosqlite.Connection] = []
        self._reader: DiskReader | None = None
        self._listing: Listing | None = None
        self._writing: asyncio.Task[None] | None = None
        self._is_recovering = False
        self.writer: Writer
        self.last_entry_id = 0
        self.last_body_id = 0

    # life

    async def open(self) -> None:
        """Open the file, making or replacing it where needed. Raises StoreError."""
        old = getattr(self, "writer", None)
        try:
            db = await open_writer(self.directory, self._options.disk_bytes)
            self._connections.append(db)
            for _ in range(2):
                self._connections.append(await open_reader(self.directory))
            self.last_entry_id = max(
                self.last_entry_id, int(await scalar(db, "SELECT MAX(entry_id) FROM entries") or 0)
            )
            self.last_body_id = max(self.last_body_id, int(await scalar(db, _LAST_BODY)))
        except (sqlite3.Error, OSError) as error:
            await self._close_connections()
            raise StoreError(f"{self.directory / FILE_NAME} cannot be opened: {error}") from error
        self._reader = DiskReader(self._connections[1], self._recorder, self._tasks, self._damaged)
        self._listing = Listing(self._connections[2])
        self.writer = Writer(db, self.directory, self._options, self._recorder, self._damaged, self._on_evicted)
        if old is not None:
            self.writer.space.pins, self.writer.space.writing = old.pins, old.writing
        self._writing = self._tasks.spawn("writer", self.writer.run())

    async def close(self) -> None:
        """Write what is queued, checkpoint, close."""
        await self._stop_writing()
        await self._tasks.close()
        await self._close_connections()

    async def _stop_writing(self) -> None:
        self.writer.stop()
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=10)

    async def _close_connections(self) -> None:
        self._reader = self._listing = None
        # Readers first: the last connection to close empties the write-ahead log.
        while self._connections:
            try:
                await self._connections.pop().close()
            except sqlite3.Error as error:
                log.warning("closing the store: %s", error)

    def _damaged(self) -> None:
        """The file is broken: set it aside and start anew, once at a time."""
        if not self._is_recovering:
            self._is_recovering = True
            self._tasks.spawn("recover", self._recover())

    async def _recover(self) -> None:
        await self._stop_writing()
        await self._close_connections()
        set_aside(self.directory, "it is damaged")
        try:
            await self.open()
        except StoreError as error:
            log.error("%s", error)
        finally:
            self._is_recovering = False

    def _reading(self) -> DiskReader:
        if self._reader is None:
            raise StoreError("the store is not open")
        return self._reader

    def _lister(self) -> Listing:
        if self._listing is None:
            raise StoreError("the store is not open")
        return self._listing

    # reading

    async def lookup(self, key: str) -> list[Candidate]:
        """The stored responses of `key`. Raises StoreError."""
        rows = await self._reading().rows_of(key)
        return [candidate for row in rows if (candidate := self._candidate(row)) is not None]

    def _candidate(self, row: Any) -> Candidate | None:
        key, entry_id, body_id, length, stale, head, head_is_whole, data, data_is_whole = row
        if self._removed.has(key, entry_id):
            return None
        try:
            if not head_is_whole:
                raise StoreError("a stored head is damaged")
            stored = self._new_heads.get(entry_id) or decode(
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
            if length > INLINE_BYTES or data is None or len(data) != length:
                return Candidate(stored, DiskBody(self, body_id, length), "disk")
            if not data_is_whole:
                raise StoreError("a stored body is damaged")
            return Candidate(stored, MemoryBody(bytes(data)), "disk")
        except StoreError as error:
            log.warning("%s: %s; it is dropped", key.partition("?")[0], error)
            self._recorder.store_failed("checksum")
            self.discard(entry_id)
            return None

    async def read_row(self, body_id: int, start: int) -> bytes:
        """The bytes from `start` to the end of its row. Raises StoreError where they are not whole."""
        return await self._reading().read_row(body_id, start)

    @property
    def pins(self) -> Counter[int]:
        """Bodies being read, and by how many: their rows stay."""
        return self.writer.pins

    def body_released(self) -> None:
        """A body is read no longer."""
        self.writer.body_released()

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

        new = NewHead(entry_id, stored.timing.response_time, stored.forced_stale, encode(stored))
        self.writer.update_head(new, settled)

    def is_removed(self, key: str, entry_id: int) -> bool:
        """Whether an entry was removed lately."""
        return self._removed.has(key, entry_id)

    def remove_key(self, key: str) -> None:
        """Remove what is stored under `key`; look-ups stop finding it at once."""
        bound = self.last_entry_id
        self.writer.remove_key(key, bound, self._removed.add_key(key, bound))

    def discard(self, entry_id: int) -> None:
        """Remove one entry; look-ups stop finding it at once."""
        _ = self._remove([entry_id])

    def _remove(self, entry_ids: list[int]) -> asyncio.Future[bool]:
        committed = self._removed.add_ids(entry_ids)
        done = self.writer.remove_ids(entry_ids)
        done.add_done_callback(lambda _: committed())
        return done

    async def remove(self, entry_ids: list[int]) -> None:
        """Remove entries, in transactions of bounded size. Raises StoreError."""
        for at in range(0, len(entry_ids), PAGE_ROWS):
            if not await self._remove(entry_ids[at : at + PAGE_ROWS]):
                raise StoreError("the store cannot be written")

    async def remove_all(self) -> int:
        """Remove everything stored until now; look-ups stop finding it at once. How many there were."""
        bound = self.last_entry_id
        self._removed.add_all(bound)
        total = 0
        while page := await self._lister().first_ids(bound):
            if not await self.writer.remove_ids(page):
                raise StoreError("the store cannot be written")
            total += len(page)
        return total

    async def mark_stale(self, entry_ids: list[int]) -> None:
        """Have entries validated before their next use. Raises StoreError."""
        if not await self.writer.mark_stale(entry_ids):
            raise StoreError("the store cannot be written")

    # for operators

    async def entries(self) -> AsyncIterator[ListedEntry]:
        """Every stored response, oldest first. Raises StoreError."""
        async for page in self._lister().entries():
            for entry in page:
                if not self._removed.has(entry.key, entry.entry_id):
                    yield entry

    async def ids_where(self, matches: Callable[[str], bool]) -> list[int]:
        """Ids of the entries whose key matches. Raises StoreError."""
        found: list[int] = []
        async for page in self._lister().keys():
            found += [
                entry_id for entry_id, key in page if matches(key) and not self._removed.has(key, entry_id)
            ]
        return found

    async def ids_of(self, keys: tuple[str, ...]) -> list[int]:
        """Ids of the entries under `keys`. Raises StoreError."""
        marks = ",".join("?" * len(keys))
        rows = await self._reading().select(f"SELECT entry_id, key FROM entries WHERE key IN ({marks})", keys)
        return [row[0] for row in rows if not self._removed.has(row[1], row[0])]

    async def usage(self) -> tuple[int, int, int]:
        """(bytes in use, stored responses, bytes of the file). Raises StoreError."""
        return await self._lister().usage()
