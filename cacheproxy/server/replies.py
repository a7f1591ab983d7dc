"""What replies on the direct path share, and what they need of their client's connection."""

from __future__ import annotations

from typing import Protocol

from cacheproxy.cork import Cork
from cacheproxy.http.message import ResponseHead
from cacheproxy.ports import Affinity, Clock, Closable, ExchangeRecord
from cacheproxy.server.hot_path import HotPath
from cacheproxy.server.hot_ports import DirectStart
from cacheproxy.server.inlet import Inlet
from cacheproxy.server.outlet import Outlet

Began = tuple[float, float, int]
"""When an exchange did, in epoch and in monotonic seconds, and bytes sent since (interim heads)."""


class Client(Protocol):
    """The connection as its direct exchange needs it."""

    affinity: Affinity
    inlet: Inlet
    outlet: Outlet

    def begin(self, method: str, url: str, began: Began) -> ExchangeRecord:
        """An exchange has begun then."""

    def finish(self) -> None:
        """It has ended: count it."""

    def ended(self) -> None:
        """It has ended, and is counted."""

    def end_soon(self) -> None:
        """The last answer is written: take no further request."""

    def send_interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx head."""

    def left_to_task(self, begun: Closable | None, began: Began) -> None:
        """The request is in the inlet again; its exchange `began` then."""


class Replies:
    """What the replies to all clients share; `hot` None: every answer is an exchange like others."""

    def __init__(self, hot: HotPath | None, start: DirectStart, clock: Clock, write_s: float) -> None:
        self.hot = hot
        self.start = start
        self.clock = clock
        self.write_s = write_s
        self.cork = Cork()
