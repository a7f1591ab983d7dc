"""One GET or HEAD through the cache: look, decide, act, and look again after waiting for others."""

from __future__ import annotations

from collections.abc import Sequence

from cacheproxy.caching import reuse
from cacheproxy.caching.age import current_age
from cacheproxy.caching.decoding import AskAgain, Decode
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.reuse import Decision, Forward, Refuse, ServeStored, Validate
from cacheproxy.caching.validation import FAILURE_STATUSES
from cacheproxy.engine.answers import own_cookies
from cacheproxy.engine.asking import OWN_CONDITIONS, SHAREABLE, Asking
from cacheproxy.engine.delivery import Delivery, Instead, LookAgain
from cacheproxy.engine.flight import Begun, Waited
from cacheproxy.engine.flights import Flights
from cacheproxy.engine.forward import Forwarder
from cacheproxy.engine.head_request import update_from_head
from cacheproxy.engine.outcome import Failed, Filling, FlightOutcome, Freshened, Private, Restart, close_outcome
from cacheproxy.engine.serving import Damaged, NotHere
from cacheproxy.engine.tags import REFRESH_FAILED, forward_tag, hit_tag
from cacheproxy.errors import CacheproxyError, ClientError, StoreError, UpstreamError
from cacheproxy.http.message import Fields
from cacheproxy.ports import Answer, Candidate, Exchange
from cacheproxy.reasons import Reason

_MAX_WAITS = 3
_MAX_TURNS = 8
# Refusals of our own: no reason to show an old copy instead.
_DENIALS = frozenset(
    {
        Reason.HTTP_REQUEST_DENIED,
        Reason.DESTINATION_IP_PROHIBITED,
        Reason.PROXY_LOOP_DETECTED,
        Reason.CONNECTION_LIMIT_REACHED,
    }
)


class Lookup:
    """Lives for one exchange."""

    def __init__(self, forwarder: Forwarder, flights: Flights, exchange: Exchange) -> None:
        self._forwarder = forwarder
        self._flights = flights
        self._parts = forwarder.parts
        self._exchange = exchange
        self._asking = Asking(forwarder, exchange)
        self._delivery = Delivery(self._parts, flights, self._asking)
        self._request = self._asking.request
        self._asked = self._asking.directives
        self._key = self._asking.key
        self._waits = 0
        self._was_collapsed = False
        self._is_counted = False
        self._found: Sequence[Candidate] = ()

    async def run(self) -> Answer:
        """The answer. Raises ClientError, UpstreamError, ClientGone."""
        begun = self._exchange.begun
        if isinstance(begun, Begun):
            # Looked for, counted and asked for already.
            self._is_counted = True
            outcome = await self._flights.take_over(begun)
            was_validation = begun.stale is not None
            answer = await self._conclude(begun.decision, begun.stale, outcome, was_validation)
            if answer is not None:
                return answer
        elif isinstance(begun, Waited):
            self._is_counted = self._was_collapsed = True
            self._waits += 1
            if begun.error is not None:
                return await self._failed(begun.error, None)
        for _ in range(_MAX_TURNS):
            decision = await self._decide()
            if isinstance(decision, Validate) and self._fills_gap(decision):
                # The fetch of the gap says as well whether the rest still holds (If-Range).
                age = current_age(decision.stored, self._parts.clock.wall())
                decision = ServeStored(decision.stored, age, Reason.PARTIAL_HIT)
            if isinstance(decision, ServeStored):
                answer = await self._serve(decision)
            elif isinstance(decision, Refuse):
                raise ClientError(
                    504,
                    "only-if-cached, and nothing is stored that may be served",
                    kind=Reason.ONLY_IF_CACHED,
                )
            else:
                answer = await self._go_forward(decision)
            if answer is not None:
                return answer
        return await self._forwarder.forward(self._exchange, Reason.STORE_FAILED)

    async def _decide(self) -> Decision:
        now = self._parts.clock.wall()
        self._found = [
            *self._flights.fillings.candidates(self._key),
            *self._parts.store.lookup_memory(self._key),
        ]
        decision = self._judge(now)
        if isinstance(decision, ServeStored):
            return decision
        try:
            stored = await self._parts.store.lookup(self._key)
        except StoreError:
            return Forward(Reason.STORE_FAILED) if isinstance(decision, Forward) else decision
        # The flights again: one may have committed while the disk was asked.
        self._found = [*self._flights.fillings.candidates(self._key), *stored]
        return self._judge(self._parts.clock.wall())

    def _judge(self, now: float) -> Decision:
        chosen = self._asking.choose(self._found)
        return reuse.decide(self._asked, chosen, bool(self._found), now)

    def _count_request(self) -> None:
        """What is asked for often is kept once it is stored (each exchange counts once)."""
        if not self._is_counted:
            self._is_counted = True
            self._parts.store.note_request(self._key)

    def _fills_gap(self, decision: Validate) -> bool:
        candidate = self._candidate(decision.stored)
        try:
            return self._request.method == "GET" and self._delivery.has_gap(candidate)
        except LookAgain:
            return False

    def _candidate(self, stored: StoredResponse) -> Candidate:
        return next(candidate for candidate in self._found if candidate.stored is stored)

    async def _serve(
        self, decision: ServeStored, *, cookies: Fields | None = None, candidate: Candidate | None = None
    ) -> Answer | None:
        """The answer, or None where the stored body proved damaged: look again."""
        candidate = candidate or self._candidate(decision.stored)
        collapsed = candidate.tier == "flight"
        try:
            answer, reason = await self._delivery.answer(
                candidate, decision.age, decision.reason, collapsed=collapsed, cookies=cookies
            )
        except Damaged:
            self._parts.store.discard(candidate)
            return None
        except LookAgain:
            return None
        except NotHere:
            return await self._forwarder.forward(self._exchange, Reason.RANGE_AHEAD)
        except Instead as instead:
            return await self._instead(candidate, instead.outcome)
        if reason is not decision.reason:
            decision = ServeStored(decision.stored, decision.age, reason, decision.revalidate)
        if collapsed:
            self._count_request()
        else:
            self._parts.store.touch(candidate.stored)
        if decision.revalidate:
            self._revalidate_in_background(candidate)
        record = self._exchange.record
        record.reason = Reason.COLLAPSED if collapsed and decision.reason is Reason.HIT else decision.reason
        record.was_collapsed = collapsed or self._was_collapsed
        record.tag = hit_tag(decision.reason, candidate.tier, answer.head.status)
        if decision.reason not in (Reason.REVALIDATED, Reason.PARTIAL_HIT):
            record.hierarchy = "HIER_NONE/-"
        return answer

    def _revalidate_in_background(self, candidate: Candidate) -> None:
        if self._flights.pending(self._key) is None:
            plan = self._asking.plan(Validate(candidate.stored, Reason.STALE), candidate, self._found, None)
            flight = self._flights.start(plan, shareable=True)
            flight.has_initiator = False

    async def _instead(self, candidate: Candidate, outcome: FlightOutcome) -> Answer | None:
        """The origin did not continue what is stored in part."""
        if isinstance(outcome, Restart):
            if outcome.discard:
                self._parts.store.discard(candidate)
                self._flights.fillings.invalidate(self._key)
            return None
        decision = Forward(Reason.STALE, candidate.stored)
        if isinstance(outcome, Filling):
            return await self._serve_replacement(outcome, decision.reason)
        return await self._conclude(decision, None, outcome, was_validation=False)

    async def _go_forward(self, decision: Validate | Forward) -> Answer | None:
        if self._request.method == "HEAD":
            return await self._head(decision)
        stale = None if decision.stored is None else self._candidate(decision.stored)
        if stale is None:
            self._count_request()
        pending = self._flights.pending(self._key) if decision.reason in SHAREABLE else None
        if pending is not None and self._waits < _MAX_WAITS:
            self._waits += 1
            outcome = await pending.wait()
            self._was_collapsed = True
            if isinstance(outcome, Failed):
                return await self._failed(outcome.error, stale)
            return None
        plan = self._asking.plan(decision, stale, self._found, self._exchange.on_interim)
        flight = self._flights.start(plan, shareable=self._asking.is_shareable(decision))
        was_validation = plan.unconditional is not None
        return await self._conclude(decision, stale, await flight.lead(), was_validation)

    async def _conclude(
        self,
        decision: Validate | Forward,
        stale: Candidate | None,
        outcome: FlightOutcome,
        was_validation: bool,
    ) -> Answer | None:
        record = self._exchange.record
        record.reason = decision.reason
        record.tag = forward_tag(decision.reason, was_validation=was_validation and stale is not None)
        if isinstance(outcome, Failed):
            return await self._failed(outcome.error, stale)
        if isinstance(outcome, Freshened):
            return await self._serve_freshened(outcome)
        if isinstance(outcome, Filling):
            names = self._request.fields.names()
            is_stored = outcome.reason is not Reason.DIGEST_MISMATCH
            if is_stored and outcome.head.status != 206 and not OWN_CONDITIONS.isdisjoint(names):
                # The client's own conditions and ranges are about the new response now.
                return await self._serve_replacement(outcome, decision.reason)
            return await self._pass_on(outcome, decision.reason)
        if isinstance(outcome, Restart):
            return None
        status = outcome.response.head.status
        if stale is not None and status in FAILURE_STATUSES:
            served = await self._serve_stale(stale, status)
            if served is not None:
                await close_outcome(outcome)
                return served
        return await self._pass_on(outcome, decision.reason)

    async def _pass_on(self, outcome: Filling | Private, reason: Reason) -> Answer | None:
        """The origin's answer to its client; None where its coding must be asked for in another way."""
        how = self._asking.coding(outcome.head.fields, outcome.asked_for)
        if isinstance(how, AskAgain):
            self._asking.give_up_upgrade(remember=True)
            await close_outcome(outcome)
            return None
        if isinstance(outcome, Filling):
            answer = self._forwarder.filling_answer(outcome, reason)
        else:
            answer = self._forwarder.private_answer(outcome, reason)
        if not isinstance(how, Decode):
            return answer

        def damaged() -> None:
            if isinstance(outcome, Filling):
                self._flights.fillings.invalidate(self._key)
                self._parts.store.discard(outcome.candidate)

        try:
            return await self._delivery.undo(answer, how.codings[0], damaged)
        except LookAgain:
            return None

    async def _serve_freshened(self, outcome: Freshened) -> Answer | None:
        cookies = own_cookies(outcome.head)
        stored = outcome.candidate.stored
        decision = ServeStored(stored, max(0.0, stored.corrected_initial_age), Reason.REVALIDATED)
        return await self._serve(decision, cookies=cookies, candidate=outcome.candidate)

    async def _serve_replacement(self, outcome: Filling, reason: Reason) -> Answer | None:
        stored = outcome.candidate.stored
        try:
            answer, _ = await self._delivery.answer(
                outcome.candidate, stored.corrected_initial_age, Reason.HIT, cookies=own_cookies(outcome.head)
            )
        except (NotHere, LookAgain, Damaged, Instead):
            return await self._pass_on(outcome, reason)
        # The new answer follows the spool by itself; only now, so that the fetch has a reader all along.
        await close_outcome(outcome)
        return answer

    async def _failed(self, error: CacheproxyError, stale: Candidate | None) -> Answer:
        if stale is not None and isinstance(error, UpstreamError) and error.kind not in _DENIALS:
            served = await self._serve_stale(stale, None)
            if served is not None:
                return served
        raise error

    async def _serve_stale(self, stale: Candidate, status: int | None) -> Answer | None:
        decision = reuse.serve_on_failure(
            self._asked, stale.stored, self._parts.clock.wall(), status, self._parts.caching
        )
        if decision is None:
            return None
        answer = await self._serve(decision, candidate=stale)
        if answer is not None:
            self._exchange.record.tag = REFRESH_FAILED
        return answer

    async def _head(self, decision: Validate | Forward) -> Answer | None:
        """HEAD goes to the origin as it is; a 200 says whether the stored GET response still holds."""
        stale = None if decision.stored is None else self._candidate(decision.stored)
        request = self._asking.upgraded or self._request
        try:
            response = await self._parts.upstream.fetch(
                self._asking.outgoing(request, self._exchange.on_interim)
            )
        except UpstreamError as error:
            return await self._failed(error, stale)
        if stale is not None and response.head.status == 200:
            # RFC 9111 §4.3.5
            await update_from_head(self._parts, request, stale, response)
        self._exchange.record.reason = decision.reason
        asked_for = self._asking.asked_for if request is not self._request else ()
        return await self._pass_on(Private(response, Reason.METHOD, asked_for), decision.reason)
