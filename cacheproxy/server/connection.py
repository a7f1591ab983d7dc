"""One client connection: aiohttp's RequestHandler with our own strict parser and writer in its place.

aiohttp's server keeps the connections and shuts them down; reading, framing and writing are ours because a
proxy needs every method, exact errors and exact bytes, which its parser does not give.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp.web_protocol import RequestHandler

from cacheproxy.engine.serving import close_stream
from cacheproxy.errors import CacheproxyError, ClientError, ClientGone, StoreError
from cacheproxy.http.chunked import LAST_CHUNK, encode_chunk
from cacheproxy.http.dates import format_date
from cacheproxy.http.forwarding import end_to_end
from cacheproxy.http.framing import request_framing
from cacheproxy.http.head import HeadLimits
from cacheproxy.http.message import RequestHead, ResponseHead
from cacheproxy.ports import Affinity, Answer, Clock, Exchange, ExchangeRecord, Recorder
from cacheproxy.reasons import Reason
from cacheproxy.server.answer_head import WireHead, wants_keep_alive, wire_head
from cacheproxy.server.failures import answer_to, kind_of
from cacheproxy.server.request_reader import BodyDecoder, RequestReader
from cacheproxy.sockets import kernel_bytes
from cacheproxy.tunnel.relay import RelayCount, relay

log = logging.getLogger("cacheproxy")

_READ_AHEAD_BYTES = 128 * 1024
_WRITE_BUFFER_BYTES = 64 * 1024
_LINGER_S = 2.0
_LINGER_BYTES = 1024 * 1024
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Deadlines in seconds, rates in bytes per second; what the reliability page asks for."""

    head_s: float = 10.0
    idle_s: float = 75.0
    body_s: float = 30.0
    body_rate: float = 1024.0
    body_rate_after_s: float = 60.0
    write_s: float = 300.0
    tunnel_idle_s: float = 900.0
    max_connections: int = 20_000
    limits: HeadLimits = field(default_factory=HeadLimits)


@dataclass(frozen=True, slots=True)
class Services:
    """What a connection calls: the engine, the tunnels' dialler, the clock, the counters."""

    handle: Callable[[Exchange], Awaitable[Answer]]
    open_tunnel: Callable[[RequestHead, str], Awaitable[socket.socket]]
    clock: Clock
    recorder: Recorder
    options: ConnectionOptions


class ClientConnection(RequestHandler):
    """Reads requests one at a time, answers each, keeps order under pipelining."""

    __slots__ = (
        "_affinity",
        "_answering",
        "_body",
        "_client",
        "_final_sent",
        "_has_eof",
        "_idle_again",
        "_input",
        "_is_aborted",
        "_is_read_paused",
        "_is_tunnel",
        "_reader",
        "_record",
        "_sent",
        "_services",
        "_socket",
        "_stopping",
    )

    def __init__(self, manager: Any, services: Services, loop: asyncio.AbstractEventLoop) -> None:
        # keepalive_timeout=0 turns aiohttp's own timers off: every deadline is ours.
        super().__init__(manager, loop=loop, keepalive_timeout=0, access_log=None)  # type: ignore[arg-type]
        self._parser = None
        self._services = services
        self._reader = RequestReader(services.options.limits)
        self._affinity = Affinity()
        self._input: asyncio.Future[None] | None = None
        self._idle_again: asyncio.Future[None] | None = None
        self._body: _ClientBody | None = None
        self._socket: socket.socket | None = None
        self._client = "-"
        self._answering = False
        self._final_sent = False
        self._has_eof = False
        self._is_aborted = False
        self._is_read_paused = False
        self._is_tunnel = False
        self._stopping = False
        self._sent = 0
        self._record = ExchangeRecord()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._socket = transport.get_extra_info("socket")
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if isinstance(peer, tuple) else "127.0.0.1"
        if (
            self._manager is not None
            and len(self._manager.connections) > self._services.options.max_connections
        ):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client: keep them, within limits, and wake whoever reads."""
        if self._stopping and not self._answering:
            return
        self._reader.feed(data)
        if len(self._reader) > _READ_AHEAD_BYTES and not self._is_read_paused:
            self._is_read_paused = True
            self._pause_transport_reading()
        self._wake()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has sent all that it will: it may still be waiting for the answer."""
        self._has_eof = True
        self._wake()
        return self._answering

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone; whatever is done for it is cancelled (aiohttp's handler_cancellation)."""
        self._has_eof = True
        if (exc is not None or self._is_aborted) and not self._is_tunnel:
            # Count what the client's machine has really taken, not what was left in buffers.
            counts = kernel_bytes(self._socket)
            if counts is not None and counts[0] < self._sent:
                self._services.recorder.client_sent(counts[0] - self._sent)
                self._record.client_bytes = max(0, self._record.client_bytes - (self._sent - counts[0]))
        self._socket = None
        self._affinity.close()
        self._wake()
        super().connection_lost(exc)

    def _wake(self) -> None:
        if self._input is not None and not self._input.done():
            self._input.set_result(None)

    # aiohttp's server

    def close(self) -> None:
        """Stop after the exchange under way; at once if there is none."""
        self._stopping = True
        if not self._answering:
            self._wake()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Wait up to `timeout` for the exchange under way, then close."""
        self.close()
        if self._answering:
            self._idle_again = self._loop.create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._idle_again
            except TimeoutError:
                self._abort()
        task = self._task_handler
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self.force_close()

    # the connection's task

    async def start(self) -> None:
        """Serve requests until the connection ends."""
        try:
            while not self._stopping and self.transport is not None:
                try:
                    request = await self._next_request()
                except ClientError as error:
                    await self._refuse(error)
                    break
                if request is None or not await self._serve(request):
                    break
        except (ConnectionError, ClientGone):
            log.debug("client %s left", self._client)
        except Exception:
            log.exception("connection of %s", self._client)
        finally:
            self._affinity.close()
            self.force_close()

    async def _next_request(self) -> RequestHead | None:
        """The next head; None where the client is done or idle too long. Raises ClientError."""
        request = self._reader.next_head()
        if request is not None:
            return request
        options = self._services.options
        if not len(self._reader):
            try:
                async with asyncio.timeout(options.idle_s):
                    while not len(self._reader):
                        if self._has_eof or self._stopping:
                            return None
                        await self._wait_for_input()
            except TimeoutError:
                return None
        try:
            async with asyncio.timeout(options.head_s):
                while (request := self._reader.next_head()) is None:
                    if self._has_eof or self._stopping:
                        return None
                    await self._wait_for_input()
        except TimeoutError:
            raise ClientError(
                408, f"the request's head did not arrive within {options.head_s:g} s", close=True
            ) from None
        return request

    async def _wait_for_input(self) -> None:
        self._input = self._loop.create_future()
        if self._is_read_paused and len(self._reader) <= _READ_AHEAD_BYTES // 2:
            self._is_read_paused = False
            self._resume_transport_reading()
        try:
            await self._input
        finally:
            self._input = None

    async def _refuse(self, error: ClientError) -> None:
        """Answer a request that could not be parsed."""
        self._begin_record("NONE", "error:invalid-request")
        self._record.tag = "NONE_NONE"
        self._answering = True
        try:
            await self._answer_error(error, None)
        finally:
            self._finish()
        await self._linger()

    def _begin_record(self, method: str, url: str) -> None:
        clock = self._services.clock
        self._record = ExchangeRecord(
            client=self._client, method=method, url=url, started_at=clock.wall(), elapsed_s=clock.monotonic()
        )
        self._final_sent = False

    def _finish(self) -> None:
        record = self._record
        record.elapsed_s = self._services.clock.monotonic() - record.elapsed_s
        self._answering = False
        self._body = None
        self._services.recorder.finished(record)
        if self._idle_again is not None and not self._idle_again.done():
            self._idle_again.set_result(None)

    async def _serve(self, request: RequestHead) -> bool:
        """Answer one request; whether another may follow."""
        self._begin_record(request.method, str(request.target or request.request_target))
        self._answering = True
        is_last = True
        try:
            if request.method == "CONNECT":
                await self._connect(request)
            else:
                is_last = not await self._exchange(request)
        except (ConnectionError, ClientGone, asyncio.CancelledError):
            self._record.is_aborted = True
            raise
        finally:
            self._finish()
        if is_last and not self._is_tunnel and not self._is_aborted:
            await self._linger()
        return not is_last and not self._has_eof

    async def _exchange(self, request: RequestHead) -> bool:
        try:
            framing = request_framing(request)
        except ClientError as error:
            return await self._answer_error(error, request)
        body = None if framing.is_empty else _ClientBody(self, self._reader.body(framing))
        self._body = body
        exchange = Exchange(
            head=request,
            framing=framing,
            body=body,
            client=self._client,
            affinity=self._affinity,
            record=self._record,
            on_interim=self._send_interim if request.version >= (1, 1) else None,
        )
        try:
            answer = await self._services.handle(exchange)
        except ClientGone:
            raise
        except CacheproxyError as error:
            return await self._answer_error(error, request)
        except Exception:
            log.exception("while answering %s", self._record.method)
            return await self._answer_error(CacheproxyError("internal"), request)
        return await self._send(answer, request)

    async def _answer_error(self, error: CacheproxyError, request: RequestHead | None) -> bool:
        self._record.reason = kind_of(error)
        if isinstance(error, ClientError) and error.status in (403, 405):
            self._record.tag = "TCP_DENIED"
        elif request is not None:
            self._record.tag = "TCP_MISS"
        date = format_date(self._services.clock.wall())
        return await self._send(answer_to(error, request, date), request)

    # writing

    def _write(self, data: bytes) -> None:
        if self.transport is None:
            raise ConnectionResetError("the client has left")
        count = len(data)
        self._sent += count
        self._record.client_bytes += count
        self._services.recorder.client_sent(count)
        self.transport.write(data)

    async def _drain(self) -> None:
        if self._paused:
            try:
                async with asyncio.timeout(self._services.options.write_s):
                    await self._drain_helper()
            except TimeoutError:
                self._abort()
                raise ClientGone("the client reads nothing") from None
        if self.transport is None:
            raise ConnectionResetError("the client has left")

    def _send_interim(self, head: ResponseHead) -> None:
        if self.transport is not None and not self._final_sent and not self._paused:
            self._write(head.with_fields(end_to_end(head.fields)).wire())

    async def _send(self, answer: Answer, request: RequestHead | None) -> bool:
        """Write an answer; whether the connection may go on."""
        try:
            may_keep_alive = (
                request is not None
                and wants_keep_alive(request)
                and not self._stopping
                and not self._has_eof
                and self._body_will_be_read()
            )
            head = wire_head(answer, request, may_keep_alive=may_keep_alive)
            self._record.status = answer.head.status
            self._record.content_type = answer.head.fields.get("content-type") or "-"
            self._final_sent = True
            if answer.stream is None:
                self._write(head.data + answer.content if head.has_body else head.data)
                await self._drain()
            else:
                self._write(head.data)
                if head.has_body and not await self._send_body(answer, head):
                    return False
        finally:
            await close_stream(answer.stream)
        return head.keep_alive and await self._rest_of_body_read()

    async def _send_body(self, answer: Answer, head: WireHead) -> bool:
        """Write the body piece by piece; False where it broke off, visibly for the client."""
        assert answer.stream is not None
        sent = 0
        try:
            async for piece in answer.stream:
                sent += len(piece)
                if head.length is not None and sent > head.length:
                    raise StoreError("the body is longer than announced")
                self._write(encode_chunk(piece) if head.chunked else piece)
                if self._paused or self.transport is None:
                    await self._drain()
        except (CacheproxyError, OSError) as error:
            if isinstance(error, ClientGone | ConnectionError) and self.transport is None:
                raise
            log.warning("the answer to %s broke off after %d bytes: %s", self._url_for_log(), sent, error)
            self._record.is_aborted = True
            self._break_off(head)
            return False
        if head.length is not None and sent != head.length:
            self._record.is_aborted = True
            self._break_off(head)
            return False
        if head.chunked:
            self._write(LAST_CHUNK)
        await self._drain()
        return True

    def _url_for_log(self) -> str:
        return self._record.url.partition("?")[0]

    def _break_off(self, head: WireHead) -> None:
        """End the connection so that the client sees that the body is not whole."""
        if self.transport is None:
            return
        if not head.chunked and head.length is None:
            # Framed by the connection's end: only a reset tells a cut from an end.
            self._abort()
        else:
            self._is_aborted = True
            self.transport.close()

    def _abort(self) -> None:
        self._is_aborted = True
        if self.transport is not None:
            if self._socket is not None:
                try:
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                except OSError:
                    log.debug("no reset for %s", self._client)
            self.transport.abort()

    # the request's body

    async def read_body(self, body: _ClientBody) -> bytes:
        """The next piece of the current request's body. Raises ClientGone, ClientError."""
        options = self._services.options
        loop = self._loop
        while True:
            data = body.decoder.take()
            if data or body.decoder.is_complete:
                body.account(len(data), 0.0, options)
                return data
            if self._has_eof or self.transport is None:
                raise ClientGone("the client ended in the middle of its request")
            began = loop.time()
            try:
                async with asyncio.timeout(options.body_s):
                    await self._wait_for_input()
            except TimeoutError:
                raise ClientError(
                    408, f"the request's body stood still for {options.body_s:g} s", close=True
                ) from None
            body.account(0, loop.time() - began, options)

    # the rest of a body that the origin did not want

    def _body_will_be_read(self) -> bool:
        body = self._body
        return (
            body is None
            or body.decoder.is_complete
            or (body.decoder.left is not None and body.decoder.left <= _READ_AHEAD_BYTES)
        )

    async def _rest_of_body_read(self) -> bool:
        body = self._body
        if body is None or body.decoder.is_complete:
            return True
        try:
            async with asyncio.timeout(_LINGER_S):
                while await body.read():
                    pass
        except (TimeoutError, CacheproxyError):
            return False
        return True

    async def _linger(self) -> None:
        """Close so that the last answer is not lost to a reset: end our side, drop what still comes."""
        transport = self.transport
        if transport is None:
            return
        try:
            if not self._has_eof and transport.can_write_eof():
                transport.write_eof()
            dropped = 0
            async with asyncio.timeout(_LINGER_S):
                while not self._has_eof and dropped < _LINGER_BYTES:
                    dropped += len(self._reader.take_rest())
                    await self._wait_for_input()
        except (TimeoutError, OSError):
            return

    # tunnels

    async def _connect(self, request: RequestHead) -> None:
        services = self._services
        self._record.reason, self._record.tag = Reason.TUNNEL, "TCP_TUNNEL"
        self._record.url = request.request_target
        try:
            request_framing(request)
            if "content-length" in request.fields or "transfer-encoding" in request.fields:
                raise ClientError(400, "CONNECT has no body (RFC 9110 §9.3.6)", close=True)
            destination = await services.open_tunnel(request, self._client)
        except CacheproxyError as error:
            self._record.url = request.request_target
            # RFC 9931: what follows a refused CONNECT may be meant for the destination; never parse it.
            answer = answer_to(error, request, format_date(services.clock.wall()))
            answer.must_close = True
            self._record.reason = kind_of(error)
            self._record.tag = "TCP_DENIED" if answer.head.status == 403 else "TCP_TUNNEL"
            await self._send(answer, request)
            return
        count = RelayCount()
        client: socket.socket | None = None
        try:
            if self.transport is None or self._socket is None:
                raise ConnectionResetError("the client has left")
            self._record.hierarchy = f"HIER_DIRECT/{destination.getpeername()[0]}"
            self._is_tunnel = True
            if not self._is_read_paused and not self._has_eof:
                self._pause_transport_reading()
            client = socket.socket(fileno=os.dup(self._socket.fileno()))
            client.setblocking(False)
            await self._loop.sock_sendall(client, _ESTABLISHED)
            self._record.status = 200
            await relay(client, destination, self._reader.take_rest(), services.options.tunnel_idle_s, count)
        finally:
            destination.close()
            if client is not None:
                client.close()
            self._record.client_bytes = count.down + len(_ESTABLISHED)
            services.recorder.tunnelled(count.up, count.down)
            if self.transport is not None:
                self.transport.abort()


class _ClientBody:
    """A request's body as the engine reads it, with the client's deadlines."""

    def __init__(self, connection: ClientConnection, decoder: BodyDecoder) -> None:
        self._connection = connection
        self.decoder = decoder
        self._waited_s = 0.0
        self._received = 0

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises ClientGone, ClientError."""
        return await self._connection.read_body(self)

    def account(self, received: int, waited_s: float, options: ConnectionOptions) -> None:
        """Refuse a body that drips: only time spent waiting for this client counts. Raises ClientError."""
        self._received += received
        self._waited_s += waited_s
        if self._waited_s > options.body_rate_after_s and self._received < self._waited_s * options.body_rate:
            raise ClientError(408, "the request's body arrives too slowly", close=True)
