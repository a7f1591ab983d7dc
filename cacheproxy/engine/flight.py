"""One fetch that serves many, and how the direct path leaves it or its end to the ordinary one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cacheproxy.caching.combining import StorePart
from cacheproxy.caching.reuse import Forward, Validate
from cacheproxy.caching.storing import Store
from cacheproxy.engine.outcome import FlightOutcome, Freshened, Plan, Private, Restart, close_outcome
from cacheproxy.errors import CacheproxyError
from cacheproxy.ports import Candidate, UpstreamResponse
from cacheproxy.reasons import Reason

Judged = Store | StorePart | Private | Freshened


Listener = Callable[[FlightOutcome], None]

_MISS = Forward(Reason.URI_MISS)


class Flight:
    """One fetch. `outcome` is set when its head has been judged, in every case."""

    __slots__ = (
        "_future",
        "_listeners",
        "has_initiator",
        "is_doomed",
        "is_shareable",
        "key",
        "task",
        "waiters",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self._future: asyncio.Future[FlightOutcome] | None = None
        self.waiters = 0
        self.has_initiator = True
        self.is_doomed = False
        self.is_shareable = False
        self.task: asyncio.Task[None] | None = None
        self._listeners: dict[Listener, None] = {}

    @property
    def outcome(self) -> asyncio.Future[FlightOutcome]:
        """Made when it is first wanted: most fetches of the direct path are nobody else's business."""
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        return self._future

    async def wait(self) -> FlightOutcome:
        """The outcome, for somebody who did not start the flight."""
        self.waiters += 1
        try:
            return await asyncio.shield(self.outcome)
        finally:
            self.waiters -= 1
            self._abandon_if_unwanted()

    def tell(self, listener: Listener) -> None:
        """As `wait`, without a task: `listener` is called soon after the outcome is known."""
        self.waiters += 1
        self._listeners[listener] = None

    def leave(self, listener: Listener) -> None:
        """Wait no longer; what is known already may still be told."""
        if listener in self._listeners:
            del self._listeners[listener]
            self.waiters -= 1
            self._abandon_if_unwanted()

    async def lead(self) -> FlightOutcome:
        """The outcome, for the request that started it."""
        try:
            return await asyncio.shield(self.outcome)
        except BaseException:
            self.has_initiator = False
            if self.outcome.done() and not self.outcome.cancelled():
                await close_outcome(self.outcome.result())
            self._abandon_if_unwanted()
            raise

    def _abandon_if_unwanted(self) -> None:
        if not self.has_initiator and not self.waiters and not self.outcome.done() and self.task is not None:
            self.task.cancel()

    def settle(self, outcome: FlightOutcome) -> None:
        """Tell everybody, once."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)
            listeners, self._listeners = self._listeners, {}
            self.waiters -= len(listeners)
            for listener in listeners:
                # Whoever began it goes first; each in a turn of its own, so that none can stop the others.
                asyncio.get_running_loop().call_soon(listener, outcome)


class Settling(Protocol):
    """All flights."""

    def settle(self, flight: Flight, outcome: FlightOutcome) -> None:
        """Tell everybody who waits, once."""


@dataclass(slots=True)
class Begun:
    """A fetch that the direct path has begun and does not end: its judged response, or its failure.

    It was made for the reason of `decision`; `stale` is what it was to validate.
    """

    flights: Settling
    flight: Flight
    plan: Plan | None = None
    response: UpstreamResponse | None = None
    verdict: Judged | None = None
    error: CacheproxyError | None = None
    decision: Validate | Forward = _MISS
    stale: Candidate | None = None
    is_taken: bool = False

    def close(self) -> None:
        """Nobody goes on with it."""
        if not self.is_taken:
            self.is_taken = True
            if self.response is not None:
                self.response.close()
            self.flights.settle(self.flight, Restart(discard=False))


@dataclass(slots=True)
class Waited:
    """The direct path has noted the request and waited for another's flight; its failure is an answer too."""

    error: CacheproxyError | None

    def close(self) -> None:
        """Nothing is held."""
