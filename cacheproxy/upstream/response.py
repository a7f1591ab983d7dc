"""A response whose head is here: its body as it is asked for, or given to whoever follows it."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from cacheproxy.caching.entry import Timing
from cacheproxy.errors import ClientGone, UpstreamError
from cacheproxy.http.message import ResponseHead
from cacheproxy.ports import Affinity
from cacheproxy.ports.direct import BodySink
from cacheproxy.reasons import Reason
from cacheproxy.upstream.connection import OriginConnection
from cacheproxy.upstream.deadlines import Deadlines
from cacheproxy.upstream.response_parser import Data, Final, Whole


class Owner(Protocol):
    """Who takes connections back."""

    deadlines: Deadlines

    def done(self, connection: OriginConnection, affinity: Affinity | None) -> None:
        """The response is whole."""

    def drop(self, connection: OriginConnection, affinity: Affinity | None) -> None:
        """The connection must not be used again."""


class Asked(NamedTuple):
    """What a response still needs of its request."""

    host: str
    idle_s: float
    affinity: Affinity | None = None
    is_head: bool = False


def no_response(host: str, first_byte_s: float) -> UpstreamError:
    """The error of an origin that took the request and keeps silent."""
    return UpstreamError(
        Reason.HTTP_RESPONSE_TIMEOUT, host, f"connected, but no response within {first_byte_s:g} s"
    )


class OriginResponse:
    """A response whose head is here; its body is read straight from the connection."""

    __slots__ = (
        "_asked",
        "_connection",
        "_framing",
        "_head",
        "_is_held",
        "_is_private",
        "_is_public_peer",
        "_owner",
        "_sender",
        "_sink",
        "_timing",
        "facts",
    )

    def __init__(
        self,
        connection: OriginConnection,
        owner: Owner,
        asked: Asked,
        final: Final,
        timing: Timing,
        sender: asyncio.Task[None] | None,
    ) -> None:
        self._connection: OriginConnection | None = connection
        self._owner = owner
        self._asked = asked
        self._head = final.head
        self.facts = final.facts
        self._framing = final.framing
        self._timing = timing
        self._sender = sender
        self._is_private = connection.is_pinned
        self._is_public_peer = connection.is_public_peer
        self._sink: BodySink | None = None
        self._is_held = False

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
        has_body = not self._asked.is_head and self._head.status not in (204, 304)
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
                async with asyncio.timeout(self._asked.idle_s):
                    event = await connection.next_event()
        except TimeoutError:
            self.close()
            raise self._stalled() from None
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

    def _stalled(self) -> UpstreamError:
        return UpstreamError(
            Reason.CONNECTION_READ_TIMEOUT,
            self._asked.host,
            f"the origin sent nothing for {self._asked.idle_s:g} s in the middle of its response",
            before_head=False,
        )

    # the body given instead of asked for

    def follow(self, sink: BodySink) -> None:
        """Give the body to `sink` as it comes, in place of `read`."""
        assert self._connection is not None
        self._sink = sink
        self._connection.listener = self._heard
        self._heard()

    def hold(self) -> None:
        """Give nothing for now; the origin waits once enough has come."""
        self._is_held = True
        self._owner.deadlines.forget(self)

    def go_on(self) -> None:
        """Give what has come meanwhile, and what comes."""
        if self._is_held:
            self._is_held = False
            self._heard()

    def _heard(self) -> None:
        sink = self._sink
        assert sink is not None
        try:
            while not self._is_held and (connection := self._connection) is not None:
                event = connection.take_event()
                if event is None:
                    self._owner.deadlines.set(self, self._asked.idle_s)
                    return
                if isinstance(event, Data):
                    sink.body(event.piece)
                else:
                    self._end(connection)
                    sink.ended()
        except (UpstreamError, ClientGone) as error:
            self.close()
            if isinstance(error, UpstreamError):
                error.before_head = False
            sink.failed(error)

    def overdue(self) -> None:
        """The origin has sent nothing for too long."""
        self.close()
        if self._sink is not None:
            self._sink.failed(self._stalled())

    def _leave(self, connection: OriginConnection) -> None:
        if self._sink is not None:
            connection.listener = None
            self._owner.deadlines.forget(self)

    def _end(self, connection: OriginConnection) -> None:
        self._connection = None
        self._leave(connection)
        self._stop_sending()
        self._owner.done(connection, self._asked.affinity)

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
            self._leave(connection)
            self._stop_sending()
            self._owner.drop(connection, self._asked.affinity)


class WholeResponse:
    """A response to a GET that came at once to its proven end; nothing is left to wait for, or to close."""

    __slots__ = (
        "_content",
        "_framing",
        "_request_time",
        "_response_time",
        "_size",
        "facts",
        "head",
        "is_private_connection",
        "is_public_peer",
    )

    def __init__(
        self,
        connection: OriginConnection,
        whole: Whole,
        request_time: float,
        response_time: float,
    ) -> None:
        self.head, self.facts, self._content, self._framing = whole
        self._size = len(self._content)
        self._request_time = request_time
        self._response_time = response_time
        self.is_private_connection = connection.is_pinned
        self.is_public_peer = connection.is_public_peer

    @property
    def timing(self) -> Timing:
        """When the request left and the head came."""
        return Timing(self._request_time, self._response_time)

    @property
    def length(self) -> int | None:
        """Bytes of body announced; None where there can be none (204, 304), or they were not announced."""
        if self._framing is None:
            return self._size
        return None if self.head.status in (204, 304) else self._framing.length

    @property
    def is_close_delimited(self) -> bool:
        """Never: that has no end of its own."""
        return False

    async def read(self) -> bytes:
        """The body, then empty."""
        return self.whole()

    def whole(self) -> bytes:
        """The body, once."""
        content, self._content = self._content, b""
        return content

    def follow(self, sink: BodySink) -> None:
        """Give the body to `sink`."""
        if content := self.whole():
            sink.body(content)
        sink.ended()

    def hold(self) -> None:
        """Nothing more comes."""

    def go_on(self) -> None:
        """Nothing more comes."""

    def close(self) -> None:
        """The connection has been given back."""
