"""The reading half of a client connection: bytes in, request heads out, under the client's deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cacheproxy.errors import ClientError
from cacheproxy.http.framing import Framing
from cacheproxy.http.message import RequestHead
from cacheproxy.server.client_body import ClientBody
from cacheproxy.server.options import ConnectionOptions
from cacheproxy.server.request_reader import RequestReader

READ_AHEAD_BYTES = 128 * 1024
_LINGER_BYTES = 1024 * 1024


class Inlet:
    """Owned by the connection, which feeds it; it pauses and resumes the transport to stay within bounds."""

    def __init__(
        self, options: ConnectionOptions, pause: Callable[[], None], resume: Callable[[], None]
    ) -> None:
        self._options = options
        self._reader = RequestReader(options.limits)
        self._pause = pause
        self._resume = resume
        self._waiter: asyncio.Future[None] | None = None
        self._is_paused = False
        self.has_eof = False
        self.is_stopping = False

    def __len__(self) -> int:
        return len(self._reader)

    @property
    def is_finished(self) -> bool:
        """Whether no further request can come: the client has ended, and nothing is left to read."""
        return self.has_eof and not len(self._reader)

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        self._reader.feed(data)
        if len(self._reader) > READ_AHEAD_BYTES and not self._is_paused:
            self._is_paused = True
            self._pause()
        self.wake()

    def end(self) -> None:
        """The client has sent all that it will."""
        self.has_eof = True
        self.wake()

    def stop(self) -> None:
        """Take no further request."""
        self.is_stopping = True
        self.wake()

    def wake(self) -> None:
        """Let whoever waits look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def more(self) -> bool:
        """Wait for bytes, or for anything else to change; False at the client's end."""
        if self.has_eof:
            return False
        self._waiter = asyncio.get_running_loop().create_future()
        if self._is_paused and len(self._reader) <= READ_AHEAD_BYTES // 2:
            self._is_paused = False
            self._resume()
        try:
            await self._waiter
        finally:
            self._waiter = None
        return True

    async def next_request(self) -> RequestHead | None:
        """The next head; None where the client is done or idle too long. Raises ClientError."""
        request = self._reader.next_head()
        if request is not None:
            return request
        options = self._options
        if not len(self._reader):
            try:
                async with asyncio.timeout(options.idle_s):
                    while not len(self._reader):
                        if self.is_stopping or not await self.more():
                            return None
            except TimeoutError:
                return None
        try:
            async with asyncio.timeout(options.head_s):
                while (request := self._reader.next_head()) is None:
                    if self.is_stopping or not await self.more():
                        return None
        except TimeoutError:
            detail = f"the request's head did not arrive within {options.head_s:g} s"
            raise ClientError(408, detail, close=True) from None
        return request

    def body(self, framing: Framing) -> ClientBody:
        """The body of the request whose head was just taken."""
        return ClientBody(self._reader.body(framing), self.more, self._options)

    def take_rest(self) -> bytes:
        """Everything unread, for a tunnel."""
        return self._reader.take_rest()

    async def drop_rest(self) -> None:
        """Read and drop until the client ends, within a limit."""
        dropped = 0
        while dropped < _LINGER_BYTES:
            dropped += len(self._reader.take_rest())
            if not await self.more():
                return
