"""Messages between the processes of one proxy: marshalled tuples over a Unix socket, each with its length before it.

Both ends are forked from one supervisor, so they are the same program and the same Python. A message is
`(name, ...)`; a call is a message whose handler's result is sent back.
"""

from __future__ import annotations

import asyncio
import logging
import marshal
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cacheproxy.errors import CacheproxyError, StoreError
from cacheproxy.tasks import TaskGroup

log = logging.getLogger("cacheproxy")

_LENGTH = struct.Struct("!I")
_CALL, _REPLY = "?", "!"
_MAX_UNSENT_BYTES = 64 * 1024

Handlers = Mapping[str, Callable[..., Any]]
"""By name: plain functions for messages, coroutine functions for calls."""


class ChannelLost(StoreError):
    """The process at the other end has gone, or does not answer."""


class Channel(asyncio.Protocol):
    """One end of a connection. `on_lost` is called once, after which nothing is sent or received any more."""

    def __init__(
        self,
        handlers: Callable[[Channel], Handlers],
        on_lost: Callable[[Channel], None],
        on_open: Callable[[Channel], None] | None = None,
    ) -> None:
        self._handlers = handlers(self)
        self._on_lost = on_lost
        self._on_open = on_open
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        # What was sent in this turn of the loop: together it is one system call, and one waking of the other end.
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._last_call = 0
        self._tasks = TaskGroup("channel")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._on_open is not None:
            self._on_open(self)

    def data_received(self, data: bytes) -> None:
        """Bytes from the other end."""
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received, start)
            end = start + _LENGTH.size + length
            if len(received) < end:
                break
            message = marshal.loads(received[start + _LENGTH.size : end])
            start = end
            self._dispatch(message)
        if start:
            del received[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end has gone: calls under way fail."""
        self._transport = None
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(ChannelLost("the other process has gone"))
        self._on_lost(self)

    # sending

    @property
    def is_open(self) -> bool:
        """Whether messages still go out."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for the other end to read."""
        return 0 if self._transport is None else self._unsent_bytes + self._transport.get_write_buffer_size()

    def send(self, *message: Any) -> None:
        """Send a message with the loop's next turn; where the other end has gone it is dropped."""
        if self._transport is None:
            return
        data = marshal.dumps(message)
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent += (_LENGTH.pack(len(data)), data)
        self._unsent_bytes += _LENGTH.size + len(data)
        if self._unsent_bytes > _MAX_UNSENT_BYTES:
            self._flush()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        self._unsent_bytes = 0
        if unsent and self._transport is not None:
            self._transport.write(b"".join(unsent))

    async def call(self, name: str, *arguments: Any, timeout_s: float = 30.0) -> Any:
        """The result of the other end's handler. Raises ChannelLost; StoreError with what it raised itself."""
        if not self.is_open:
            raise ChannelLost("the other process has gone")
        self._last_call += 1
        number = self._last_call
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[number] = future
        self.send(_CALL, number, name, arguments)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise ChannelLost(f"the other process does not answer within {timeout_s:g} s") from None
        finally:
            self._calls.pop(number, None)

    # receiving

    def _dispatch(self, message: tuple[Any, ...]) -> None:
        name = message[0]
        if name == _CALL:
            _, number, called, arguments = message
            self._tasks.spawn(called, self._answer(number, self._handlers[called](*arguments)))
        elif name == _REPLY:
            _, number, is_good, value = message
            future = self._calls.get(number)
            if future is not None and not future.done():
                if is_good:
                    future.set_result(value)
                else:
                    future.set_exception(StoreError(value))
        else:
            self._handlers[name](*message[1:])

    async def _answer(self, number: int, work: Awaitable[Any]) -> None:
        try:
            self.send(_REPLY, number, True, await work)
        except CacheproxyError as error:
            self.send(_REPLY, number, False, str(error))
        except Exception as error:
            self.send(_REPLY, number, False, f"an unexpected error: {type(error).__name__}")
            raise

    async def close(self) -> None:
        """End; what was sent still goes out."""
        await self._tasks.close()
        self._flush()
        if self._transport is not None:
            self._transport.close()
