"""One request from its head to its answer: admission, then the cache, or past it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cacheproxy.caching.key import bypass_reason
from cacheproxy.engine.admission import admit
from cacheproxy.engine.direct_path import DirectPath
from cacheproxy.engine.flights import Flights
from cacheproxy.engine.forward import Forwarder
from cacheproxy.engine.hop import OwnersEnd, SharedStore
from cacheproxy.engine.hot import HotEngine
from cacheproxy.engine.lookup import Lookup
from cacheproxy.engine.owners import Owners
from cacheproxy.engine.parts import Parts
from cacheproxy.engine.relay import Relay, Siblings
from cacheproxy.errors import ClientError, StoreError
from cacheproxy.http.dates import format_date
from cacheproxy.http.forwarding import end_to_end
from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.http.status_fields import cache_status
from cacheproxy.http.uri import TargetUri
from cacheproxy.ports import Answer, Exchange, Selector
from cacheproxy.ports.direct import DirectUpstream
from cacheproxy.reasons import Reason


class Engine:
    """Answers exchanges. `handle` raises ClientError, UpstreamError or ClientGone; the caller shows them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.flights = Flights(parts)
        self._forwarder = Forwarder(parts, self.flights)
        # Several workers: what others own, and how to purge in all of them.
        self.relay: Relay | None = None
        self.purge_everywhere: Callable[[Selector], Awaitable[int]] | None = None
        self.hot = HotEngine(parts, self.flights, self._forwarder.keep_codings)

    def join(
        self,
        owners: Owners,
        siblings: Siblings,
        store: SharedStore,
        purge_everywhere: Callable[[Selector], Awaitable[int]],
    ) -> OwnersEnd:
        """Be one of several workers; the owner's end of what the others pass on to this one."""
        self.relay = Relay(self._forwarder, self.flights, owners, siblings, store)
        self.purge_everywhere = purge_everywhere
        self.hot.owns = self.relay.owns
        return OwnersEnd(self.key_of, store)

    def direct_path(self, upstream: DirectUpstream, *, for_siblings: bool = False) -> DirectPath:
        """The way of plain requests that need no task; what comes from another worker does not go on to a third."""
        if self.relay is None:
            return DirectPath(self._forwarder, self.flights, upstream)
        hops = None if for_siblings else self.relay.hops
        return DirectPath(self._forwarder, self.flights, upstream, self.relay.owns, hops)

    async def handle(self, exchange: Exchange) -> Answer:
        """The answer to one request. Its stream must be closed."""
        own = admit(self._parts, exchange)
        record = exchange.record
        if own is not None:
            record.reason, record.tag = Reason.OPTIONS, "TCP_NONE"
            return own
        # What Connection nominates does not reach the origin, so it must not reach key and variant either.
        exchange.head = request = exchange.head.with_fields(end_to_end(exchange.head.fields))
        if request.method == "PURGE":
            return await self._purge(exchange)
        assert request.target is not None
        record.hierarchy = f"HIER_DIRECT/{request.target.origin.host}"
        bypass = _bypass(exchange)
        if self.relay is not None and (relayed := await self.relay.answer(exchange, bypass)) is not None:
            return relayed
        if bypass is not None:
            return await self._forwarder.forward(exchange, bypass)
        return await Lookup(self._forwarder, self.flights, exchange).run()

    async def _purge(self, exchange: Exchange) -> Answer:
        exchange.record.reason, exchange.record.tag = Reason.PURGE, "TCP_NONE"
        refused = self._parts.access.refuses_purge(exchange.client)
        if refused is not None:
            raise ClientError(403, refused, kind=Reason.HTTP_REQUEST_DENIED, close=exchange.body is not None)
        assert exchange.head.target is not None
        key = self.key_of(exchange.head.target)
        try:
            selector = Selector(urls=(key,))
            if self.purge_everywhere is not None:
                count = await self.purge_everywhere(selector)
            else:
                count = await self.purge(selector, dry_run=False, soft=False)
        except StoreError as error:
            detail = f"the store cannot be written: {error}"
            raise ClientError(500, detail, kind=Reason.PROXY_INTERNAL_ERROR) from error
        text = f"{count} stored response{'' if count == 1 else 's'} of {key} removed\n".encode("latin-1")
        fields = Fields(
            [
                ("Date", format_date(self._parts.clock.wall())),
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Via", f"1.1 {self._parts.via}"),
                ("Cache-Status", cache_status(detail="purge")),
            ]
        )
        head = ResponseHead(200, "OK", fields) if count else ResponseHead(404, "Not Found", fields)
        return Answer(head, content=text, length=len(text))

    def key_of(self, target: TargetUri) -> str:
        """The key under which a GET of `target` is stored."""
        return self._forwarder.key_of(target)

    async def purge(self, selector: Selector, *, dry_run: bool, soft: bool) -> int:
        """Remove stored responses; what is being fetched for them is not stored either. Raises StoreError."""
        on_their_way = 0 if dry_run else self.flights.invalidate_where(selector.matches)
        return on_their_way + await self._parts.store.purge(selector, dry_run=dry_run, soft=soft)


def _bypass(exchange: Exchange) -> Reason | None:
    """Why a request must not touch the store."""
    request = exchange.head
    if request.method not in ("GET", "HEAD"):
        return Reason.METHOD
    if exchange.body is not None:
        return Reason.REQUEST_BODY
    return bypass_reason(request.fields)
