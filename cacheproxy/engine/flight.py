"""Flights: one fetch serves many. A fetch belongs to its flight, not to the request that caused it.

A flight first awaits the head (others who could use its result wait with it), then fills: from there on its
response is a candidate like any stored one, and whoever may reuse it follows its spool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container

from cachetools import TTLCache

from cacheproxy.caching import storing
from cacheproxy.caching.abandonment import worth_finishing
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.freshening import Update, may_update, merge
from cacheproxy.caching.storing import DoNotStore, Store
from cacheproxy.caching.validation import Freshen, Outcome, PassOn, Refetch, ServerFailure, judge
from cacheproxy.engine.outcome import Failed, Filling, FlightOutcome, Freshened, Plan, Private, close_outcome
from cacheproxy.engine.parts import Parts
from cacheproxy.engine.spool import Spool, SpoolBody
from cacheproxy.errors import CacheproxyError, ClientGone, UpstreamError
from cacheproxy.ports import BodyWriter, Candidate, UpstreamResponse
from cacheproxy.reasons import Reason
from cacheproxy.tasks import TaskGroup


class Flight:
    """One fetch. `outcome` is set when its head has been judged, in every case."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.outcome: asyncio.Future[FlightOutcome] = asyncio.get_running_loop().create_future()
        self.waiters = 0
        self.has_initiator = True
        self.is_doomed = False
        self.is_shareable = False
        self.candidate: Candidate | None = None
        self.spool: Spool | None = None
        self.task: asyncio.Task[None] | None = None

    async def wait(self) -> FlightOutcome:
        """The outcome, for somebody who did not start the flight."""
        self.waiters += 1
        try:
            return await asyncio.shield(self.outcome)
        finally:
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


def _task_name(plan: Plan) -> str:
    # Shows in the log when the task fails, so without the query, which may hold secrets.
    return plan.key.partition("?")[0]


class Flights:
    """All flights under way, by key."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tasks = TaskGroup("flight")
        self._pending: dict[str, Flight] = {}
        self._filling: dict[str, list[Flight]] = {}
        # Keys whose response turned out not to be shareable: nobody waits for those for a while.
        self._unshareable: TTLCache[str, Reason] = TTLCache(
            parts.unshareable_keys, parts.unshareable_s, timer=parts.monotonic
        )

    def __len__(self) -> int:
        return len(self._tasks)

    def pending(self, key: str) -> Flight | None:
        """A flight for `key` whose head is awaited and may be shared."""
        return self._pending.get(key)

    def candidates(self, key: str) -> list[Candidate]:
        """Responses of `key` that are filling and can be read from byte 0."""
        return [
            flight.candidate
            for flight in self._filling.get(key, ())
            if flight.candidate is not None and flight.spool is not None and flight.spool.can_read_from(0)
        ]

    @property
    def filling(self) -> Container[str]:
        """The keys of which a response is being received now, kept up to date."""
        return self._filling

    def start(self, plan: Plan, *, shareable: bool) -> Flight:
        """Begin a fetch in its own task; while its head is awaited, others may wait if it is shareable."""
        flight = Flight(plan)
        flight.is_shareable = shareable
        if shareable and plan.key not in self._pending and plan.key not in self._unshareable:
            self._pending[plan.key] = flight
        flight.task = self._tasks.spawn(_task_name(plan), self._run(flight))
        return flight

    def adopt(self, plan: Plan, response: UpstreamResponse, verdict: Store) -> Filling:
        """Store a response that was fetched outside a flight (POST with explicit freshness)."""
        flight = Flight(plan)
        outcome, writer = self._begin_filling(flight, response, verdict)
        flight.settle(outcome)
        flight.task = self._tasks.spawn(_task_name(plan), self._fill(flight, response, writer))
        return outcome

    def invalidate(self, key: str) -> None:
        """What is being fetched for `key` now must be neither shared any further nor stored."""
        flight = self._pending.pop(key, None)
        if flight is not None:
            flight.is_doomed = True
        for filling in self._filling.pop(key, ()):
            filling.is_doomed = True

    def invalidate_all(self) -> None:
        """As `invalidate`, for every key."""
        for key in [*self._pending, *self._filling]:
            self.invalidate(key)

    async def close(self, grace_s: float) -> None:
        """Let flights finish for `grace_s`, then cancel them."""
        await self._tasks.close(grace_s)

    # the flight's task

    async def _run(self, flight: Flight) -> None:
        plan = flight.plan
        response: UpstreamResponse | None = None
        handed_over = False
        try:
            response, verdict = await self._fetch_and_judge(flight)
            if not isinstance(verdict, Store):
                flight.settle(verdict)
                handed_over = isinstance(verdict, Private) and flight.has_initiator
                if isinstance(verdict, Private) and flight.is_shareable:
                    self._unshareable[plan.key] = verdict.reason
                return
            outcome, writer = self._begin_filling(flight, response, verdict)
            self._forget_pending(flight)
            flight.settle(outcome)
            handed_over = True
            await self._fill(flight, response, writer)
        except CacheproxyError as error:
            flight.settle(Failed(error))
        finally:
            self._forget_pending(flight)
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

    def _forget_pending(self, flight: Flight) -> None:
        if self._pending.get(flight.plan.key) is flight:
            del self._pending[flight.plan.key]

    async def _fetch_and_judge(self, flight: Flight) -> tuple[UpstreamResponse, Store | Private | Freshened]:
        plan = flight.plan
        response = await self._parts.upstream.fetch(plan.outgoing)
        if plan.unconditional is None:
            return response, self._storing(plan, response)
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
            return response, self._storing(plan, response)
        return response, await self._judged(flight, response, outcome)

    async def _judged(
        self, flight: Flight, response: UpstreamResponse, outcome: Outcome
    ) -> Store | Private | Freshened:
        plan = flight.plan
        if isinstance(outcome, Freshen):
            await response.read()
            candidate = self._candidate_of(plan, outcome.stored)
            merged = merge(outcome.stored, response.head, response.timing, self._parts.caching)
            update = may_update(
                plan.request, response.head, is_private_connection=response.is_private_connection
            )
            if update is Update.DROP:
                self._parts.store.invalidate(plan.key)
                self._unshareable[plan.key] = Reason.PRIVATE
            if isinstance(candidate.body, SpoolBody) or flight.is_doomed or update is not Update.APPLY:
                # Not committed yet, purged meanwhile, or not for others: use it, leave the store alone.
                return Freshened(Candidate(merged, candidate.body, candidate.tier), response.head)
            return Freshened(await self._parts.store.freshen(candidate, merged), response.head)
        if isinstance(outcome, PassOn | ServerFailure):
            return Private(response, Reason.PRECONDITION)
        return self._storing(plan, response)

    @staticmethod
    def _candidate_of(plan: Plan, stored: StoredResponse) -> Candidate:
        for candidate in (plan.chosen, *plan.variants):
            if candidate is not None and candidate.stored is stored:
                return candidate
        raise AssertionError("a validation freshens one of its candidates")

    def _storing(self, plan: Plan, response: UpstreamResponse) -> Store | Private:
        if response.is_private_connection:
            # RFC 4559 §6: whoever authenticated the connection is the only one this is for.
            return Private(response, Reason.AUTHORIZATION)
        verdict = storing.decide(plan.request, plan.asked, response.head, response.timing, self._parts.caching)
        if isinstance(verdict, DoNotStore):
            return Private(response, verdict.reason)
        return verdict

    def _begin_filling(
        self, flight: Flight, response: UpstreamResponse, verdict: Store
    ) -> tuple[Filling, BodyWriter | None]:
        parts = self._parts
        # A body that ends with its connection may have been cut by a dying origin: shared, but not kept.
        is_kept = not flight.is_doomed and not response.is_close_delimited
        writer = parts.store.begin(verdict.stored, response.length) if is_kept else None
        spool = Spool(writer, response.length, parts.keep_bytes, parts.spools, lambda: self._unread(flight))
        flight.spool = spool
        flight.candidate = Candidate(
            verdict.stored.with_body(0, 0, response.length), SpoolBody(spool), "flight"
        )
        if not flight.is_doomed:
            self._filling.setdefault(flight.plan.key, []).append(flight)
        reader = spool.open(None) if flight.has_initiator else None
        reason = Reason.STORED if writer is not None else Reason.TOO_LARGE
        if response.is_close_delimited:
            reason = Reason.UNDELIMITED
        return Filling(flight.candidate, response.head, reader, reason), writer

    async def _fill(self, flight: Flight, response: UpstreamResponse, writer: BodyWriter | None) -> None:
        spool, candidate = flight.spool, flight.candidate
        assert spool is not None
        assert candidate is not None
        try:
            while piece := await response.read():
                await spool.append(piece)
            spool.finish()
            whole = spool.whole()
            if writer is not None and not flight.is_doomed:
                await writer.commit(candidate.stored, whole)
        except (UpstreamError, ClientGone) as error:
            spool.fail(error)
        finally:
            if not spool.is_finished:
                spool.fail(
                    UpstreamError(
                        Reason.CONNECTION_TERMINATED,
                        flight.plan.outgoing.origin.host,
                        "the fetch was given up",
                        before_head=False,
                    )
                )
            filling = self._filling.get(flight.plan.key)
            if filling is not None and flight in filling:
                filling.remove(flight)
                if not filling:
                    del self._filling[flight.plan.key]
            response.close()
            if writer is not None:
                writer.abort()
            spool.close()

    def _unread(self, flight: Flight) -> None:
        spool = flight.spool
        if spool is None or flight.task is None or flight.waiters:
            return
        if flight.is_doomed or not worth_finishing(spool.received, spool.length, self._parts.abandon):
            flight.task.cancel()
