"""The body of an assembly as one client reads it.

At each position a reader follows a fetch that is there or nearly there, else reads what is stored, else has the
gap fetched; a fetch that breaks off is resumed where it broke.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from cacheproxy.caching import extents
from cacheproxy.caching.extents import covers
from cacheproxy.engine.assembly import Assembly, FetchPart, Part
from cacheproxy.engine.outcome import FlightOutcome, Restart, close_outcome
from cacheproxy.engine.spool import SpoolReader
from cacheproxy.engine.streams import next_piece
from cacheproxy.errors import StoreError, UpstreamError
from cacheproxy.http.ranges import Slice
from cacheproxy.ports import Candidate
from cacheproxy.reasons import Reason

_MAX_FAILURES = 3


Span = tuple[int, int | None]
"""Bytes from (included) and to (excluded; None: the end)."""


class AssemblyReader:
    """One reader's way through an assembly. Close it."""

    def __init__(self, assembly: Assembly, start: int, end: int | None, fetch: FetchPart | None) -> None:
        self._assembly = assembly
        self.position = start
        self._end = end
        self._fetch = fetch
        self._source: AsyncIterator[bytes] | None = None
        # Readers, by position, that keep fetches for what comes later from being abandoned.
        self._ahead: dict[int, SpoolReader] = {}
        self._failures = 0
        self._is_closed = False
        self._attach()

    def __aiter__(self) -> AssemblyReader:
        return self

    async def __anext__(self) -> bytes:
        while not self._is_closed and (self._end is None or self.position < self._end):
            if self._source is None and not self._connect():
                break
            assert self._source is not None
            try:
                piece = await next_piece(self._source)
            except (UpstreamError, StoreError) as error:
                if not self._may_go_on():
                    raise
                await self._detach()
                if isinstance(error, StoreError):
                    # Damaged, evicted or purged meanwhile.
                    self._assembly.lose()
                continue
            if not piece:
                await self._detach()
                if self._end is None and self._is_at_end():
                    break
                self._failures += 1
                continue
            self.position += len(piece)
            self._failures = 0
            return piece
        raise StopAsyncIteration

    def _is_at_end(self) -> bool:
        length = self._assembly.stored.length
        return length is None or self.position >= length

    def _may_go_on(self) -> bool:
        self._failures += 1
        return self._failures <= _MAX_FAILURES and self._fetch is not None and self._assembly.is_resumable

    def _attach(self) -> bool:
        position, end = self.position, self._end
        ahead = self._ahead.pop(position, None)
        if ahead is not None:
            ahead.is_parked = False
            self._source = ahead
            return True
        part = self._assembly.part_at(position)
        if part is not None:
            self._source = part.open(position, end)
            return True
        until = self._assembly.held_until(position)
        if until == position:
            return False
        assert self._assembly.body is not None
        self._source = self._assembly.body.read(Slice(position, until if end is None else min(until, end)))
        return True

    def _connect(self) -> bool:
        """Find a source for the next byte, or have it fetched; False at the end of an unknown length."""
        if self._attach():
            return True
        if self._end is None and self._assembly.stored.length is not None and self._is_at_end():
            return False
        if self._fetch is None or not self._assembly.is_resumable or self._failures > _MAX_FAILURES:
            raise broken_off(self._assembly)
        self.fetch(self.position)
        return self._source is not None

    def fetch(self, position: int) -> Part:
        """Have the gap at `position` fetched, and keep a reader on it."""
        assert self._fetch is not None
        part = self._fetch(self._assembly, position, self._assembly.gap_end(position, self._end))
        reader = self._ahead[position] = part.open(position, self._end)
        reader.is_parked = True
        if self._source is None and position == self.position:
            self._attach()
        return part

    def limit(self, end: int | None) -> None:
        """Set the end, which may have been unknown at first."""
        self._end = end

    async def _detach(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            await source.aclose()  # type: ignore[attr-defined]
        await self._close_ahead(self.position)

    async def _close_ahead(self, before: int | None = None) -> None:
        """Close the readers that wait ahead, or those that were passed by on another way."""
        for position in [one for one in self._ahead if before is None or one < before]:
            await self._ahead.pop(position).aclose()

    async def aclose(self) -> None:
        """Leave."""
        self._is_closed = True
        await self._detach()
        await self._close_ahead()


def broken_off(assembly: Assembly) -> UpstreamError:
    """The error for readers of a body that cannot be completed."""
    return UpstreamError(Reason.CONNECTION_TERMINATED, assembly.host, "the body broke off", before_head=False)


class AssembledBody:
    """An assembly as one client reads it; `fetch` starts the fetches of gaps with its request."""

    __slots__ = ("_prepared", "assembly", "fetch")

    def __init__(self, assembly: Assembly, fetch: FetchPart | None) -> None:
        self.assembly = assembly
        self.fetch = fetch
        self._prepared: AssemblyReader | None = None

    @property
    def available(self) -> int:
        """Bytes from 0 that can be read without waiting."""
        position = 0
        while True:
            part = self.assembly.part_at(position)
            reached = max(part.reached if part is not None else 0, self.assembly.held_until(position))
            if reached <= position:
                return position
            position = reached

    def whole(self) -> None:
        """Never in one piece."""
        return

    def at_once(self) -> None:
        """It is still arriving."""
        return

    def read(self, part: Slice | None) -> AssemblyReader:
        """Follow it from the start of `part`."""
        start, end = (0, self.assembly.stored.length) if part is None else (part.start, part.end)
        if self._prepared is not None and self._prepared.position == start:
            reader, self._prepared = self._prepared, None
            reader.limit(end)
            return reader
        return AssemblyReader(self.assembly, start, end, self.fetch)

    def reaches(self, wanted: Sequence[Span]) -> bool:
        """Whether all these bytes are here or on their way."""
        return all(self.assembly.missing(start, end) is None for start, end in wanted)

    def surely_has(self, part: Slice) -> bool:
        """Whether these bytes exist: stored, or announced by a fetch that joins."""
        announced = [
            Slice(one.start, one.end)
            for one in self.assembly.parts
            if one.end is not None and one.is_shared and one.judged.done() and not one.spool.has_failed
        ]
        return covers(extents.union(self.assembly.held, announced), part)

    async def prepare(self, wanted: Sequence[Span]) -> FlightOutcome | None:
        """Have the first gap fetched, and wait until it is sure that it joins.

        None: the answer's head may go. Else what came in place of the gap: nothing of this body was used.
        """
        for start, end in wanted:
            missing = self.assembly.missing(start, end)
            if missing is not None:
                if self.fetch is None:
                    return Restart(discard=True)
                reader = self._prepare(start, end)
                return await self._judged(reader.fetch(missing))
        if wanted:
            self._prepare(*wanted[0])
            try:
                # Others have asked for what is missing: it must be sure that this joins.
                for part in [one for one in self.assembly.parts if not one.judged.done()]:
                    if part.is_within(wanted) and await asyncio.shield(part.judged) is not None:
                        return Restart(discard=False)
            except BaseException:
                await self.aclose()
                raise
        return None

    def _prepare(self, start: int, end: int | None) -> AssemblyReader:
        # A reader from now on, so that the fetch is not given up meanwhile.
        self._prepared = AssemblyReader(self.assembly, start, end, self.fetch)
        return self._prepared

    async def _judged(self, fetched: Part) -> FlightOutcome | None:
        fetched.is_awaited = True
        try:
            return await asyncio.shield(fetched.judged)
        except BaseException:
            fetched.is_awaited = False
            await self.aclose()
            if fetched.judged.done() and (outcome := fetched.judged.result()) is not None:
                await close_outcome(outcome)
            raise

    async def aclose(self) -> None:
        """Give up what was prepared and not read."""
        if self._prepared is not None:
            reader, self._prepared = self._prepared, None
            with suppress(UpstreamError):
                await reader.aclose()


def as_candidate(assembly: Assembly) -> Candidate:
    """An assembly as look-ups find it."""
    return Candidate(assembly.stored, AssembledBody(assembly, None), "flight")
