"""Takes a client's raw connection for a tunnel: asyncio's transport would end both ways at the first end-of-file."""

from __future__ import annotations

import asyncio
import os
import socket

from cacheproxy.ports import ExchangeRecord
from cacheproxy.server.options import Services
from cacheproxy.tunnel.relay import RelayCount, relay

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


async def carry(
    own: socket.socket, destination: socket.socket, early: bytes, record: ExchangeRecord, services: Services
) -> None:
    """Say 200 and relay until the end. `own` is the client's socket, whose transport must not read any more."""
    record.hierarchy = f"HIER_DIRECT/{destination.getpeername()[0]}"
    count = RelayCount()
    client = socket.socket(fileno=os.dup(own.fileno()))
    try:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(client, _ESTABLISHED)
        record.status = 200
        await relay(client, destination, early, services.options.tunnel_idle_s, count, services.tunnels)
    finally:
        client.close()
        record.client_bytes = count.down + len(_ESTABLISHED)
        services.recorder.tunnelled(count.up, count.down)
