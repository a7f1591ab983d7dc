"""One GET or HEAD through the cache: look, decide, act, and look again after waiting for others."""

from __future__ import annotations

from collections.abc import Sequence

from cacheproxy.caching import reuse
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.freshening import Update, head_confirms, may_update, merge
from cacheproxy.caching.key import cache_key, choose
from cacheproxy.caching.reuse import Decision, Forward, Refuse, ServeStored, Validate
from cacheproxy.caching.storing import COOKIE_FIELDS
from cacheproxy.caching.validation import FAILURE_STATUSES, conditional_fields
from cacheproxy.engine.flight import Flights
from cacheproxy.engine.forward import Forwarder
from cacheproxy.engine.outcome import Failed, Filling, FlightOutcome, Freshened, Plan, Private, close_outcome
from cacheproxy.engine.serving import Damaged, NotHere, answer_from
from cacheproxy.engine.spool import SpoolBody
from cacheproxy.engine.tags import REFRESH_FAILED, forward_tag, hit_tag
from cacheproxy.errors import CacheproxyError, ClientError, StoreError, UpstreamError
from cacheproxy.http.cache_control import RequestDirectives, parse_request_directives
from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.ports import Answer, Candidate, Exchange, Interim, UpstreamResponse
from cacheproxy.reasons import Reason

_MAX_WAITS = 3
_MAX_TURNS = 8
# Outcomes of a shared fetch may help whoever goes forward for these reasons; the others asked for an
# answer of their own.
_SHAREABLE = frozenset({Reason.URI_MISS, Reason.VARY_MISS, Reason.STALE, Reason.STORE_FAILED})
_OWN_CONDITIONS = frozenset({"if-none-match", "if-modified-since", "range", "if-range"})
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
        self._request = exchange.head
        self._asked: RequestDirectives = parse_request_directives(exchange.head.fields)
        assert exchange.head.target is not None
        self._key = cache_key(exchange.head.target)
        self._waits = 0
        self._was_collapsed = False
        self._found: Sequence[Candidate] = ()

    async def run(self) -> Answer:
        """The answer. Raises ClientError, UpstreamError, ClientGone."""
        for _ in range(_MAX_TURNS):
            decision = await self._decide()
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
        self._found = [*self._flights.candidates(self._key), *self._parts.store.lookup_memory(self._key)]
        decision = self._judge(now)
        if isinstance(decision, ServeStored):
            return decision
        try:
            stored = await self._parts.store.lookup(self._key)
        except StoreError:
            return Forward(Reason.STORE_FAILED) if isinstance(decision, Forward) else decision
        # The flights again: one may have committed while the disk was asked.
        self._found = [*self._flights.candidates(self._key), *stored]
        return self._judge(self._parts.clock.wall())

    def _judge(self, now: float) -> Decision:
        chosen = choose(self._request, [candidate.stored for candidate in self._found])
        return reuse.decide(self._asked, chosen, bool(self._found), now)

    def _candidate(self, stored: StoredResponse) -> Candidate:
        return next(candidate for candidate in self._found if candidate.stored is stored)

    async def _serve(
        self, decision: ServeStored, *, cookies: Fields | None = None, candidate: Candidate | None = None
    ) -> Answer | None:
        """The answer, or None where the stored body proved damaged: look again."""
        candidate = candidate or self._candidate(decision.stored)
        collapsed = candidate.tier == "flight"
        try:
            answer = await answer_from(
                self._parts,
                self._request,
                candidate,
                decision.age,
                decision.reason,
                collapsed=collapsed,
                cookies=cookies,
            )
        except Damaged:
            self._parts.store.discard(candidate)
            return None
        except NotHere:
            return await self._forwarder.forward(self._exchange, Reason.RANGE_AHEAD)
        if not collapsed:
            self._parts.store.touch(candidate)
        if decision.revalidate:
            self._revalidate_in_background(candidate)
        record = self._exchange.record
        record.reason = Reason.COLLAPSED if collapsed and decision.reason is Reason.HIT else decision.reason
        record.was_collapsed = collapsed or self._was_collapsed
        record.tag = hit_tag(decision.reason, candidate.tier, answer.head.status)
        if decision.reason is not Reason.REVALIDATED:
            record.hierarchy = "HIER_NONE/-"
        return answer

    def _revalidate_in_background(self, candidate: Candidate) -> None:
        if self._flights.pending(self._key) is None:
            plan = self._plan(Validate(candidate.stored, Reason.STALE), candidate, on_interim=None)
            flight = self._flights.start(plan, shareable=True)
            flight.has_initiator = False

    async def _go_forward(self, decision: Validate | Forward) -> Answer | None:
        if self._request.method == "HEAD":
            return await self._head(decision)
        stale = None if decision.stored is None else self._candidate(decision.stored)
        pending = self._flights.pending(self._key) if decision.reason in _SHAREABLE else None
        if pending is not None and self._waits < _MAX_WAITS:
            self._waits += 1
            outcome = await pending.wait()
            self._was_collapsed = True
            if isinstance(outcome, Failed):
                return await self._failed(outcome.error, stale)
            return None
        plan = self._plan(decision, stale, on_interim=self._exchange.on_interim)
        flight = self._flights.start(plan, shareable=self._is_shareable(decision))
        was_validation = plan.unconditional is not None
        return await self._conclude(decision, stale, await flight.lead(), was_validation)

    def _is_shareable(self, decision: Validate | Forward) -> bool:
        names = self._request.fields.names()
        target = self._request.target
        assert target is not None
        return (
            decision.reason in _SHAREABLE
            and not self._asked.no_store
            and target.origin not in self._exchange.affinity.pinned
            and "authorization" not in names
            and (isinstance(decision, Validate) or _OWN_CONDITIONS.isdisjoint(names))
        )

    def _plan(
        self, decision: Validate | Forward, stale: Candidate | None, *, on_interim: Interim | None
    ) -> Plan:
        outgoing = self._forwarder.outgoing(self._exchange, on_interim=on_interim)
        plan = Plan(self._request, self._asked, outgoing, self._key)
        variants = [candidate for candidate in self._found if candidate.stored.etag is not None]
        chosen = stale if isinstance(decision, Validate) else None
        has_own = not _OWN_CONDITIONS.isdisjoint(self._request.fields.names())
        if chosen is not None or (decision.reason is Reason.VARY_MISS and variants and not has_own):
            plan.chosen, plan.variants = chosen, variants
            plan.unconditional = outgoing.fields.without(_OWN_CONDITIONS)
            outgoing.fields = conditional_fields(
                outgoing.fields,
                None if chosen is None else chosen.stored,
                [variant.stored for variant in variants],
            )
        return plan

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
            if was_validation and not _OWN_CONDITIONS.isdisjoint(names):
                # The client's own conditions and ranges are about the new response now.
                return await self._serve_replacement(outcome)
            return self._forwarder.filling_answer(outcome, decision.reason)
        status = outcome.response.head.status
        if stale is not None and status in FAILURE_STATUSES:
            served = await self._serve_stale(stale, status)
            if served is not None:
                await close_outcome(outcome)
                return served
        return self._forwarder.private_answer(outcome, decision.reason)

    async def _serve_freshened(self, outcome: Freshened) -> Answer | None:
        cookies = _cookies(outcome.head)
        stored = outcome.candidate.stored
        decision = ServeStored(stored, max(0.0, stored.corrected_initial_age), Reason.REVALIDATED)
        return await self._serve(decision, cookies=cookies, candidate=outcome.candidate)

    async def _serve_replacement(self, outcome: Filling) -> Answer | None:
        cookies = _cookies(outcome.head)
        stored = outcome.candidate.stored
        try:
            answer = await answer_from(
                self._parts,
                self._request,
                outcome.candidate,
                stored.corrected_initial_age,
                Reason.HIT,
                cookies=cookies,
            )
        except NotHere:
            return self._forwarder.filling_answer(outcome, Reason.STALE)
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

    async def _head(self, decision: Validate | Forward) -> Answer:
        """HEAD goes to the origin as it is; a 200 says whether the stored GET response still holds."""
        stale = None if decision.stored is None else self._candidate(decision.stored)
        try:
            outgoing = self._forwarder.outgoing(self._exchange, on_interim=self._exchange.on_interim)
            response = await self._parts.upstream.fetch(outgoing)
        except UpstreamError as error:
            return await self._failed(error, stale)
        if stale is not None and response.head.status == 200:
            # RFC 9111 §4.3.5
            await self._update_from_head(stale, response)
        self._exchange.record.reason = decision.reason
        return self._forwarder.private_answer(Private(response, Reason.METHOD), decision.reason)

    async def _update_from_head(self, stale: Candidate, response: UpstreamResponse) -> None:
        update = may_update(self._request, response.head, is_private_connection=response.is_private_connection)
        if update is Update.DROP:
            self._parts.store.invalidate(self._key)
        elif isinstance(stale.body, SpoolBody):
            return
        elif not head_confirms(stale.stored, response.head):
            await self._parts.store.freshen(stale, stale.stored.stale())
        elif update is Update.APPLY:
            merged = merge(stale.stored, response.head, response.timing, self._parts.caching)
            await self._parts.store.freshen(stale, merged)


def _cookies(head: ResponseHead) -> Fields | None:
    """Cookies that the origin has just set, for the client whose request it answered."""
    cookies = head.fields.where(lambda name, _: name in COOKIE_FIELDS)
    return cookies if cookies.lines else None
