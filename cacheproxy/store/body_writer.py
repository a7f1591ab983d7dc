"""The store's end of a fetch: bytes in, rows of 256 KiB out, published as a whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.errors import StoreError
from cacheproxy.ports import Candidate
from cacheproxy.store.batch import Row
from cacheproxy.store.disk import DiskTier
from cacheproxy.store.memory import MemoryBody, MemoryTier
from cacheproxy.store.write_queue import WriteQueue

ROW_BYTES = 256 * 1024


def _nothing() -> None:
    """Nobody waits for progress."""


class TieredBodyWriter:
    """Writes to disk where there is one; small bodies go to memory as well when they are committed."""

    def __init__(
        self,
        memory: MemoryTier,
        disk: DiskTier | None,
        place: tuple[int, int],
        start: int,
        max_bytes: int,
    ) -> None:
        self._memory = memory
        self._disk = disk
        self.entry_id, self.body_id = place
        self._start = start
        self._max_bytes = max_bytes
        # The writer of this moment: after the file was replaced a body must not go on in the new one.
        self._writer = disk.writer if disk is not None else None
        self._pieces: list[bytes] = []
        self._held = 0
        self._received = 0
        self._first = 0
        # Rows that are cut but not committed; after a failure they stay for readers that lag behind.
        self._uncommitted: dict[int, bytes] = {}
        self._is_opened = False
        self._is_failed = False
        self._is_ended = False
        self._settled: asyncio.Future[None] | None = None
        self.on_progress: Callable[[], None] = _nothing

    @property
    def is_open(self) -> bool:
        """False once storing was given up."""
        return not self._is_failed and not self._is_ended

    @property
    def readable(self) -> int:
        """Bytes from 0 that `read_back` has: on disk, or on their way there."""
        return self._first

    async def write(self, data: bytes) -> None:
        """Take the next bytes; waits while the disk is behind."""
        if not self.is_open:
            return
        self._received += len(data)
        if self._received > self._max_bytes:
            self._fail()
            return
        writer = self._writer
        if writer is None:
            # Without a disk only the spool's own copy can become a stored body.
            if self._received > self._memory.object_bytes:
                self._fail()
            return
        self._pieces.append(data)
        self._held += len(data)
        while self._held >= ROW_BYTES:
            self._cut_row(writer, ROW_BYTES)
            if not await writer.room(ROW_BYTES):
                self._fail()
                return

    def _cut_row(self, writer: WriteQueue, size: int) -> None:
        joined = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        data, rest = (joined, b"") if len(joined) == size else (joined[:size], joined[size:])
        self._pieces = [rest] if rest else []
        self._held = len(rest)
        assert self._disk is not None
        if not self._is_opened:
            self._is_opened = True
            self._disk.in_use.begin_writing(self.body_id)
        first = self._first
        self._uncommitted[first] = data
        self._first = first + len(data)

        def settled(is_committed: bool) -> None:
            if is_committed:
                self._uncommitted.pop(first, None)
            else:
                self._fail()
            if self._settled is not None and not self._settled.done():
                self._settled.set_result(None)

        writer.add_row(Row(self.entry_id, self.body_id, self._start + first, data, settled))
        self.on_progress()

    def _fail(self) -> None:
        self._is_failed = True
        self._pieces = []
        self._held = 0
        self.on_progress()

    async def read_back(self, start: int) -> bytes:
        """Bytes from `start` to the end of its row. Raises StoreError."""
        first = start - start % ROW_BYTES
        data = self._uncommitted.get(first)
        if data is not None and start < first + len(data):
            return data[start - first :] if start > first else data
        if self._disk is None:
            raise StoreError("there is no disk tier")
        return await self._disk.read_row(self.body_id, self._start + start)

    def pin(self) -> None:
        """Keep the rows for a reader that lags behind; undo with `unpin`."""
        if self._disk is not None:
            self._disk.pin(self.body_id)

    def unpin(self) -> None:
        """A reader has gone."""
        if self._disk is not None:
            self._disk.unpin(self.body_id)

    async def commit(self, stored: StoredResponse, whole: bytes | None) -> Candidate | None:
        """Publish; memory first, so that the next request finds it, then the disk."""
        if self._is_ended:
            return None
        stored = stored.with_body(self.entry_id, self.body_id, self._received)
        in_memory: Candidate | None = None
        if whole is not None and len(whole) <= self._memory.object_bytes:
            in_memory = Candidate(stored, MemoryBody(whole), "memory")
            self._memory.replace_older(stored)
            self._memory.put(in_memory)
        if self._disk is None or not await self._finish_rows():
            self.abort()
            # What it replaces goes all the same, and must not come back once memory lets go of this.
            self._memory.replace_older(stored)
            if self._disk is not None:
                self._disk.changes.replace_older(stored)
            return in_memory
        if self._disk.changes.is_removed(stored):
            self._memory.drop(stored.entry_id)
            self.abort()
            return None
        self._is_ended = True
        self._disk.changes.replace_older(stored)
        changes = self._disk.changes
        if in_memory is not None:
            changes.publish(stored, self._received, self._release, self._writer, in_memory)
            return in_memory
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        changes.publish(stored, self._received, self._release, self._writer, done=done)
        if not await done or self._disk.changes.is_removed(stored):
            return None
        candidate = Candidate(stored, self._disk.body_of(stored), "disk")
        self._memory.replace_older(stored)
        self._memory.put(candidate)
        return candidate

    async def flush(self) -> int:
        """Have everything that was written so far in the store; how many bytes from the start that is.

        What is here can be published with `Store.keep_part`; until then and until `abort` it stays.
        """
        if self._disk is None or self._is_ended or not await self._finish_rows():
            return 0
        while self._uncommitted and self.is_open:
            self._settled = asyncio.get_running_loop().create_future()
            await self._settled
        return self._first if self.is_open else 0

    async def _finish_rows(self) -> bool:
        """Queue what is left; whether every row so far is on its way."""
        writer = self._writer
        if writer is None:
            return False
        if self.is_open and self._held:
            # A burst of small bodies must not outrun the disk.
            if not await writer.room(self._held):
                return False
            self._cut_row(writer, self._held)
        # A row may have failed while we waited.
        return self.is_open and await writer.room(0) and self.is_open

    def abort(self) -> None:
        """End; rows that nothing published names are reclaimed once nobody reads them."""
        if not self._is_ended:
            self._is_ended = True
            self._pieces = []
            self._release()

    def _release(self) -> None:
        if self._disk is not None and self._is_opened:
            self._disk.in_use.end_writing(self.body_id)
            self._disk.writer.body_released()
