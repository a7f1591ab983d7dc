"""A fetch without a task: its request goes out with those of the same turn, its sink is called as the response arrives."""

from __future__ import annotations

import logging
from typing import Protocol

from cacheproxy.cork import Cork
from cacheproxy.errors import ClientGone, StaleConnection, UpstreamError
from cacheproxy.http.uri import Origin
from cacheproxy.policy.rules import Timeouts
from cacheproxy.ports import Affinity, Clock
from cacheproxy.ports.direct import ResponseSink
from cacheproxy.reasons import Reason
from cacheproxy.upstream.connection import OriginConnection
from cacheproxy.upstream.pool import Pool
from cacheproxy.upstream.response import Asked, OriginResponse, Owner, WholeResponse, no_response
from cacheproxy.upstream.response_parser import Final, Interim, Whole

log = logging.getLogger("cacheproxy")


class _Owner(Owner, Protocol):
    cork: Cork
    clock: Clock
    pool: Pool

    def responded(
        self, connection: OriginConnection, asked: Asked, final: Final, request_time: float
    ) -> OriginResponse:
        """The response whose head has come."""

    def whole(
        self,
        connection: OriginConnection,
        affinity: Affinity | None,
        whole: Whole,
        request_time: float,
    ) -> WholeResponse:
        """The response that has come to its end; its connection is free again."""


class DirectFetch:
    """From the request to the final head; then the response has a life of its own."""

    __slots__ = (
        "_affinity",
        "_connection",
        "_head",
        "_limits",
        "_origin",
        "_owner",
        "_request_time",
        "_sink",
    )
    may_reuse = True

    def __init__(
        self,
        owner: _Owner,
        origin: Origin,
        limits: Timeouts,
        head: bytes,
        sink: ResponseSink,
        affinity: Affinity | None,
    ) -> None:
        self._owner = owner
        self._origin = origin
        self._connection: OriginConnection | None = None
        self._limits = limits
        self._head = head
        self._sink = sink
        self._affinity = affinity
        self._request_time = 0.0

    def wait(self) -> None:
        """Wait until a connection is given."""
        pool = self._owner.pool
        pool.waiting.add(self._origin, self)
        self._owner.deadlines.set(self, pool.wait_s)

    def given(self, connection: OriginConnection | None) -> bool:
        """Here is the connection; None: there is none, but room for a new one."""
        if connection is None:
            self.close()
            self._fail_as_stale("another connection has ended")
            return True
        owner = self._owner
        self._connection = connection
        self._request_time = owner.clock.wall()
        owner.deadlines.set(self, self._limits.first_byte_s)
        owner.cork.add(self)
        return True

    def _fail_as_stale(self, why: str) -> None:
        self._sink.failed(StaleConnection(Reason.CONNECTION_TERMINATED, self._origin.host, why))

    def uncork(self) -> None:
        """Send the request."""
        connection = self._connection
        if connection is None:
            return
        connection.listener = self._heard
        connection.whole_sink = self
        if not connection.ask(self._head):
            # Whatever has come belongs to no request (RFC 9112 §9.2, §9.3.1).
            self.close()
            self._fail_as_stale("the idle connection has ended")

    def whole(self, whole: Whole) -> None:
        """The whole response has come at once."""
        connection, self._connection = self._connection, None
        assert connection is not None
        connection.listener = connection.whole_sink = None
        self._owner.deadlines.forget(self)
        try:
            response = self._owner.whole(connection, self._affinity, whole, self._request_time)
        except Exception:
            log.exception("a response of %s", self._origin.host)
            error = UpstreamError(Reason.PROXY_INTERNAL_ERROR, self._origin.host, "internal")
            self._sink.failed(error)
        else:
            self._sink.responded(response)

    def _heard(self) -> None:
        connection = self._connection
        assert connection is not None
        try:
            while (event := connection.take_event()) is not None:
                if isinstance(event, Final):
                    self._leave()
                    asked = Asked(self._origin.host, self._limits.idle_s, self._affinity)
                    response = self._owner.responded(connection, asked, event, self._request_time)
                    self._sink.responded(response)
                    return
                if isinstance(event, Interim):
                    self._sink.interim(event.head)
                    if self._connection is None:
                        return
        except (UpstreamError, ClientGone) as error:
            self.close()
            self._sink.failed(error)

    def _leave(self) -> OriginConnection | None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.listener = connection.whole_sink = None
        self._owner.deadlines.forget(self)
        return connection

    def overdue(self) -> None:
        """No connection, or no head, came in time."""
        error = self._owner.pool.all_in_use(self._origin)
        if self._connection is not None:
            error = no_response(self._origin.host, self._limits.first_byte_s)
        self.close()
        self._sink.failed(error)

    def close(self) -> None:
        """Give up: the connection is closed, the sink hears nothing more."""
        connection = self._leave()
        if connection is not None:
            self._owner.drop(connection, self._affinity)
        else:
            self._owner.pool.waiting.leave(self._origin, self)
