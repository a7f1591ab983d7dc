"""The disk tier: one SQLite file with one writer and two readers; failures raise StoreError, damage is set aside."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiosqlite

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.known_bodies import BodyFacts, from_text
from cacheproxy.caching.options import CachingOptions
from cacheproxy.errors import StoreError
from cacheproxy.http.digests import Digest
from cacheproxy.ports import Candidate, ListedEntry, Recorder
from cacheproxy.store.absent import Absent
from cacheproxy.store.arriving import Arriving
from cacheproxy.store.at_once import AtOnce
from cacheproxy.store.changes import Changes
from cacheproxy.store.codec import digest_key
from cacheproxy.store.ghosts import Ghosts, key_hash
from cacheproxy.store.listing import Listing
from cacheproxy.store.look_ups import LookUps
from cacheproxy.store.memory import MemoryTier
from cacheproxy.store.promotion import Promotion, SmallBody
from cacheproxy.store.ranking import Ranking
from cacheproxy.store.reading import INLINE_BYTES, DiskBody, DiskReader
from cacheproxy.store.removed import Removed
from cacheproxy.store.schema import (
    FILE_NAME,
    LISTING_CACHE_KIB,
    LOOK_UPS_CACHE_KIB,
    open_at_once,
    open_reader,
    open_writer,
    scalar,
    set_aside,
)
from cacheproxy.store.space import DiskOptions, InUse
from cacheproxy.store.write_queue import WriteQueue
from cacheproxy.store.writer import Writer
from cacheproxy.tasks import TaskGroup

log = logging.getLogger("cacheproxy")

# A body's id is that of the entry that it was first written for. Every MAX is one step in an index.
_LAST_ID = (
    "SELECT MAX(IFNULL((SELECT MAX(body_id) FROM chunks), 0), IFNULL((SELECT MAX(body_id) FROM loose), 0),"
    " IFNULL((SELECT MAX(entry_id) FROM entries), 0), IFNULL((SELECT MAX(entry_id) FROM ranks), 0))"
)

_DIGESTS = (
    "SELECT e.key, e.entry_id, d.facts FROM digests d JOIN entries e ON e.entry_id = d.entry_id"
    " WHERE d.digest = ? ORDER BY d.entry_id DESC LIMIT 4"
)
# Longer than it takes until what a worker that has died had sent is committed.
_LIST_EVERY_S = 2.0
_REOPEN_S = 30.0
_CLOSE_S = 10.0


class DiskTier:
    """Open with `open()`, close with `close()`. `memory` is in front of it."""

    def __init__(
        self,
        directory: Path,
        options: DiskOptions,
        caching: CachingOptions,
        recorder: Recorder,
        memory: MemoryTier,
        in_use: InUse | None = None,
    ) -> None:
        self.directory = directory
        self._options = options
        self._recorder = recorder
        self._on_evicted = memory.drop
        self.promotion = Promotion(memory)
        self._tasks = TaskGroup("disk")
        self._removed = Removed()
        self.absent = Absent()
        self.arriving = Arriving(options.queue_bytes)
        self.ranking = Ranking(0.0, Ghosts())
        self.in_use = InUse() if in_use is None else in_use
        self.changes = Changes(
            self._removed,
            self.in_use,
            lambda: self.ranking,
            lambda: self.writer,
            lambda: self._last_entry_id,
            self.absent,
            self.arriving,
        )
        self.look_ups = LookUps(
            caching,
            memory.find,
            self._removed,
            self.absent,
            self.arriving,
            recorder,
            lambda entry_id: self.changes.discard(entry_id),
            self.body_of,
        )
        self._connections: list[aiosqlite.Connection] = []
        self._at_once: AtOnce | None = None
        self._listing: Listing | None = None
        self._writing: asyncio.Task[None] | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._is_listing = False
        self._is_closed = False
        self.writer: WriteQueue
        self._last_entry_id = 0

    # life

    async def open(self) -> None:
        """Open the file, making or replacing it where needed. Raises StoreError."""
        try:
            db = await open_writer(self.directory, self._options.disk_bytes)
            self._connections.append(db)
            await self._open_readers()
            last_id = int(await scalar(db, _LAST_ID))
            page_bytes = int(await scalar(db, "PRAGMA page_size"))
            inflation = float(await scalar(db, "SELECT inflation FROM totals"))
            parts = [
                bytes(row[0]) for row in await db.execute_fetchall("SELECT data FROM ghosts ORDER BY part")
            ]
        except (sqlite3.Error, OSError, ValueError) as error:
            await self._close_connections()
            raise StoreError(f"{self.directory / FILE_NAME} cannot be opened: {error}") from error
        # Ids never come again, also not after the file was replaced.
        self._last_entry_id = max(self._last_entry_id, last_id)
        self.ranking = Ranking(inflation, Ghosts.from_parts(parts) if parts else self.ranking.ghosts)
        self._opened()
        self.writer = Writer(
            db,
            self.directory,
            self._options,
            self._recorder,
            self.in_use,
            self.ranking,
            page_bytes,
            self._damaged,
            self._on_evicted,
            self.changes.forget_all,
        )
        self._writing = self._tasks.spawn("writer", self.writer.run())
        self._keep_listed()

    async def _open_readers(self) -> None:
        for cache_kib in (LOOK_UPS_CACHE_KIB, LISTING_CACHE_KIB):
            self._connections.append(await open_reader(self.directory, cache_kib))
        own = await open_at_once(self.directory)
        loop = asyncio.get_running_loop()
        self._at_once = AtOnce(own, self._options.wait_s, loop.time, loop.call_soon)

    def _opened(self) -> None:
        """The readers, which were opened last, can be used."""
        look_ups, listing = self._connections[-2:]
        reader = DiskReader(look_ups, self._recorder, self._tasks, self._damaged)
        self.look_ups.opened(reader, self._at_once)
        self._listing = Listing(listing)

    def _keep_listed(self) -> None:
        if not self._is_listing:
            self._is_listing = True
            self._tasks.spawn("list keys", self._list_again_and_again())

    async def _list_again_and_again(self) -> None:
        """Know what is not on disk, soon after the start and whenever much has been stored since."""
        while True:
            await asyncio.sleep(_LIST_EVERY_S)
            if self.absent.needs_list:
                try:
                    await self.list_keys()
                except StoreError as error:
                    log.info("the keys on disk cannot be listed: %s", error)

    async def list_keys(self) -> None:
        """From now on, what was never stored is known to be absent. Raises StoreError."""
        listing = self._lister()
        _, entries, _ = await listing.usage()
        listed = self.absent.begin_list(entries)
        async for hashes in listing.key_hashes():
            listed.add_all(hashes)
        if listing is self._listing:
            self.absent.end_list(listed)

    async def close(self) -> None:
        """Write what is queued, checkpoint, close."""
        self._is_closed = True
        if self._recovery is not None:
            # A damaged file must not be opened again: what was removed since is still in it.
            await asyncio.wait([self._recovery], timeout=_CLOSE_S)
        await self._stop_writing()
        await self._tasks.close()
        await self._close_connections()

    async def _stop_writing(self) -> None:
        self.writer.stop()
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=_CLOSE_S)

    async def _close_connections(self) -> None:
        self.look_ups.closed()
        self._listing = None
        if self._at_once is not None:
            self._at_once.close()
            self._at_once = None
        # Readers first: the last connection to close empties the write-ahead log.
        while self._connections:
            try:
                await self._connections.pop().close()
            except sqlite3.Error as error:
                log.warning("closing the store: %s", error)

    def _damaged(self) -> None:
        """The file is broken: set it aside and start anew, once at a time."""
        if self._recovery is None and not self._is_closed:
            self._recovery = self._tasks.spawn("recover", self._recover())

    async def _recover(self) -> None:
        try:
            await self._stop_writing()
            await self._close_connections()
            set_aside(self.directory, "it is damaged")
            if not self._is_closed:
                await self.open()
        except (StoreError, OSError) as error:
            log.error("%s; the proxy goes on without its disk and tries again", error)
            asyncio.get_running_loop().call_later(_REOPEN_S, self._damaged)
        finally:
            self._recovery = None

    def _lister(self) -> Listing:
        if self._listing is None:
            raise StoreError("the store is not open")
        return self._listing

    # reading

    async def bodies_with(self, digest: Digest) -> list[tuple[Candidate, BodyFacts]]:
        """The stored responses of whose bodies this digest was noted. Raises StoreError."""
        found: list[tuple[Candidate, BodyFacts]] = []
        for key, entry_id, text in await self.look_ups.reader.select(_DIGESTS, (digest_key(digest),)):
            for candidate in await self.look_ups.lookup(key):
                if candidate.stored.entry_id == entry_id:
                    try:
                        found.append((candidate, from_text(text, (digest,))))
                    except (ValueError, TypeError) as error:
                        log.warning("what is noted of a body cannot be read: %s", error)
        return found

    async def read_row(self, body_id: int, start: int) -> bytes:
        """The bytes from `start` to the end of its row. Raises StoreError where they are not whole."""
        return await self.look_ups.reader.read_row(body_id, start)

    def pin(self, body_id: int) -> None:
        """Keep the rows of a body that is being read."""
        self.in_use.pin(body_id)

    def unpin(self, body_id: int) -> None:
        """A body is read no longer."""
        if self.in_use.unpin(body_id):
            self.writer.body_released()

    async def pinned(self, body_id: int) -> None:
        """Return once a body pinned just now cannot be reclaimed any more: its first bytes tell whether it was."""
        if body_id in self.in_use.going:
            await self.writer.quiet()

    def body_of(self, stored: StoredResponse) -> DiskBody:
        """The body on disk, as far as it is here."""
        if stored.held is None and stored.length is not None and stored.length <= INLINE_BYTES:
            return SmallBody(self, self.look_ups, stored, self.promotion)
        return DiskBody(self, stored.body_id, stored.length or 0)

    # changing

    def next_entry_id(self) -> int:
        """A new id, for an entry and its body; ids grow with time."""
        self._last_entry_id += 1
        return self._last_entry_id

    async def remove_all(self) -> int:
        """Remove everything stored until now; look-ups stop finding it at once. How many there were."""
        return await self.changes.remove_all(self._lister().first_ids)

    # for operators

    async def entries(self) -> AsyncIterator[ListedEntry]:
        """Every stored response, oldest first. Raises StoreError."""
        async for page in self._lister().entries():
            for entry in page:
                if not self._removed.has(entry.key, entry.entry_id):
                    yield entry

    async def ids_where(self, matches: Callable[[str], bool]) -> set[int]:
        """Ids of the entries whose key matches, also of those on their way. Raises StoreError."""
        found = self._arriving_ids(matches)
        async for page in self._lister().keys():
            found.update(
                entry_id
                for entry_id, key, variant in page
                if matches(key) and not self._removed.has(key, entry_id, variant)
            )
        return found

    def _arriving_ids(self, matches: Callable[[str], bool]) -> set[int]:
        return {
            one.stored.entry_id
            for one in self.arriving
            if matches(one.stored.key) and not self.changes.is_removed(one.stored)
        }

    async def ids_of(self, keys: tuple[str, ...]) -> set[int]:
        """Ids of the entries under `keys`, also of those on their way. Raises StoreError."""
        found = self._arriving_ids(keys.__contains__)
        marks = ",".join("?" * len(keys))
        sql = f"SELECT entry_id, key, variant FROM entries WHERE key_hash IN ({marks})"
        rows = await self.look_ups.reader.select(sql, [key_hash(key) for key in keys])
        found.update(
            entry_id
            for entry_id, key, variant in rows
            if key in keys and not self._removed.has(key, entry_id, variant)
        )
        return found

    async def usage(self) -> tuple[int, int, int]:
        """(bytes in use, stored responses, bytes of the file). Raises StoreError."""
        return await self._lister().usage()
