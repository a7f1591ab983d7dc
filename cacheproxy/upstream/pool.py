"""Persistent connections per origin, with limits on how many are open and how many wait."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cacheproxy.errors import UpstreamError
from cacheproxy.http.uri import Origin
from cacheproxy.ports import Recorder
from cacheproxy.reasons import Reason
from cacheproxy.upstream.connection import OriginConnection
from cacheproxy.upstream.dialling import tls_failure


class Opener(Protocol):
    """Connects: over the network, or to a process of this proxy."""

    async def open(self, host: str, port: int) -> socket.socket:
        """A connected socket that does not block. Raises UpstreamError."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Numbers of connections; durations in seconds."""

    per_origin: int = 128
    total: int = 2048
    idle_per_origin: int = 16
    idle_timeout_s: float = 60.0
    wait_s: float = 10.0
    tls_timeout_s: float = 10.0


class Pool:
    """Hands out connections; `release` gives one back. A connection that closes counts itself out."""

    def __init__(
        self,
        dialler: Opener,
        options: PoolOptions,
        tls: Callable[[], ssl.SSLContext],
        recorder: Recorder,
    ) -> None:
        self._dialler = dialler
        self._options = options
        self._tls = tls
        self._recorder = recorder
        self._idle: dict[Origin, deque[OriginConnection]] = {}
        self._open: dict[Origin, int] = {}
        self._waiting: dict[Origin, deque[asyncio.Future[None]]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def idle(self, origin: Origin) -> OriginConnection | None:
        """An idle connection to `origin`, the latest used first; None if there is none."""
        while (connection := self.take(origin)) is not None:
            if connection.is_quiet:
                return connection
            connection.close()
        return None

    def take(self, origin: Origin) -> OriginConnection | None:
        """The same for who asks himself, before he uses it, whether it `is_quiet`."""
        connections = self._idle.get(origin)
        while connections:
            connection = connections.pop()
            if connection.is_usable:
                return connection
            connection.close()
        return None

    async def connect(self, origin: Origin) -> OriginConnection:
        """A new connection to `origin`. Raises UpstreamError."""
        await self._reserve(origin)
        connection: OriginConnection | None = None
        try:
            sock = await self._dialler.open(origin.host, origin.port)
            loop = asyncio.get_running_loop()
            context = self._tls() if origin.scheme == "https" else None
            try:
                _, connection = await loop.create_connection(
                    lambda: OriginConnection(origin, self._recorder, self._closed),
                    sock=sock,
                    ssl=context,
                    server_hostname=origin.host if context is not None else None,
                    ssl_handshake_timeout=self._options.tls_timeout_s if context is not None else None,
                )
            except (ssl.SSLError, OSError) as error:
                sock.close()
                raise tls_failure(origin.host, error) from None
        except BaseException:
            if connection is None:
                self._freed(origin)
            raise
        return connection

    def _closed(self, connection: OriginConnection) -> None:
        self._freed(connection.origin)

    async def _reserve(self, origin: Origin) -> None:
        if self._has_room(origin):
            self._open[origin] = self._open.get(origin, 0) + 1
            return
        self._drop_oldest_idle()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(origin, deque())
        queue.append(waiter)
        try:
            async with asyncio.timeout(self._options.wait_s):
                while not self._has_room(origin):
                    await waiter
                    if not self._has_room(origin):
                        waiter = asyncio.get_running_loop().create_future()
                        queue.appendleft(waiter)
        except TimeoutError:
            raise UpstreamError(
                Reason.CONNECTION_LIMIT_REACHED,
                origin.host,
                f"all {self._options.per_origin} connections to this origin, or {self._options.total} in all, are in use",
            ) from None
        finally:
            if waiter in queue:
                queue.remove(waiter)
            if not queue:
                self._waiting.pop(origin, None)
        self._open[origin] = self._open.get(origin, 0) + 1

    def _has_room(self, origin: Origin) -> bool:
        return (
            self._open.get(origin, 0) < self._options.per_origin
            and sum(self._open.values()) < self._options.total
        )

    def _drop_oldest_idle(self) -> None:
        oldest = min(
            (queue[0] for queue in self._idle.values() if queue),
            key=lambda connection: connection.idle_since,
            default=None,
        )
        if oldest is not None:
            self._idle[oldest.origin].popleft()
            oldest.close()

    def release(self, connection: OriginConnection) -> None:
        """Take back a connection whose response is whole."""
        origin = connection.origin
        queue = self._idle.get(origin)
        if queue is None:
            queue = self._idle[origin] = deque()
        if self._is_closed or not connection.may_be_reused or len(queue) >= self._options.idle_per_origin:
            connection.close()
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        connection.idle_since = self._loop.time()
        queue.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._options.idle_timeout_s / 2, self._sweep)

    def _freed(self, origin: Origin) -> None:
        count = self._open.get(origin, 0) - 1
        if count > 0:
            self._open[origin] = count
        else:
            self._open.pop(origin, None)
            if not self._idle.get(origin):
                self._idle.pop(origin, None)
        # A place may have been freed under the total for somebody else's origin.
        for candidates in [self._waiting.get(origin), *self._waiting.values()]:
            while candidates:
                waiter = candidates.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    return

    def _sweep(self) -> None:
        self._sweeper = None
        loop = asyncio.get_running_loop()
        oldest_allowed = loop.time() - self._options.idle_timeout_s
        for origin in list(self._idle):
            queue = self._idle[origin]
            for connection in [
                each for each in queue if each.idle_since <= oldest_allowed or not each.is_usable
            ]:
                queue.remove(connection)
                connection.close()
            if not queue:
                self._idle.pop(origin, None)
        if self._idle and not self._is_closed:
            self._sweeper = loop.call_later(self._options.idle_timeout_s / 2, self._sweep)

    def close(self) -> None:
        """Close every idle connection; those in use close when they are released."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for queue in list(self._idle.values()):
            for connection in list(queue):
                connection.close()
        self._idle.clear()
