"""The disk tier: one SQLite file with one writer and two readers; failures raise StoreError, damage is set aside."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiosqlite

from cacheproxy.caching import extents
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.options import CachingOptions
from cacheproxy.errors import StoreError
from cacheproxy.ports import Candidate, ListedEntry, Recorder
from cacheproxy.store.batch import ORDERS_AT_ONCE, EntryRow, Order
from cacheproxy.store.codec import decode, encode, parts_text, variant_key
from cacheproxy.store.eviction import weight
from cacheproxy.store.listing import Listing
from cacheproxy.store.memory import MemoryBody
from cacheproxy.store.reading import DiskBody, DiskReader
from cacheproxy.store.removed import Removed
from cacheproxy.store.schema import FILE_NAME, open_reader, open_writer, scalar, set_aside
from cacheproxy.store.space import InUse, WriterOptions
from cacheproxy.store.writer import Writer
from cacheproxy.tasks import TaskGroup

log = logging.getLogger("cacheproxy")

_LAST_BODY = (
    "SELECT MAX(IFNULL((SELECT MAX(body_id) FROM chunks), 0), IFNULL((SELECT MAX(body_id) FROM loose), 0),"
    " IFNULL((SELECT MAX(body_id) FROM entries), 0))"
)

_REMOVE = "DELETE FROM entries WHERE entry_id = ?"
_MARK_STALE = "UPDATE entries SET stale = 1 WHERE entry_id = ?"
_UPDATE_HEAD = (
    "UPDATE entries SET stored_at = ?2, stale = ?3, head = ?4, parts = ?5, length = ?6,"
    " head_checksum = head_checksum(key, body_id, ?6, ?5, ?4) WHERE entry_id = ?1"
)
_REOPEN_S = 30.0


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
        self.in_use = InUse()
        self._connections: list[aiosqlite.Connection] = []
        self._reader: DiskReader | None = None
        self._listing: Listing | None = None
        self._writing: asyncio.Task[None] | None = None
        self._is_recovering = False
        self._is_closed = False
        self.writer: Writer
        self._last_entry_id = 0
        self._last_body_id = 0

    # life

    async def open(self) -> None:
        """Open the file, making or replacing it where needed. Raises StoreError."""
        try:
            db = await open_writer(self.directory, self._options.disk_bytes)
            self._connections.append(db)
            for _ in range(2):
                self._connections.append(await open_reader(self.directory))
            last_entry = int(await scalar(db, "SELECT MAX(entry_id) FROM entries") or 0)
            last_body = int(await scalar(db, _LAST_BODY))
            inflation = float(await scalar(db, "SELECT inflation FROM totals"))
        except (sqlite3.Error, OSError, ValueError) as error:
            await self._close_connections()
            raise StoreError(f"{self.directory / FILE_NAME} cannot be opened: {error}") from error
        # Ids never come again, also not after the file was replaced.
        self._last_entry_id = max(self._last_entry_id, last_entry)
        self._last_body_id = max(self._last_body_id, last_body)
        self._reader = DiskReader(self._connections[1], self._recorder, self._tasks, self._damaged)
        self._listing = Listing(self._connections[2])
        self.writer = Writer(
            db,
            self.directory,
            self._options,
            self._recorder,
            self.in_use,
            inflation,
            self._damaged,
            self._on_evicted,
            self._forget_all,
        )
        self._writing = self._tasks.spawn("writer", self.writer.run())

    async def close(self) -> None:
        """Write what is queued, checkpoint, close."""
        self._is_closed = True
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
        if not self._is_recovering and not self._is_closed:
            self._is_recovering = True
            self._tasks.spawn("recover", self._recover())

    async def _recover(self) -> None:
        try:
            await self._stop_writing()
            await self._close_connections()
            set_aside(self.directory, "it is damaged")
            await self.open()
        except (StoreError, OSError) as error:
            log.error("%s; the proxy goes on without its disk and tries again", error)
            asyncio.get_running_loop().call_later(_REOPEN_S, self._damaged)
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
        key, variant, entry_id, body_id, length, parts, stale, head, head_is_whole, data, data_is_whole = row
        if self._removed.has(key, entry_id, variant):
            return None
        try:
            if not head_is_whole:
                raise StoreError("a stored head is damaged")
            stored = self._removed.current(entry_id) or decode(
                head,
                self._caching,
                key=key,
                entry_id=entry_id,
                body_id=body_id,
                length=length,
                parts=parts,
                forced_stale=bool(stale),
            )
            if self._removed.is_stale(entry_id):
                stored = stored.stale()
            if length == 0 and stored.held is None:
                return Candidate(stored, MemoryBody(b""), "disk")
            if data is None or len(data) != length:
                return Candidate(stored, self.body_of(stored), "disk")
            if not data_is_whole:
                raise StoreError("a stored body is damaged")
            return Candidate(stored, MemoryBody(bytes(data)), "disk")
        except StoreError as error:
            log.warning("%s: %s; it is dropped", str(key).partition("?")[0], error)
            self._recorder.store_failed("checksum")
            self.discard(entry_id)
            return None

    async def read_row(self, body_id: int, start: int) -> bytes:
        """The bytes from `start` to the end of its row. Raises StoreError where they are not whole."""
        return await self._reading().read_row(body_id, start)

    def pin(self, body_id: int) -> None:
        """Keep the rows of a body that is being read."""
        self.in_use.pin(body_id)

    def unpin(self, body_id: int) -> None:
        """A body is read no longer."""
        if self.in_use.unpin(body_id):
            self.writer.body_released()

    def body_of(self, stored: StoredResponse) -> DiskBody:
        """The body on disk, as far as it is here."""
        return DiskBody(self, stored.body_id, stored.length or 0)

    # changing

    def next_entry_id(self) -> int:
        """A new id; ids grow with time."""
        self._last_entry_id += 1
        return self._last_entry_id

    def next_body_id(self) -> int:
        """A new id."""
        self._last_body_id += 1
        return self._last_body_id

    def publish(
        self, stored: StoredResponse, held_bytes: int, settled: Callable[[], None], writer: Writer | None
    ) -> asyncio.Future[bool]:
        """Make a response visible whose `held_bytes` are on their way; the future tells whether it is."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        head = encode(stored)
        size = len(head) + len(stored.key) + held_bytes

        def tell(is_committed: bool) -> None:
            settled()
            if not done.done():
                done.set_result(is_committed)

        entry = EntryRow(
            stored.entry_id,
            stored.key,
            variant_key(stored),
            stored.body_id,
            -1 if stored.length is None else stored.length,
            parts_text(stored),
            size,
            weight(size),
            stored.timing.response_time,
            head,
            tell,
        )
        (writer or self.writer).publish(entry)
        return done

    async def keep_part(self, stored: StoredResponse) -> bool:
        """Publish what is here of an incomplete response, or of one that is complete now."""
        if self.is_removed(stored):
            return False
        self.replace_older(stored)
        held_bytes = extents.size(stored.held) if stored.held is not None else stored.length or 0
        committed = self._removed.add_head(stored)
        done = await self.publish(stored, held_bytes, _nothing, None)
        committed()
        return done and not self.is_removed(stored)

    def update_head(self, stored: StoredResponse) -> None:
        """Replace an entry's fields; look-ups see the new ones at once."""
        parameters = (
            stored.entry_id,
            stored.timing.response_time,
            stored.forced_stale,
            encode(stored),
            parts_text(stored),
            -1 if stored.length is None else stored.length,
        )
        self.writer.order(Order(_UPDATE_HEAD, [parameters], self._removed.add_head(stored)))

    def replace_older(self, stored: StoredResponse) -> None:
        """Remove what `stored` takes the place of; look-ups stop finding it at once."""
        variant, bound = variant_key(stored), stored.entry_id - 1
        committed = self._removed.add_variant(stored.key, variant, bound)
        sql = "DELETE FROM entries WHERE key = ? AND variant = ? AND entry_id <= ?"
        self.writer.order(Order(sql, [(stored.key, variant, bound)], committed))

    def is_removed(self, stored: StoredResponse) -> bool:
        """Whether an entry was removed or replaced lately."""
        return self._removed.has(stored.key, stored.entry_id, variant_key(stored))

    def remove_key(self, key: str) -> None:
        """Remove what is stored under `key`; look-ups stop finding it at once."""
        bound = self._last_entry_id
        sql = "DELETE FROM entries WHERE key = ? AND entry_id <= ?"
        self.writer.order(Order(sql, [(key, bound)], self._removed.add_key(key, bound)))

    def discard(self, entry_id: int) -> None:
        """Remove one entry; look-ups stop finding it at once."""
        self.writer.order(Order(_REMOVE, [(entry_id,)], self._removed.add_ids([entry_id])))

    def _forget_all(self) -> int:
        self._removed.add_all(self._last_entry_id)
        return self._last_entry_id

    async def remove(self, entry_ids: list[int]) -> None:
        """Remove entries, in transactions of bounded size. Raises StoreError."""
        for page in _pages(entry_ids):
            await self._have_done(_REMOVE, page, self._removed.add_ids(page))

    async def remove_all(self) -> int:
        """Remove everything stored until now; look-ups stop finding it at once. How many there were."""
        bound = self._forget_all()
        # First what is queued: it may hold entries up to the bound.
        await self._have_done(_REMOVE, [0], _nothing)
        total = 0
        while page := await self._lister().first_ids(bound, ORDERS_AT_ONCE):
            await self._have_done(_REMOVE, page, _nothing)
            total += len(page)
        return total

    async def mark_stale(self, entry_ids: list[int]) -> None:
        """Have entries validated before their next use. Raises StoreError."""
        for page in _pages(entry_ids):
            await self._have_done(_MARK_STALE, page, self._removed.add_stale(page))

    async def _have_done(self, sql: str, entry_ids: list[int], committed: Callable[[], None]) -> None:
        if not await self.writer.order_and_tell(sql, [(one,) for one in entry_ids], committed):
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


def _pages(entry_ids: list[int]) -> list[list[int]]:
    return [entry_ids[at : at + ORDERS_AT_ONCE] for at in range(0, len(entry_ids), ORDERS_AT_ONCE)]


def _nothing() -> None:
    """What is hidden for good needs no forgetting."""
