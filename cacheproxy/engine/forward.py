"""Requests towards the origin: what goes out, and answers that come straight from there."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cacheproxy.caching import invalidation, storing
from cacheproxy.caching.key import has_routing_field
from cacheproxy.caching.storing import Store
from cacheproxy.engine.admission import lowered_max_forwards
from cacheproxy.engine.answers import forwarded_head
from cacheproxy.engine.flights import Flights
from cacheproxy.engine.lately import Lately
from cacheproxy.engine.outcome import Filling, Plan, Private
from cacheproxy.engine.parts import Parts
from cacheproxy.engine.streams import close_stream
from cacheproxy.http.cache_control import parse_request_directives
from cacheproxy.http.forwarding import outbound_request_fields
from cacheproxy.http.message import RequestHead
from cacheproxy.http.uri import TargetUri
from cacheproxy.policy.rules import placed, timeouts_for
from cacheproxy.ports import Answer, Exchange, Interim, UpstreamRequest, UpstreamResponse
from cacheproxy.reasons import Reason


class ResponseStream:
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


_KEEP_CODINGS_S = 3600.0


class Forwarder:
    """Forwards exchanges; invalidates what unsafe methods change."""

    def __init__(self, parts: Parts, flights: Flights) -> None:
        self.parts = parts
        self._flights = flights
        # Hosts whose codings could not be undone: there clients' own Accept-Encoding goes out for a while.
        self.keep_codings = Lately(parts.unshareable_keys, _KEEP_CODINGS_S, parts.monotonic)

    def outgoing(
        self, exchange: Exchange, *, on_interim: Interim | None, request: RequestHead | None = None
    ) -> UpstreamRequest:
        """The request as the origin gets it, without conditions of ours; `request` in place of the client's."""
        request = request or exchange.head
        target = request.target
        assert target is not None
        fields = lowered_max_forwards(request.fields, request.method)
        if exchange.body is None and "expect" in fields:
            fields = fields.without(("expect",))
        outbound = outbound_request_fields(fields, target.origin.authority, self.parts.via, request.version)
        if exchange.framing.chunked:
            outbound = outbound.plus(("Transfer-Encoding", "chunked"))
        limits = timeouts_for(target, self.parts.rules, self.parts.timeouts)
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

    def key_of(self, target: TargetUri) -> str:
        """The key under which a GET of `target` is stored."""
        return placed(target, self.parts.rules, self.parts.caching.drop_query).key

    async def forward(self, exchange: Exchange, reason: Reason) -> Answer:
        """The origin's answer, for this client; the store is touched only as the method demands."""
        response = await self.parts.upstream.fetch(self.outgoing(exchange, on_interim=exchange.on_interim))
        request = exchange.head
        exchange.record.reason = reason
        keys = invalidation.targets(request, response.head, self.key_of)
        for key in keys:
            self.parts.store.invalidate(key)
            self._flights.invalidate(key)
        # First of all: an answer that is whole frees its connection.
        answer = self._answer(exchange, response, reason)
        if keys:
            try:
                # Whoever has the answer must get the new state, whichever process answers next.
                await self.parts.store.invalidated()
            except BaseException:
                await close_stream(answer.stream)
                raise
        return answer

    def _answer(self, exchange: Exchange, response: UpstreamResponse, reason: Reason) -> Answer:
        request = exchange.head
        if request.method == "POST" and not has_routing_field(request.fields):
            # RFC 9110 §9.3.3: the answer to a POST may be what later GETs get.
            asked = parse_request_directives(request.fields)
            verdict = storing.decide(request, asked, response.head, response.timing, self.parts.caching)
            if isinstance(verdict, Store) and not response.is_private_connection:
                # Asking again would be another POST: what breaks off stays cut.
                outgoing = self.outgoing(exchange, on_interim=None)
                plan = Plan(request, asked, outgoing, verdict.stored.key, None)
                return self.filling_answer(self._flights.adopt(plan, response, verdict), reason)
        return self.private_answer(Private(response, reason), reason)

    def private_answer(self, outcome: Private, reason: Reason) -> Answer:
        """A response for one client alone."""
        head = forwarded_head(self.parts, outcome.response.head, reason, outcome.reason)
        content = outcome.response.whole()
        if content is not None:
            # One write, and nothing to wait for.
            return Answer(head, content=content, length=outcome.response.length)
        return Answer(head, stream=ResponseStream(outcome.response), length=outcome.response.length)

    def filling_answer(self, outcome: Filling, reason: Reason) -> Answer:
        """The answer for the client whose request started a flight: all that the origin sent, cookies too."""
        head = forwarded_head(self.parts, outcome.head, reason, outcome.reason)
        if outcome.content is not None:
            return Answer(head, content=outcome.content, length=outcome.length)
        return Answer(head, stream=outcome.reader, length=outcome.length)
