"""One request from its head to its answer: admission, look-up, decision, action."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from cacheproxy.caching import invalidation, reuse, storing
from cacheproxy.caching.freshening import head_confirms, merge
from cacheproxy.caching.key import cache_key, choose, has_routing_field
from cacheproxy.caching.reuse import Decision, Forward, Refuse, ServeStored, Validate
from cacheproxy.caching.storing import COOKIE_FIELDS, Store
from cacheproxy.caching.validation import FAILURE_STATUSES, conditional_fields
from cacheproxy.engine.admission import admit, lowered_max_forwards
from cacheproxy.engine.answers import forwarded_head
from cacheproxy.engine.flight import (
    Failed,
    Filling,
    FlightOutcome,
    Flights,
    Freshened,
    Plan,
    Private,
    close_outcome,
)
from cacheproxy.engine.parts import Parts
from cacheproxy.engine.serving import Damaged, NotHere, answer_from
from cacheproxy.errors import CacheproxyError, ClientError, StoreError, UpstreamError
from cacheproxy.http.cache_control import RequestDirectives, parse_request_directives
from cacheproxy.http.forwarding import outbound_request_fields
from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.http.status_fields import cache_status
from cacheproxy.policy.rules import timeouts_for
from cacheproxy.ports import Answer, Candidate, Exchange, Interim, Selector, UpstreamRequest, UpstreamResponse
from cacheproxy.reasons import Reason

_MAX_WAITS = 3
_MAX_TURNS = 8
# Outcomes of a shared fetch may help whoever goes forward for these reasons; the others asked for an
# answer of their own.
_SHAREABLE = frozenset({Reason.URI_MISS, Reason.VARY_MISS, Reason.STALE, Reason.STORE_FAILED})
_OWN_CONDITIONS = frozenset({"if-none-match", "if-modified-since", "range", "if-range"})
_ORIGIN_CONDITIONS = frozenset({"if-match", "if-unmodified-since"})


class _ResponseStream:
    """A response's body for its one client; closing it gives the response up."""

    def __init__(self, response: UpstreamResponse) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._response.read()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        self._response.close()


class Engine:
    """Answers exchanges. `handle` raises ClientError, UpstreamError or ClientGone; the caller shows them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.flights = Flights(parts)

    async def handle(self, exchange: Exchange) -> Answer:
        """The answer to one request. Its stream must be closed."""
        own = admit(self._parts, exchange)
        if own is not None:
            exchange.record.reason = Reason.OPTIONS
            exchange.record.tag = "TCP_NONE"
            return own
        request = exchange.head
        if request.method == "PURGE":
            return await self._purge(exchange)
        assert request.target is not None
        exchange.record.hierarchy = f"HIER_DIRECT/{request.target.origin.host}"
        bypass = self._bypass(exchange)
        if bypass is not None:
            return await self._forward(exchange, bypass)
        return await self._Lookup(self, exchange).run()

    @staticmethod
    def _bypass(exchange: Exchange) -> Reason | None:
        """Why a request must not touch the store."""
        request = exchange.head
        if request.method not in ("GET", "HEAD"):
            return Reason.METHOD
        if exchange.body is not None:
            return Reason.REQUEST_BODY
        if has_routing_field(request.fields):
            return Reason.ROUTING_FIELD
        # RFC 9110 §13.2.1: these are for the origin to judge.
        if not _ORIGIN_CONDITIONS.isdisjoint(request.fields.names()):
            return Reason.PRECONDITION
        return None

    def outgoing(self, exchange: Exchange, *, on_interim: Interim | None) -> UpstreamRequest:
        """The request as the origin gets it, without conditions of ours."""
        request = exchange.head
        target = request.target
        assert target is not None
        fields = lowered_max_forwards(request.fields, request.method)
        if exchange.body is None:
            fields = fields.without(("expect", "content-length")) if "expect" in fields else fields
        outbound = outbound_request_fields(fields, target.origin.authority, self._parts.via, request.version)
        if exchange.framing.chunked:
            outbound = outbound.plus(("Transfer-Encoding", "chunked"))
        limits = timeouts_for(target, self._parts.rules, self._parts.timeouts)
        return UpstreamRequest(
            origin=target.origin,
            method=request.method,
            request_target="*" if request.request_target == "*" else target.path_and_query,
            fields=outbound,
            first_byte_s=limits.first_byte_s,
            idle_s=limits.idle_s,
            framing=exchange.framing,
            body=exchange.body,
            on_interim=on_interim,
            affinity=exchange.affinity,
        )

    # outside the cache

    async def _forward(self, exchange: Exchange, reason: Reason) -> Answer:
        response = await self._parts.upstream.fetch(self.outgoing(exchange, on_interim=exchange.on_interim))
        request = exchange.head
        record = exchange.record
        record.reason = reason
        for key in invalidation.targets(request, response.head):
            self._parts.store.invalidate(key)
            self.flights.invalidate(key)
        if request.method == "POST" and not has_routing_field(request.fields):
            asked = parse_request_directives(request.fields)
            verdict = storing.decide(request, asked, response.head, response.timing, self._parts.caching)
            if isinstance(verdict, Store):
                plan = Plan(request, asked, self.outgoing(exchange, on_interim=None), verdict.stored.key)
                filling = self.flights.adopt(plan, response, verdict)
                return self._filling_answer(filling, reason, collapsed=False)
        return self.private_answer(Private(response, reason), reason)

    async def _purge(self, exchange: Exchange) -> Answer:
        record = exchange.record
        record.reason, record.tag = Reason.PURGE, "TCP_NONE"
        refused = self._parts.access.refuses_purge(exchange.client)
        if refused is not None:
            raise ClientError(403, refused, kind=Reason.HTTP_REQUEST_DENIED, close=exchange.body is not None)
        assert exchange.head.target is not None
        key = cache_key(exchange.head.target)
        try:
            count = await self.purge(Selector(urls=(key,)), dry_run=False, soft=False)
        except StoreError as error:
            raise ClientError(
                500, f"the store cannot be written: {error}", kind=Reason.PROXY_INTERNAL_ERROR
            ) from error
        text = f"{count} stored response{'' if count == 1 else 's'} of {key} removed\n".encode("latin-1")
        fields = Fields(
            [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Status", cache_status(detail="purge"))]
        )
        head = ResponseHead(200, "OK", fields) if count else ResponseHead(404, "Not Found", fields)
        return Answer(head, content=text, length=len(text))

    async def purge(self, selector: Selector, *, dry_run: bool, soft: bool) -> int:
        """Remove stored responses; what is being fetched for them is not stored either. Raises StoreError."""
        if not dry_run:
            if selector.urls:
                for key in selector.urls:
                    self.flights.invalidate(key)
            else:
                self.flights.invalidate_all()
        return await self._parts.store.purge(selector, dry_run=dry_run, soft=soft)

    def private_answer(self, outcome: Private, reason: Reason) -> Answer:
        """A response for one client alone."""
        head = forwarded_head(self._parts, outcome.response.head, reason, outcome.reason)
        return Answer(head, stream=_ResponseStream(outcome.response), length=outcome.response.length)

    def _filling_answer(self, outcome: Filling, reason: Reason, *, collapsed: bool) -> Answer:
        head = forwarded_head(self._parts, outcome.head, reason, outcome.reason, collapsed=collapsed)
        return Answer(head, stream=outcome.reader, length=outcome.candidate.stored.length)

    class _Lookup:
        """One GET or HEAD through the cache: look, decide, act, and look again after waiting for others."""

        def __init__(self, engine: Engine, exchange: Exchange) -> None:
            self._engine = engine
            self._parts = engine._parts
            self._exchange = exchange
            self._request = exchange.head
            self._asked: RequestDirectives = parse_request_directives(exchange.head.fields)
            assert exchange.head.target is not None
            self._key = cache_key(exchange.head.target)
            self._waits = 0
            self._was_collapsed = False
            self._found: Sequence[Candidate] = ()

        async def run(self) -> Answer:
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
            return await self._engine._forward(self._exchange, Reason.STORE_FAILED)

        async def _decide(self) -> Decision:
            now = self._parts.clock.wall()
            flights = self._engine.flights
            self._found = [*flights.candidates(self._key), *self._parts.store.lookup_memory(self._key)]
            decision = self._judge(now)
            if isinstance(decision, ServeStored):
                return decision
            try:
                stored = await self._parts.store.lookup(self._key)
            except StoreError:
                return Forward(Reason.STORE_FAILED) if isinstance(decision, Forward) else decision
            # The flights again: one may have committed while the disk was asked.
            self._found = [*flights.candidates(self._key), *stored]
            return self._judge(self._parts.clock.wall())

        def _judge(self, now: float) -> Decision:
            chosen = choose(self._request, [candidate.stored for candidate in self._found])
            return reuse.decide(self._asked, chosen, bool(self._found), now)

        def _candidate(self, stored: object) -> Candidate:
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
                return await self._engine._forward(self._exchange, Reason.RANGE_AHEAD)
            if not collapsed:
                self._parts.store.touch(candidate)
            if decision.revalidate:
                self._revalidate_in_background(candidate)
            record = self._exchange.record
            record.reason = (
                Reason.COLLAPSED if collapsed and decision.reason is Reason.HIT else decision.reason
            )
            record.was_collapsed = collapsed or self._was_collapsed
            record.tag = _hit_tag(decision.reason, candidate.tier, answer.head.status)
            if decision.reason is not Reason.REVALIDATED:
                record.hierarchy = "HIER_NONE/-"
            return answer

        def _revalidate_in_background(self, candidate: Candidate) -> None:
            flights = self._engine.flights
            if flights.pending(self._key) is None:
                plan = self._plan(Validate(candidate.stored, Reason.STALE), candidate, on_interim=None)
                flight = flights.start(plan, shareable=True)
                flight.has_initiator = False

        async def _go_forward(self, decision: Validate | Forward) -> Answer | None:
            flights = self._engine.flights
            if self._request.method == "HEAD":
                return await self._head(decision)
            stale = None if decision.stored is None else self._candidate(decision.stored)
            pending = flights.pending(self._key) if decision.reason in _SHAREABLE else None
            if pending is not None and self._waits < _MAX_WAITS:
                self._waits += 1
                outcome = await pending.wait()
                self._was_collapsed = True
                if isinstance(outcome, Failed):
                    return await self._failed(outcome.error, stale)
                return None
            plan = self._plan(decision, stale, on_interim=self._exchange.on_interim)
            flight = flights.start(plan, shareable=self._is_shareable(decision))
            was_validation = plan.unconditional is not None
            return await self._conclude(decision, stale, await flight.lead(), was_validation)

        def _is_shareable(self, decision: Validate | Forward) -> bool:
            names = self._request.fields.names()
            return (
                decision.reason in _SHAREABLE
                and not self._asked.no_store
                and "authorization" not in names
                and (isinstance(decision, Validate) or _OWN_CONDITIONS.isdisjoint(names))
            )

        def _plan(
            self, decision: Validate | Forward, stale: Candidate | None, *, on_interim: Interim | None
        ) -> Plan:
            outgoing = self._engine.outgoing(self._exchange, on_interim=on_interim)
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
            record.tag = _forward_tag(decision.reason, was_validation and stale is not None)
            if isinstance(outcome, Failed):
                return await self._failed(outcome.error, stale)
            if isinstance(outcome, Freshened):
                return await self._serve_freshened(outcome)
            if isinstance(outcome, Filling):
                names = self._request.fields.names()
                if was_validation and not _OWN_CONDITIONS.isdisjoint(names):
                    # The client's own conditions and ranges are about the new response now.
                    return await self._serve_replacement(outcome)
                return self._engine._filling_answer(outcome, decision.reason, collapsed=False)
            status = outcome.response.head.status
            if stale is not None and status in FAILURE_STATUSES:
                served = await self._serve_stale(stale, status)
                if served is not None:
                    await close_outcome(outcome)
                    return served
            return self._engine.private_answer(outcome, decision.reason)

        async def _serve_freshened(self, outcome: Freshened) -> Answer | None:
            cookies = outcome.head.fields.where(lambda name, _: name in COOKIE_FIELDS)
            stored = outcome.candidate.stored
            decision = ServeStored(stored, max(0.0, stored.corrected_initial_age), Reason.REVALIDATED)
            return await self._serve(
                decision, cookies=cookies if cookies.lines else None, candidate=outcome.candidate
            )

        async def _serve_replacement(self, outcome: Filling) -> Answer | None:
            cookies = outcome.head.fields.where(lambda name, _: name in COOKIE_FIELDS)
            stored = outcome.candidate.stored
            try:
                answer = await answer_from(
                    self._parts,
                    self._request,
                    outcome.candidate,
                    stored.corrected_initial_age,
                    Reason.HIT,
                    cookies=cookies if cookies.lines else None,
                )
            except NotHere:
                return self._engine._filling_answer(outcome, Reason.STALE, collapsed=False)
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
                self._exchange.record.tag = "TCP_REFRESH_FAIL_OLD"
            return answer

        async def _head(self, decision: Validate | Forward) -> Answer:
            """HEAD goes to the origin as it is; a 200 says whether the stored GET response still holds."""
            stale = None if decision.stored is None else self._candidate(decision.stored)
            try:
                outgoing = self._engine.outgoing(self._exchange, on_interim=self._exchange.on_interim)
                response = await self._parts.upstream.fetch(outgoing)
            except UpstreamError as error:
                return await self._failed(error, stale)
            if stale is not None and response.head.status == 200:
                # RFC 9111 §4.3.5
                if head_confirms(stale.stored, response.head):
                    merged = merge(stale.stored, response.head, response.timing, self._parts.caching)
                else:
                    merged = stale.stored.stale()
                await self._parts.store.freshen(stale, merged)
            self._exchange.record.reason = decision.reason
            return self._engine.private_answer(Private(response, decision.reason), decision.reason)


_DENIALS = frozenset(
    {
        Reason.HTTP_REQUEST_DENIED,
        Reason.DESTINATION_IP_PROHIBITED,
        Reason.PROXY_LOOP_DETECTED,
        Reason.CONNECTION_LIMIT_REACHED,
    }
)


def _hit_tag(reason: Reason, tier: str, status: int) -> str:
    if reason is Reason.REVALIDATED:
        return "TCP_REFRESH_UNMODIFIED"
    if status == 304:
        return "TCP_IMS_HIT"
    if tier == "flight":
        return "TCP_CF_HIT"
    if status >= 400 and status != 416:
        return "TCP_NEGATIVE_HIT"
    return "TCP_MEM_HIT" if tier == "memory" else "TCP_HIT"


def _forward_tag(reason: Reason, was_validation: bool) -> str:
    if was_validation:
        return "TCP_REFRESH_MODIFIED"
    if reason in (Reason.REQUEST_NO_CACHE, Reason.REQUEST_MAX_AGE):
        return "TCP_CLIENT_REFRESH_MISS"
    return "TCP_MISS"
