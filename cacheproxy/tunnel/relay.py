"""Relays bytes between two raw sockets: half-close kept, idle limit, counts.

Raw sockets on purpose: asyncio's transports close both directions at a client's end-of-file.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

_BUFFER_BYTES = 64 * 1024


@dataclass(slots=True)
class RelayCount:
    """Bytes so far: `up` to the destination, `down` to the client."""

    up: int = 0
    down: int = 0


async def relay(
    client: socket.socket, destination: socket.socket, early: bytes, idle_s: float, count: RelayCount
) -> None:
    """Relay until both directions have ended, one fails, or nothing moves for `idle_s` seconds.

    `early` is what the client sent behind its CONNECT. Both sockets are non-blocking; the caller closes them.
    """
    loop = asyncio.get_running_loop()

    async def pump(source: socket.socket, sink: socket.socket, limit: asyncio.Timeout, is_up: bool) -> None:
        buffer = bytearray(_BUFFER_BYTES)
        view = memoryview(buffer)
        while received := await loop.sock_recv_into(source, buffer):
            await loop.sock_sendall(sink, view[:received])
            if is_up:
                count.up += received
            else:
                count.down += received
            limit.reschedule(loop.time() + idle_s)
        sink.shutdown(socket.SHUT_WR)

    try:
        async with asyncio.timeout(idle_s) as limit:
            try:
                if early:
                    await loop.sock_sendall(destination, early)
                    count.up += len(early)
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(pump(client, destination, limit, True))
                    pumps.create_task(pump(destination, client, limit, False))
            except* OSError:
                # A reset on either side ends the tunnel; there is nobody to tell.
                pass
    except TimeoutError:
        return
