"""The writing half of a client connection: heads, bodies with back-pressure, counts, visible breaks."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable

from cacheproxy.cork import Cork
from cacheproxy.engine.streams import close_stream
from cacheproxy.errors import CacheproxyError, ClientGone, StoreError
from cacheproxy.http.chunked import LAST_CHUNK, encode_chunk
from cacheproxy.http.forwarding import end_to_end
from cacheproxy.http.message import RequestHead, ResponseHead
from cacheproxy.ports import Answer, ExchangeRecord, Recorder
from cacheproxy.server.answer_head import WireHead, wire_head
from cacheproxy.sockets import kernel_bytes

log = logging.getLogger("cacheproxy")

WRITE_BUFFER_BYTES = 64 * 1024
JOIN_BYTES = 16 * 1024
_RESET = struct.pack("ii", 1, 0)
# A reset comes back at once from a machine nearby; from one far away the next write shows it.
_ANSWERED_S = 0.002
# Who half-closes does it with the request: it cannot have come later than this behind the answer's head.
_BEHIND_REQUEST_S = 0.02


class Outlet:
    """Owned by the connection, which tells it about pauses through `drain` and about the end through `lost`."""

    def __init__(
        self,
        transport: asyncio.Transport,
        recorder: Recorder,
        drain: Callable[[], Awaitable[None]],
        write_s: float,
    ) -> None:
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._transport: asyncio.Transport | None = transport
        self.socket: socket.socket | None = transport.get_extra_info("socket")
        self._recorder = recorder
        self._drain = drain
        self._write_s = write_s
        self._sent = 0
        self.record = ExchangeRecord()
        self.is_paused = False
        self.is_broken = False
        self._is_half_closed = False
        # Since when the head of an answer is out, and not yet the last byte of its body.
        self._midway_since: float | None = None
        self._last_write: asyncio.TimerHandle | None = None
        self.unsent = b""
        """An answer until it is sent; there is no other meanwhile."""

    @property
    def is_open(self) -> bool:
        """Whether the client can still be written to."""
        return self._transport is not None

    def write(self, data: bytes) -> None:
        """Write and count. Raises ConnectionResetError where the client has left."""
        if self._transport is None:
            raise ConnectionResetError("the client has left")
        self.count(data)
        self.write_counted(data)

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx head, which nobody has to wait for."""
        if self.is_open and not self.is_paused:
            fields = end_to_end(head.fields).without(("content-length",))
            self.write(head.with_fields(fields).wire())

    @property
    def is_tls(self) -> bool:
        """Whether there is TLS between this and the socket: what is written there is not what the client reads."""
        return self._transport is not None and self._transport.get_extra_info("sslcontext") is not None

    def count(self, data: bytes) -> None:
        """Count what will be written in this turn of the loop or at the beginning of the next."""
        count = len(data)
        self._sent += count
        self.record.client_bytes += count
        self._recorder.client_sent(count)

    def count_hot(self, data: bytes) -> int:
        """The same for what the hot path will count; how many bytes it is."""
        count = len(data)
        self._sent += count
        return count

    def write_counted(self, data: bytes) -> None:
        """Write what has been counted."""
        if self._transport is None:
            return
        self._transport.write(data)
        if self._is_half_closed:
            asyncio.get_running_loop().call_later(_ANSWERED_S, self._check)

    def half_closed(self, *, has_more: bool) -> bool:
        """The client sends no more; whether it may still be reading. `has_more`: further requests of it wait.

        Who half-closes does so behind the request; who ends in the middle of the answer has left, and every
        further byte of the origin's would be for nobody. Where it may be reading, its leaving shows only by what
        its machine says to the next bytes: asyncio no longer watches such a socket, and would learn it one piece
        of the origin's later.
        """
        if self.is_tls:
            # asyncio ends both ways.
            return False
        self._is_half_closed = True
        since = self._midway_since
        if has_more or since is None or self._transport is None:
            return True
        if asyncio.get_running_loop().time() - since < _BEHIND_REQUEST_S:
            return True
        self.is_broken = True
        self._transport.abort()
        return False

    def midway(self, is_midway: bool) -> None:
        """Whether, from now on, an answer's head is out and not yet all of its body."""
        self._midway_since = asyncio.get_running_loop().time() if is_midway else None

    def _check(self) -> None:
        if self.socket is not None and self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.is_broken = True
            if self._transport is not None:
                self._transport.abort()

    def write_hot(self, head: bytes, body: bytes) -> int:
        """Write a whole answer that the hot path has prepared and will count; how many bytes it was."""
        count = len(head) + len(body)
        self._sent += count
        transport = self._transport
        assert transport is not None
        if len(body) <= JOIN_BYTES:
            transport.write(head + body)
        else:
            # Copying more costs more than a second call; the head does not travel alone.
            transport.write(head + body[:JOIN_BYTES])
            transport.write(memoryview(body)[JOIN_BYTES:])
        return count

    def write_soon(self, head: bytes, body: bytes, cork: Cork) -> int:
        """As `write_hot`, with all others of this turn of the loop, before anything else can happen to the connection.

        A memory hit takes so little that whoever reads the answers does not get to sleep in between; what takes
        longer would wake him up each time.
        """
        if len(body) > WRITE_BUFFER_BYTES:
            return self.write_hot(head, body)
        self.unsent = answer = head + body
        cork.add(self)
        return self.count_hot(answer)

    def uncork(self) -> None:
        """Send it."""
        answer, self.unsent = self.unsent, b""
        self.write_counted(answer)

    async def drained(self) -> None:
        """Wait while the client reads too slowly. Raises ClientGone, ConnectionResetError."""
        if self.is_paused:
            try:
                async with asyncio.timeout(self._write_s):
                    await self._drain()
            except TimeoutError:
                self.reset()
                raise ClientGone("the client reads nothing") from None
        if self._transport is None:
            raise ConnectionResetError("the client has left")

    async def flushed(self) -> None:
        """Wait until everything written has left for the kernel. Raises as `drained`."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=0)
            await self.drained()

    async def send(self, answer: Answer, request: RequestHead | None, *, may_keep_alive: bool) -> bool:
        """Write an answer and close its stream; whether the connection may go on."""
        try:
            head = wire_head(answer, request, may_keep_alive=may_keep_alive)
            self.record.status = answer.head.status
            self.record.content_type = answer.head.fields.get("content-type") or "-"
            if answer.stream is None or not head.has_body:
                self.write(head.data + answer.content if head.has_body else head.data)
                await self.drained()
            else:
                self.write(head.data)
                if not await self._send_body(answer, head):
                    return False
        finally:
            await close_stream(answer.stream)
        return head.keep_alive

    async def _send_body(self, answer: Answer, head: WireHead) -> bool:
        """The body piece by piece; False where it broke off, visibly for the client."""
        assert answer.stream is not None
        sent = 0
        self.midway(True)
        try:
            async for piece in answer.stream:
                sent += len(piece)
                if head.length is not None and sent >= head.length:
                    self.midway(False)
                    if sent > head.length:
                        raise StoreError("the body is longer than announced")
                self.write(encode_chunk(piece) if head.chunked else piece)
                if self.is_paused:
                    await self.drained()
            if head.length is not None and sent != head.length:
                raise StoreError("the body is shorter than announced")
        except (CacheproxyError, OSError) as error:
            if self._transport is None or isinstance(error, ClientGone):
                raise
            log.warning("an answer broke off after %d bytes: %s", sent, error)
            self.record.is_aborted = True
            self.break_off(head)
            return False
        finally:
            self.midway(False)
        if head.chunked:
            self.write(LAST_CHUNK)
        await self.drained()
        return True

    def break_off(self, head: WireHead) -> None:
        """End the connection so that the client sees that the body is not whole."""
        self.is_broken = True
        if not head.chunked and head.length is None:
            # Framed by the connection's end: only a reset tells a cut from an end.
            self.reset()
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def closing(self) -> None:
        """The connection is closed once what is written has been sent, which may take as long as any write."""
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size() and self._last_write is None:
            loop = asyncio.get_running_loop()
            self._last_write = loop.call_later(self._write_s, self.reset)

    def end(self) -> bool:
        """Say that nothing more will come, behind what is written; False where only both ways end, or have ended."""
        transport = self._transport
        if transport is None:
            return False
        end = transport.get_extra_info("end_writing")
        if end is None and transport.can_write_eof():
            end = transport.write_eof
        if end is None:
            return False
        try:
            end()
        except OSError as error:
            log.debug("no end: %s", error)
        return True

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """Close at once, with a reset."""
        self.is_broken = True
        if self._transport is not None:
            if self.socket is not None:
                try:
                    self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                except OSError as error:
                    log.debug("no reset: %s", error)
            self._transport.abort()

    def lost(self, *, is_abrupt: bool) -> None:
        """The connection is gone: after an abrupt end, count what the client's machine has really taken."""
        if is_abrupt or self.is_broken:
            counts = kernel_bytes(self.socket)
            if counts is not None and counts[0] < self._sent:
                missing = self._sent - counts[0]
                self._recorder.client_sent(-missing)
                self.record.client_bytes = max(0, self.record.client_bytes - missing)
        if self._last_write is not None:
            self._last_write.cancel()
        self._transport = None
        self.socket = None
