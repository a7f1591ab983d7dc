"""Listening sockets and the aiohttp server behind them."""

from __future__ import annotations

import asyncio
import errno
import socket

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from cacheproxy.errors import StartError
from cacheproxy.server.acceptor import Acceptor
from cacheproxy.server.connection import ClientConnection
from cacheproxy.server.services import Services
from cacheproxy.tasks import TaskGroup

# The kernel takes as much of it as `net.core.somaxconn` allows. Who finds the queue full tries again after a second.
_BACKLOG = 16 * 1024
_ACCEPT_AT_ONCE = 1024


class ConnectionServer(web.Server):
    """aiohttp's low-level server, its connections ours."""

    def __init__(self, services: Services) -> None:
        super().__init__(_never, handler_cancellation=True)
        self._services = services
        self.open_connections = 0
        """Client connections open now."""

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """A client has connected."""
        self.open_connections += 1
        super().connection_made(handler, transport)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """A connection is gone."""
        self.open_connections -= 1
        super().connection_lost(handler, exc)

    def __call__(self) -> ClientConnection:
        """A protocol for a new connection."""
        return ClientConnection(self, self._services, self._loop)


async def _never(request: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError("requests are handled by ClientConnection")


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for HOST:PORT, one per address family. Raises StartError."""
    shown = f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"
    try:
        infos = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except OSError as error:
        raise StartError(f"cannot listen on {shown}: {error.strerror or error}") from None
    sockets: list[socket.socket] = []
    try:
        for family, kind, proto, _, address in dict.fromkeys(infos):
            sock = socket.socket(family, kind, proto)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            # Listen now: a bound port alone does not keep a second instance out.
            sock.listen(_BACKLOG)
            sock.setblocking(False)
    except OSError as error:
        for sock in sockets:
            sock.close()
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"cannot listen on {shown}: another program, perhaps another cacheproxy, uses the port already;"
                " choose another with --listen"
            ) from None
        raise StartError(f"cannot listen on {shown}: {error.strerror}") from None
    return sockets


class Listener:
    """Accepts connections on sockets. Start it, then close it with a time to drain."""

    def __init__(self, services: Services) -> None:
        self._server = ConnectionServer(services)
        self._runner: web.ServerRunner | None = None
        self._acceptors: list[Acceptor] = []
        self._tasks = TaskGroup("listener")

    async def start(
        self, sockets: list[socket.socket], drain_s: float, accept_at_once: int = _ACCEPT_AT_ONCE
    ) -> None:
        """Accept on `sockets`, which belong to the listener from now on.

        `accept_at_once`: how many at a turn of the loop. Where processes share the sockets each leaves some.
        """
        self._runner = web.ServerRunner(self._server, handle_signals=False, shutdown_timeout=drain_s)
        await self._runner.setup()
        for sock in sockets:
            # Accepted ones inherit it.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            acceptor = Acceptor(sock, self._server, accept_at_once, self._tasks)
            acceptor.start()
            self._acceptors.append(acceptor)

    @property
    def connections(self) -> int:
        """Client connections open now."""
        return self._server.open_connections

    async def close(self) -> None:
        """Stop accepting, let exchanges finish within the drain time, close."""
        for acceptor in self._acceptors:
            acceptor.close()
        await self._tasks.close()
        if self._runner is not None:
            await self._runner.cleanup()
