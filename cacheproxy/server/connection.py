"""One client connection: aiohttp's RequestHandler with our own strict parser and writer in its place.

aiohttp's server keeps the connections and shuts them down; reading, framing and writing are ours because a
proxy needs every method, exact errors and exact bytes, which aiohttp's parser does not give.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp.web_protocol import RequestHandler

from cacheproxy.errors import CacheproxyError, ClientError, ClientGone
from cacheproxy.http.dates import format_date
from cacheproxy.http.framing import request_framing
from cacheproxy.http.message import RequestHead, ResponseHead
from cacheproxy.ports import Affinity, Closable, Exchange, ExchangeRecord
from cacheproxy.server.answer_head import wants_keep_alive
from cacheproxy.server.client_body import ClientBody
from cacheproxy.server.direct import DirectReply
from cacheproxy.server.failures import answer_to, kind_of
from cacheproxy.server.hijack import connect
from cacheproxy.server.hot_path import LAST, Plain, Verdict
from cacheproxy.server.inlet import Inlet
from cacheproxy.server.outlet import Outlet
from cacheproxy.server.replies import Began
from cacheproxy.server.services import Services

log = logging.getLogger("cacheproxy")

# Of bytes that belong to no exchange under way: hot answers are counted by themselves.
_BETWEEN = ExchangeRecord()


class ClientConnection(RequestHandler):
    """Reads requests one at a time, answers each, keeps order under pipelining."""

    __slots__ = (
        "_ahead",
        "_answering",
        "_began",
        "_begun",
        "_body",
        "_direct",
        "_final_sent",
        "_idle_again",
        "_is_tunnel",
        "_services",
        "_verdict",
        "affinity",
        "client",
        "inlet",
        "outlet",
    )

    def __init__(self, manager: Any, services: Services, loop: asyncio.AbstractEventLoop) -> None:
        # keepalive_timeout=0 turns aiohttp's own timers off: every deadline is ours.
        super().__init__(manager, loop=loop, keepalive_timeout=0, access_log=None)  # type: ignore[arg-type]
        self._parser = None
        self._services = services
        self._ahead = services.ahead
        self._verdict: Verdict | None = None
        self.inlet = Inlet(
            services.options,
            None if services.ahead is None else services.ahead.memo,
            self._pause_transport_reading,
            self._resume_transport_reading,
            self._begin_task,
            loop,
        )
        self.affinity = Affinity()
        self._idle_again: asyncio.Future[None] | None = None
        self._body: ClientBody | None = None
        self.outlet: Outlet
        self.client = "-"
        self._answering = False
        self._final_sent = False
        self._is_tunnel = False
        self._direct: DirectReply | None = None
        # What the direct path has left: a fetch, and when its exchange began.
        self._begun: Closable | None = None
        self._began: Began | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)
        options = self._services.options
        self.outlet = Outlet(transport, self._services.recorder, self._drain_helper, options.write_s)
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if isinstance(peer, tuple) else "127.0.0.1"
        # As aiohttp's, but that the task begins once it has something to do, and the listener's sockets have the options.
        self.transport = transport
        assert self._manager is not None
        self._manager.connection_made(self, transport)
        if self._manager.open_connections > options.max_connections:  # type: ignore[attr-defined]
            transport.abort()
            return
        self.inlet.open()
        self._verdict = None if self._ahead is None else Verdict(self.client)

    def _begin_task(self) -> None:
        self._task_handler = self._loop.create_task(self.start())

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        inlet, verdict = self.inlet, self._verdict
        if verdict is not None and inlet.is_idle:
            plain = self._ahead.answer(data, verdict, self.outlet)  # type: ignore[union-attr]
            if plain is True:
                inlet.idle_since = self._loop.time()
                return
            if plain == LAST:
                self.end_soon()
                return
            if plain is not False and self._begins_direct(plain, data, verdict):
                return
        inlet.feed(data)

    def end_soon(self) -> None:
        """The last answer is written: take no further request, and let the client close, within bounds."""
        self.inlet.drop()
        if self.inlet.has_eof or not self.outlet.end():
            self.force_close()
        else:
            self._services.lingering.add(self, self._loop)

    def _begins_direct(self, plain: Plain, data: bytes, verdict: Verdict) -> bool:
        direct = self._services.direct
        if direct is None or not plain[0].is_get:
            return False
        reply = direct.begin(self, plain, data, verdict)
        if reply is not None and not reply.is_over:
            self._answering, self._final_sent = True, False
            self._direct = reply
        return reply is not None

    def left_to_task(self, begun: Closable | None, began: Began) -> None:
        """A request of the direct path is in the inlet again, its fetch perhaps begun."""
        self._direct = None
        self._begun = begun
        self._began = began

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has sent all that it will: it may still be waiting for the answer."""
        if self.inlet.is_dropping:
            return False
        if not self._services.options.may_half_close:
            self.outlet.reset()
            return False
        self.inlet.end()
        has_more = len(self.inlet) > 0
        return self.outlet.half_closed(has_more=has_more) and (self._answering or has_more)

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        self.outlet.is_paused = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.outlet.is_paused = False
        super().resume_writing()
        if self._direct is not None:
            self._direct.resumed()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone; whatever is done for it is cancelled (aiohttp's handler_cancellation)."""
        self.outlet.lost(is_abrupt=exc is not None and not self._is_tunnel)
        if self._direct is not None and not self._direct.is_over:
            self._direct.lost()
        if self._answering and self._task_handler is None:
            self.ended()
        if self._begun is not None:
            self._begun.close()
        self.affinity.close()
        self._services.lingering.discard(self)
        self.inlet.close()
        super().connection_lost(exc)

    # aiohttp's server

    def force_close(self) -> None:
        """Close once what is written has been sent."""
        self.outlet.closing()
        if self.transport is not None and self.transport.is_closing():
            # asyncio's TLS does not bear to be closed twice.
            self.transport = None
        super().force_close()

    def close(self) -> None:
        """Stop after the exchange under way; at once if there is none."""
        self.inlet.stop()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Wait up to `timeout` for the exchange under way, then close."""
        self.close()
        if self._answering:
            self._idle_again = self._loop.create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._idle_again
            except TimeoutError:
                self.outlet.reset()
        task = self._task_handler
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self.force_close()

    # the connection's task

    async def start(self) -> None:
        """Serve requests until the connection ends; the one that it begins with, even if no further is to be taken."""
        is_first = len(self.inlet) > 0
        try:
            while self.outlet.is_open and (is_first or not self.inlet.is_stopping):
                is_first = False
                try:
                    request = await self.inlet.next_request()
                except ClientError as error:
                    await self._refuse(error)
                    break
                if request is None or not await self._serve(request):
                    break
        except (ConnectionError, ClientGone) as reason:
            log.debug("client %s: %s", self.client, reason)
        except Exception:
            log.exception("the connection of %s", self.client)
        finally:
            self.affinity.close()
            if not self.inlet.is_dropping:
                self.force_close()

    async def _refuse(self, error: ClientError) -> None:
        """Answer a request that could not be parsed."""
        self.begin("NONE", "error:invalid-request")
        try:
            await self._answer_error(error, None)
        finally:
            self.finish()
        self.end_soon()

    def begin(self, method: str, url: str, began: Began | None = None) -> ExchangeRecord:
        """An exchange begins, or has `began`: what the log and the counters will say of it."""
        if began is None:
            began, self._began = self._began, None
        if began is None:
            began = self._services.clock.wall(), self._services.clock.monotonic(), 0
        record = ExchangeRecord(client=self.client, method=method, url=url)
        record.started_at, record.elapsed_s, record.client_bytes = began
        self.outlet.record = record
        self._final_sent = False
        self._answering = True
        return record

    def finish(self) -> None:
        """The exchange has ended."""
        record = self.outlet.record
        record.elapsed_s = self._services.clock.monotonic() - record.elapsed_s
        self._services.recorder.finished(record)
        self.ended()

    def ended(self) -> None:
        """No exchange is under way."""
        self._answering = False
        self._body = None
        self._direct = None
        # What was counted and logged does not change any more.
        self.outlet.record = _BETWEEN
        if self._idle_again is not None and not self._idle_again.done():
            self._idle_again.set_result(None)

    async def _serve(self, request: RequestHead) -> bool:
        """Answer one request; whether another may follow."""
        record = self.begin(request.method, str(request.target or request.request_target))
        may_go_on = False
        try:
            if request.method == "CONNECT":
                await connect(request, self, self._services)
            else:
                may_go_on = await self._exchange(request, record)
        except (ConnectionError, ClientGone, asyncio.CancelledError):
            record.is_aborted = True
            raise
        finally:
            self.finish()
        if not may_go_on and not self._is_tunnel and not self.outlet.is_broken:
            self.end_soon()
        return may_go_on and not self.inlet.is_finished

    async def _exchange(self, request: RequestHead, record: ExchangeRecord) -> bool:
        begun, self._begun = self._begun, None
        try:
            framing = request_framing(request)
            if not framing.is_empty:
                self._body = self.inlet.body(framing)
            exchange = Exchange(
                head=request,
                framing=framing,
                body=self._body,
                client=self.client,
                affinity=self.affinity,
                record=record,
                on_interim=self.send_interim if request.version >= (1, 1) else None,
                begun=begun,
            )
            answer = await self._services.handle(exchange)
        except ClientGone:
            raise
        except CacheproxyError as error:
            return await self._answer_error(error, request)
        except Exception:
            log.exception("while answering a %s", request.method)
            return await self._answer_error(CacheproxyError("internal"), request)
        finally:
            if begun is not None:
                begun.close()
        self._final_sent = True
        keep = await self.outlet.send(answer, request, may_keep_alive=self.may_keep_alive(request))
        return keep and (self._body is None or await self._body.drop_rest())

    async def _answer_error(self, error: CacheproxyError, request: RequestHead | None) -> bool:
        record = self.outlet.record
        record.reason = kind_of(error)
        answer = answer_to(error, request, format_date(self._services.clock.wall()))
        if request is None:
            record.tag = "NONE_NONE"
        elif answer.head.status in (403, 405):
            record.tag = "TCP_DENIED"
        self._final_sent = True
        keep = request is not None and self.may_keep_alive(request)
        keep = await self.outlet.send(answer, request, may_keep_alive=keep)
        return keep and (self._body is None or await self._body.drop_rest())

    def may_keep_alive(self, request: RequestHead) -> bool:
        """Whether another request may follow this one."""
        if not self.inlet.may_go_on or not wants_keep_alive(request):
            return False
        return self._body is None or self._body.is_nearly_read

    def send_interim(self, head: ResponseHead) -> None:
        if not self._final_sent:
            self.outlet.interim(head)

    def let_go(self) -> None:
        """Leave the socket to a tunnel."""
        self._is_tunnel = True
        self._pause_transport_reading()
