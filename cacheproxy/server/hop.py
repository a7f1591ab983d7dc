"""The owner's end of a request that came to another worker: an exchange like any other, counted there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from cacheproxy.engine.relay import OwnersEnd
from cacheproxy.engine.streams import close_stream
from cacheproxy.errors import CacheproxyError, ClientGone
from cacheproxy.http.dates import format_date
from cacheproxy.ports import Affinity, Answer, Clock, Exchange
from cacheproxy.server.failures import answer_to, kind_of, status_of


class _Closing:
    """A body after which the upstream connections of its one exchange are closed."""

    def __init__(self, stream: AsyncIterator[bytes], affinity: Affinity) -> None:
        self._stream = stream
        self._affinity = affinity

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._stream)

    async def aclose(self) -> None:
        await close_stream(self._stream)
        self._affinity.close()


class HopHandler:
    """Answers exchanges on a worker's Unix socket, whose connections carry one client's request after another's."""

    def __init__(self, handle: Callable[[Exchange], Awaitable[Answer]], end: OwnersEnd, clock: Clock) -> None:
        self._handle = handle
        self._end = end
        self._clock = clock

    async def __call__(self, exchange: Exchange) -> Answer:
        """The answer for the other worker. Raises ClientGone."""
        self._end.arrived(exchange)
        # Nothing of a client's may stay with a connection that serves others next (RFC 4559).
        exchange.affinity = affinity = Affinity()
        try:
            answer = await self._handle(exchange)
        except ClientGone:
            raise
        except CacheproxyError as error:
            exchange.record.reason = kind_of(error)
            if status_of(error) in (403, 405):
                exchange.record.tag = "TCP_DENIED"
            answer = answer_to(error, exchange.head, format_date(self._clock.wall()))
        if not affinity.pinned:
            pass
        elif answer.stream is None:
            affinity.close()
        else:
            answer.stream = _Closing(answer.stream, affinity)
        return self._end.leaves(exchange, answer)
