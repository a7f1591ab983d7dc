"""Whom a client connection calls."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cacheproxy.http.message import RequestHead
from cacheproxy.ports import Answer, Clock, Exchange, Recorder
from cacheproxy.server.direct import DirectReplies
from cacheproxy.server.hot_path import Ahead
from cacheproxy.server.lingering import Lingering
from cacheproxy.server.options import ConnectionOptions
from cacheproxy.tunnel.direction import Shared


@dataclass(frozen=True, slots=True)
class Services:
    """The engine, the tunnels' dialler, clock, counters; what all connections share of tunnels, and after their last
    answer; what looks at a request `ahead` of the connection's task, and the direct path, where they are on.
    """

    handle: Callable[[Exchange], Awaitable[Answer]]
    open_tunnel: Callable[[RequestHead, str], Awaitable[socket.socket]]
    clock: Clock
    recorder: Recorder
    options: ConnectionOptions
    tunnels: Shared = field(default_factory=Shared)
    lingering: Lingering = field(default_factory=Lingering)
    ahead: Ahead | None = None
    direct: DirectReplies | None = None
