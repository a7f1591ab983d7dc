"""A validation on the direct path: what memory has of a plain GET is asked about, and given if it still holds."""

from __future__ import annotations

from cacheproxy.caching import reuse
from cacheproxy.caching.facts import FieldFacts
from cacheproxy.caching.reuse import Validate
from cacheproxy.caching.validation import (
    Freshen,
    Outcome,
    PassOn,
    Refetch,
    Replace,
    ServerFailure,
    conditional_fields,
    judge,
)
from cacheproxy.engine.answers import own_cookies
from cacheproxy.engine.asking import SHAREABLE
from cacheproxy.engine.direct import DirectExchange, DirectParts
from cacheproxy.engine.flight import Begun, Flight, Judged
from cacheproxy.engine.hot import at_once
from cacheproxy.engine.outcome import Plan, Private, Restart
from cacheproxy.engine.serving import answer_from
from cacheproxy.engine.tags import hit_tag
from cacheproxy.errors import CacheproxyError, StaleConnection
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.ports import BodySource, Candidate
from cacheproxy.ports.direct import FollowedResponse
from cacheproxy.reasons import Reason

_NO_FIELDS = Fields()


def validated(path: DirectParts, facts: FieldFacts, candidate: Candidate) -> Validate | None:
    """Why the origin is asked about the only stored response of a key; None where that is not what to do, or not this simple."""
    stored = candidate.stored
    if (
        stored.nominated
        or stored.asked_for
        or stored.held is not None
        or facts.asked.no_store
        or "content-encoding" in stored.fields
    ):
        return None
    decision = reuse.decide(facts.asked, stored, True, path.parts.clock.wall())
    return decision if isinstance(decision, Validate) else None


class DirectValidation(DirectExchange):
    """One request. Where what is stored does not hold any more, the ordinary path goes on with the response."""

    __slots__ = ("_body", "_candidate", "_decision", "_is_conditional")

    _body: BodySource

    def validate(self, candidate: Candidate, decision: Validate) -> bool:
        """Ask about `candidate`; False where that has to wait, or somebody asks already."""
        self._candidate, self._decision = candidate, decision
        self._is_conditional = True
        path, stored = self._path, self._candidate.stored
        is_shareable = self._decision.reason in SHAREABLE and path.flights.helps_others(self._key)
        if is_shareable and path.flights.pending(self._key) is not None:
            return False
        body = self._candidate.body.at_once()
        if body is None or body.whole() is None:
            return False
        self._body = body
        route = self._line.route
        conditions = conditional_fields(_NO_FIELDS, stored, ())
        wire = route.conditional_wire(self._outbound, conditions)
        return self._ask(wire, shareable=is_shareable and self._outbound.is_shareable)

    @property
    def _request(self) -> RequestHead:
        return self._line.head.with_fields(self._outbound.fields)

    def _judge(self, response: FollowedResponse) -> None:
        path, flight, stored = self._path, self._flight, self._candidate.stored
        assert flight is not None
        request, asked_for = self._request, self._outbound.asked_for
        outcome: Outcome = Replace()
        if self._is_conditional:
            variants = [stored] if stored.etag is not None else []
            outcome = judge(response.head, stored, variants, request.fields)
        if isinstance(outcome, Freshen) and response.whole() is not None:
            self._holds(flight, request, response)
            return
        if isinstance(outcome, Freshen | Refetch):
            response.close()
            if isinstance(outcome, Freshen) or not self._ask_again():
                path.flights.settle(flight, Restart(discard=False))
                self._leave()
            return
        plan = Plan(request, self._facts.asked, None, self._key, self._again, asked_for)
        if isinstance(outcome, PassOn | ServerFailure):
            verdict: Judged = Private(response, Reason.PRECONDITION, asked_for)
        else:
            verdict = path.flights.storing(plan, response)
        self._go_on(Begun(path.flights, flight, plan, response, verdict))

    def _ask_again(self) -> bool:
        """The same without conditions; False where that has to wait."""
        self._is_conditional = False
        route = self._line.route
        wire = route.wire(self._outbound)
        self._pending = self._path.upstream.begin(route.origin, route.limits, wire, self, self._affinity)
        return self._pending is not None

    def _go_on(self, begun: Begun) -> None:
        """Leave it to the ordinary path, which knows what to do with what is stale."""
        begun.decision, begun.stale = self._decision, self._candidate
        self._reply.ordinary(begun)

    def _holds(self, flight: Flight, request: RequestHead, response: FollowedResponse) -> None:
        path, reply = self._path, self._reply
        freshened = path.flights.freshened(flight, request, self._candidate, response)
        path.flights.settle(flight, freshened)
        if not reply.is_there:
            return
        stored = freshened.candidate.stored
        given = Candidate(stored, self._body, freshened.candidate.tier)
        age = max(0.0, stored.corrected_initial_age)
        cookies = own_cookies(freshened.head)
        answer = at_once(answer_from(path.parts, request, given, age, Reason.REVALIDATED, cookies=cookies))
        assert answer is not None, "all of the body is in memory"
        path.parts.store.touch(stored)
        record = reply.record()
        record.reason = Reason.REVALIDATED
        record.tag = hit_tag(Reason.REVALIDATED, given.tier, answer.head.status)
        record.hierarchy = self._line.route.hierarchy
        reply.answer(answer)

    def failed(self, error: CacheproxyError) -> None:
        """The origin has failed, before the head."""
        self._pending = None
        if self._is_closed:
            return
        flight = self._flight
        assert flight is not None
        if isinstance(error, StaleConnection):
            self._path.flights.settle(flight, Restart(discard=False))
            self._leave()
        else:
            self._go_on(Begun(self._path.flights, flight, error=error))
