"""The origin client: a request out, the response's head back, its body as it comes."""

from __future__ import annotations

import asyncio

from cacheproxy.caching.entry import Timing
from cacheproxy.errors import StaleConnection, UpstreamError
from cacheproxy.http.framing import Framing
from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.ports import Affinity, Clock, UpstreamRequest
from cacheproxy.reasons import Reason
from cacheproxy.tasks import TaskGroup
from cacheproxy.upstream.connection import OriginConnection
from cacheproxy.upstream.pool import Pool
from cacheproxy.upstream.response_parser import Data, Final, Interim

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


class OriginResponse:
    """A response whose head is here; its body is read straight from the connection."""

    def __init__(
        self,
        connection: OriginConnection,
        client: Client,
        request: UpstreamRequest,
        head: ResponseHead,
        framing: Framing,
        timing: Timing,
        sender: asyncio.Task[None] | None,
    ) -> None:
        self._connection: OriginConnection | None = connection
        self._client = client
        self._request = request
        self._head = head
        self._framing = framing
        self._timing = timing
        self._sender = sender
        self._is_private = connection.is_pinned
        self._is_public_peer = connection.is_public_peer

    @property
    def head(self) -> ResponseHead:
        """Status and fields as received."""
        return self._head

    @property
    def timing(self) -> Timing:
        """When the request left and the head came."""
        return self._timing

    @property
    def length(self) -> int | None:
        """Bytes of body announced; None where there can be none (HEAD, 204, 304)."""
        has_body = self._request.method != "HEAD" and self._head.status not in (204, 304)
        return self._framing.length if has_body else None

    @property
    def is_close_delimited(self) -> bool:
        """Whether only the connection's end frames the body."""
        return self._framing.length is None and not self._framing.chunked

    @property
    def is_private_connection(self) -> bool:
        """Whether the connection belongs to one client."""
        return self._is_private

    @property
    def is_public_peer(self) -> bool:
        """Whether the origin's address is a global one."""
        return self._is_public_peer

    async def read(self) -> bytes:
        """The next piece; empty at the proven end."""
        connection = self._connection
        if connection is None:
            return b""
        try:
            if connection.has_event:
                event = await connection.next_event()
            else:
                async with asyncio.timeout(self._request.idle_s):
                    event = await connection.next_event()
        except TimeoutError:
            self.close()
            raise UpstreamError(
                Reason.CONNECTION_READ_TIMEOUT,
                self._request.origin.host,
                f"the origin sent nothing for {self._request.idle_s:g} s in the middle of its response",
                before_head=False,
            ) from None
        except UpstreamError as error:
            self.close()
            error.before_head = False
            raise
        except BaseException:
            self.close()
            raise
        if isinstance(event, Data):
            return event.piece
        self._end(connection)
        return b""

    def _end(self, connection: OriginConnection) -> None:
        self._connection = None
        self._stop_sending()
        self._client.done(connection, self._request.affinity)

    def whole(self) -> bytes | None:
        """The whole body where it came with the head; after that the response is over."""
        connection = self._connection
        content = None if connection is None else connection.rest()
        if connection is not None and content is not None:
            self._end(connection)
        return content

    def _stop_sending(self) -> None:
        if self._sender is not None and not self._sender.done():
            self._sender.cancel()

    def close(self) -> None:
        """Give up; an unread rest closes the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._stop_sending()
            self._client.drop(connection, self._request.affinity)


class Client:
    """Fetches over pooled connections."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._senders = TaskGroup("upstream")

    async def fetch(self, request: UpstreamRequest) -> OriginResponse:
        """Send the request and return with the final head. Raises UpstreamError, ClientGone.

        A request without a body that may be repeated is tried once more, on a new connection, where a
        pooled one turns out to have been closed by the origin meanwhile (RFC 9112 §9.3.1).
        """
        repeatable = request.method in _IDEMPOTENT and request.body is None
        connection = self._pinned(request)
        if connection is None and repeatable and not _uses_connection_auth(request.fields):
            connection = self._pool.idle(request.origin)
        if connection is not None:
            try:
                return await self._exchange(connection, request)
            except StaleConnection:
                if not repeatable:
                    raise
        return await self._exchange(await self._pool.connect(request.origin), request)

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
        request_time = self._clock.wall()
        sender: asyncio.Task[None] | None = None
        renewal: _Renewal | None = None
        if _uses_connection_auth(request.fields):
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
                raise UpstreamError(
                    Reason.HTTP_RESPONSE_TIMEOUT,
                    request.origin.host,
                    f"connected, but no response within {request.first_byte_s:g} s",
                ) from None
            raise
        assert isinstance(event, Final)
        if _starts_connection_auth(event.head):
            self._pin(connection, request.affinity)
        timing = Timing(request_time, self._clock.wall())
        return OriginResponse(connection, self, request, event.head, event.framing, timing, sender)

    @staticmethod
    def _pin(connection: OriginConnection, affinity: Affinity | None) -> None:
        # RFC 4559 §6: the connection itself is authenticated, so nobody else may ever use it.
        connection.is_pinned = True
        if affinity is not None and not affinity.is_closed:
            affinity.pinned[connection.origin] = connection

    def done(self, connection: OriginConnection, affinity: Affinity | None) -> None:
        """The response is whole: keep the connection for its owner, or for everybody."""
        if not connection.is_pinned:
            self._pool.release(connection)
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
        await self._senders.close()
        self._pool.close()


def _is_connection_scheme(value: str) -> bool:
    return value.split(" ", 1)[0].lower() in ("ntlm", "negotiate", "nego2")


def _uses_connection_auth(fields: Fields) -> bool:
    return any(_is_connection_scheme(value) for value in fields.all("authorization"))


def _starts_connection_auth(head: ResponseHead) -> bool:
    if head.status != 401:
        return False
    return any(
        _is_connection_scheme(part.strip(" \t"))
        for value in head.fields.all("www-authenticate")
        for part in value.split(",")
    )
