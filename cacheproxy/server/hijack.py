"""Takes a client's connection for a tunnel: its descriptor, as asyncio's transport would end both ways at the first
end-of-file, or over TLS the transport, as the descriptor carries something else.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Protocol

from cacheproxy.errors import CacheproxyError, ClientError, ClientGone
from cacheproxy.http.dates import format_date
from cacheproxy.http.framing import request_framing
from cacheproxy.http.message import RequestHead
from cacheproxy.reasons import Reason
from cacheproxy.server.failures import answer_to, kind_of
from cacheproxy.server.inlet import Inlet
from cacheproxy.server.outlet import Outlet
from cacheproxy.server.services import Services
from cacheproxy.tunnel.relay import RelayCount, relay, relay_transports
from cacheproxy.tunnel.transports import End

# How long what a client has sent last may take to a destination that is slow to read it.
_LAST_WORDS_S = 10.0
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Hijacked(Protocol):
    """The client's connection."""

    inlet: Inlet
    outlet: Outlet
    transport: asyncio.Transport | None

    @property
    def client(self) -> str:
        """The client's address."""

    def let_go(self) -> None:
        """Read no more: from here on somebody else reads and writes on the descriptor itself."""


async def connect(request: RequestHead, connection: Hijacked, services: Services) -> None:
    """CONNECT, to its end. Raises ConnectionResetError, ClientGone."""
    outlet = connection.outlet
    record = outlet.record
    record.reason, record.tag = Reason.TUNNEL, "TCP_TUNNEL"
    destination = await _reach(request, connection.client, outlet, services)
    if destination is None:
        return
    record.hierarchy = f"HIER_DIRECT/{_peer(destination)}"
    count = RelayCount()
    with destination:
        try:
            if outlet.is_tls:
                await _carry_over_tls(connection, destination, count, services)
            else:
                await _carry(connection, destination, count, services)
        finally:
            if record.status:
                record.client_bytes = count.down + len(_ESTABLISHED)
                services.recorder.tunnelled(count.up, count.down)


async def _reach(request: RequestHead, client: str, outlet: Outlet, services: Services) -> socket.socket | None:
    """A connection to what CONNECT names; None where the client has been told why there is none."""
    try:
        if not request_framing(request).is_empty:
            raise ClientError(400, "CONNECT has no body (RFC 9110 section 9.3.6)", close=True)
        return await services.open_tunnel(request, client)
    except CacheproxyError as error:
        # RFC 9931: what follows a refused CONNECT may be meant for the destination; never parse it.
        outlet.record.reason = kind_of(error)
        answer = answer_to(error, request, format_date(services.clock.wall()))
        if answer.head.status == 403:
            outlet.record.tag = "TCP_DENIED"
        await outlet.send(answer, request, may_keep_alive=False)
        return None


async def _carry(
    connection: Hijacked, destination: socket.socket, count: RelayCount, services: Services
) -> None:
    """Say 200 and relay between the sockets until the end."""
    outlet, options = connection.outlet, services.options
    # Answers to earlier, pipelined requests go first.
    await outlet.flushed()
    own = outlet.socket
    if own is None:
        raise ConnectionResetError("the client has left")
    connection.let_go()
    # The family only matters for addresses, which nobody asks this one for: naming it saves three system calls.
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=os.dup(own.fileno()))
    try:
        client.setblocking(False)
        await _say_yes(client, options.write_s)
        outlet.record.status = 200
        early = connection.inlet.take_rest()
        await relay(client, destination, early, options.tunnel_idle_s, count, services.tunnels)
    finally:
        client.close()
        outlet.abort()


async def _carry_over_tls(
    connection: Hijacked, destination: socket.socket, count: RelayCount, services: Services
) -> None:
    """The same between transports."""
    outlet, options = connection.outlet, services.options
    await outlet.drained()
    transport = connection.transport
    if transport is None:
        raise ConnectionResetError("the client has left")
    connection.let_go()
    far = await End.at(destination)
    if transport.is_closing():
        far.close(0)
        raise ConnectionResetError("the client has left")
    near = End.take(transport)
    try:
        transport.write(_ESTABLISHED)
        outlet.record.status = 200
        await relay_transports(near, far, connection.inlet.take_rest(), options.tunnel_idle_s, count)
    finally:
        near.release()
        far.close(_LAST_WORDS_S)


async def _say_yes(client: socket.socket, write_s: float) -> None:
    try:
        sent = client.send(_ESTABLISHED)
    except BlockingIOError:
        sent = 0
    if sent < len(_ESTABLISHED):
        # Behind answers to pipelined requests that the client does not read.
        try:
            async with asyncio.timeout(write_s):
                await asyncio.get_running_loop().sock_sendall(client, _ESTABLISHED[sent:])
        except TimeoutError:
            raise ClientGone("the client reads nothing") from None


def _peer(destination: socket.socket) -> str:
    try:
        return str(destination.getpeername()[0])
    except OSError:
        # Reset as soon as it was connected.
        return "-"
