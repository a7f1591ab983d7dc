"""The store as the engine sees it: memory before disk, every failure a miss."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.known_bodies import BodyFacts
from cacheproxy.errors import StoreError
from cacheproxy.http.digests import Digest
from cacheproxy.ports import Candidate, ListedEntry, Selector, Usage
from cacheproxy.store.batch import MAX_VARIANTS
from cacheproxy.store.body_writer import ROW_BYTES, TieredBodyWriter
from cacheproxy.store.disk import DiskTier
from cacheproxy.store.memory import MemoryBody, MemoryTier, weigh

log = logging.getLogger("cacheproxy")


def _without_disk(key: str) -> bool:
    return True


class TieredStore:
    """Memory in front of an optional disk tier."""

    def __init__(self, memory: MemoryTier, disk: DiskTier | None, max_object_bytes: int) -> None:
        self._memory = memory
        self.lookup_memory: Callable[[str], Sequence[Candidate]] = memory.find
        """The stored responses of a key in memory."""
        self.is_absent: Callable[[str], bool] = _without_disk if disk is None else disk.absent.__contains__
        """Whether it is known that the disk has nothing of a key."""
        self._disk = disk
        self._max_object_bytes = max_object_bytes
        self._last_entry_id = 0

    async def lookup(self, key: str) -> Sequence[Candidate]:
        """Memory's and the disk's, each once. Raises StoreError."""
        if self._disk is None or key in self._disk.absent:
            return self._memory.find(key)
        return self._together(self._disk, key, await self._disk.look_ups.lookup(key))

    def look_up(self, key: str, found: Callable[[Sequence[Candidate] | None], None]) -> None:
        """As `lookup`, without waiting: `found` is called later, with None where it failed."""
        if self._disk is None:
            asyncio.get_running_loop().call_soon(lambda: found(self._memory.find(key)))
            return
        disk = self._disk
        try:
            disk.look_ups.look_up(
                key, lambda some: found(None if some is None else self._together(disk, key, some))
            )
        except StoreError:
            asyncio.get_running_loop().call_soon(found, None)

    def find_at_once(self, key: str) -> Sequence[Candidate] | None:
        """The disk's, of what is not in memory; None where that would take too long."""
        if self._disk is None:
            return ()
        found = self._disk.look_ups.find_at_once(key)
        for candidate in found or ():
            self._promote(self._disk, candidate)
        return found

    def _together(self, disk: DiskTier, key: str, from_disk: Sequence[Candidate]) -> Sequence[Candidate]:
        # Only now: memory may have changed while the disk was asked.
        in_memory = [candidate for candidate in self._memory.find(key) if candidate.tier != "disk"]
        if not in_memory and len(from_disk) == 1:
            # The usual case, as below.
            self._promote(disk, from_disk[0])
            return from_disk
        known = {candidate.stored.entry_id for candidate in in_memory}
        added = [candidate for candidate in from_disk if candidate.stored.entry_id not in known]
        for candidate in added:
            self._promote(disk, candidate)
        found = sorted((*in_memory, *added), key=lambda one: one.stored.entry_id)
        return tuple(found[-MAX_VARIANTS:])

    def _promote(self, disk: DiskTier, candidate: Candidate) -> None:
        """Keep what was found on disk just now, or on its way there, as `Promotion` says."""
        memory, stored, body = self._memory, candidate.stored, candidate.body
        if isinstance(body, MemoryBody) and disk.promotion.is_worth(stored.entry_id, body.available):
            on_disk = disk.body_of(stored) if candidate.tier == "disk" else None
            memory.put(Candidate(stored, body, "memory"), on_disk)
        elif (
            candidate.tier == "disk"
            and not any(one.stored.entry_id == stored.entry_id for one in memory.find(stored.key))
            and disk.promotion.is_head_worth(stored.entry_id)
        ):
            memory.put(Candidate(stored, disk.body_of(stored), "disk", candidate.prepared))

    async def note_body(self, stored: StoredResponse, facts: BodyFacts) -> None:
        """Remember the digests of a body on disk."""
        if self._disk is not None:
            await self._disk.changes.note_body(stored.entry_id, facts)

    async def bodies_with(self, digest: Digest) -> Sequence[tuple[Candidate, BodyFacts]]:
        """Bodies on disk; memory does not take them in. Raises StoreError."""
        return await self._disk.bodies_with(digest) if self._disk is not None else ()

    def begin(
        self, stored: StoredResponse, length: int | None, *, start: int = 0, is_part: bool = False
    ) -> TieredBodyWriter | None:
        """Start storing a body of `length` bytes (None: unknown), or the part of one that begins at `start`."""
        limit = self._max_object_bytes if self._disk is not None else self._memory.object_bytes
        if (length is not None and length > limit) or (is_part and self._disk is None):
            return None
        place = (stored.entry_id, stored.body_id)
        if not stored.entry_id:
            new_id = self._next_entry_id()
            place = (new_id, new_id if self._disk is not None else 0)
            if self._disk is not None and not self._is_worth(self._disk, stored, length):
                # What is stored was replaced at its origin all the same.
                stored = stored.with_body(new_id, new_id, length)
                self._memory.replace_older(stored)
                self._disk.changes.replace_older(stored)
                return None
        return TieredBodyWriter(self._memory, self._disk, place, start, limit)

    @property
    def small_bytes(self) -> int:
        """What one row holds and memory may keep."""
        return min(self._memory.object_bytes, ROW_BYTES, self._max_object_bytes)

    def put(self, stored: StoredResponse, content: bytes) -> Candidate:
        """Store a small body at once: memory has it when this returns, the disk a moment later."""
        disk = self._disk
        is_worth = disk is not None and self._is_worth(disk, stored, len(content))
        new_id = self._next_entry_id()
        stored = stored.with_body(new_id, new_id if disk is not None else 0, len(content))
        candidate = Candidate(stored, MemoryBody(content), "memory")
        self._memory.replace_older(stored)
        self._memory.put(candidate)
        if disk is not None and is_worth:
            disk.changes.put(candidate, content)
        elif disk is not None:
            disk.changes.replace_older(stored)
        return candidate

    def _is_worth(self, disk: DiskTier, stored: StoredResponse, length: int | None) -> bool:
        # What takes the place of something, or is never evicted, is not asked what it is worth.
        return (
            stored.overrides.pin
            or bool(self._memory.find(stored.key))
            or disk.ranking.admits(stored.key, length or 0)
        )

    async def keep_part(self, stored: StoredResponse) -> Candidate | None:
        """Publish an incomplete response, or one that has just been completed; its rows are in the store."""
        if self._disk is None or not await self._disk.changes.keep_part(stored):
            return None
        candidate = Candidate(stored, self._disk.body_of(stored), "disk")
        self._memory.replace_older(stored)
        self._memory.put(candidate)
        return candidate

    def _next_entry_id(self) -> int:
        if self._disk is not None:
            return self._disk.next_entry_id()
        self._last_entry_id += 1
        return self._last_entry_id

    def touch(self, stored: StoredResponse, uses: int = 1) -> None:
        """Note uses in both tiers."""
        # Most that was read from disk is not in memory, and cachetools takes long to say so.
        if self._memory.find(stored.key):
            self._memory.touch(stored.entry_id)
        if self._disk is not None:
            self._disk.ranking.touches.add(stored.entry_id, uses)

    def note_request(self, key: str) -> None:
        """Count a request for what is not stored, or not yet."""
        if self._disk is not None:
            self._disk.ranking.note_request(key)

    def requests_for(self, stored: StoredResponse) -> int:
        """Those noted while it was not stored, or its uses since."""
        return self._disk.ranking.requests_for(stored.key, stored.entry_id) if self._disk is not None else 1

    def freshen(self, candidate: Candidate, stored: StoredResponse) -> Candidate:
        """New fields, same body."""
        disk, body = self._disk, candidate.body
        for one in self._memory.find(stored.key):
            if one.stored.entry_id != stored.entry_id:
                continue
            if isinstance(one.body, MemoryBody):
                body = one.body
                self._memory.put(Candidate(stored, body, "memory"))
            elif disk is not None:
                self._memory.put(Candidate(stored, disk.body_of(stored), "disk"))
        if disk is not None:
            disk.changes.update_head(stored)
        return Candidate(stored, body, candidate.tier)

    def discard(self, candidate: Candidate) -> None:
        """Drop one stored response."""
        self._memory.drop(candidate.stored.entry_id)
        if self._disk is not None:
            self._disk.changes.discard(candidate.stored.entry_id)

    def invalidate(self, key: str) -> None:
        """Drop everything under `key`."""
        self._memory.drop_key(key)
        if self._disk is not None:
            self._disk.changes.remove_key(key)

    async def invalidated(self) -> None:
        """Nobody else has copies."""

    async def purge(self, selector: Selector, *, dry_run: bool, soft: bool) -> int:
        """Remove (or mark stale) what `selector` means. Raises StoreError."""
        if selector.everything and not dry_run and not soft:
            return await self._purge_all()
        chosen = await self._select(selector)
        if dry_run or not chosen:
            return len(chosen)
        for candidate in list(self._memory):
            if candidate.stored.entry_id in chosen:
                self._memory.drop(candidate.stored.entry_id)
                if soft and self._disk is None:
                    self._memory.put(Candidate(candidate.stored.stale(), candidate.body, candidate.tier))
        if self._disk is not None:
            if soft:
                await self._disk.changes.mark_stale(list(chosen))
            else:
                await self._disk.changes.remove(list(chosen))
            # A look-up under way may have brought one back in the meantime.
            for entry_id in chosen:
                self._memory.drop(entry_id)
        return len(chosen)

    async def _purge_all(self) -> int:
        in_memory = len(self._memory)
        for candidate in list(self._memory):
            self._memory.drop(candidate.stored.entry_id)
        return await self._disk.remove_all() if self._disk is not None else in_memory

    async def _select(self, selector: Selector) -> set[int]:
        matches = selector.matches
        chosen = {candidate.stored.entry_id for candidate in self._memory if matches(candidate.stored.key)}
        if self._disk is not None:
            found = self._disk.ids_of(selector.urls) if selector.urls else self._disk.ids_where(matches)
            chosen.update(await found)
        return chosen

    async def entries(self, glob: str | None) -> AsyncIterator[ListedEntry]:
        """What is stored, oldest first, of the URLs that `glob` matches. Raises StoreError."""
        matches = Selector(glob=glob, everything=glob is None).matches
        if self._disk is None:
            for candidate in list(self._memory):
                if matches(candidate.stored.key):
                    yield _listed(candidate)
            return
        async for entry in self._disk.entries():
            if matches(entry.key):
                yield entry

    async def usage(self) -> Usage:
        """Sizes and counts of both tiers."""
        disk_bytes = disk_entries = file_bytes = 0
        if self._disk is not None:
            try:
                disk_bytes, disk_entries, file_bytes = await self._disk.usage()
            except StoreError:
                # The counters must still be seen while the file is being replaced.
                log.debug("the disk's usage is unknown", exc_info=True)
        return Usage(self._memory.bytes, len(self._memory), disk_bytes, disk_entries, file_bytes)

    async def close(self) -> None:
        """Write what is queued and close the file."""
        if self._disk is not None:
            await self._disk.close()


def _listed(candidate: Candidate) -> ListedEntry:
    stored = candidate.stored
    return ListedEntry(
        stored.entry_id,
        stored.key,
        stored.status,
        weigh(candidate),
        stored.timing.response_time,
        1,
        stored.fields.get("content-type") or "",
    )
