"""A worker's disk tier: its own read-only connections, and the keeper's writer at the other end of a channel."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

from cacheproxy.caching.options import CachingOptions
from cacheproxy.channel import Channel, Handlers
from cacheproxy.errors import StoreError
from cacheproxy.ports import Recorder
from cacheproxy.store.disk import DiskTier
from cacheproxy.store.memory import MemoryTier
from cacheproxy.store.remote_writer import RemoteWriter, ToldInUse, ToldRanking
from cacheproxy.store.schema import FILE_NAME, scalar
from cacheproxy.store.space import DiskOptions

log = logging.getLogger("cacheproxy")

_RETRY_S = 1.0
BLOCK_BITS = 24
"""Each process gives ids from blocks of its own, of this size a second since it began."""


class RemoteDisk(DiskTier):
    """`attach` it to a channel to the keeper, again after each loss. `block` is this process's place among all ids."""

    def __init__(
        self,
        directory: Path,
        options: DiskOptions,
        caching: CachingOptions,
        recorder: Recorder,
        memory: MemoryTier,
        block: int,
    ) -> None:
        self._told = ToldInUse(self._send)
        super().__init__(directory, options, caching, recorder, memory, self._told)
        self.ranking = self._told_ranking = ToldRanking()
        self._block = block
        self._channel: Channel | None = None
        self._generation = 0
        self._remote: RemoteWriter | None = None

    def _send(self, *message: object) -> None:
        if self._channel is not None:
            self._channel.send(*message)

    # life

    async def open(self) -> None:
        """Open the connections for reading. Raises StoreError."""
        try:
            await self._open_readers()
            last = int(await scalar(self._connections[0], "SELECT MAX(entry_id) FROM entries") or 0)
        except (sqlite3.Error, OSError, ValueError) as error:
            await self._close_connections()
            raise StoreError(f"{self.directory / FILE_NAME} cannot be opened: {error}") from error
        # Above what is stored, also where the machine's clock was set back meanwhile.
        first = max(self._block, (last >> BLOCK_BITS) + 1) << BLOCK_BITS
        self._last_entry_id = max(self._last_entry_id, first)
        self._opened()
        self.writer = self._remote = remote = RemoteWriter(
            self._options.queue_bytes, self._told_ranking, self.changes.forget_all, self._remote
        )
        self._writing = self._tasks.spawn("writer", remote.run())
        self._keep_listed()
        if self._channel is not None:
            remote.attach(self._channel, self._generation)

    def attach(self, channel: Channel, generation: int) -> None:
        """A keeper is there, with the file of that number."""
        self._channel = channel
        self._told.tell_all()
        known, self._generation = self._generation, generation
        if known and known != generation:
            self._replaced(generation)
        elif self._remote is not None:
            self._remote.attach(channel, generation)

    def detach(self) -> None:
        """The keeper has gone: nothing is stored until there is another."""
        self._channel = None
        if self._remote is not None:
            self._remote.detach()

    @property
    def handlers(self) -> Handlers:
        """What the keeper may send."""

        def tell(name: str) -> Callable[..., None]:
            def told(*arguments: object) -> None:
                if self._remote is not None:
                    getattr(self._remote, name)(*arguments)

            return told

        return {
            "settled": tell("settled"),
            "attempted": tell("attempted"),
            "committed": tell("committed"),
            "evicted": self._on_evicted,
            "forget_all": self.changes.forget_all,
            "replaced": self._replaced,
        }

    def _damaged(self) -> None:
        self._send("damaged")

    def _replaced(self, generation: int) -> None:
        self._generation = generation
        if self._recovery is None and not self._is_closed:
            self._recovery = self._tasks.spawn("reopen", self._reopen())

    async def _reopen(self) -> None:
        try:
            if self._remote is not None:
                self._remote.end()
            await self._close_connections()
            await self.open()
        except StoreError as error:
            log.error("%s; this worker goes on without its disk and tries again", error)
            asyncio.get_running_loop().call_later(_RETRY_S, self._replaced, self._generation)
        finally:
            self._recovery = None

    async def pinned(self, body_id: int) -> None:
        """Wait until the keeper knows that a body is pinned: from then on it neither evicts nor reclaims it."""
        await self.writer.quiet()
