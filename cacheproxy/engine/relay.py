"""Several workers, one cache: a key has one owner, and a request for it that came to another worker goes there.

The hop is HTTP over a Unix socket; `engine.hop` has the field that both ends tell each other things in.
"""

from __future__ import annotations

from typing import Protocol

from cacheproxy.caching import reuse
from cacheproxy.caching.reuse import ServeStored
from cacheproxy.engine.asking import Asking
from cacheproxy.engine.delivery import Delivery, Instead, LookAgain
from cacheproxy.engine.direct_hop import DirectHops
from cacheproxy.engine.flights import Flights
from cacheproxy.engine.forward import Forwarder, ResponseStream
from cacheproxy.engine.hop import HOP_FIELD, SharedStore, Told, question
from cacheproxy.engine.owners import Owners
from cacheproxy.engine.serving import Damaged, NotHere
from cacheproxy.engine.tags import hit_tag
from cacheproxy.errors import StoreError, UpstreamError
from cacheproxy.http.forwarding import end_to_end, uses_connection_auth
from cacheproxy.http.message import ResponseHead
from cacheproxy.ports import Answer, Exchange, Upstream, UpstreamRequest, UpstreamResponse
from cacheproxy.ports.direct import DirectUpstream
from cacheproxy.reasons import Reason

_SAFE = frozenset({"OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"})


class Siblings(Upstream, DirectUpstream, Protocol):
    """The ways to the other workers."""


class Relay:
    """Answers what others own: from a copy in memory, else through the owner."""

    def __init__(
        self,
        forwarder: Forwarder,
        flights: Flights,
        owners: Owners,
        siblings: Siblings,
        store: SharedStore,
    ) -> None:
        self._forwarder = forwarder
        self._flights = flights
        self._parts = forwarder.parts
        self._owners = owners
        self._siblings = siblings
        self._store = store
        self.hops = DirectHops(forwarder.parts, owners, siblings, store)

    def owns(self, key: str) -> bool:
        """Whether this worker fetches what is under a key."""
        return self._owners.owns(key)

    async def answer(self, exchange: Exchange, bypass: Reason | None) -> Answer | None:
        """The answer; None where this worker answers like an only one. Raises as the engine does."""
        request = exchange.head
        target = request.target
        if target is None or (bypass is not None and (bypass is not Reason.METHOD or request.method in _SAFE)):
            return None
        key = self._forwarder.key_of(target)
        if self._owners.owns(key):
            return None
        if target.origin in exchange.affinity.pinned or uses_connection_auth(request.fields):
            # The client's own connection to the origin is here (RFC 4559): nothing of it is stored.
            return await self._forwarder.forward(exchange, bypass or Reason.AUTHORIZATION)
        if bypass is None:
            found = await self._from_copy(exchange)
            if found is not None:
                return found
        return await self._from_owner(exchange, key, bypass)

    async def _from_copy(self, exchange: Exchange) -> Answer | None:
        asking = Asking(self._forwarder, exchange)
        found = self._store.lookup_memory(asking.key)
        chosen = asking.choose(found) if found else None
        if chosen is None:
            return None
        decision = reuse.decide(asking.directives, chosen, True, self._parts.clock.wall())
        if not isinstance(decision, ServeStored) or decision.revalidate or decision.reason is not Reason.HIT:
            return None
        candidate = next(one for one in found if one.stored is chosen)
        try:
            answer, _ = await Delivery(self._parts, self._flights, asking).answer(
                candidate, decision.age, decision.reason
            )
        except (Damaged, LookAgain, NotHere, Instead, StoreError):
            return None
        self._store.touch(candidate.stored)
        record = exchange.record
        record.reason = decision.reason
        record.tag = hit_tag(decision.reason, candidate.tier, answer.head.status)
        record.hierarchy = "HIER_NONE/-"
        return answer

    async def _from_owner(self, exchange: Exchange, key: str, bypass: Reason | None) -> Answer:
        drops = self._store.drops
        try:
            response = await self._siblings.fetch(self._hop(exchange, key))
        except UpstreamError:
            # The owner has died: its replacement takes the same socket. What may not be repeated is not.
            if exchange.body is not None or exchange.head.method not in ("GET", "HEAD"):
                raise
            try:
                response = await self._siblings.fetch(self._hop(exchange, key))
            except UpstreamError:
                return await self._forwarder.forward(exchange, bypass or Reason.STORE_FAILED)
        fields = end_to_end(response.head.fields)
        told = Told(response.head)
        told.fill(exchange.record)
        head = ResponseHead(response.head.status, response.head.reason_phrase, fields.without((HOP_FIELD,)))
        must_close = told.must_close
        if (lent := told.lent) is not None and response.length is not None:
            return await self._kept(key, response, head, lent, drops)
        content = response.whole()
        if content is not None:
            return Answer(head, content=content, length=response.length, must_close=must_close)
        stream = ResponseStream(response)
        return Answer(head, stream=stream, length=response.length, must_close=must_close)

    async def _kept(
        self, key: str, response: UpstreamResponse, head: ResponseHead, lent: tuple[int, bytes], drops: int
    ) -> Answer:
        content = response.whole()
        if content is None:
            pieces: list[bytes] = []
            try:
                while piece := await response.read():
                    pieces.append(piece)
            except BaseException:
                response.close()
                raise
            content = b"".join(pieces)
        self._store.keep_copy(key, *lent, content, self._parts.caching, drops)
        return Answer(head, content=content, length=len(content))

    def _hop(self, exchange: Exchange, key: str) -> UpstreamRequest:
        request = exchange.head
        assert request.target is not None
        fields = request.fields.without((HOP_FIELD,))
        fields = fields.replaced("Host", request.target.origin.authority)
        fields = fields.plus((HOP_FIELD, question(exchange.client, request.version)))
        if exchange.framing.chunked:
            fields = fields.plus(("Transfer-Encoding", "chunked"))
        hop = self._owners.request(key, request, self._parts)
        hop.fields, hop.framing, hop.body = fields, exchange.framing, exchange.body
        hop.on_interim = exchange.on_interim
        return hop
