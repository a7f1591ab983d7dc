"""A server that gives every request the same answer: what the load generator and one asyncio loop can do at most.

Run as `python -m benchmarks.performance.echo PORT BODY_BYTES`.
"""

from __future__ import annotations

import asyncio
import sys


class Echo(asyncio.Protocol):
    """Answers whatever arrives, without looking at it, once per read."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """One read is taken for one request."""
        if self._transport is not None:
            self._transport.write(self._answer)


def answer(size: int) -> bytes:
    """The whole answer with a body of `size` bytes."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + b"x" * size


async def serve(port: int, size: int) -> None:
    """Run until killed."""
    whole = answer(size)
    server = await asyncio.get_running_loop().create_server(
        lambda: Echo(whole), "127.0.0.1", port, backlog=2048
    )
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
    except KeyboardInterrupt:
        pass
