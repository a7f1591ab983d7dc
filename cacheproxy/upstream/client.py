"""The origin client: a request out, the response's head back, its body as it comes."""

from __future__ import annotations

import asyncio

from cacheproxy.caching.entry import Timing
from cacheproxy.cork import Cork
from cacheproxy.errors import StaleConnection
from cacheproxy.http.forwarding import is_connection_scheme, uses_connection_auth
from cacheproxy.http.message import ResponseHead
from cacheproxy.http.uri import Origin
from cacheproxy.policy.rules import Timeouts
from cacheproxy.ports import Affinity, Clock, UpstreamRequest
from cacheproxy.ports.direct import ResponseSink
from cacheproxy.tasks import TaskGroup
from cacheproxy.upstream.connection import OriginConnection
from cacheproxy.upstream.deadlines import Deadlines
from cacheproxy.upstream.direct import DirectFetch
from cacheproxy.upstream.pool import Pool
from cacheproxy.upstream.response import Asked, OriginResponse, WholeResponse, no_response
from cacheproxy.upstream.response_parser import Final, Interim, Whole

# RFC 9110 §9.2.2; a body makes even these unrepeatable, for it is read once.
_IDEMPOTENT = frozenset(
    {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PROPFIND", "QUERY", "SEARCH", "REPORT"}
)


class _Renewal:
    """While the request's body goes out, each piece gives the origin its full time again; then no more."""

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self.is_over = False

    def __call__(self) -> None:
        if not self.is_over and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + self._seconds)


class Client:
    """Fetches over pooled connections."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self.pool = pool
        self.clock = clock
        self._senders = TaskGroup("upstream")
        self.deadlines = Deadlines()
        self.cork = Cork()

    async def fetch(self, request: UpstreamRequest) -> OriginResponse:
        """Send the request and return with the final head. Raises UpstreamError, ClientGone.

        A request without a body that may be repeated is tried once more, on a new connection, where a
        pooled one turns out to have been closed by the origin meanwhile (RFC 9112 §9.3.1).
        """
        repeatable = request.method in _IDEMPOTENT and request.body is None
        connection = self._pinned(request)
        if connection is None and repeatable and not uses_connection_auth(request.fields):
            connection = await self.pool.obtain(request.origin)
        if connection is not None:
            try:
                return await self._exchange(connection, request)
            except StaleConnection:
                if not repeatable:
                    raise
        return await self._exchange(await self.pool.connect(request.origin), request)

    def _pinned(self, request: UpstreamRequest) -> OriginConnection | None:
        if request.affinity is None:
            return None
        pinned = request.affinity.pinned.get(request.origin)
        if not isinstance(pinned, OriginConnection):
            return None
        if pinned.is_usable and pinned.is_quiet:
            return pinned
        del request.affinity.pinned[request.origin]
        pinned.close()
        return None

    async def _exchange(self, connection: OriginConnection, request: UpstreamRequest) -> OriginResponse:
        request_time = self.clock.wall()
        sender: asyncio.Task[None] | None = None
        renewal: _Renewal | None = None
        if uses_connection_auth(request.fields):
            self._pin(connection, request.affinity)
        try:
            async with asyncio.timeout(request.first_byte_s) as limit:
                connection.begin(request)
                if request.body is not None:
                    renewal = _Renewal(limit, request.first_byte_s)
                    sender = self._senders.spawn("body", connection.send_body(request, renewal))
                while True:
                    event = await connection.next_event()
                    if isinstance(event, Interim):
                        if request.on_interim is not None:
                            request.on_interim(event.head)
                    else:
                        break
                if renewal is not None:
                    renewal.is_over = True
        except BaseException as error:
            if sender is not None:
                sender.cancel()
            self.drop(connection, request.affinity)
            if isinstance(error, TimeoutError):
                raise no_response(request.origin.host, request.first_byte_s) from None
            raise
        assert isinstance(event, Final)
        asked = Asked(request.origin.host, request.idle_s, request.affinity, request.method == "HEAD")
        return self.responded(connection, asked, event, request_time, sender)

    def responded(
        self,
        connection: OriginConnection,
        asked: Asked,
        final: Final,
        request_time: float,
        sender: asyncio.Task[None] | None = None,
    ) -> OriginResponse:
        """The response whose head has come just now over `connection`."""
        if _starts_connection_auth(final.head):
            self._pin(connection, asked.affinity)
        timing = Timing(request_time, self.clock.wall())
        return OriginResponse(connection, self, asked, final, timing, sender)

    def whole(
        self,
        connection: OriginConnection,
        affinity: Affinity | None,
        whole: Whole,
        request_time: float,
    ) -> WholeResponse:
        """The response to a GET that has come at once to its end."""
        head = whole.head
        if head.status == 401 and _starts_connection_auth(head):
            self._pin(connection, affinity)
        response = WholeResponse(connection, whole, request_time, self.clock.wall())
        if connection.is_pinned:
            self.done(connection, affinity)
        else:
            self.pool.release(connection)
        return response

    def begin(
        self, origin: Origin, limits: Timeouts, head: bytes, sink: ResponseSink, affinity: Affinity | None
    ) -> DirectFetch | None:
        """Send a GET, whose head is `head`, on an idle connection, once there is one; `sink` hears of the response without a task.

        None where a new connection may be made: `fetch` does it. A stale connection is the sink's to know.
        """
        connection = self.pool.take(origin)
        if connection is None and not self.pool.must_wait(origin):
            return None
        fetch = DirectFetch(self, origin, limits, head, sink, affinity)
        if connection is not None:
            fetch.given(connection)
        else:
            fetch.wait()
        return fetch

    @staticmethod
    def _pin(connection: OriginConnection, affinity: Affinity | None) -> None:
        # RFC 4559 §6: the connection itself is authenticated, so nobody else may ever use it.
        connection.is_pinned = True
        if affinity is not None and not affinity.is_closed:
            affinity.pinned[connection.origin] = connection

    def done(self, connection: OriginConnection, affinity: Affinity | None) -> None:
        """The response is whole: keep the connection for its owner, or for everybody."""
        if not connection.is_pinned:
            self.pool.release(connection)
        elif affinity is None or affinity.is_closed or not connection.may_be_reused:
            self.drop(connection, affinity)

    @staticmethod
    def drop(connection: OriginConnection, affinity: Affinity | None) -> None:
        """Close a connection that must not be used again."""
        if (
            connection.is_pinned
            and affinity is not None
            and affinity.pinned.get(connection.origin) is connection
        ):
            del affinity.pinned[connection.origin]
        connection.close()

    async def close(self) -> None:
        """Stop sending bodies, close idle connections."""
        self.deadlines.close()
        await self._senders.close()
        self.pool.close()


def _starts_connection_auth(head: ResponseHead) -> bool:
    if head.status != 401:
        return False
    return any(
        is_connection_scheme(part.strip(" \t"))
        for value in head.fields.all("www-authenticate")
        for part in value.split(",")
    )
