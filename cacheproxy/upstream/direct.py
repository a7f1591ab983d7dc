"""A fetch without a task: its request goes out with those of the same turn, its sink is called as the response arrives."""

from __future__ import annotations

from typing import Protocol

from cacheproxy.cork import Cork
from cacheproxy.errors import ClientGone, StaleConnection, UpstreamError
from cacheproxy.policy.rules import Timeouts
from cacheproxy.ports import Affinity
from cacheproxy.ports.direct import ResponseSink
from cacheproxy.reasons import Reason
from cacheproxy.upstream.connection import OriginConnection
from cacheproxy.upstream.response import Asked, OriginResponse, Owner, WholeResponse, no_response
from cacheproxy.upstream.response_parser import Final, Interim


class _Owner(Owner, Protocol):
    cork: Cork

    def responded(
        self, connection: OriginConnection, asked: Asked, final: Final, request_time: float
    ) -> OriginResponse:
        """The response whose head has come."""

    def whole(
        self,
        connection: OriginConnection,
        affinity: Affinity | None,
        final: Final,
        content: bytes,
        request_time: float,
    ) -> WholeResponse:
        """The response that has come to its end; its connection is free again."""


class DirectFetch:
    """From the request to the final head; then the response has a life of its own."""

    __slots__ = ("_affinity", "_connection", "_head", "_limits", "_owner", "_request_time", "_sink")

    def __init__(
        self,
        owner: _Owner,
        connection: OriginConnection,
        limits: Timeouts,
        head: bytes,
        sink: ResponseSink,
        affinity: Affinity | None,
        request_time: float,
    ) -> None:
        self._owner = owner
        self._connection: OriginConnection | None = connection
        self._limits = limits
        self._head = head
        self._sink = sink
        self._affinity = affinity
        self._request_time = request_time
        owner.deadlines.set(self, limits.first_byte_s)
        owner.cork.add(self)

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
            why = "the idle connection has ended"
            self._sink.failed(StaleConnection(Reason.CONNECTION_TERMINATED, connection.origin.host, why))

    def whole(self, final: Final, content: bytes) -> None:
        """The whole response has come at once."""
        connection = self._leave()
        assert connection is not None
        self._sink.responded(self._owner.whole(connection, self._affinity, final, content, self._request_time))

    def _heard(self) -> None:
        connection = self._connection
        assert connection is not None
        try:
            while (event := connection.take_event()) is not None:
                if isinstance(event, Final):
                    self._leave()
                    asked = Asked(connection.origin.host, self._limits.idle_s, self._affinity)
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
        """No head came in time."""
        connection = self._connection
        assert connection is not None
        self.close()
        self._sink.failed(no_response(connection.origin.host, self._limits.first_byte_s))

    def close(self) -> None:
        """Give up: the connection is closed, the sink hears nothing more."""
        connection = self._leave()
        if connection is not None:
            self._owner.drop(connection, self._affinity)
