"""What is read from disk comes into memory: its head at once, a small body where there is room or it comes again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.http.ranges import Slice
from cacheproxy.ports import Candidate
from cacheproxy.store.at_once import Place
from cacheproxy.store.look_ups import LookUps
from cacheproxy.store.memory import MemoryBody, MemoryTier
from cacheproxy.store.reading import DiskBody, RowSource

_LEAST_READS = 64
_NEVER = -(1 << 62)


class Promotion:
    """Where there is no room, a body comes into memory at its second reading within as many readings as memory has
    entries. Otherwise whoever reads everything once would push out what is asked for again and again.
    """

    def __init__(self, memory: MemoryTier) -> None:
        self._memory = memory
        self._reads = 0
        # So many readings; what memory has changes slowly.
        self._while = _LEAST_READS

    def read(self, stored: StoredResponse, body: MemoryBody, last: int = _NEVER) -> int:
        """A small body has been read, the `last` time at that reading; the number of this one."""
        memory = self._memory
        self._reads = reads = self._reads + 1
        if not reads % _LEAST_READS:
            self._while = max(_LEAST_READS, memory.bodies)
        size = body.available
        if size <= memory.object_bytes and (reads - last <= self._while or memory.has_room(size)):
            memory.put(Candidate(stored, body, "memory"))
        return reads


class SmallBody(DiskBody):
    """One row on disk, or nothing, whose head is in memory."""

    __slots__ = ("_last_read", "_look_ups", "_place", "_promotion", "_stored")

    def __init__(
        self, source: RowSource, look_ups: LookUps, stored: StoredResponse, promotion: Promotion
    ) -> None:
        super().__init__(source, stored.body_id, stored.length or 0)
        self._look_ups = look_ups
        self._stored = stored
        self._promotion = promotion
        self._last_read = _NEVER
        self._place = Place(stored.body_id)

    def at_once(self) -> MemoryBody | None:
        """Read now; None where that would take too long or fails, and others will find out why."""
        content: bytes | None = b""
        if self._length:
            at_once = self._look_ups.at_once
            content = None if at_once is None else at_once.first_row(self._place)
        if content is None or len(content) != self._length:
            return None
        body = MemoryBody(content)
        self.was_read(body)
        return body

    async def read(self, part: Slice | None) -> AsyncGenerator[bytes, None]:
        """The bytes of `part`, by the thread."""
        async with aclosing(super().read(part)) as pieces:
            async for piece in pieces:
                if len(piece) == self._length:
                    self.was_read(MemoryBody(piece))
                yield piece

    def was_read(self, body: MemoryBody) -> None:
        """It came, this way or another."""
        self._last_read = self._promotion.read(self._stored, body, self._last_read)
