"""A worker: the proxy as it runs alone, but for the store's writer, the ports and its place among the others."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cacheproxy.app import App
from cacheproxy.channel import Channel, Handlers
from cacheproxy.clock import run
from cacheproxy.config.model import Config
from cacheproxy.engine.owners import Owners
from cacheproxy.ports import Selector
from cacheproxy.server.listener import ListeningSockets
from cacheproxy.server.options import ConnectionOptions
from cacheproxy.store.disk import DiskTier
from cacheproxy.store.memory import MemoryTier
from cacheproxy.store.owned import OwnedStore
from cacheproxy.store.remote_disk import RemoteDisk
from cacheproxy.store.space import DiskOptions
from cacheproxy.store.tiered import TieredStore
from cacheproxy.tasks import TaskGroup
from cacheproxy.telemetry.access_log import RelayedAccessLog
from cacheproxy.telemetry.summing import values_of
from cacheproxy.upstream.client import Client
from cacheproxy.workers.hops import siblings_listener, way_to_siblings
from cacheproxy.workers.link import Link
from cacheproxy.workers.places import Report, Seat
from cacheproxy.workers.processes import run_until_told

log = logging.getLogger("cacheproxy")

_COUNTS_S = 0.5
_ACCEPT_AT_ONCE = 2
Meant = tuple[list[str], str | None, str | None, bool]


class Worker(App):
    """One of several processes on the same sockets."""

    _accept_at_once = _ACCEPT_AT_ONCE

    def __init__(self, config: Config, directory: Path, seat: Seat) -> None:
        super().__init__(config, directory)
        self._seat = seat
        self._owners = Owners(seat.number, seat.count)
        self._disk: RemoteDisk | None = None
        self._owned: OwnedStore
        self._may_finish = asyncio.Event()
        self._tasks = TaskGroup("worker")
        self._link = Link(seat.places.keeper_path, seat.number, self._joined, self._left)

    # what App asks for

    def _take_place(self) -> ListeningSockets:
        # First to be opened, last to be closed: the store still writes over it.
        self._closers.append(self._link.close)
        return self._seat.places.clients

    def _disk_tier(self, options: DiskOptions, memory: MemoryTier) -> DiskTier:
        self._disk = RemoteDisk(
            self.directory,
            options,
            self._caching(),
            self.counters,
            memory,
            self._seat.block,
        )
        return self._disk

    def _tiered(self, memory: MemoryTier, disk: DiskTier | None) -> TieredStore:
        self._owned = OwnedStore(
            memory,
            self._disk,
            self._max_object(),
            self._seat.block,
            self._owners.owns,
            lambda: self._link.is_open,
            lambda key: self._link.send("recall", key),
            lambda key: self._link.send_surely("invalidate", key),
            self._link.heard_by_all,
        )
        return self._owned

    def _open_access_log(self) -> None:
        if self.config.text("log.access"):
            relayed = RelayedAccessLog(self._link.send_log, with_query=self.config.switch("log.query"))
            self.counters.on_finished = relayed.record
            self.counters.log = relayed
            self._closers.append(relayed.close)

    async def _before_listening(self, options: ConnectionOptions, upstream: Client) -> None:
        siblings = way_to_siblings(self._seat.places.directory, self._clock)
        end = self.engine.join(
            self._owners, siblings, self._owned, lambda selector: self._link.purge(selector.urls[0])
        )
        await self._link.open(self._handlers())
        hops = siblings_listener(self.engine, end, upstream, self._clock, options, self.hot)
        drain_s = self.config.seconds("server.drain_timeout")
        await hops.start(ListeningSockets([self._seat.places.workers[self._seat.number]]), drain_s / 2)
        self._closers.append(hops.close)
        self._closers.append(self._drained)
        self._tasks.spawn("counts", self._tell_counts())

    async def _open_to_operators(self) -> None:
        """The keeper answers operators."""

    async def _drained(self) -> None:
        """This worker's clients are served; the others' may still need what it owns."""
        self._link.send("counts", values_of(self.counters))
        if self._link.is_open:
            self._link.send("drained")
            try:
                async with asyncio.timeout(self.config.seconds("server.drain_timeout") + 2):
                    await self._may_finish.wait()
            except TimeoutError:
                log.info("other workers are still serving clients")
        await self._tasks.close()
        # The last exchanges may have been counted since.
        self._link.send("counts", values_of(self.counters))

    # the keeper

    def _joined(self, channel: Channel, generation: int) -> None:
        self._owned.drop_copies(Selector(everything=True))
        self._owned.joined()
        if self._disk is not None:
            self._disk.attach(channel, generation)

    def _left(self) -> None:
        log.warning("the store's process has gone; nothing is stored until another takes its place")
        # Nobody could call them back.
        self._owned.drop_copies(Selector(everything=True))
        if self._disk is not None:
            self._disk.detach()

    async def _tell_counts(self) -> None:
        while True:
            await asyncio.sleep(_COUNTS_S)
            self._link.send("counts", values_of(self.counters))

    def _handlers(self) -> Handlers:
        operations = self._operations()
        return {
            **(self._disk.handlers if self._disk is not None else {}),
            "recall": lambda key: self._owned.drop_copies(Selector(urls=(key,))),
            "recall_all": lambda owner: self._owned.drop_copies_where(
                lambda key: self._owners.of(key) == owner
            ),
            "invalidate": self._invalidate,
            "heard": self._heard,
            "purge": self._purge,
            "drop": self._drop,
            "counts": self._counts,
            "show": operations.show,
            "explain": operations.explain,
            "entries": self._entries,
            "finish": self._may_finish.set,
        }

    def _invalidate(self, key: str) -> None:
        self.engine.flights.invalidate(key)
        if self._owners.owns(key):
            self._owned.invalidate(key)
        else:
            self._owned.drop_copies(Selector(urls=(key,)))

    async def _heard(self) -> None:
        """Messages are handled in their order: what was sent before this has been done."""

    async def _purge(self, meant: Meant, dry_run: bool, soft: bool) -> int:
        return await self.engine.purge(_selector(meant), dry_run=dry_run, soft=soft)

    async def _drop(self, meant: Meant) -> None:
        self._owned.drop_copies(_selector(meant))

    async def _counts(self) -> tuple[Any, dict[str, int]]:
        usage = await self.store.usage()
        memo = None if self.hot is None else self.hot.memo
        more = {
            "memory_bytes": usage.memory_bytes,
            "memory_entries": usage.memory_entries,
            "memo_lookups": 0 if memo is None else memo.lookups,
            "memo_hits": 0 if memo is None else memo.hits,
        }
        return values_of(self.counters), more

    async def _entries(self, glob: str | None) -> list[dict[str, object]]:
        return [asdict(entry) async for entry in self._owned.entries(glob)]


def _selector(meant: Meant) -> Selector:
    urls, host, glob, everything = meant
    return Selector(tuple(urls), host, glob, everything)


def run_worker(config: Config, directory: Path, seat: Seat, lifeline: int, report: Report) -> None:
    """A worker's whole life. Raises StartError."""
    run(run_until_told(Worker(config, directory, seat), lifeline, report))
