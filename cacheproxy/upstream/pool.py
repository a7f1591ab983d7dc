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
from cacheproxy.upstream.waiting import Waiting, WaitingTask

_AGAIN_S = 0.05


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
        self.waiting = Waiting()
        self.wait_s = options.wait_s
        self._sweeper: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def idle(self, origin: Origin) -> OriginConnection | None:
        """An idle connection to `origin`, the latest used first; None if there is none."""
        while (connection := self.take(origin)) is not None:
            if connection.is_usable and connection.is_quiet:
                return connection
            connection.close()
        return None

    def take(self, origin: Origin) -> OriginConnection | None:
        """The same where the connection itself is asked (`ask`) whether it may still be used."""
        connections = self._idle.get(origin)
        while connections:
            connection = connections.pop()
            if not connection.is_closed:
                return connection
        return None

    def must_wait(self, origin: Origin) -> bool:
        """Whether so many connections are open that no new one may be made."""
        return not self._has_room(origin) and not self._is_full()

    async def obtain(self, origin: Origin) -> OriginConnection:
        """An idle connection to `origin` or a new one, whichever is to be had first. Raises UpstreamError."""
        if (connection := self.idle(origin)) is not None:
            return connection
        while (connection := await self._reserve(origin, may_reuse=True)) is not None:
            if connection.is_usable and connection.is_quiet:
                return connection
            # It has ended on the way here.
            connection.close()
        return await self._open_new(origin)

    async def connect(self, origin: Origin) -> OriginConnection:
        """A new connection to `origin`. Raises UpstreamError."""
        await self._reserve(origin, may_reuse=False)
        return await self._open_new(origin)

    async def _open_new(self, origin: Origin) -> OriginConnection:
        """The connection for which a place is reserved."""
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

    async def _reserve(self, origin: Origin, *, may_reuse: bool) -> OriginConnection | None:
        """Wait for a place for a new connection, and take it; or, if it `may_reuse`, for one that is released."""
        if not self._has_room(origin):
            self._make_room(origin)
        if not self._has_room(origin):
            released = await self._wait(origin, may_reuse=may_reuse)
            if released is not None:
                return released
        self._open[origin] = self._open.get(origin, 0) + 1
        return None

    async def _wait(self, origin: Origin, *, may_reuse: bool) -> OriginConnection | None:
        waiter = WaitingTask(may_reuse=may_reuse)
        self.waiting.add(origin, waiter)
        try:
            async with asyncio.timeout(self.wait_s):
                while (released := await waiter.told) is None and not self._has_room(origin):
                    if may_reuse and (released := self.idle(origin)) is not None:
                        break
                    waiter.told = asyncio.get_running_loop().create_future()
                    self.waiting.add_again(origin, waiter)
            return released
        except BaseException as error:
            self.waiting.leave(origin, waiter)
            if waiter.told.done() and not waiter.told.cancelled():
                # It came too late: others may have it.
                if (released := waiter.told.result()) is not None:
                    self.release(released)
                else:
                    self._tell_next(origin)
            if isinstance(error, TimeoutError):
                raise self.all_in_use(origin) from None
            raise

    def all_in_use(self, origin: Origin) -> UpstreamError:
        """The error of who has waited for too long."""
        per_origin, total = self._options.per_origin, self._options.total
        return UpstreamError(
            Reason.CONNECTION_LIMIT_REACHED,
            origin.host,
            f"all {per_origin} connections to this origin, or {total} in all, are in use",
        )

    def _has_room(self, origin: Origin) -> bool:
        return self._open.get(origin, 0) < self._options.per_origin and not self._is_full()

    def _is_full(self) -> bool:
        return sum(self._open.values()) >= self._options.total

    def _make_room(self, origin: Origin) -> None:
        """Close the idle connection that was used longest ago: of any origin where all together are too many."""
        if self._is_full():
            queues = [queue for queue in self._idle.values() if queue]
            queue = min(queues, key=lambda queue: queue[0].idle_since, default=None)
        else:
            queue = self._idle.get(origin)
        if queue:
            queue.popleft().close()

    def release(self, connection: OriginConnection) -> None:
        """Take back a connection whose response is whole."""
        origin = connection.origin
        queue = self._idle.get(origin)
        if queue is None:
            queue = self._idle[origin] = deque()
        if self._is_closed or not connection.may_be_reused or len(queue) >= self._options.idle_per_origin:
            connection.close()
            return
        if self.waiting:
            if self.waiting.hand_over(connection):
                return
            if origin in self.waiting or self._is_full():
                # Its place is wanted for a new one.
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
        self._tell_next(origin)

    def _tell_next(self, origin: Origin) -> None:
        self.waiting.tell_next(origin, self._has_room)
        # Whoever was told may not come for the place, as its client has left.
        if self.waiting and self._again is None and not self._is_closed:
            self._again = asyncio.get_running_loop().call_later(_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._again = None
        for origin in self.waiting.origins():
            if self._has_room(origin):
                self._tell_next(origin)
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
        if self._again is not None:
            self._again.cancel()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for queue in list(self._idle.values()):
            for connection in list(queue):
                connection.close()
        self._idle.clear()
