"""A client connection's deadlines and limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from cacheproxy.http.head import HeadLimits


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
    # Whether who has ended its side may still be reading.
    may_half_close: bool = True
    limits: HeadLimits = field(default_factory=HeadLimits)
