"""A representation that is being put together: what is stored of it, and the fetches that bring more.

What readers make of it is in `assembled`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from cacheproxy.caching import extents
from cacheproxy.caching.combining import range_validator
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.extents import Extents
from cacheproxy.caching.known_bodies import BodyFacts
from cacheproxy.engine.outcome import FlightOutcome, Plan
from cacheproxy.engine.spool import Spool, SpoolReader
from cacheproxy.http.digests import Verifier
from cacheproxy.http.ranges import Slice
from cacheproxy.ports import BodySource, Store


class Part:
    """One fetch: it brings bytes `start` to `end` (None: whatever comes)."""

    def __init__(self, start: int, end: int | None, spool: Spool, plan: Plan) -> None:
        self.start = start
        self.end = end
        self.spool = spool
        self._plan = plan
        # False for what only one user may see.
        self.is_shared = True
        self.task: asyncio.Task[None] | None = None
        # Whether somebody who has sent no head yet waits for what comes in place of the part.
        self.is_awaited = False
        # What the head promises of a whole body, and the hash that runs along.
        self.promised: tuple[BodyFacts, Verifier] | None = None
        # Done once its head was judged: None where it joins, else what came in place of the part.
        self.judged: asyncio.Future[FlightOutcome | None] = asyncio.get_running_loop().create_future()

    def requests(self, store: Store, stored: StoredResponse) -> int:
        """The requests for `stored`, of which it brings something; 0 where its own was for a part of it."""
        if not self._plan.is_for_whole:
            return 0
        replaced = self._plan.chosen
        return store.requests_for(stored) + (0 if replaced is None else store.requests_for(replaced.stored))

    @property
    def reached(self) -> int:
        """How far it has come."""
        return self.start + self.spool.received

    def is_within(self, spans: Iterable[tuple[int, int | None]]) -> bool:
        """Whether it brings any of these bytes."""
        return any(
            (end is None or self.start < end) and (self.end is None or start < self.end) for start, end in spans
        )

    def open(self, start: int, end: int | None) -> SpoolReader:
        """A reader of bytes `start` to `end`."""
        limit = self.end if end is None else end if self.end is None else min(end, self.end)
        return self.spool.open(start - self.start, None if limit is None else limit - self.start)


FetchPart = Callable[["Assembly", int, int | None], Part]
"""Starts the fetch of bytes from-to of an assembly."""


class Assembly:
    """`stored` is the response, `held` what of it the store has, `body` where that is read."""

    def __init__(
        self,
        key: str,
        stored: StoredResponse,
        body: BodySource | None,
        join_gap: int,
        on_lost: Callable[[Assembly], None],
    ) -> None:
        self.key = key
        self.stored = stored
        self.held: Extents = stored.held or ()
        self.body = body
        self.parts: list[Part] = []
        # Neither shared with newcomers nor stored any further.
        self.is_doomed = False
        # The origin has something else by now, or gives no parts: no gap can be fetched.
        self.is_obsolete = False
        # All of it is in the store under one roof: later parts have nothing to add.
        self.is_committed = False
        # One at a time publishes what it has brought.
        self.keeping = asyncio.Lock()
        self._join_gap = join_gap
        self._on_lost = on_lost

    @property
    def host(self) -> str:
        """The host that messages name."""
        return self.key.partition("://")[2].partition("/")[0]

    @property
    def is_resumable(self) -> bool:
        """Whether gaps may be fetched."""
        return not self.is_obsolete and range_validator(self.stored) is not None

    def lose(self) -> None:
        """The stored bytes cannot be read: what a reader still needs of them is fetched again."""
        self.held, self.body = (), None
        self._on_lost(self)

    @property
    def is_running(self) -> bool:
        """Whether a fetch adds to it."""
        return bool(self.parts)

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
                if part.spool.has_failed:
                    position = part.reached
                elif part.end is None:
                    return None
                else:
                    position = part.end
                continue
            until = self.held_until(position)
            if until == position:
                is_end = self.stored.length is not None and position >= self.stored.length
                return None if is_end else position
            position = until
        return None


def union(assembly: Assembly, part: Slice) -> Extents:
    """What the store has once `part` is there as well."""
    return extents.union(assembly.held, (part,))
