"""What the disk has under a key: its rows become candidates, but for what is removed, renewed or damaged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.options import CachingOptions
from cacheproxy.errors import StoreError
from cacheproxy.ports import BodySource, Candidate, Recorder
from cacheproxy.ports.storage import Prepared
from cacheproxy.store.absent import Absent
from cacheproxy.store.arriving import Arriving
from cacheproxy.store.at_once import AtOnce
from cacheproxy.store.codec import decode_row, variant_key
from cacheproxy.store.memory import MemoryBody
from cacheproxy.store.reading import DiskReader
from cacheproxy.store.removed import Removed
from cacheproxy.store.schema import row_checksum

log = logging.getLogger("cacheproxy")


class LookUps:
    """Nothing is found before `opened` and after `closed`. `known` tells what memory has of a key: those heads need not
    be decoded. `discard` is told of the ids of damaged entries; `body_of`
    gives the body of a response whose bytes did not come with its row.
    """

    def __init__(
        self,
        options: CachingOptions,
        known: Callable[[str], Sequence[Candidate]],
        removed: Removed,
        absent: Absent,
        arriving: Arriving,
        recorder: Recorder,
        discard: Callable[[int], None],
        body_of: Callable[[StoredResponse], BodySource],
    ) -> None:
        self._options = options
        self._known = known
        self._removed = removed
        self._absent = absent
        self._arriving = arriving
        self._recorder = recorder
        self._discard = discard
        self._body_of = body_of
        self._reader: DiskReader | None = None
        self.at_once: AtOnce | None = None

    def opened(self, reader: DiskReader, at_once: AtOnce | None) -> None:
        """The file can be read."""
        self._reader = reader
        self.at_once = at_once

    def closed(self) -> None:
        """The file is closed."""
        self._reader = self.at_once = None

    @property
    def reader(self) -> DiskReader:
        """Reads in a thread. Raises StoreError where the file is not open."""
        if self._reader is None:
            raise StoreError("the store is not open")
        return self._reader

    async def lookup(self, key: str) -> list[Candidate]:
        """The stored responses of `key`. Raises StoreError."""
        reader, began, arriving = self.reader, self._absent.ask(), self._arriving.of(key)
        rows: list[Any] | None = None
        try:
            rows = await reader.rows_of(key)
        finally:
            self._absent.answered(key, began, is_absent=rows == [])
        return self._candidates(key, rows, arriving)

    def look_up(self, key: str, found: Callable[[list[Candidate] | None], None]) -> None:
        """The same without waiting: `found` is called later, with None where it failed. Raises StoreError."""

        def answered(rows: list[Any] | StoreError) -> None:
            self._absent.answered(key, began, is_absent=rows == [])
            candidates: list[Candidate] | None = None
            try:
                candidates = None if isinstance(rows, StoreError) else self._candidates(key, rows, arriving)
            finally:
                # Whatever went wrong, and is logged by the loop: somebody waits.
                found(candidates)

        reader, began, arriving = self.reader, self._absent.ask(), self._arriving.of(key)
        reader.ask(key, answered)

    def find_at_once(self, key: str) -> list[Candidate] | None:
        """The same, now; None where it would take too long, or the file is not open."""
        rows = None if self.at_once is None else self.at_once.look_up(key)
        if rows is None:
            return None
        if not rows:
            self._absent.answered(key, self._absent.ask(), is_absent=True)
        return self._candidates(key, rows, self._arriving.of(key))

    def _candidates(self, key: str, rows: list[Any], arriving: Sequence[Candidate]) -> list[Candidate]:
        found = [candidate for row in rows if (candidate := self._candidate(row)) is not None]
        now = self._arriving.of(key)
        known = {candidate.stored.entry_id for candidate in found} if arriving or now else ()
        # Those that came to the disk while it was asked too: the answer may be from before.
        for one in now if arriving is now else dict.fromkeys((*arriving, *now)):
            stored = one.stored
            if stored.entry_id in known or self._removed.has(key, stored.entry_id, variant_key(stored)):
                continue
            current = self._current(stored)
            found.append(one if current is stored else Candidate(current, one.body, one.tier))
        return found

    def _decoded(self, entry_id: int, row: Any) -> tuple[StoredResponse, Prepared]:
        """The stored response, and what the hot path has made of it, which is worth as much. Raises StoreError."""
        for one in self._known(row[0]):
            if one.tier == "disk" and one.stored.entry_id == entry_id and one.stored.body_id == row[1]:
                return one.stored, one.prepared
        return decode_row(row, self._options), Prepared()

    def _current(self, stored: StoredResponse) -> StoredResponse:
        """With the head and the mark that it was given lately."""
        current = self._removed.current(stored.entry_id) or stored
        return current.stale() if self._removed.is_stale(stored.entry_id) else current

    def _candidate(self, row: Any) -> Candidate | None:
        key, body_id, length, parts = row[:4]
        entry_id, variant, data, checksum = row[7:]
        if self._removed.has(key, entry_id, variant):
            return None
        for one in self._known(key):
            if one.stored.entry_id == entry_id and one.stored.body_id == body_id and one.tier != "disk":
                # Memory has all of it.
                return one
        try:
            decoded, prepared = self._decoded(entry_id, row)
            stored = self._current(decoded)
            if stored is not decoded:
                prepared = Prepared()
            if length == 0 and not parts:
                return Candidate(stored, MemoryBody(b""), "disk")
            if data is None or len(data) != length:
                return Candidate(stored, self._body_of(stored), "disk")
            if row_checksum(body_id, 0, data) != checksum:
                raise StoreError("a stored body is damaged")
            return Candidate(stored, MemoryBody(data), "disk", prepared)
        except StoreError as error:
            log.warning("%s: %s; it is dropped", str(key).partition("?")[0], error)
            self._recorder.store_failed("checksum")
            self._discard(entry_id)
            return None
