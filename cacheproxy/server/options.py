"""What a client connection is given: its deadlines and limits, and whom it calls."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cacheproxy.http.head import HeadLimits
from cacheproxy.http.message import RequestHead
from cacheproxy.ports import Answer, Clock, Exchange, Recorder
from cacheproxy.server.hot_path import HotPath
from cacheproxy.server.hot_ports import DirectStart
from cacheproxy.tunnel.direction import Shared


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Deadlines in seconds, `body_rate` in bytes per second."""

    head_s: float = 10.0
    idle_s: float = 75.0
    body_s: float = 30.0
    body_rate: float = 1024.0
    body_rate_after_s: float = 60.0
    write_s: float = 300.0
    tunnel_idle_s: float = 900.0
    max_connections: int = 20_000
    limits: HeadLimits = field(default_factory=HeadLimits)


@dataclass(frozen=True, slots=True)
class Services:
    """The engine, the tunnels' dialler, clock, counters, what tunnels share, the hot path and the direct one where they are on."""

    handle: Callable[[Exchange], Awaitable[Answer]]
    open_tunnel: Callable[[RequestHead, str], Awaitable[socket.socket]]
    clock: Clock
    recorder: Recorder
    options: ConnectionOptions
    tunnels: Shared = field(default_factory=Shared)
    hot: HotPath | None = None
    direct: DirectStart | None = None
