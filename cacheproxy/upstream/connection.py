"""One connection to an origin: sends a request, gives the response's events, knows if it may be used again."""

from __future__ import annotations

import asyncio
import ipaddress
import select
import socket
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Protocol

from cacheproxy.errors import ClientError, ClientGone, StaleConnection, SyntaxFault, UpstreamError
from cacheproxy.http.chunked import LAST_CHUNK, encode_chunk
from cacheproxy.http.uri import Origin
from cacheproxy.ports import Recorder, UpstreamRequest
from cacheproxy.reasons import Reason
from cacheproxy.sockets import kernel_bytes
from cacheproxy.upstream.response_parser import Data, End, Event, Final, Incomplete, ResponseParser, Whole

# Bytes of body held for a consumer that is behind, before the origin is made to wait.
_HIGH_WATER = 256 * 1024
_LOW_WATER = 64 * 1024


class WholeSink(Protocol):
    """Waits for a response, and takes one that comes at once."""

    def whole(self, whole: Whole) -> None:
        """The response is here to its last byte."""


class OriginConnection(asyncio.Protocol):
    """An asyncio protocol under one request at a time. The pool or an Affinity owns it while it is idle."""

    def __init__(
        self, origin: Origin, recorder: Recorder, on_closed: Callable[[OriginConnection], None]
    ) -> None:
        self.origin = origin
        self._on_closed = on_closed
        self.is_pinned = False
        self.exchanges = 0
        self.idle_since = 0.0
        self._recorder = recorder
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._socket: socket.socket | None = None
        self._parser = ResponseParser()
        self._events: deque[Event] = deque()
        self._buffered = 0
        self._waiter: asyncio.Future[None] | None = None
        # Called in place of waking whoever waits: it takes events with `take_event`.
        self.listener: Callable[[], None] | None = None
        # Given a response that comes whole, before any event of it is kept.
        self.whole_sink: WholeSink | None = None
        self._drained: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._is_reading_paused = False
        self._received = 0
        self._may_persist = False
        self._request_sent = True
        self.is_closed = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        if transport.get_extra_info("sslcontext") is None:
            self._socket = transport.get_extra_info("socket")

    @cached_property
    def is_public_peer(self) -> bool:
        """Whether the other end is on the internet."""
        peer = None if self._transport is None else self._transport.get_extra_info("peername")
        try:
            return isinstance(peer, tuple) and ipaddress.ip_address(peer[0].partition("%")[0]).is_global
        except ValueError:
            return False

    def data_received(self, data: bytes) -> None:
        count = len(data)
        self._received += count
        self._recorder.origin_received(count)
        parser = self._parser
        try:
            found = parser.take(data)
        except SyntaxFault as fault:
            self._fail(UpstreamError(Reason.HTTP_PROTOCOL_ERROR, self.origin.host, str(fault)))
            return
        if parser.has_surplus:
            # RFC 9112 §9.2: bytes that nobody asked for end the connection's use; they are no answer.
            self._may_persist = False
            if parser.is_idle and not found:
                self.close()
                return
        if isinstance(found, Whole):
            sink = self.whole_sink
            if sink is not None and not self._events:
                if not found.facts.persists:
                    self._may_persist = False
                sink.whole(found)
                return
            found = found.events()
        if found:
            self._events.extend(found)
            for event in found:
                if isinstance(event, Data):
                    self._buffered += len(event.piece)
            if self._buffered > _HIGH_WATER and not self._is_reading_paused and self._transport is not None:
                self._is_reading_paused = True
                self._transport.pause_reading()
            self._wake()

    def eof_received(self) -> None:
        self._end_of_input(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._count_unread()
        self._end_of_input(exc)
        self._mark_closed()
        self._transport = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # state

    def _end_of_input(self, exc: Exception | None) -> None:
        if self._failure is not None:
            return
        begun = self._parser.has_begun
        try:
            events = self._parser.feed_eof() if exc is None else []
            if exc is not None and not self._parser.is_idle:
                raise Incomplete("the connection was reset")
        except Incomplete as fault:
            kind = Reason.HTTP_RESPONSE_INCOMPLETE if begun else Reason.CONNECTION_TERMINATED
            error = StaleConnection if not begun and self.exchanges > 1 else UpstreamError
            self._fail(error(kind, self.origin.host, str(fault)))
            return
        self._may_persist = False
        self._events.extend(events)
        if not events and self._parser.is_idle:
            self._mark_closed()
        self._wake()

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
        self._may_persist = False
        self._wake()
        self.close()

    def _wake(self) -> None:
        if self.listener is not None:
            self.listener()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _count_unread(self) -> None:
        # What the kernel took in but we never read still crossed the line.
        counts = kernel_bytes(self._socket)
        self._socket = None
        if counts is not None and counts[1] > self._received:
            self._recorder.origin_received(counts[1] - self._received)
            self._received = counts[1]

    def _mark_closed(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._on_closed(self)

    def close(self) -> None:
        """Close at once; a request under way fails."""
        if not self.is_closed:
            self._mark_closed()
            if self._failure is None and not self._parser.is_idle:
                self._failure = UpstreamError(
                    Reason.CONNECTION_TERMINATED, self.origin.host, "the connection was closed"
                )
            if self._transport is not None:
                self._transport.abort()
            self._wake()

    @property
    def is_usable(self) -> bool:
        """Whether an idle connection may take another request."""
        return (
            not self.is_closed
            and self._failure is None
            and self._transport is not None
            and (not self._transport.is_closing() and not self._parser.has_surplus)
        )

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits to be read: unasked bytes, or the origin's end (RFC 9112 §9.2, §9.3.1).

        Asks the kernel: what arrived an instant ago has not come through the loop yet.
        """
        transport = self._transport
        if transport is None:
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not self._poll.poll(0)

    @property
    def may_be_reused(self) -> bool:
        """Whether, now that the response is whole, another request may follow."""
        transport, parser = self._transport, self._parser
        return (
            self._may_persist
            and self._request_sent
            and parser.is_idle
            and not parser.has_surplus
            and not self.is_closed
            and self._failure is None
            and transport is not None
            and not transport.is_closing()
        )

    # a request

    def begin(self, request: UpstreamRequest) -> None:
        """Write the head; the body follows with `send_body`."""
        lines = request.fields.wire()
        head = f"{request.method} {request.request_target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
        self.send_head(request.method, head, is_whole=request.body is None)

    def send_head(self, method: str, head: bytes, *, is_whole: bool) -> None:
        """Write the head of a request; `is_whole`: no body follows."""
        transport = self._transport
        assert transport is not None
        self.exchanges += 1
        self._may_persist = True
        self._request_sent = is_whole
        self._parser.start(method)
        transport.write(head)

    def ask(self, head: bytes) -> bool:
        """Send the head of a GET; False, and nothing sent, where the connection must not be used again."""
        transport, parser = self._transport, self._parser
        if self.is_closed or transport is None or parser.has_surplus or self._failure is not None:
            return False
        if transport.is_closing() or not self.is_quiet:
            return False
        self.exchanges += 1
        self._may_persist = self._request_sent = True
        parser.start("GET")
        transport.write(head)
        return True

    async def send_body(self, request: UpstreamRequest, progressed: Callable[[], None]) -> None:
        """Pass the client's body on with back-pressure; `progressed` is called for each piece."""
        body = request.body
        assert body is not None
        try:
            while piece := await body.read():
                await self._write(encode_chunk(piece) if request.framing.chunked else piece)
                progressed()
            if request.framing.chunked:
                await self._write(LAST_CHUNK)
            self._request_sent = True
        except (ClientGone, ClientError) as fault:
            # RFC 9112 §8: a truncated or malformed request is never completed.
            if self._failure is None:
                self._failure = fault
            self.close()
            self._wake()
        except Exception as error:
            # Never leave the origin waiting for a body that nobody sends any more.
            self._fail(UpstreamError(Reason.PROXY_INTERNAL_ERROR, self.origin.host, str(error)))
            raise

    async def _write(self, data: bytes) -> None:
        if self._drained is not None:
            await self._drained
        if self._transport is None or self.is_closed:
            # The response, or the failure, tells the reader why.
            await asyncio.get_running_loop().create_future()
            return
        self._transport.write(data)

    @property
    def has_event(self) -> bool:
        """Whether `next_event` would return at once."""
        return bool(self._events)

    def rest(self) -> bytes | None:
        """All that is left of the body where it is here already, its end included; else None."""
        events = self._events
        if not events or not isinstance(events[-1], End):
            return None
        pieces = [event.piece for event in events if isinstance(event, Data)]
        events.clear()
        self._buffered = 0
        if self._is_reading_paused and self._transport is not None:
            self._is_reading_paused = False
            self._transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def next_event(self) -> Event:
        """The next event of the response. Raises UpstreamError or ClientGone."""
        while (event := self.take_event()) is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return event

    def take_event(self) -> Event | None:
        """The next event if it is here. Raises UpstreamError or ClientGone where none will come."""
        if not self._events:
            if self._failure is not None:
                raise self._failure
            if self.is_closed:
                raise UpstreamError(Reason.CONNECTION_TERMINATED, self.origin.host, "the connection was closed")
            return None
        event = self._events.popleft()
        if isinstance(event, Data):
            self._buffered -= len(event.piece)
            if self._is_reading_paused and self._buffered <= _LOW_WATER and self._transport is not None:
                self._is_reading_paused = False
                self._transport.resume_reading()
        elif isinstance(event, Final):
            if not event.facts.persists:
                self._may_persist = False
        elif isinstance(event, End) and self._is_reading_paused and self._transport is not None:
            self._is_reading_paused = False
            self._transport.resume_reading()
        return event
