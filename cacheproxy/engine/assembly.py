"""A representation that is being put together: what is stored of it, and the fetches that bring more.

Readers see one body. At each position they follow a fetch that is there or nearly there, else read what is
stored, else have the gap fetched; a fetch that breaks off is resumed where it broke.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from cacheproxy.caching import extents
from cacheproxy.caching.combining import range_validator
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.extents import Extents
from cacheproxy.caching.known_bodies import BodyFacts
from cacheproxy.engine.outcome import FlightOutcome, Restart
from cacheproxy.engine.spool import Spool, SpoolReader
from cacheproxy.errors import UpstreamError
from cacheproxy.http.digests import Verifier
from cacheproxy.http.ranges import Slice
from cacheproxy.ports import BodySource, Candidate
from cacheproxy.reasons import Reason

_MAX_FAILURES = 3


class Part:
    """One fetch: it brings bytes `start` to `end` (None: whatever comes)."""

    def __init__(self, start: int, end: int | None, spool: Spool) -> None:
        self.start = start
        self.end = end
        self.spool = spool
        # False for what only one user may see.
        self.is_shared = True
        self.task: asyncio.Task[None] | None = None
        # Whether somebody who has sent no head yet waits for what comes in place of the part.
        self.is_awaited = False
        # What the head promises of a whole body, and the hash that runs along.
        self.promised: tuple[BodyFacts, Verifier] | None = None
        # Done once its head was judged: None where it joins, else what came in place of the part.
        self.judged: asyncio.Future[FlightOutcome | None] = asyncio.get_running_loop().create_future()

    @property
    def reached(self) -> int:
        """How far it has come."""
        return self.start + self.spool.received

    def open(self, start: int, end: int | None) -> SpoolReader:
        """A reader of bytes `start` to `end`."""
        limit = self.end if end is None else end if self.end is None else min(end, self.end)
        return self.spool.open(start - self.start, None if limit is None else limit - self.start)


FetchPart = Callable[["Assembly", int, int | None], Part]
"""Starts the fetch of bytes from-to of an assembly."""


class Assembly:
    """`stored` is the response, `held` what of it the store has, `body` where that is read."""

    def __init__(self, key: str, stored: StoredResponse, body: BodySource | None, join_gap: int) -> None:
        self.key = key
        self.stored = stored
        self.held: Extents = stored.held or ()
        self.body = body
        self.parts: list[Part] = []
        self.is_doomed = False
        self._join_gap = join_gap
        self._candidate: Candidate | None = None

    @property
    def is_resumable(self) -> bool:
        """Whether gaps may be fetched."""
        return range_validator(self.stored) is not None

    @property
    def is_running(self) -> bool:
        """Whether a fetch adds to it."""
        return bool(self.parts)

    @property
    def candidate(self) -> Candidate:
        """The response as look-ups find it."""
        if self._candidate is None or self._candidate.stored is not self.stored:
            self._candidate = Candidate(self.stored, AssembledBody(self, None), "flight")
        return self._candidate

    def can_serve(self) -> bool:
        """Whether somebody who comes now can have all of it."""
        if self.is_resumable:
            return True
        return any(
            part.start == 0 and part.is_shared and not part.spool.has_failed and part.spool.can_read_from(0)
            for part in self.parts
        )

    def part_at(self, position: int) -> Part | None:
        """A fetch that has `position`, or will have it soon."""
        for part in self.parts:
            if (
                part.is_shared
                and part.start <= position
                and (part.end is None or position < part.end)
                and position <= part.reached + self._join_gap
                and part.spool.can_read_from(position - part.start)
            ):
                return part
        return None

    def held_until(self, position: int) -> int:
        """The end of the stored bytes at `position`; `position` itself where there are none."""
        if self.body is not None:
            for part in self.held:
                if part.start <= position < part.end:
                    return part.end
        return position

    def gap_end(self, position: int, end: int | None) -> int | None:
        """Where a gap at `position` ends: at the next stored byte or running fetch, at `end` at the latest."""
        ends = [part.start for part in self.held if part.start > position]
        ends += [part.start for part in self.parts if part.is_shared and part.start > position]
        ends += [limit for limit in (end, self.stored.length) if limit is not None]
        return min(ends, default=None)

    def missing(self, start: int, end: int | None) -> int | None:
        """The first byte that neither the store nor a running fetch has or will have; None: there is none."""
        position = start
        while end is None or position < end:
            part = self.part_at(position)
            if part is not None:
                if part.end is None:
                    return None
                position = part.end
                continue
            until = self.held_until(position)
            if until == position:
                is_end = self.stored.length is not None and position >= self.stored.length
                return None if is_end else position
            position = until
        return None


class AssemblyReader:
    """One reader's way through an assembly. Close it."""

    def __init__(self, assembly: Assembly, start: int, end: int | None, fetch: FetchPart | None) -> None:
        self._assembly = assembly
        self.position = start
        self._end = end
        self._fetch = fetch
        self._source: AsyncIterator[bytes] | None = None
        # A reader that keeps a fetch for what comes later from being abandoned.
        self._ahead: tuple[int, SpoolReader] | None = None
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
                piece = await anext(self._source, b"")
            except UpstreamError:
                if not self._may_go_on():
                    raise
                await self._detach()
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
        if self._ahead is not None and self._ahead[0] == position:
            self._source, self._ahead = self._ahead[1], None
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
        return self._attach()

    def fetch(self, position: int) -> Part:
        """Have the gap at `position` fetched, and keep a reader on it."""
        assert self._fetch is not None
        part = self._fetch(self._assembly, position, self._assembly.gap_end(position, self._end))
        self._ahead = (position, part.open(position, self._end))
        if self._source is None and position == self.position:
            self._attach()
        return part

    async def _detach(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            await source.aclose()  # type: ignore[attr-defined]

    async def aclose(self) -> None:
        """Leave."""
        self._is_closed = True
        await self._detach()
        if self._ahead is not None:
            ahead, self._ahead = self._ahead[1], None
            await ahead.aclose()


def broken_off(assembly: Assembly) -> UpstreamError:
    """The error for readers of a body that cannot be completed."""
    host = assembly.key.partition("://")[2].partition("/")[0]
    return UpstreamError(Reason.CONNECTION_TERMINATED, host, "the body broke off", before_head=False)


class AssembledBody:
    """An assembly as one client reads it; `fetch` starts the fetches of gaps with its request."""

    __slots__ = ("_prepared", "assembly", "fetch")

    def __init__(self, assembly: Assembly, fetch: FetchPart | None) -> None:
        self.assembly = assembly
        self.fetch = fetch
        self._prepared: tuple[Slice | None, AssemblyReader] | None = None

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

    def read(self, part: Slice | None) -> AssemblyReader:
        """Follow it from the start of `part`."""
        if self._prepared is not None and self._prepared[0] == part:
            reader, self._prepared = self._prepared[1], None
            return reader
        return self._reader(part)

    def _reader(self, part: Slice | None) -> AssemblyReader:
        start, end = (0, self.assembly.stored.length) if part is None else (part.start, part.end)
        return AssemblyReader(self.assembly, start, end, self.fetch)

    def reaches(self, part: Slice | None) -> bool:
        """Whether the bytes of `part` are here or on their way."""
        start, end = (0, self.assembly.stored.length) if part is None else (part.start, part.end)
        return self.assembly.missing(start, end) is None

    async def prepare(self, part: Slice | None) -> FlightOutcome | None:
        """Have the first gap in `part` fetched, and wait until it is sure that it joins.

        None: the answer's head may go. Else what came in place of the gap: nothing of this body was used.
        """
        reader = self._reader(part)
        self._prepared = (part, reader)
        start, end = (0, self.assembly.stored.length) if part is None else (part.start, part.end)
        missing = self.assembly.missing(start, end)
        try:
            if missing is not None and self.fetch is not None:
                fetched = reader.fetch(missing)
                fetched.is_awaited = True
                return await asyncio.shield(fetched.judged)
            first = self.assembly.part_at(start)
            if first is not None and await asyncio.shield(first.judged) is not None:
                return Restart(discard=False)
            return None
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Give up what was prepared and not read."""
        if self._prepared is not None:
            reader, self._prepared = self._prepared[1], None
            with suppress(UpstreamError):
                await reader.aclose()


def union(assembly: Assembly, part: Slice) -> Extents:
    """What the store has once `part` is there as well."""
    return extents.union(assembly.held, (part,))
