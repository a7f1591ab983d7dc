"""The keeper: the one process that writes the store, the access log, and answers operators for all workers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cacheproxy.admin.operations import Operations
from cacheproxy.admin.routes import SOCKET_NAME, AdminServer
from cacheproxy.channel import Channel, ChannelLost, Handlers
from cacheproxy.clock import SystemClock, run
from cacheproxy.config.model import Config
from cacheproxy.engine.owners import Owners
from cacheproxy.errors import StartError, StoreError
from cacheproxy.http.uri import TargetUri
from cacheproxy.options import caching_options, disk_options, max_object
from cacheproxy.policy.rules import placed
from cacheproxy.ports import Selector, Usage
from cacheproxy.store.kept_disk import Keeping, KeptDisk
from cacheproxy.store.memory import MemoryTier
from cacheproxy.store.tiered import TieredStore
from cacheproxy.telemetry.access_log import AccessLog
from cacheproxy.telemetry.counters import Counters
from cacheproxy.telemetry.summing import Values, add, values_of
from cacheproxy.workers.members import Member, Members
from cacheproxy.workers.places import Places, Report
from cacheproxy.workers.processes import run_until_told

log = logging.getLogger("cacheproxy")

_JOIN_S = 5.0
_LEAVE_S = 20.0
_COUNTS_S = 5.0
_HEARD_S = 2.0


@dataclass(slots=True)
class _SharedOperations(Operations):
    """What operators ask, asked of all workers. The disk's list is the keeper's own."""

    members: Members | None = None
    has_disk: bool = True

    async def list_entries(self, glob: str | None) -> AsyncIterator[dict[str, object]]:
        """Stored responses. Raises StoreError."""
        if self.has_disk:
            async for entry in self.store.entries(glob):
                yield asdict(entry)
            return
        assert self.members is not None
        for entries in await self.members.ask_all("entries", glob):
            for line in entries:
                yield line

    async def show(self, url: str) -> list[dict[str, object]]:
        """Every stored response of a URL, as its owner has it. Raises SyntaxFault, StoreError."""
        found: list[dict[str, object]] = await self._ask_owner("show", url)
        return found

    async def explain(self, url: str) -> dict[str, object]:
        """What would happen to a GET of a URL now, at its owner. Raises SyntaxFault, StoreError."""
        found: dict[str, object] = await self._ask_owner("explain", url)
        return found

    async def _ask_owner(self, name: str, url: str) -> Any:
        assert self.members is not None
        return await self.members.ask(Owners(0, self.members.count).of(self.key(url)), name, url)


class Keeper:
    """`start()`, wait on `stopped`, `close()`: the supervisor ends it after the workers."""

    def __init__(self, config: Config, directory: Path, places: Places, count: int) -> None:
        self._config = config
        self._directory = directory
        self._places = places
        self.stopped = asyncio.Event()
        self._clock = SystemClock()
        self._started_at = self._clock.monotonic()
        self._counters = Counters()
        self._members = Members(count, self._members_changed)
        self._disk: KeptDisk | None = None
        self._store: TieredStore
        self._log: AccessLog | None = None
        self._admin: AdminServer | None = None
        self._server: asyncio.AbstractServer | None = None
        self._joined: set[int] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._keepings: dict[Channel, Keeping | None] = {}
        self._by_channel: dict[Channel, Member] = {}

    async def start(self) -> None:
        """Open the store, listen for workers and operators. Raises StartError."""
        loop = asyncio.get_running_loop()
        self._store = await self._open_store()
        self._open_access_log()
        operations = _SharedOperations(
            self._store,
            self._purge,
            self._snapshot,
            lambda: os.kill(os.getppid(), signal.SIGTERM),
            self._clock,
            self._key_of,
            self._config.texts("cache.ask_codings"),
            self._members,
            self._disk is not None,
        )
        self._admin = AdminServer(operations, self._directory, unlinks=False)
        try:
            await self._admin.start()
        except OSError as error:
            raise StartError(f"{self._directory / SOCKET_NAME} cannot be made: {error.strerror}") from None
        self._server = await loop.create_unix_server(
            lambda: Channel(self._handlers, self._lost), sock=self._places.keeper
        )
        loop.call_later(_JOIN_S, self._settle)

    def _key_of(self, target: TargetUri) -> str:
        return placed(target, self._config.rules, self._config.texts("cache.drop_query")).key

    async def _open_store(self) -> TieredStore:
        config = self._config
        if config.number("cache.disk"):
            options, caching = disk_options(config), caching_options(config)
            disk = KeptDisk(self._directory, options, caching, self._counters, self._members.tell)
            try:
                await disk.open()
            except StoreError as error:
                raise StartError(str(error)) from None
            self._disk = disk
        return TieredStore(MemoryTier(0), self._disk, max_object(config))

    def _open_access_log(self) -> None:
        config = self._config
        name = config.text("log.access")
        loop = asyncio.get_running_loop()
        if not name:
            loop.add_signal_handler(signal.SIGUSR1, lambda: None)
            return
        self._log = AccessLog(
            self._directory / name,
            config.number("log.access_size"),
            config.number("log.access_keep"),
            with_query=config.switch("log.query"),
        )
        loop.add_signal_handler(signal.SIGUSR1, self._log.reopen)

    async def close(self) -> None:
        """Wait for the workers to go, write what is queued, release everything."""
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self._empty.wait()
        except TimeoutError:
            log.warning("workers are still there; the store is closed")
        if self._server is not None:
            self._server.close()
        await self._store.close()
        if self._log is not None:
            self._log.close()
        if self._admin is not None:
            await self._admin.close()

    # workers

    def _handlers(self, channel: Channel) -> Handlers:
        self._keepings[channel] = keeping = Keeping(self._disk, channel) if self._disk is not None else None

        def others(name: str) -> Callable[[str], None]:
            return lambda key: self._members.tell(name, key, but=channel)

        async def hello(number: int, pid: int) -> int:
            self._by_channel[channel] = member = Member(number, pid, channel)
            self._empty.clear()
            self._members.arrived(member)
            return self._disk.generation if self._disk is not None else 0

        return {
            **(keeping.handlers if keeping is not None else {}),
            "hello": hello,
            "joined": lambda number: self._join(channel, number),
            "counts": lambda counts: self._counted(channel, counts),
            "log": self._write_log,
            "recall": others("recall"),
            "invalidate": others("invalidate"),
            "purge": lambda key: self._purge(Selector(urls=(key,)), False, False),
            "heard": self._heard,
            "drained": lambda: self._drained(channel),
        }

    def _join(self, channel: Channel, number: int) -> None:
        # It does not know what it, or its predecessor, has lent: nobody may keep that.
        self._members.tell("recall_all", number, but=channel)
        self._joined.add(number)
        if len(self._joined) == self._members.count:
            self._settle()

    def _settle(self) -> None:
        if self._disk is not None:
            self._disk.settle()

    def _counted(self, channel: Channel, counts: Values) -> None:
        if (member := self._by_channel.get(channel)) is not None:
            member.counts = counts

    def _write_log(self, lines: str) -> None:
        if self._log is not None:
            self._log.add(lines)

    def _drained(self, channel: Channel) -> None:
        if (member := self._by_channel.get(channel)) is not None:
            member.is_drained = True
        self._members_changed()

    def _members_changed(self) -> None:
        present = self._members.present
        if not present:
            self._empty.set()
        elif all(member.is_drained for member in present):
            # Nobody has clients any more: nobody needs the others.
            self._members.tell("finish")

    def _lost(self, channel: Channel) -> None:
        keeping = self._keepings.pop(channel, None)
        if keeping is not None:
            keeping.close()
        member = self._by_channel.pop(channel, None)
        if member is not None:
            self._members.left(member)

    # operators

    async def _purge(self, selector: Selector, dry_run: bool, soft: bool) -> int:
        meant = (list(selector.urls), selector.host, selector.glob, selector.everything)
        counts = await self._members.ask_all("purge", meant, dry_run, soft)
        if not dry_run:
            # Only now no owner lends the old any more: copies that are made from here on are new.
            await self._members.ask_all("drop", meant)
        return sum(counts)

    async def _heard(self) -> None:
        await self._members.ask_present("heard", timeout_s=_HEARD_S)

    async def _snapshot(self) -> dict[str, object]:
        total = Counters()
        add(total, values_of(self._members.departed))
        add(total, values_of(self._counters))
        sums: Counter[str] = Counter()
        shown: list[dict[str, object]] = []
        for member in self._members.present:
            try:
                member.counts, more = await member.channel.call("counts", timeout_s=_COUNTS_S)
            except ChannelLost:
                more = {}
            sums.update(more)
            requests = member.counts.get("requests", 0)
            shown.append({"number": member.number, "pid": member.pid, "requests": requests})
            if member.channel.is_open:
                add(total, member.counts)
        disk = await self._store.usage()
        usage = Usage(
            sums["memory_bytes"],
            sums["memory_entries"],
            disk.disk_bytes,
            disk.disk_entries,
            disk.disk_file_bytes,
        )
        found = total.snapshot(usage, self._clock.monotonic() - self._started_at)
        found |= {name: sums[name] for name in ("memo_lookups", "memo_hits")}
        found["workers"] = shown
        return found


def run_keeper(
    config: Config, directory: Path, places: Places, count: int, lifeline: int, report: Report
) -> None:
    """The keeper's whole life. Raises StartError."""
    run(run_until_told(Keeper(config, directory, places, count), lifeline, report))
