"""The store of one worker among several: it stores, counts and purges what it owns, and keeps copies in memory.

A key has one owner. Only the owner fetches, stores, changes and removes what is under it, and only the owner reads
it from disk. Other workers may keep copies of small responses in their memory; the owner calls them back (`recall`)
whenever it changes something under the key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from cachetools import LRUCache

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.options import CachingOptions
from cacheproxy.errors import StoreError
from cacheproxy.ports import Candidate, ListedEntry, Selector
from cacheproxy.store.body_writer import TieredBodyWriter
from cacheproxy.store.codec import decode, encode
from cacheproxy.store.memory import MemoryBody, MemoryTier
from cacheproxy.store.remote_disk import BLOCK_BITS, RemoteDisk
from cacheproxy.store.tiered import TieredStore

_LENT_KEYS = 50_000
MAX_LENT_HEAD_BYTES = 12 * 1024


class _Lent(LRUCache[str, bool]):
    """Keys of which other workers may hold copies; what no longer fits is called back."""

    def __init__(self, recall: Callable[[str], None]) -> None:
        super().__init__(_LENT_KEYS)
        self._recall = recall

    def popitem(self) -> tuple[str, bool]:
        found = super().popitem()
        self._recall(found[0])
        return found


class OwnedStore(TieredStore):
    """`owns` tells this worker's keys. `recall` has the other workers drop their copies of a key, soon; `may_lend`
    says whether it can. `ask_owner` has the owner of a key invalidate it, soon. `is_done` waits until every worker has
    done what it was told before, and says whether that is sure.
    """

    def __init__(
        self,
        memory: MemoryTier,
        disk: RemoteDisk | None,
        max_object_bytes: int,
        block: int,
        owns: Callable[[str], bool],
        may_lend: Callable[[], bool],
        recall: Callable[[str], None],
        ask_owner: Callable[[str], None],
        is_done: Callable[[], Awaitable[bool]],
    ) -> None:
        super().__init__(memory, disk, max_object_bytes)
        self._last_entry_id = block << BLOCK_BITS
        self._owns = owns
        self._may_lend = may_lend
        self._send_recall = recall
        self._ask_owner = ask_owner
        self._is_done = is_done
        # What others were told so far, of that what they have surely done, and the last that was for an owner.
        self._told = self._done = self._told_owner = 0
        self._lent = _Lent(self._recall)
        # Grows whenever copies are dropped: what was asked for before must not become a copy after.
        self.drops = 0

    # as the owner

    def _recall(self, key: str) -> None:
        self._told += 1
        self._send_recall(key)

    def joined(self) -> None:
        """The others are told to drop what this worker, or its predecessor, has lent: it does not know what."""
        self._told += 1

    def _changes(self, key: str) -> None:
        if self._lent.pop(key, None) is not None:
            self._recall(key)

    def begin(
        self, stored: StoredResponse, length: int | None, *, start: int = 0, is_part: bool = False
    ) -> TieredBodyWriter | None:
        """As the tiered store's; what is under the key will change."""
        if not self._owns(stored.key):
            return None
        self._changes(stored.key)
        return super().begin(stored, length, start=start, is_part=is_part)

    def put(self, stored: StoredResponse, content: bytes) -> Candidate:
        """Store a small body at once."""
        self._changes(stored.key)
        return super().put(stored, content)

    def freshen(self, candidate: Candidate, stored: StoredResponse) -> Candidate:
        """New fields, same body."""
        self._changes(stored.key)
        return super().freshen(candidate, stored)

    def discard(self, candidate: Candidate) -> None:
        """Drop one stored response."""
        self._changes(candidate.stored.key)
        super().discard(candidate)

    def invalidate(self, key: str) -> None:
        """Drop everything under `key`, here or at its owner."""
        if self._owns(key):
            self._changes(key)
            super().invalidate(key)
        else:
            self.drop_copies(Selector(urls=(key,)))
            self._ask_owner(key)
            self._told += 1
            self._told_owner = self._told

    async def invalidated(self) -> None:
        """Wait for the other workers where they have not surely done what they were told."""
        told = self._told
        if self._done >= told:
            return
        # An owner that was told tells whoever else has a copy.
        rounds = 2 if self._told_owner > self._done else 1
        for _ in range(rounds):
            if not await self._is_done():
                # Whoever comes next must wait for it too.
                return
        self._done = max(self._done, told)

    def lend(self, key: str, content: bytes) -> tuple[int, bytes] | None:
        """What another worker needs to keep a copy: of the response under `key` whose body in memory is `content`."""
        if len(content) > self._memory.object_bytes or not self._owns(key) or not self._may_lend():
            return None
        for candidate in self._memory.find(key):
            if candidate.body.whole() is content and candidate.stored.held is None:
                head = encode(candidate.stored)
                if len(head) <= MAX_LENT_HEAD_BYTES and not candidate.stored.forced_stale:
                    self._lent[key] = True
                    return candidate.stored.entry_id, head
        return None

    async def _purge_all(self) -> int:
        chosen = await self._select(Selector(everything=True))
        for candidate in list(self._memory):
            self._memory.drop(candidate.stored.entry_id)
        if self._disk is not None:
            self._disk.changes.forget_all()
            await self._disk.changes.remove(list(chosen))
        return len(chosen)

    async def _select(self, selector: Selector) -> set[int]:
        matches = selector.matches

        def is_mine(key: str) -> bool:
            return matches(key) and self._owns(key)

        chosen = {one.stored.entry_id for one in self._memory if is_mine(one.stored.key)}
        if self._disk is not None:
            if selector.urls:
                mine = tuple(filter(self._owns, selector.urls))
                chosen.update(await self._disk.ids_of(mine) if mine else ())
            else:
                chosen.update(await self._disk.ids_where(is_mine))
        return chosen

    async def entries(self, glob: str | None) -> AsyncIterator[ListedEntry]:
        """What this worker owns, of the URLs that `glob` matches. Raises StoreError."""
        async for entry in super().entries(glob):
            if self._owns(entry.key):
                yield entry

    # as a holder of copies

    def keep_copy(
        self, key: str, entry_id: int, head: bytes, content: bytes, options: CachingOptions, drops: int
    ) -> None:
        """Keep a copy of what the owner answered with, unless copies were dropped since `drops`."""
        if drops != self.drops or len(content) > self._memory.object_bytes or not self._may_lend():
            return
        try:
            stored = decode(
                head,
                options,
                key=key,
                entry_id=entry_id,
                body_id=0,
                length=len(content),
                parts="",
                forced_stale=False,
            )
        except StoreError:
            return
        self._memory.put(Candidate(stored, MemoryBody(content), "memory"))

    def drop_copies(self, selector: Selector) -> None:
        """Forget the copies of others' responses that `selector` means."""
        if selector.urls:
            self.drops += 1
            for key in selector.urls:
                if not self._owns(key):
                    self._memory.drop_key(key)
        else:
            self.drop_copies_where(selector.matches)

    def drop_copies_where(self, matches: Callable[[str], bool]) -> None:
        """Forget the copies of others' responses whose key matches."""
        self.drops += 1
        for candidate in list(self._memory):
            key = candidate.stored.key
            if not self._owns(key) and matches(key):
                self._memory.drop(candidate.stored.entry_id)
