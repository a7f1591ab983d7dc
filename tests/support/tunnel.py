"""A relay between two TCP connections on loopback, whose far ends the test holds."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from types import TracebackType
from typing import Self

from cacheproxy.tunnel.direction import Shared
from cacheproxy.tunnel.relay import RelayCount, relay


def tcp_pair(buffer_bytes: int = 0) -> tuple[socket.socket, socket.socket]:
    """Two connected, non-blocking TCP sockets, with small kernel buffers if asked."""
    with socket.socket() as listening:
        near = socket.socket()
        for sock in (listening, near):
            if buffer_bytes:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        near.connect(listening.getsockname())
        far, _ = listening.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def reset(sock: socket.socket) -> None:
    """Close with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Wire:
    """`client` and `destination` are the far ends; the relay runs inside `async with`."""

    def __init__(
        self, shared: Shared, *, early: bytes = b"", idle_s: float = 60.0, buffer_bytes: int = 0
    ) -> None:
        self.client, self._near_client = tcp_pair(buffer_bytes)
        self.destination, self._near_destination = tcp_pair(buffer_bytes)
        self.count = RelayCount()
        self._early, self._idle_s, self._shared = early, idle_s, shared
        self.task: asyncio.Task[None]

    async def _relay(self) -> None:
        # Both of its sockets are closed in the end, as the server does.
        with self._near_client, self._near_destination:
            await relay(
                self._near_client, self._near_destination, self._early, self._idle_s, self.count, self._shared
            )

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._relay())
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cancel()
        self.client.close()
        self.destination.close()

    async def ended(self) -> RelayCount:
        """Wait for the relay's own end."""
        async with asyncio.timeout(20):
            await self.task
        return self.count

    async def cancel(self) -> RelayCount:
        """End the relay from outside, as a stop of the proxy does."""
        self.task.cancel()
        await asyncio.wait([self.task])
        return self.count


async def send_all(sock: socket.socket, data: bytes, chance: random.Random | None = None) -> None:
    """Send in random pieces, if there is chance, with random pauses."""
    loop = asyncio.get_running_loop()
    view = memoryview(data)
    while view:
        size = len(view) if chance is None else chance.choice((1, 700, 9_000, 70_000, 400_000, 2_000_000))
        await loop.sock_sendall(sock, view[:size])
        view = view[size:]
        await turns(chance)


async def receive_all(sock: socket.socket, chance: random.Random | None = None, limit: int = 2**62) -> bytes:
    """Everything until the end, or `limit` bytes, in random pieces with random pauses."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    while len(received) < limit:
        size = 1 << 18 if chance is None else chance.choice((1, 700, 9_000, 70_000, 400_000))
        piece = await loop.sock_recv(sock, min(size, limit - len(received)))
        if not piece:
            break
        received += piece
        await turns(chance)
    return bytes(received)


async def turns(chance: random.Random | None) -> None:
    """Let the loop go round a few times."""
    if chance is not None and chance.random() < 0.3:
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
