"""The reading half of a client connection: bytes in, request heads out, under the client's deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cacheproxy.errors import ClientError
from cacheproxy.http.framing import Framing
from cacheproxy.http.message import RequestHead
from cacheproxy.server.client_body import ClientBody
from cacheproxy.server.lingering import LINGER_BYTES
from cacheproxy.server.options import ConnectionOptions
from cacheproxy.server.parse_memo import ParseMemo
from cacheproxy.server.request_reader import RequestReader

READ_AHEAD_BYTES = 128 * 1024


class Inlet:
    """Owned by the connection, which feeds it; it pauses and resumes the transport to stay within bounds."""

    def __init__(
        self,
        options: ConnectionOptions,
        memo: ParseMemo | None,
        pause: Callable[[], None],
        resume: Callable[[], None],
        begin: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`begin` starts the connection's task, once there is something for it to do."""
        self._options = options
        self._reader = RequestReader(options.limits, memo)
        self._unread = self._reader.buffer
        self._pause = pause
        self._resume = resume
        self._begin: Callable[[], None] | None = begin
        # Asking for the running loop is a system call each time (getpid, before Python 3.12).
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._is_paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._is_overdue = False
        self.has_eof = False
        self.is_stopping = False
        # At a clean message boundary: the last request is answered, and no byte of the next has come.
        self.is_idle = False
        self.idle_since = 0.0
        # A request that came whole is being answered without the connection's task: it must not wake.
        self._is_held = False
        self.is_dropping = False
        """Whether the last answer is sent: what still comes is for nobody."""
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._reader)

    @property
    def is_finished(self) -> bool:
        """Whether no further request can come: the client has ended, and nothing is left to read."""
        return self.has_eof and not len(self._reader)

    @property
    def may_go_on(self) -> bool:
        """Whether, for all that is known here, another request may follow."""
        return not self.is_stopping and (not self.has_eof or bool(self._unread))

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.is_dropping:
            self._dropped += len(data)
        else:
            self._reader.feed(data)
        if (len(self._reader) > READ_AHEAD_BYTES or self._dropped > LINGER_BYTES) and not self._is_paused:
            self._is_paused = True
            self._pause()
        if not self.is_dropping:
            self.wake()

    def open(self) -> None:
        """The client has connected, and may send a request."""
        self.is_idle = True
        self._wait_idle()

    def end(self) -> None:
        """The client has sent all that it will."""
        self.has_eof = True
        if self._begin is None or self._unread:
            self.wake()
        else:
            # There never was anything for the task to do.
            self.is_idle = False

    def stop(self) -> None:
        """Take no further request."""
        self.is_stopping = True
        self.wake()

    def wake(self) -> None:
        """Let whoever waits look again."""
        self.is_idle = False
        if self._is_held:
            return
        if self._begin is not None:
            begin, self._begin = self._begin, None
            begin()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def hold(self) -> None:
        """Let the connection's task sleep; what arrives meanwhile is kept."""
        self.is_idle = False
        self._is_held = True

    def let_go(self) -> None:
        """Undo `hold`: nothing has happened yet."""
        self._is_held = False

    def release(self, unread: bytes = b"") -> None:
        """Go on; `unread` is a request that the task has to answer after all."""
        self._is_held = False
        if unread:
            self._reader.unread(unread)
        if self._unread or self.has_eof or self.is_stopping:
            self.wake()
        else:
            self.is_idle = True
            self.idle_since = self._loop.time()
            if self._timer is None:
                self._wait_idle()

    async def more(self) -> bool:
        """Wait for bytes, or for anything else to change; False at the client's end."""
        if self.has_eof:
            return False
        self._waiter = asyncio.get_running_loop().create_future()
        self._resume_if_room()
        try:
            await self._waiter
        finally:
            self._waiter = None
        return True

    def _resume_if_room(self) -> None:
        if self._is_paused and len(self._reader) <= READ_AHEAD_BYTES // 2:
            self._is_paused = False
            self._resume()

    async def next_request(self) -> RequestHead | None:
        """The next head; None where the client is done or idle too long. Raises ClientError."""
        request = self._reader.next_head()
        if request is not None:
            return request
        options = self._options
        if not len(self._reader):
            if not await self._first_byte():
                return None
            request = self._reader.next_head()
            if request is not None:
                return request
        try:
            async with asyncio.timeout(options.head_s):
                while (request := self._reader.next_head()) is None:
                    if self.is_stopping or not await self.more():
                        return None
        except TimeoutError:
            detail = f"the request's head did not arrive within {options.head_s:g} s"
            raise ClientError(408, detail, close=True) from None
        return request

    async def _first_byte(self) -> bool:
        """Wait for the first byte of a request; False where the client is done or idle too long."""
        self._wait_idle()
        while not len(self._reader):
            if self.is_stopping or self.has_eof or self._is_overdue:
                return False
            self._waiter = self._loop.create_future()
            self._resume_if_room()
            self.is_idle = True
            try:
                await self._waiter
            finally:
                self._waiter = None
                self.is_idle = False
        return True

    def _wait_idle(self) -> None:
        self.idle_since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self.idle_since + self._options.idle_s, self._check_idle)

    def _check_idle(self) -> None:
        # One timer for the connection's life; a request only notes the time, which is cheaper than a timer.
        self._timer = None
        if self.is_idle:
            loop = asyncio.get_running_loop()
            due = self.idle_since + self._options.idle_s
            if loop.time() < due:
                self._timer = loop.call_at(due, self._check_idle)
            else:
                self._is_overdue = True
                self.wake()

    def close(self) -> None:
        """The connection is gone."""
        self._begin = None
        self.end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def body(self, framing: Framing) -> ClientBody:
        """The body of the request whose head was just taken."""
        return ClientBody(self._reader.body(framing), self.more, self._options)

    def take_rest(self) -> bytes:
        """Everything unread, for a tunnel."""
        return self._reader.take_rest()

    def drop(self) -> None:
        """Take no further request, and drop what comes, within bounds: whoever lingers sets an end to it."""
        self.is_idle = False
        self.is_dropping = True
        self._reader.take_rest()
        self._resume_if_room()
