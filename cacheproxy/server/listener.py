"""Listening sockets and the aiohttp server behind them."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from cacheproxy.errors import StartError
from cacheproxy.server.acceptor import Acceptor
from cacheproxy.server.connection import ClientConnection
from cacheproxy.server.services import Services
from cacheproxy.server.tls import Certificate, Handshakes
from cacheproxy.tasks import TaskGroup

# The kernel takes as much of it as `net.core.somaxconn` allows. Who finds the queue full tries again after a second.
_BACKLOG = 16 * 1024
ACCEPT_AT_ONCE = 1024


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


@dataclass(frozen=True, slots=True)
class ListeningSockets:
    """Where clients connect: in the clear, and over TLS."""

    plain: list[socket.socket] = field(default_factory=list)
    tls: list[socket.socket] = field(default_factory=list)

    @classmethod
    def bind(cls, addresses: Iterable[tuple[str, int, bool]]) -> ListeningSockets:
        """For each host, port and whether it is TLS. Raises StartError."""
        bound = cls()
        try:
            for host, port, is_tls in addresses:
                (bound.tls if is_tls else bound.plain).extend(bind(host, port))
        except StartError:
            bound.close()
            raise
        return bound

    @property
    def all(self) -> list[socket.socket]:
        """Both kinds."""
        return [*self.plain, *self.tls]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each."""
        return [sock.getsockname()[:2] for sock in self.all]

    @property
    def urls(self) -> list[str]:
        """The same as clients write them."""
        found = []
        for scheme, sockets in (("http", self.plain), ("https", self.tls)):
            for sock in sockets:
                host, port = sock.getsockname()[:2]
                found.append(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        return found

    def close(self) -> None:
        """Close them all."""
        for sock in self.all:
            sock.close()


class Listener:
    """Accepts connections on sockets. Start it, then close it with a time to drain."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._server = ConnectionServer(services)
        self._runner: web.ServerRunner | None = None
        self._acceptors: list[Acceptor] = []
        self._tasks = TaskGroup("listener")

    async def start(
        self,
        sockets: ListeningSockets,
        drain_s: float,
        accept_at_once: int = ACCEPT_AT_ONCE,
        certificate: Certificate | None = None,
    ) -> None:
        """Accept on `sockets`, which belong to the listener from now on; those for TLS take a certificate.

        `accept_at_once`: how many at a turn of the loop. Where processes share the sockets each leaves some.
        """
        self._runner = web.ServerRunner(self._server, handle_signals=False, shutdown_timeout=drain_s)
        await self._runner.setup()
        for sock in sockets.all:
            # Accepted ones inherit it.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        handshakes = None if certificate is None else self._handshakes(certificate)
        for sock in sockets.tls:
            assert handshakes is not None
            self._accept(Acceptor(sock, handshakes, accept_at_once, self._tasks))
        for sock in sockets.plain:
            self._accept(Acceptor(sock, self._server, accept_at_once, self._tasks))

    def _accept(self, acceptor: Acceptor) -> None:
        acceptor.start()
        self._acceptors.append(acceptor)

    def _handshakes(self, certificate: Certificate) -> Handshakes:
        services, server = self._services, self._server
        limit = services.options.max_connections
        return Handshakes(
            server,
            lambda: certificate.context(services.clock.monotonic()),
            services.options.head_s,
            services.options.write_s,
            lambda under_way: under_way + server.open_connections < limit,
        )

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
