"""A request's body as the engine reads it, under the client's deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cacheproxy.errors import CacheproxyError, ClientError, ClientGone
from cacheproxy.server.options import ConnectionOptions
from cacheproxy.server.request_reader import BodyDecoder

_LITTLE_BYTES = 128 * 1024
_DROP_S = 2.0


class ClientBody:
    """Read once, in pieces. Only time spent waiting for the client counts against it."""

    def __init__(
        self,
        decoder: BodyDecoder,
        more: Callable[[], Awaitable[bool]],
        options: ConnectionOptions,
    ) -> None:
        self.decoder = decoder
        self._more = more
        self._options = options
        self._waited_s = 0.0
        self._received = 0

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises ClientGone, ClientError (400, 408)."""
        loop = asyncio.get_running_loop()
        while True:
            data = self.decoder.take()
            self._received += len(data)
            if data or self.decoder.is_complete:
                return data
            began = loop.time()
            try:
                async with asyncio.timeout(self._options.body_s):
                    if not await self._more():
                        raise ClientGone("the client ended in the middle of its request")
            except TimeoutError:
                raise ClientError(
                    408, f"the request's body stood still for {self._options.body_s:g} s", close=True
                ) from None
            self._waited_s += loop.time() - began
            if (
                self._waited_s > self._options.body_rate_after_s
                and self._received < self._waited_s * self._options.body_rate
            ):
                raise ClientError(408, "the request's body arrives too slowly", close=True)

    @property
    def is_nearly_read(self) -> bool:
        """Whether the rest is worth reading: more than a little costs less to close over."""
        left = self.decoder.left
        return self.decoder.is_complete or (left is not None and left <= _LITTLE_BYTES)

    async def drop_rest(self) -> bool:
        """Read what is left and drop it; False where that takes too long."""
        try:
            async with asyncio.timeout(_DROP_S):
                while not self.decoder.is_complete:
                    await self.read()
        except (TimeoutError, CacheproxyError):
            return False
        return True
