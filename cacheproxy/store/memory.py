"""The memory tier: a byte-weighted LRU of heads, with the bodies that are small enough."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from operator import itemgetter

from cachetools import LRUCache

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.http.ranges import Slice
from cacheproxy.ports import BodySource, Candidate
from cacheproxy.store.batch import MAX_VARIANTS

# What Python spends on an entry beside its text: its objects, and what the hot path keeps with it. Measured:
# 15,000 entries of 1 KiB took 5.6 KB each, 7.6 KB once they had been hit.
_OVERHEAD_BYTES = 4096
_PIECE_BYTES = 256 * 1024
DEFAULT_HEADS_BYTES = 32 * 1024 * 1024
# Uses are noted up to a second late: as many entries as this are looked at for one that had none.
_MOST_SPARED = 64


class MemoryBody:
    """A body that is in memory."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def available(self) -> int:
        """Everything is here."""
        return len(self._data)

    def whole(self) -> bytes:
        """All bytes."""
        return self._data

    def at_once(self) -> MemoryBody:
        """As it is."""
        return self

    async def read(self, part: Slice | None) -> AsyncIterator[bytes]:
        """The bytes in pieces that a transport can take without a large copy."""
        start, end = (0, len(self._data)) if part is None else (part.start, part.end)
        view = memoryview(self._data)
        for at in range(start, end, _PIECE_BYTES):
            yield bytes(view[at : min(at + _PIECE_BYTES, end)])


def weigh(candidate: Candidate) -> int:
    """Bytes that an entry takes in memory, its body's only where that is in memory too."""
    stored = candidate.stored
    texts = stored.fields.texts
    text = len(stored.key) + 60 * len(texts) + sum(map(len, texts))
    body = candidate.body
    return _OVERHEAD_BYTES + text + (len(body.whole()) if isinstance(body, MemoryBody) else 0)


_Kept = tuple[int, Candidate, BodySource | None]
"""An entry with its body: its weight, and its body on disk where that is where it came from."""


class _Lru(LRUCache[int, _Kept]):
    """cachetools' LRU that tells its owner what it drops."""

    def __init__(self, tier: MemoryTier, limit_bytes: int) -> None:
        super().__init__(limit_bytes, getsizeof=itemgetter(0))
        self._tier = tier
        # Something had to go since anything was removed: the room that is left is not worth counting.
        self.is_full = False

    def popitem(self) -> tuple[int, _Kept]:
        for _ in range(min(_MOST_SPARED, len(self))):
            entry_id, kept = super().popitem()
            if not kept[1].prepared.is_in_use:
                break
            # As `touch` will do once its uses are noted.
            self[entry_id] = kept
        else:
            entry_id, kept = super().popitem()
        self.is_full = True
        _, candidate, on_disk = kept
        self._tier.dropped(candidate)
        if on_disk is not None:
            self._tier.put(Candidate(candidate.stored, on_disk, "disk"))
        return entry_id, kept


class MemoryTier:
    """Entries by id, found by key: up to `limit_bytes` of heads with their bodies, none of them above `object_bytes`,
    and up to `heads_bytes` of heads whose bodies are on disk.
    """

    def __init__(self, limit_bytes: int, heads_bytes: int = DEFAULT_HEADS_BYTES) -> None:
        self.object_bytes = limit_bytes // 64
        self._entries = _Lru(self, limit_bytes)
        # The one used longest ago first. cachetools takes five times as long, and most come here once.
        self._heads: OrderedDict[int, tuple[int, Candidate]] = OrderedDict()
        self._heads_bytes = 0
        self._heads_limit = heads_bytes
        self._by_key: dict[str, tuple[Candidate, ...]] = {}

    @property
    def bytes(self) -> int:
        """Bytes in use, by `weigh`."""
        return int(self._entries.currsize) + self._heads_bytes

    @property
    def bodies(self) -> int:
        """How many entries have their bodies here."""
        return len(self._entries)

    @property
    def heads(self) -> int:
        """How many entries have their heads here, and their bodies on disk."""
        return len(self._heads)

    def __len__(self) -> int:
        return len(self._entries) + len(self._heads)

    def __iter__(self) -> Iterator[Candidate]:
        return iter([candidate for group in self._by_key.values() for candidate in group])

    def find(self, key: str) -> tuple[Candidate, ...]:
        """The entries of `key`, without counting as a use."""
        return self._by_key.get(key, ())

    def touch(self, entry_id: int) -> None:
        """Make this the last to go."""
        if entry_id in self._heads:
            self._heads.move_to_end(entry_id)
        else:
            self._entries.get(entry_id)

    def has_room(self, body_bytes: int) -> bool:
        """Whether an entry with such a body would push nothing out."""
        if self._entries.is_full:
            return False
        return bool(self._entries.currsize + body_bytes + _OVERHEAD_BYTES * 3 // 2 <= self._entries.maxsize)

    @property
    def has_room_for_head(self) -> bool:
        """Whether an entry whose body is on disk would push nothing out, if its head is not long."""
        return self._heads_bytes + _OVERHEAD_BYTES * 3 // 2 <= self._heads_limit

    def put(self, candidate: Candidate, on_disk: BodySource | None = None) -> None:
        """Add or replace an entry; what is too large for the tier is left out.

        `on_disk` is where its body was read: its head stays when the body has to make room.
        """
        entry_id = candidate.stored.entry_id
        self.drop(entry_id)
        is_whole = isinstance(candidate.body, MemoryBody)
        limit = self._entries.maxsize if is_whole else self._heads_limit
        # First what costs nothing to know.
        if is_whole and candidate.body.available > limit:
            return
        weight = weigh(candidate)
        if weight > limit:
            return
        if is_whole:
            self._entries[entry_id] = (weight, candidate, on_disk)
        else:
            self._heads[entry_id] = (weight, candidate)
            self._heads_bytes += weight
            while self._heads_bytes > limit:
                _, (gone, oldest) = self._heads.popitem(last=False)
                self._heads_bytes -= gone
                self.dropped(oldest)
        group = (*self._by_key.get(candidate.stored.key, ()), candidate)
        self._by_key[candidate.stored.key] = group
        if len(group) > 1:
            for one in group:
                one.prepared.unlink()
        if len(group) > MAX_VARIANTS:
            self.drop(min(one.stored.entry_id for one in group))

    def drop(self, entry_id: int) -> None:
        """Remove an entry if it is here."""
        kept = self._entries.pop(entry_id, None)
        if kept is not None:
            self._entries.is_full = False
            self.dropped(kept[1])
        elif entry_id in self._heads:
            weight, candidate = self._heads.pop(entry_id)
            self._heads_bytes -= weight
            self.dropped(candidate)

    def drop_key(self, key: str) -> None:
        """Remove every entry of `key`."""
        for candidate in self._by_key.get(key, ()):
            self.drop(candidate.stored.entry_id)

    def replace_older(self, stored: StoredResponse) -> None:
        """Remove older entries of the same key and variant."""
        for candidate in self.find(stored.key):
            old = candidate.stored
            if (
                old.nominated == stored.nominated
                and old.variant == stored.variant
                and old.entry_id < stored.entry_id
            ):
                self.drop(old.entry_id)

    def dropped(self, candidate: Candidate) -> None:
        """Forget an entry that the LRU dropped."""
        candidate.prepared.clear()
        key, entry_id = candidate.stored.key, candidate.stored.entry_id
        group = tuple(one for one in self._by_key.get(key, ()) if one.stored.entry_id != entry_id)
        if group:
            self._by_key[key] = group
        else:
            self._by_key.pop(key, None)
