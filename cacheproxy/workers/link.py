"""A worker's connection to the keeper: made again whenever it is lost, for the keeper may have been replaced."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

from cacheproxy.channel import Channel, Handlers
from cacheproxy.errors import StoreError
from cacheproxy.sockets import address_unix
from cacheproxy.tasks import TaskGroup

log = logging.getLogger("cacheproxy")

_RETRY_S = 0.05
_LOG_BYTES = 4 * 1024 * 1024
_OWED = 10_000
_HEARD_S = 3.0


class Link:
    """`on_joined` gets each new channel with the number of the keeper's file, `on_lost` is told of its end."""

    def __init__(
        self,
        path: Path,
        number: int,
        on_joined: Callable[[Channel, int], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._path = path
        self._number = number
        self._on_joined = on_joined
        self._on_lost = on_lost
        self._handlers: Handlers = {}
        self._channel: Channel | None = None
        self._owed: deque[tuple[object, ...]] = deque(maxlen=_OWED)
        self._joined: asyncio.Event = asyncio.Event()
        self._is_closed = False
        self._tasks = TaskGroup("keeper")

    async def open(self, handlers: Handlers) -> None:
        """Connect; from now on for good. `handlers` are for what the keeper sends."""
        self._handlers = handlers
        self._tasks.spawn("link", self._stay_connected())
        await self._joined.wait()

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._is_closed:
            lost = asyncio.Event()
            try:
                with address_unix(self._path) as address:
                    _, channel = await loop.create_unix_connection(
                        lambda lost=lost: Channel(lambda _: self._handlers, lambda _: lost.set()),  # type: ignore[misc]
                        address,
                    )
                generation = await channel.call("hello", self._number, os.getpid())
            except (OSError, StoreError):
                await asyncio.sleep(_RETRY_S)
                continue
            self._channel = channel
            self._on_joined(channel, generation)
            channel.send("joined", self._number)
            while self._owed:
                channel.send(*self._owed.popleft())
            self._joined.set()
            await lost.wait()
            self._channel = None
            self._on_lost()

    @property
    def is_open(self) -> bool:
        """Whether a keeper is there."""
        return self._channel is not None and self._channel.is_open

    def send(self, *message: object) -> None:
        """Tell the keeper; dropped where there is none."""
        if self._channel is not None:
            self._channel.send(*message)

    def send_surely(self, *message: object) -> None:
        """Tell the keeper, or the next one."""
        if self._channel is not None and self._channel.is_open:
            self._channel.send(*message)
        else:
            self._owed.append(message)

    def send_log(self, lines: str) -> bool:
        """Access-log lines; False where the keeper is not there or far behind."""
        channel = self._channel
        if channel is None or channel.waiting_bytes > _LOG_BYTES:
            return False
        channel.send("log", lines)
        return True

    async def heard_by_all(self) -> bool:
        """Wait until every worker has done what it was told before; False where one does not answer."""
        try:
            if self._channel is None:
                raise StoreError("the store's process is being replaced")
            await self._channel.call("heard", timeout_s=_HEARD_S)
        except StoreError as error:
            log.warning("a worker may answer with what has just been invalidated: %s", error)
            return False
        return True

    async def purge(self, key: str) -> int:
        """Purge a key in all workers; how many stored responses that were. Raises StoreError."""
        if self._channel is None:
            raise StoreError("the store's process is being replaced")
        count: int = await self._channel.call("purge", key)
        return count

    async def close(self) -> None:
        """End for good; what was sent still goes out."""
        self._is_closed = True
        channel, self._channel = self._channel, None
        await self._tasks.close()
        if channel is not None:
            await channel.close()
