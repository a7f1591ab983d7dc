"""The origin where nginx is not installed: same paths, same fields, same status page, in Python.

Run as `python -m benchmarks.performance.fallback_origin PORT`.
"""

from __future__ import annotations

import asyncio
import re
import sys

from benchmarks.performance.sizes import SIZES

TARGET = re.compile(rb"(?:GET|HEAD) (?:http://[^/ ]*)?/(obj|nc|check)/(\w+)/\S* HTTP/1\.[01]\r\n")
PIECE = b"x" * 262144
CONTROL = {b"obj": b"public, max-age=86400", b"nc": b"no-store", b"check": b"max-age=0"}


class Answering(asyncio.Protocol):
    """One connection; every complete head is one request, bodies are not expected."""

    requests = 0

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._sending: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """End a long answer."""
        if self._sending is not None:
            self._sending.cancel()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._may_write.set()

    def data_received(self, data: bytes) -> None:
        """Answer every head that is complete."""
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            Answering.requests += 1
            self._answer(head + b"\r\n")

    def _answer(self, head: bytes) -> None:
        assert self._transport is not None
        match = TARGET.match(head)
        size = SIZES.get(match[2].decode()) if match else None
        if match is None or size is None:
            page = (
                f"Active connections: 1\nserver accepts handled requests\n 1 1 {Answering.requests}\n".encode()
            )
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page)
            return
        control = CONTROL[match[1]]
        fields = b'ETag: "1"\r\nX-Fetched: %d\r\nCache-Control: %s\r\n' % (Answering.requests, control)
        if b'\r\nIf-None-Match: "1"\r\n' in head:
            self._transport.write(b"HTTP/1.1 304 Not Modified\r\n" + fields + b"\r\n")
            return
        lines = b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: %d\r\n\r\n" % size
        if size <= len(PIECE):
            self._transport.write(lines + PIECE[:size])
            return
        self._transport.write(lines)
        self._sending = asyncio.get_running_loop().create_task(self._send(size))

    async def _send(self, size: int) -> None:
        assert self._transport is not None
        while size > 0:
            await self._may_write.wait()
            self._transport.write(PIECE[:size])
            size -= len(PIECE)
            await asyncio.sleep(0)


async def serve(port: int) -> None:
    """Run until killed."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(serve(int(sys.argv[1])))
    except KeyboardInterrupt:
        pass
