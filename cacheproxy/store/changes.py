"""Changes to what is stored on disk: at once for look-ups, in order for the file, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cacheproxy.caching import extents
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.known_bodies import BodyFacts, to_text
from cacheproxy.errors import StoreError
from cacheproxy.ports import Candidate
from cacheproxy.store.absent import Absent
from cacheproxy.store.arriving import Arriving
from cacheproxy.store.batch import ORDERS_AT_ONCE, EntryRow, Order, Row
from cacheproxy.store.codec import digest_key, encode, parts_text, variant_key
from cacheproxy.store.eviction import weight
from cacheproxy.store.ghosts import key_hash
from cacheproxy.store.ranking import Ranking
from cacheproxy.store.removed import Removed
from cacheproxy.store.schema import head_checksum
from cacheproxy.store.space import InUse
from cacheproxy.store.write_queue import WriteQueue

_REMOVE = "DELETE FROM entries WHERE entry_id = ?"
_MARK_STALE = "UPDATE entries SET stale = 1 WHERE entry_id = ?"
_NOTE_BODY = (
    "INSERT OR REPLACE INTO digests(digest, entry_id, facts)"
    " SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM entries WHERE entry_id = ?2)"
)
_UPDATE_HEAD = (
    "UPDATE entries SET stored_at = ?2, stale = ?3, head = ?4, parts = ?5, length = ?6,"
    " head_checksum = head_checksum(key, body_id, ?6, ?5, ?4) WHERE entry_id = ?1"
)


class Changes:
    """`writer` is asked for each time: it is another one once the file was replaced."""

    def __init__(
        self,
        removed: Removed,
        in_use: InUse,
        ranking: Callable[[], Ranking],
        writer: Callable[[], WriteQueue],
        last_entry_id: Callable[[], int],
        absent: Absent,
        arriving: Arriving,
    ) -> None:
        self._removed = removed
        self._in_use = in_use
        self._ranking = ranking
        self._writer = writer
        self._last_entry_id = last_entry_id
        self._absent = absent
        self._arriving = arriving

    def publish(
        self,
        stored: StoredResponse,
        held_bytes: int,
        settled: Callable[[], None],
        writer: WriteQueue | None,
        arriving: Candidate | None = None,
        done: asyncio.Future[bool] | None = None,
    ) -> None:
        """Make a response visible whose `held_bytes` are on their way; `done` is told whether it is.

        `arriving`: the same with its body, for look-ups until then.
        """
        head = encode(stored)
        size = len(head) + len(stored.key) + held_bytes

        self._absent.storing(stored.key)

        def tell(is_committed: bool) -> None:
            self._absent.settled(stored.key)
            if arriving is not None:
                self._arriving.settled(arriving)
                if not is_committed:
                    # A look-up under way has seen it, and nobody could remove any more what is nowhere.
                    self._removed.add_ids([stored.entry_id])()
            settled()
            if done is not None and not done.done():
                done.set_result(is_committed)

        length, parts = -1 if stored.length is None else stored.length, parts_text(stored)
        checksum = head_checksum(stored.key, stored.body_id, length, parts, head)
        assert checksum is not None
        entry = EntryRow(
            stored.entry_id,
            stored.key,
            key_hash(stored.key),
            variant_key(stored),
            stored.body_id,
            length,
            parts,
            size,
            weight(size),
            self._ranking().requests_of(stored.key),
            stored.overrides.pin,
            stored.timing.response_time,
            head,
            checksum,
            tell,
        )
        if arriving is not None:
            self._arriving.add(arriving)
        (writer or self._writer()).publish(entry)

    def put(self, candidate: Candidate, content: bytes) -> None:
        """Write a small response with its body; where the disk is behind, what it replaces goes all the same."""
        stored = candidate.stored
        self.replace_older(stored)
        writer = self._writer()
        if not writer.has_room:
            return
        in_use, body_id = self._in_use, stored.body_id
        if content:
            in_use.begin_writing(body_id)
            writer.add_row(Row(stored.entry_id, body_id, 0, content, _heedless))

        def settled() -> None:
            if content:
                in_use.end_writing(body_id)

        self.publish(stored, len(content), settled, writer, candidate)

    async def keep_part(self, stored: StoredResponse) -> bool:
        """Publish what is here of an incomplete response, or of one that is complete now."""
        if self.is_removed(stored):
            return False
        self.replace_older(stored)
        held_bytes = extents.size(stored.held) if stored.held is not None else stored.length or 0
        committed = self._removed.add_head(stored)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.publish(stored, held_bytes, _nothing, None, done=done)
        is_committed = await done
        committed()
        return is_committed and not self.is_removed(stored)

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
        self._writer().order(Order(_UPDATE_HEAD, [parameters], self._removed.add_head(stored)))

    async def note_body(self, entry_id: int, facts: BodyFacts) -> None:
        """Remember what a body that was published hashes to; where that fails, it is not known under others."""
        text = to_text(facts)
        rows = [(digest_key(digest), entry_id, text) for digest in facts.digests]
        await self._writer().order_and_tell(_NOTE_BODY, rows, _nothing)

    def replace_older(self, stored: StoredResponse) -> None:
        """Remove what `stored` takes the place of; look-ups stop finding it at once."""
        if stored.key in self._absent:
            return
        variant, bound = variant_key(stored), stored.entry_id - 1
        committed = self._removed.add_variant(stored.key, variant, bound)
        sql = (
            "DELETE FROM entries WHERE key_hash = key_hash(?1) AND key = ?1 AND variant = ?2 AND entry_id <= ?3"
        )
        self._writer().order(Order(sql, [(stored.key, variant, bound)], committed))

    def is_removed(self, stored: StoredResponse) -> bool:
        """Whether an entry was removed or replaced lately."""
        return self._removed.has(stored.key, stored.entry_id, variant_key(stored))

    def remove_key(self, key: str) -> None:
        """Remove what is stored under `key`; look-ups stop finding it at once."""
        bound = self._last_entry_id()
        sql = "DELETE FROM entries WHERE key_hash = key_hash(?1) AND key = ?1 AND entry_id <= ?2"
        self._writer().order(Order(sql, [(key, bound)], self._removed.add_key(key, bound)))

    def discard(self, entry_id: int) -> None:
        """Remove one entry; look-ups stop finding it at once."""
        self._writer().order(Order(_REMOVE, [(entry_id,)], self._removed.add_ids([entry_id])))

    def forget_all(self) -> int:
        self._removed.add_all(self._last_entry_id())
        return self._last_entry_id()

    async def remove(self, entry_ids: list[int]) -> None:
        """Remove entries, in transactions of bounded size. Raises StoreError."""
        for page in _pages(entry_ids):
            await self._have_done(_REMOVE, page, self._removed.add_ids(page))

    async def remove_all(self, first_ids: Callable[[int, int], Awaitable[list[int]]]) -> int:
        """Remove everything stored until now; look-ups stop finding it at once. How many there were."""
        bound = self.forget_all()
        # First what is queued: it may hold entries up to the bound.
        await self._have_done(_REMOVE, [0], _nothing)
        total = 0
        while page := await first_ids(bound, ORDERS_AT_ONCE):
            await self._have_done(_REMOVE, page, _nothing)
            total += len(page)
        return total

    async def mark_stale(self, entry_ids: list[int]) -> None:
        """Have entries validated before their next use. Raises StoreError."""
        for page in _pages(entry_ids):
            await self._have_done(_MARK_STALE, page, self._removed.add_stale(page))

    async def _have_done(self, sql: str, entry_ids: list[int], committed: Callable[[], None]) -> None:
        if not await self._writer().order_and_tell(sql, [(one,) for one in entry_ids], committed):
            raise StoreError("the store cannot be written")


def _pages(entry_ids: list[int]) -> list[list[int]]:
    return [entry_ids[at : at + ORDERS_AT_ONCE] for at in range(0, len(entry_ids), ORDERS_AT_ONCE)]


def _nothing() -> None:
    """What is hidden for good needs no forgetting."""


def _heedless(is_committed: bool) -> None:
    """The entry of a lost row is dropped with it, and tells."""
