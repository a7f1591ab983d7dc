"""What is read from disk comes into memory, its head and a small body, each where there is room or it is read again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.http.ranges import Slice
from cacheproxy.ports import Candidate
from cacheproxy.store.at_once import Place
from cacheproxy.store.look_ups import LookUps
from cacheproxy.store.memory import MemoryBody, MemoryTier
from cacheproxy.store.reading import DiskBody, RowSource

_LEAST = 64


class _ReadOnce:
    """What was read once within the last readings, `most()` of them or `_LEAST`."""

    def __init__(self, most: Callable[[], int]) -> None:
        # By id, the one that was read longest ago first.
        self._ids: OrderedDict[int, None] = OrderedDict()
        self._count = most
        self._most = _LEAST
        self._until_counted = 0

    def take(self, entry_id: int) -> bool:
        """Whether it is among them; it is forgotten then."""
        if entry_id in self._ids:
            del self._ids[entry_id]
            return True
        return False

    def add(self, entry_id: int) -> None:
        """It has been read."""
        ids = self._ids
        if len(ids) >= self._most:
            if self._until_counted:
                # What memory has changes slowly.
                self._until_counted -= 1
            else:
                self._most = max(_LEAST, self._count())
                self._until_counted = _LEAST
            while len(ids) >= self._most:
                ids.popitem(last=False)
        ids[entry_id] = None


class Promotion:
    """Where there is no room, a body comes into memory at its second reading within as many readings as memory has
    bodies, and a head likewise. Otherwise whoever reads everything once would push out what is asked for again and
    again.
    """

    def __init__(self, memory: MemoryTier) -> None:
        self._memory = memory
        self._bodies = _ReadOnce(lambda: memory.bodies)
        self._heads = _ReadOnce(lambda: memory.heads)

    def is_worth(self, entry_id: int, size: int) -> bool:
        """A body of `size` bytes has been read: whether it should come into memory now."""
        memory = self._memory
        if size > memory.object_bytes:
            return False
        if self._bodies.take(entry_id) or memory.has_room(size):
            return True
        self._bodies.add(entry_id)
        return False

    def is_head_worth(self, entry_id: int) -> bool:
        """A head has been read whose body stays on disk: whether it should come into memory now."""
        if self._heads.take(entry_id) or self._memory.has_room_for_head:
            return True
        self._heads.add(entry_id)
        return False

    def was_read(self, stored: StoredResponse, body: MemoryBody, on_disk: DiskBody) -> None:
        """The small body of `stored` has been read, and memory takes it where it is worth it, and has its head still."""
        # It may have been removed, or given a new head, while it was read.
        if self.is_worth(stored.entry_id, body.available) and any(
            one.stored is stored for one in self._memory.find(stored.key)
        ):
            self._memory.put(Candidate(stored, body, "memory"), on_disk)


class SmallBody(DiskBody):
    """One row on disk, or nothing, whose head is in memory."""

    __slots__ = ("_look_ups", "_place", "_promotion", "_stored")

    def __init__(
        self, source: RowSource, look_ups: LookUps, stored: StoredResponse, promotion: Promotion
    ) -> None:
        super().__init__(source, stored.body_id, stored.length or 0)
        self._look_ups = look_ups
        self._stored = stored
        self._promotion = promotion
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
        self._promotion.was_read(self._stored, body, self)
        return body

    async def read(self, part: Slice | None) -> AsyncGenerator[bytes, None]:
        """The bytes of `part`, by the thread."""
        async with aclosing(super().read(part)) as pieces:
            async for piece in pieces:
                if len(piece) == self._length:
                    self._promotion.was_read(self._stored, MemoryBody(piece), self)
                yield piece
