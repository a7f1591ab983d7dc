"""A fetch without a task: its request goes out with those of the same turn, its sink is called as the response arrives."""

from __future__ import annotations

from typing import Protocol

from cacheproxy.cork import Cork
from cacheproxy.errors import ClientGone, StaleConnection, UpstreamError
from cacheproxy.ports import UpstreamRequest
from cacheproxy.ports.direct import ResponseSink
from cacheproxy.reasons import Reason
from cacheproxy.upstream.connection import OriginConnection
from cacheproxy.upstream.response import OriginResponse, Owner, WholeResponse, no_response
from cacheproxy.upstream.response_parser import Final, Interim


class _Owner(Owner, Protocol):
    cork: Cork

    def responded(
        self, connection: OriginConnection, request: UpstreamRequest, final: Final, request_time: float
    ) -> OriginResponse:
        """The response whose head has come."""

    def whole(
        self,
        connection: OriginConnection,
        request: UpstreamRequest,
        final: Final,
        content: bytes,
        request_time: float,
    ) -> WholeResponse:
        """The response that has come to its end; its connection is free again."""


class DirectFetch:
    """From the request to the final head; then the response has a life of its own."""

    __slots__ = ("_connection", "_head", "_owner", "_request", "_request_time", "_sink")

    def __init__(
        self,
        owner: _Owner,
        connection: OriginConnection,
        request: UpstreamRequest,
        head: bytes,
        sink: ResponseSink,
        request_time: float,
    ) -> None:
        self._owner = owner
        self._connection: OriginConnection | None = connection
        self._request = request
        self._head = head
        self._sink = sink
        self._request_time = request_time
        owner.deadlines.set(self, request.first_byte_s)
        owner.cork.add(self)

    def uncork(self) -> None:
        """Send the request."""
        connection = self._connection
        if connection is None:
            return
        if connection.is_usable and connection.is_quiet:
            connection.listener = self._heard
            connection.whole_sink = self
            connection.send_head("GET", self._head, is_whole=True)
        else:
            # Whatever has come belongs to no request (RFC 9112 §9.2, §9.3.1).
            self.close()
            why = "the idle connection has ended"
            self._sink.failed(StaleConnection(Reason.CONNECTION_TERMINATED, self._request.origin.host, why))

    def whole(self, final: Final, content: bytes) -> None:
        """The whole response has come at once."""
        connection = self._leave()
        assert connection is not None
        response = self._owner.whole(connection, self._request, final, content, self._request_time)
        self._sink.responded(response)

    def _heard(self) -> None:
        connection = self._connection
        assert connection is not None
        try:
            while (event := connection.take_event()) is not None:
                if isinstance(event, Final):
                    self._leave()
                    response = self._owner.responded(connection, self._request, event, self._request_time)
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
        self.close()
        self._sink.failed(no_response(self._request))

    def close(self) -> None:
        """Give up: the connection is closed, the sink hears nothing more."""
        connection = self._leave()
        if connection is not None:
            self._owner.drop(connection, self._request.affinity)
