"""What is read from disk comes into memory: its head at once, a small body where there is room or it comes again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.http.ranges import Slice
from cacheproxy.ports import Candidate
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

    def read(self, stored: StoredResponse, body: MemoryBody, last: int = _NEVER) -> int:
        """A small body has been read, the `last` time at that reading; the number of this one."""
        memory = self._memory
        self._reads = reads = self._reads + 1
        size = body.available
        if size <= memory.object_bytes and (
            reads - last <= _LEAST_READS or reads - last <= memory.bodies or memory.has_room(size)
        ):
            memory.put(Candidate(stored, body, "memory"))
        return reads


class SmallBody(DiskBody):
    """One row on disk, or nothing, whose head is in memory."""

    __slots__ = ("_last_read", "_look_ups", "_promotion", "_row", "_stored")

    def __init__(
        self, source: RowSource, look_ups: LookUps, stored: StoredResponse, promotion: Promotion
    ) -> None:
        super().__init__(source, stored.body_id, stored.length or 0)
        self._look_ups = look_ups
        self._stored = stored
        self._promotion = promotion
        self._last_read = _NEVER
        # Its number, once it is known.
        self._row = 0

    def at_once(self) -> MemoryBody | None:
        """Read now; None where that would take too long or fails, and others will find out why."""
        content = self._content() if self._length else b""
        if content is None or len(content) != self._length:
            return None
        body = MemoryBody(content)
        self.was_read(body)
        return body

    def _content(self) -> bytes | None:
        at_once = self._look_ups.at_once
        if at_once is None:
            return None
        if self._row and (content := at_once.same_row(self._body_id, self._row)) is not None:
            return content
        found = at_once.first_row(self._body_id)
        if found is None:
            return None
        content, self._row = found
        return content

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
