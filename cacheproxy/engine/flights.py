"""Flights: one fetch serves many. A fetch belongs to its flight, not to the request that caused it.

A flight first awaits the head (others who could use its result wait with it), then fills: from there on its
response is a candidate like any stored one, and whoever may reuse it follows its spool.
"""

from __future__ import annotations

from collections.abc import Callable

from cacheproxy.caching import combining, storing
from cacheproxy.caching.combining import StorePart
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.freshening import Update, may_update, merge
from cacheproxy.caching.storing import DoNotStore, Store
from cacheproxy.caching.validation import Freshen, Outcome, PassOn, Refetch, ServerFailure, judge
from cacheproxy.engine.assembled import AssembledBody
from cacheproxy.engine.filling import Fillings
from cacheproxy.engine.flight import Begun, Flight, Judged
from cacheproxy.engine.lately import Lately
from cacheproxy.engine.outcome import (
    Failed,
    Filling,
    FlightOutcome,
    Freshened,
    Plan,
    Private,
    task_name,
)
from cacheproxy.engine.parts import Parts
from cacheproxy.errors import CacheproxyError, UpstreamError
from cacheproxy.http.message import RequestHead
from cacheproxy.ports import Candidate, UpstreamResponse
from cacheproxy.reasons import Reason
from cacheproxy.tasks import TaskGroup


def _mark(plan: Plan) -> str:
    # That a part cannot be shared says nothing about the whole.
    return f"{plan.key} range" if "range" in plan.request.fields else plan.key


class Flights:
    """All flights under way, by key."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tasks = TaskGroup("flight")
        self._pending: dict[str, Flight] = {}
        # Those for which nobody waits: what becomes invalid meanwhile is not stored by them either.
        self._apart: dict[str, list[Flight]] = {}
        self.fillings = Fillings(parts, self._tasks)
        # Keys whose response turned out not to be shareable: nobody waits for those for a while.
        self._unshareable = Lately(parts.unshareable_keys, parts.unshareable_s, parts.monotonic)
        # Those that were stale again as soon as they were validated: each asks for himself, instead of one after another.
        self._stale_at_once = Lately(parts.unshareable_keys, parts.unshareable_s, parts.monotonic)

    def __len__(self) -> int:
        return len(self._tasks)

    def pending(self, key: str) -> Flight | None:
        """A flight for `key` whose head is awaited and may be shared."""
        return self._pending.get(key)

    def helps_others(self, key: str) -> bool:
        """Whether what is stored for `key` may be reused once it is validated, as far as is known."""
        return key not in self._stale_at_once

    def start(self, plan: Plan, *, shareable: bool) -> Flight:
        """Begin a fetch in its own task; while its head is awaited, others may wait if it is shareable."""
        flight = Flight(plan.key)
        flight.is_shareable = shareable
        if plan.unconditional is not None and not self.helps_others(plan.key):
            shareable = flight.is_shareable = False
        if shareable and plan.key not in self._pending and _mark(plan) not in self._unshareable:
            self._pending[plan.key] = flight
        else:
            self._apart.setdefault(plan.key, []).append(flight)
        flight.task = self._tasks.spawn(task_name(plan.key), self._run(flight, plan))
        return flight

    # fetches of the direct path

    def announce(self, key: str, *, shareable: bool = True) -> Flight:
        """A fetch of `key` begins without a task: others may wait until it is settled, if it is shareable."""
        flight = Flight(key)
        if shareable and (self._unshareable.is_empty or key not in self._unshareable):
            flight.is_shareable = True
            self._pending[key] = flight
        else:
            self._apart.setdefault(key, []).append(flight)
        return flight

    def settle(self, flight: Flight, outcome: FlightOutcome, mark: str | None = None) -> None:
        """The head of a flight is judged; `mark` is what is not waited for again where it is for one alone."""
        self.forget(flight)
        if flight.task is None and not flight.waiters:
            # A fetch of the direct path for which nobody waited.
            return
        # Only where somebody waited in vain: most that is not shared is asked for by one.
        if isinstance(outcome, Private) and flight.is_shareable and flight.waiters and mark is not None:
            self._unshareable.add(mark)
        elif isinstance(outcome, Freshened) and outcome.candidate.stored.lifetime.seconds <= 0 < flight.waiters:
            self._stale_at_once.add(flight.key)
        flight.settle(outcome)

    async def take_over(self, begun: Begun) -> FlightOutcome:
        """Go on with what the direct path has begun, for the request that it began it for."""
        self.carry_on(begun)
        return Failed(begun.error) if begun.error is not None else await begun.flight.lead()

    def carry_on(self, begun: Begun) -> None:
        """The same for those who wait for it."""
        begun.is_taken = True
        flight, plan = begun.flight, begun.plan
        if begun.error is not None:
            self.settle(flight, Failed(begun.error))
            return
        assert plan is not None
        flight.task = self._tasks.spawn(task_name(plan.key), self._run(flight, plan, begun))

    def adopt(self, plan: Plan, response: UpstreamResponse, verdict: Store) -> Filling:
        """Store a response that was fetched outside a flight (POST with explicit freshness)."""
        return self.fillings.start(plan, response, verdict)

    def invalidate(self, key: str) -> int:
        """What is being fetched for `key` now must be neither shared any further nor stored.

        How many responses that had begun to come are thus not stored.
        """
        flight = self._pending.pop(key, None)
        for one in ([] if flight is None else [flight]) + self._apart.pop(key, []):
            one.is_doomed = True
        return self.fillings.invalidate(key)

    def invalidate_where(self, matches: Callable[[str], bool]) -> int:
        """As `invalidate`, for every key that matches."""
        keys = {*self._pending, *self._apart, *self.fillings.keys}
        return sum(self.invalidate(key) for key in keys if matches(key))

    async def close(self, grace_s: float) -> None:
        """Let flights finish for `grace_s`, then cancel them."""
        await self._tasks.close(grace_s)
        await self.fillings.close()

    # the flight's task

    async def _run(self, flight: Flight, plan: Plan, begun: Begun | None = None) -> None:
        response: UpstreamResponse | None = None
        handed_over = False
        try:
            if begun is not None:
                response, verdict = begun.response, begun.verdict
                assert response is not None and verdict is not None
            else:
                response, verdict = await self._fetch_and_judge(flight, plan)
            if not isinstance(verdict, Store | StorePart):
                handed_over = isinstance(verdict, Private) and flight.has_initiator
                self.settle(flight, verdict, _mark(plan))
                return
            response = await self.fillings.known.instead(plan, response, verdict)
            handed_over = True
            outcome = self.fillings.start(
                plan, response, verdict, has_reader=flight.has_initiator, is_doomed=flight.is_doomed
            )
            self.settle(flight, outcome)
        except CacheproxyError as error:
            flight.settle(Failed(error))
        finally:
            self.forget(flight)
            if not flight.outcome.done():
                flight.settle(
                    Failed(
                        UpstreamError(
                            Reason.CONNECTION_TERMINATED, plan.outgoing.origin.host, "the fetch was given up"
                        )
                    )
                )
            if response is not None and not handed_over:
                response.close()

    def forget(self, flight: Flight) -> None:
        """Nobody waits for its head any more."""
        key, pending = flight.key, self._pending
        if key in pending and pending[key] is flight:
            del pending[key]
        elif (apart := self._apart.get(flight.key)) is not None and flight in apart:
            apart.remove(flight)
            if not apart:
                del self._apart[flight.key]

    async def _fetch_and_judge(self, flight: Flight, plan: Plan) -> tuple[UpstreamResponse, Judged]:
        response = await self._parts.upstream.fetch(plan.outgoing)
        if plan.unconditional is None:
            return response, self.storing(plan, response)
        outcome = judge(
            response.head,
            None if plan.chosen is None else plan.chosen.stored,
            [variant.stored for variant in plan.variants],
            plan.request.fields,
        )
        if isinstance(outcome, Refetch):
            response.close()
            plan.outgoing.fields = plan.unconditional
            plan.unconditional = None
            response = await self._parts.upstream.fetch(plan.outgoing)
            return response, self.storing(plan, response)
        return response, await self._judged(flight, plan, response, outcome)

    async def _judged(self, flight: Flight, plan: Plan, response: UpstreamResponse, outcome: Outcome) -> Judged:
        if isinstance(outcome, Freshen):
            await response.read()
            return self.freshened(flight, plan.request, self._candidate_of(plan, outcome.stored), response)
        if isinstance(outcome, PassOn | ServerFailure):
            return Private(response, Reason.PRECONDITION, plan.asked_for)
        return self.storing(plan, response)

    def freshened(
        self, flight: Flight, request: RequestHead, candidate: Candidate, response: UpstreamResponse
    ) -> Freshened:
        """What the 304 that answers `request` makes of a stored response, in the store too where it may."""
        merged = merge(candidate.stored, response.head, response.timing, self._parts.caching)
        update = may_update(request, response.head, is_private_connection=response.is_private_connection)
        if update is Update.DROP:
            self._parts.store.invalidate(flight.key)
            self._unshareable.add(flight.key)
        if isinstance(candidate.body, AssembledBody) or flight.is_doomed or update is not Update.APPLY:
            # Not committed yet, purged meanwhile, or not for others: use it, leave the store alone.
            return Freshened(Candidate(merged, candidate.body, candidate.tier), response.head)
        return Freshened(self._parts.store.freshen(candidate, merged), response.head)

    @staticmethod
    def _candidate_of(plan: Plan, stored: StoredResponse) -> Candidate:
        for candidate in (plan.chosen, *plan.variants):
            if candidate is not None and candidate.stored is stored:
                return candidate
        raise AssertionError("a validation freshens one of its candidates")

    def storing(self, plan: Plan, response: UpstreamResponse) -> Store | StorePart | Private:
        """What to do with the response to a request without conditions of ours."""
        if response.is_private_connection:
            # RFC 4559 §6: whoever authenticated the connection is the only one this is for.
            return Private(response, Reason.AUTHORIZATION, plan.asked_for)
        decide = combining.decide_part if response.head.status == 206 else storing.decide
        verdict = decide(
            plan.request, plan.asked, response.head, response.timing, self._parts.caching, plan.key
        )
        if isinstance(verdict, DoNotStore):
            return Private(response, verdict.reason, plan.asked_for)
        return verdict
