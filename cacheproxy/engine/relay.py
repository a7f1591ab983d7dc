"""Several workers, one cache: a key has one owner, and a request for it that came to another worker goes there.

The hop is HTTP over a Unix socket. `HOP_FIELD` carries what the client's connection knows to the owner and what the
owner's exchange found out back; it is read only from Unix sockets, which only processes of this proxy can open.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import Any, Protocol

from cacheproxy.caching import reuse
from cacheproxy.caching.reuse import ServeStored
from cacheproxy.engine.asking import Asking
from cacheproxy.engine.delivery import Delivery, Instead, LookAgain
from cacheproxy.engine.flight import Flights
from cacheproxy.engine.forward import Forwarder, ResponseStream
from cacheproxy.engine.serving import Damaged, NotHere
from cacheproxy.engine.tags import hit_tag
from cacheproxy.errors import StoreError, UpstreamError
from cacheproxy.http.forwarding import end_to_end
from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.http.uri import Origin
from cacheproxy.policy.rules import timeouts_for
from cacheproxy.ports import Answer, Exchange, Store, Upstream, UpstreamRequest, UpstreamResponse
from cacheproxy.reasons import Reason

HOP_FIELD = "cacheproxy-hop"
_SAFE = frozenset({"OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"})
_CONNECTION_AUTH = ("ntlm", "negotiate")


class SharedStore(Store, Protocol):
    """A store that lends copies, and keeps those of other workers' responses."""

    drops: int

    def lend(self, key: str, content: bytes) -> tuple[int, bytes] | None:
        """(entry id, head) of the response under `key` with that very body."""

    def keep_copy(self, key: str, entry_id: int, head: bytes, content: bytes, options: Any, drops: int) -> None:
        """Keep what was lent."""


@dataclass(frozen=True, slots=True)
class Owners:
    """Who owns which key: `count` workers, of which this is number `me`."""

    me: int
    count: int

    def of(self, key: str) -> int:
        """The owner's number."""
        return zlib.crc32(key.encode("utf-8", "surrogateescape")) % self.count

    def owns(self, key: str) -> bool:
        """Whether it is this worker."""
        return self.of(key) == self.me


def socket_name(number: int) -> str:
    """The Unix socket of a worker, in the directory of sockets."""
    return f"worker-{number}.sock"


def hop_value(known: dict[str, Any]) -> str:
    """Values as a field's content."""
    return json.dumps(known, separators=(",", ":"))


class Relay:
    """Answers what others own: from a copy in memory, else through the owner."""

    def __init__(
        self,
        forwarder: Forwarder,
        flights: Flights,
        owners: Owners,
        siblings: Upstream,
        store: SharedStore,
    ) -> None:
        self._forwarder = forwarder
        self._flights = flights
        self._parts = forwarder.parts
        self._owners = owners
        self._siblings = siblings
        self._store = store

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
        owner = self._owners.of(key)
        if owner == self._owners.me:
            return None
        if target.origin in exchange.affinity.pinned or _uses_connection_auth(request.fields):
            # The client's own connection to the origin is here (RFC 4559): nothing of it is stored.
            return await self._forwarder.forward(exchange, bypass or Reason.AUTHORIZATION)
        if bypass is None:
            found = await self._from_copy(exchange)
            if found is not None:
                return found
        return await self._from_owner(exchange, key, owner, bypass)

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
        self._store.touch(candidate)
        record = exchange.record
        record.reason = decision.reason
        record.tag = hit_tag(decision.reason, candidate.tier, answer.head.status)
        record.hierarchy = "HIER_NONE/-"
        return answer

    async def _from_owner(self, exchange: Exchange, key: str, owner: int, bypass: Reason | None) -> Answer:
        drops = self._store.drops
        try:
            response = await self._siblings.fetch(self._hop(exchange, owner))
        except UpstreamError:
            # The owner has died: its replacement takes the same socket. What may not be repeated is not.
            if exchange.body is not None or exchange.head.method not in ("GET", "HEAD"):
                raise
            try:
                response = await self._siblings.fetch(self._hop(exchange, owner))
            except UpstreamError:
                return await self._forwarder.forward(exchange, bypass or Reason.STORE_FAILED)
        fields = end_to_end(response.head.fields)
        known = _read(fields.all(HOP_FIELD))
        fields = fields.without((HOP_FIELD,))
        _fill_record(exchange, known)
        head = ResponseHead(response.head.status, response.head.reason_phrase, fields)
        must_close = known.get("close") is True
        if "lent" in known and response.length is not None:
            return await self._kept(key, response, head, known["lent"], drops)
        content = response.whole()
        if content is not None:
            return Answer(head, content=content, length=response.length, must_close=must_close)
        stream = ResponseStream(response)
        return Answer(head, stream=stream, length=response.length, must_close=must_close)

    async def _kept(
        self, key: str, response: UpstreamResponse, head: ResponseHead, lent: list[Any], drops: int
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
        stored_head = base64.b64decode(lent[1])
        self._store.keep_copy(key, lent[0], stored_head, content, self._parts.caching, drops)
        return Answer(head, content=content, length=len(content))

    def _hop(self, exchange: Exchange, owner: int) -> UpstreamRequest:
        request = exchange.head
        assert request.target is not None
        known = {"client": exchange.client, "version": request.version}
        fields = request.fields.without((HOP_FIELD,))
        fields = fields.replaced("Host", request.target.origin.authority)
        fields = fields.plus((HOP_FIELD, hop_value(known)))
        if exchange.framing.chunked:
            fields = fields.plus(("Transfer-Encoding", "chunked"))
        # The owner keeps the origin's deadlines; this one is for an owner that stands still.
        limits = timeouts_for(request.target, self._parts.rules, self._parts.timeouts)
        return UpstreamRequest(
            origin=Origin("http", socket_name(owner), 80),
            method=request.method,
            request_target=request.request_target,
            fields=fields,
            first_byte_s=60 + 4 * limits.first_byte_s,
            idle_s=60 + 4 * limits.idle_s,
            framing=exchange.framing,
            body=exchange.body,
            on_interim=exchange.on_interim,
        )


def _uses_connection_auth(fields: Fields) -> bool:
    return any(value.lower().startswith(_CONNECTION_AUTH) for value in fields.all("authorization"))


def _read(values: tuple[str, ...]) -> dict[str, Any]:
    # The owner's own line is the only one: it removes any that an origin sent.
    found = json.loads(values[0]) if len(values) == 1 else {}
    return found if isinstance(found, dict) else {}


def _fill_record(exchange: Exchange, known: dict[str, Any]) -> None:
    record = exchange.record
    if "reason" in known:
        record.reason = Reason(known["reason"])
        record.tag, record.hierarchy = known["tag"], known["hierarchy"]
        record.was_collapsed = known["collapsed"]


class OwnersEnd:
    """The owner's end of a hop: takes the client's address out of the request, puts what happened into the answer."""

    def __init__(self, forwarder: Forwarder, store: SharedStore) -> None:
        self._forwarder = forwarder
        self._store = store

    def arrived(self, exchange: Exchange) -> None:
        """Make the exchange what it was for the client's worker."""
        known = _read(exchange.head.fields.all(HOP_FIELD))
        fields = exchange.head.fields.without((HOP_FIELD,))
        major, minor = known["version"]
        exchange.head = exchange.head._replace(fields=fields, version=(major, minor))
        exchange.client = exchange.record.client = str(known["client"])

    def leaves(self, exchange: Exchange, answer: Answer) -> Answer:
        """The answer with what the client's worker must know."""
        record = exchange.record
        known: dict[str, Any] = {
            "reason": str(record.reason),
            "tag": record.tag,
            "hierarchy": record.hierarchy,
            "collapsed": record.was_collapsed,
        }
        if answer.must_close:
            known["close"] = True
        target = exchange.head.target
        if (
            answer.stream is None
            and answer.head.status == 200
            and exchange.head.method == "GET"
            and record.reason is Reason.HIT
            and target is not None
        ):
            lent = self._store.lend(self._forwarder.key_of(target), answer.content)
            if lent is not None:
                known["lent"] = [lent[0], base64.b64encode(lent[1]).decode("ascii")]
        fields = answer.head.fields.without((HOP_FIELD,)).plus((HOP_FIELD, hop_value(known)))
        answer.head = answer.head.with_fields(fields)
        answer.must_close = False
        return answer
