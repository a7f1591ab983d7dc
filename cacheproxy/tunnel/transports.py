"""The ways of a tunnel with TLS at an end: between asyncio's transports instead of sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from cacheproxy.tunnel.direction import Ended

# What a transport may hold back before the other end is read no further.
_HELD_BYTES = 128 * 1024


class End(asyncio.Protocol):
    """One end of a tunnel, as the protocol of its transport. `release` or `close` it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.source_of: TransportDirection | None = None
        self.sink_of: TransportDirection | None = None
        self._before: asyncio.BaseProtocol | None = None
        self._is_released = False
        self._lost: tuple[Exception | None] | None = None
        self._limit: asyncio.TimerHandle | None = None

    @classmethod
    def take(cls, transport: asyncio.Transport) -> End:
        """The end at a transport that has a protocol, which neither reads nor holds it back now; `release` gives it back."""
        end = cls()
        end._before = transport.get_protocol()
        end.transport = transport
        transport.set_protocol(end)
        return end

    @classmethod
    async def at(cls, sock: socket.socket) -> End:
        """The end at a connected socket, which belongs to it from now on."""
        end = cls()
        own = socket.socket(fileno=sock.detach())
        await asyncio.get_running_loop().create_connection(lambda: end, sock=own)
        return end

    def release(self) -> None:
        """Give the transport back to the protocol that it had; if it has been lost meanwhile, tell that one."""
        assert self._before is not None
        self._is_released = True
        if self._lost is not None:
            self.connection_lost(*self._lost)
        else:
            self.transport.set_protocol(self._before)

    def close(self, limit_s: float) -> None:
        """Send what is still to be sent, for at most `limit_s` seconds, and close."""
        if self._lost is None:
            self._limit = asyncio.get_running_loop().call_later(limit_s, self.transport.abort)
            self.transport.close()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The end has a transport: nothing is read before there is somebody to read it."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Bytes for the other end."""
        if self.source_of is not None:
            self.source_of.received(data)

    def eof_received(self) -> bool:
        """No more will come. TLS ends both ways at once."""
        if self.source_of is not None:
            self.source_of.finish(Ended.SOURCE_DONE)
        return self.transport.can_write_eof()

    def pause_writing(self) -> None:
        """This end reads more slowly than the other one sends."""
        if self.sink_of is not None:
            self.sink_of.hold()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self.sink_of is not None:
            self.sink_of.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._is_released:
            # The event was under way when the transport was given back.
            assert self._before is not None
            self._before.connection_lost(exc)
            return
        self._lost = (exc,)
        if self._limit is not None:
            self._limit.cancel()
        if self.source_of is not None:
            self.source_of.finish(Ended.SOURCE_BROKEN)
        if self.sink_of is not None:
            self.sink_of.finish(Ended.SINK_BROKEN)


class TransportDirection:
    """From `source` to `sink`; what `tunnel.direction.Direction` is for sockets.

    What is on the way is bounded by what the sink's transport holds (128 KiB, and the piece that passes that).
    """

    __slots__ = ("_is_running", "_loop", "_on_end", "_sink", "_source", "moved", "moved_at")

    def __init__(self, source: End, sink: End, on_end: Callable[[TransportDirection, Ended], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._sink = sink
        self._on_end = on_end
        self._is_running = True
        # Bytes given to the sink; the loop's time when something last moved.
        self.moved = 0
        self.moved_at = self._loop.time()

    def start(self, early: bytes) -> None:
        """Pass `early` on, then whatever comes; call `on_end` once, unless stopped before."""
        source, sink = self._source, self._sink
        source.source_of = sink.sink_of = self
        sink.transport.set_write_buffer_limits(high=_HELD_BYTES)
        source.transport.resume_reading()
        if early:
            self.received(early)

    def stop(self) -> None:
        """Read no further."""
        self._is_running = False
        self._source.source_of = self._sink.sink_of = None
        self.hold()

    def half_close(self) -> None:
        """Tell the sink that no more will come. Raises OSError where it is broken."""
        transport = self._sink.transport
        if transport.is_closing():
            raise BrokenPipeError("the other end is closed")
        if (end := transport.get_extra_info("end_writing")) is not None:
            end()
        elif transport.can_write_eof():
            transport.write_eof()
        else:
            # TLS of asyncio's own ends as a whole.
            transport.close()

    def received(self, data: bytes) -> None:
        """Bytes from the source."""
        if not self._sink.transport.is_closing():
            self.moved += len(data)
            self.moved_at = self._loop.time()
            self._sink.transport.write(data)

    def hold(self) -> None:
        """The sink is behind."""
        if not self._source.transport.is_closing():
            self._source.transport.pause_reading()

    def go_on(self) -> None:
        """The sink has caught up."""
        self.moved_at = self._loop.time()
        if not self._source.transport.is_closing():
            self._source.transport.resume_reading()

    def finish(self, how: Ended) -> None:
        """The source or the sink has ended."""
        if self._is_running:
            self._is_running = False
            self._on_end(self, how)
