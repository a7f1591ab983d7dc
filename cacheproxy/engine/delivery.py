"""From a stored response, or one on its way, to the answer: gaps fetched, ranges cut, codings undone."""

from __future__ import annotations

from collections.abc import Callable

from cacheproxy.caching import partial, preconditions
from cacheproxy.caching.decoding import AskAgain, Decode, decoded_request
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.engine.asking import Asking
from cacheproxy.engine.assembled import AssembledBody, Span
from cacheproxy.engine.decoded import NotDecodable, decoded
from cacheproxy.engine.flights import Flights
from cacheproxy.engine.outcome import FlightOutcome
from cacheproxy.engine.parts import Parts
from cacheproxy.engine.serving import answer_from
from cacheproxy.errors import ClientError
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.ports import Answer, Candidate
from cacheproxy.reasons import Reason


class Instead(Exception):
    """Something else came in place of a gap; nothing was sent yet."""

    def __init__(self, outcome: FlightOutcome) -> None:
        super().__init__()
        self.outcome = outcome


class LookAgain(Exception):
    """The stored response cannot be used for this client as it is: decide anew."""


class Delivery:
    """Lives for one exchange."""

    def __init__(self, parts: Parts, flights: Flights, asking: Asking) -> None:
        self._parts = parts
        self._flights = flights
        self._asking = asking

    def _request_for(self, stored: StoredResponse) -> tuple[RequestHead, str | None]:
        """The request as the stored response must be read for it, and the coding to undo."""
        how = self._asking.coding(stored.fields, stored.asked_for)
        request = self._asking.request
        if isinstance(how, AskAgain):
            self._asking.give_up_upgrade(remember=True)
            raise LookAgain
        if isinstance(how, Decode):
            return request.with_fields(decoded_request(request.fields, stored.etag)), how.codings[0]
        return request, None

    def wanted(self, stored: StoredResponse) -> tuple[Span, ...]:
        """The bytes that the client needs; none where its range cannot be satisfied."""
        request, _ = self._request_for(stored)
        if "range" not in request.fields or not preconditions.range_applies(
            request.fields, stored, self._parts.clock.wall()
        ):
            return ((0, stored.length),)
        if stored.length is None:
            span = partial.span(request.fields)
            return () if span is None else (span,)
        plan = partial.plan(request.fields, stored.length)
        if isinstance(plan, partial.Parts):
            return tuple((part.start, part.end) for part in plan.slices)
        return ((0, stored.length),) if isinstance(plan, partial.Whole) else ()

    def has_gap(self, candidate: Candidate) -> bool:
        """Whether bytes must be fetched for this client."""
        body = self._assembled(candidate).body
        return isinstance(body, AssembledBody) and not body.reaches(self.wanted(candidate.stored))

    def _assembled(self, candidate: Candidate) -> Candidate:
        """The candidate as this client reads it: its gaps are fetched with this client's request."""
        body = candidate.body
        if isinstance(body, AssembledBody):
            assembly = body.assembly
        elif candidate.stored.held is not None:
            assembly = self._flights.fillings.assembly_of(candidate)
        else:
            return candidate
        fetch = self._flights.fillings.fetcher(self._asking.gap_plan(assembly.stored))
        return Candidate(
            assembly.stored, AssembledBody(assembly, fetch if assembly.is_resumable else None), candidate.tier
        )

    async def answer(
        self,
        candidate: Candidate,
        age: float,
        reason: Reason,
        *,
        collapsed: bool = False,
        cookies: Fields | None = None,
    ) -> tuple[Answer, Reason]:
        """The answer from `candidate`, and the reason, which is `partial` where a gap had to be fetched.

        Raises Damaged, NotHere, Instead, LookAgain.
        """
        request, coding = self._request_for(candidate.stored)
        candidate = self._assembled(candidate)
        body = candidate.body
        now = self._parts.clock.wall()
        is_head_only = request.method == "HEAD" or preconditions.is_not_modified(
            request.fields, candidate.stored, now
        )
        if isinstance(body, AssembledBody) and not is_head_only:
            wanted = self.wanted(candidate.stored)
            if not body.reaches(wanted):
                if self._asking.directives.only_if_cached:
                    raise ClientError(
                        504,
                        "only-if-cached, and only a part is stored",
                        kind=Reason.ONLY_IF_CACHED,
                    )
                reason = Reason.PARTIAL_HIT
            outcome = await body.prepare(wanted)
            if outcome is not None:
                await body.aclose()
                raise Instead(outcome)
            # The part's head may have brought newer fields.
            candidate = Candidate(body.assembly.stored, body, candidate.tier)
        answer: Answer | None = None
        try:
            answer = await answer_from(
                self._parts, request, candidate, age, reason, collapsed=collapsed, cookies=cookies
            )
        finally:
            if isinstance(body, AssembledBody) and (answer is None or answer.stream is None):
                await body.aclose()
        if coding is None:
            return answer, reason

        def damaged() -> None:
            self._flights.fillings.invalidate(candidate.stored.key)
            self._parts.store.discard(candidate)

        return await self.undo(answer, coding, damaged), reason

    async def undo(self, answer: Answer, coding: str, on_damage: Callable[[], None]) -> Answer:
        """The answer without its coding. Raises LookAgain where the content proves damaged.

        Once it does, now or after the head, nobody is given that again: `on_damage` drops it from the store.
        """

        def damaged() -> None:
            self._parts.recorder.store_failed("decoding")
            self._asking.give_up_upgrade(remember=True)
            on_damage()

        has_body = self._asking.request.method != "HEAD"
        try:
            return await decoded(answer, coding, self._parts.decoded_bytes, damaged, has_body=has_body)
        except NotDecodable:
            raise LookAgain from None
