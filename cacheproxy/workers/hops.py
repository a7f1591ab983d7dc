"""What goes on between workers that answer for each other: the way there, and who listens for them."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

from cacheproxy.engine.exchange import Engine
from cacheproxy.engine.hop import OwnersEnd
from cacheproxy.errors import ClientError
from cacheproxy.http.head import HeadLimits
from cacheproxy.http.message import RequestHead
from cacheproxy.ports import Clock
from cacheproxy.server.hop import HopAhead, HopHandler, HopReplies
from cacheproxy.server.hot_path import HotPath
from cacheproxy.server.listener import Listener
from cacheproxy.server.options import ConnectionOptions
from cacheproxy.server.services import Services
from cacheproxy.store.owned import MAX_LENT_HEAD_BYTES
from cacheproxy.upstream.client import Client
from cacheproxy.upstream.pool import Pool, PoolOptions
from cacheproxy.upstream.sibling import NoReceipt, SiblingDialler

_HOP_MARGIN_S = 60.0
_IDLE_CONNECTIONS = 64


def way_to_siblings(directory: Path, clock: Clock) -> Client:
    """A client of the workers whose sockets are in `directory`."""
    options = PoolOptions(per_origin=100_000, total=1_000_000, idle_per_origin=_IDLE_CONNECTIONS)
    return Client(Pool(SiblingDialler(directory), options, _no_tls, NoReceipt()), clock)


def siblings_listener(
    engine: Engine,
    end: OwnersEnd,
    upstream: Client,
    clock: Clock,
    options: ConnectionOptions,
    hot: HotPath | None,
) -> Listener:
    """Answers the other workers, which have held their clients to `options` already."""
    lenient = _for_hops(options)
    services = Services(HopHandler(engine.handle, end, clock), _no_tunnel, clock, NoReceipt(), lenient)
    if hot is not None:
        path = engine.direct_path(upstream, for_siblings=True)
        replies = HopReplies(path, engine.hot, end, clock, lenient.write_s)
        services = replace(services, ahead=HopAhead(hot.memo), direct=replies)
    return Listener(services)


def _for_hops(options: ConnectionOptions) -> ConnectionOptions:
    """Another worker has held the client to the limits already; it must be the first to lose patience."""
    limits = options.limits
    return replace(
        options,
        idle_s=24 * 3600.0,
        body_s=options.body_s + _HOP_MARGIN_S,
        body_rate=0.0,
        write_s=options.write_s + _HOP_MARGIN_S,
        max_connections=2**31,
        may_half_close=False,
        limits=HeadLimits(
            limits.target_bytes,
            limits.field_bytes + MAX_LENT_HEAD_BYTES,
            limits.head_bytes + 2 * MAX_LENT_HEAD_BYTES,
            limits.fields + 8,
        ),
    )


async def _no_tunnel(request: RequestHead, client: str) -> socket.socket:
    raise ClientError(405, "tunnels do not go through other workers", close=True)


def _no_tls() -> Any:
    raise AssertionError("workers talk in the clear")
