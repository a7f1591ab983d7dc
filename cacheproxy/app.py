"""The composition root: Config -> parts -> run, drain, stop. Nothing else builds adapters."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from cacheproxy.admin.operations import Operations
from cacheproxy.admin.routes import AdminServer
from cacheproxy.caching.abandonment import AbandonOptions
from cacheproxy.caching.options import CachingOptions
from cacheproxy.clock import SystemClock
from cacheproxy.config.load import access_policy
from cacheproxy.config.model import Config
from cacheproxy.engine.exchange import Engine
from cacheproxy.engine.parts import Parts
from cacheproxy.engine.spool import SpoolBudget
from cacheproxy.errors import StartError, StoreError
from cacheproxy.http.message import RequestHead
from cacheproxy.options import (
    bind_all,
    caching_options,
    certificate,
    connection_options,
    disk_options,
    max_object,
)
from cacheproxy.policy.rules import Timeouts
from cacheproxy.ports import Selector
from cacheproxy.server.direct import ClientReplies, DirectReplies
from cacheproxy.server.hot_path import HotPath
from cacheproxy.server.listener import ACCEPT_AT_ONCE, Listener, ListeningSockets
from cacheproxy.server.options import ConnectionOptions
from cacheproxy.server.parse_memo import ParseMemo
from cacheproxy.server.self_check import missing_internals
from cacheproxy.server.services import Services
from cacheproxy.server.tls import Certificate
from cacheproxy.sockets import raise_file_limit
from cacheproxy.store.directory import CacheDirectory
from cacheproxy.store.disk import DiskTier
from cacheproxy.store.memory import MemoryTier
from cacheproxy.store.space import DiskOptions
from cacheproxy.store.tiered import TieredStore
from cacheproxy.telemetry.access_log import AccessLog
from cacheproxy.telemetry.counters import Counters
from cacheproxy.tunnel.connect import open_destination
from cacheproxy.upstream.client import Client
from cacheproxy.upstream.dialling import Dialler, DialOptions, Resolver, tls_context
from cacheproxy.upstream.pool import Pool, PoolOptions

log = logging.getLogger("cacheproxy")


def default_directory() -> Path:
    """`$CACHE_DIRECTORY` (systemd), else `$XDG_CACHE_HOME/cacheproxy`, else `~/.cache/cacheproxy`."""
    given = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - "~" without a home must not raise
    return Path(base) / "cacheproxy"


class App:
    """A proxy. `start()`, wait on `stopped`, `close()`; `addresses` and `urls` tell where it listens."""

    def __init__(self, config: Config, directory: Path) -> None:
        self.config = config
        self.directory = directory
        self.addresses: list[tuple[str, int]] = []
        self.urls: list[str] = []
        self.stopped = asyncio.Event()
        self._counters = Counters()
        self._clock = SystemClock()
        self._started_at = self._clock.monotonic()
        self._closers: list[Callable[[], object]] = []
        self.store: TieredStore
        self.engine: Engine
        self.hot: HotPath | None = None
        self.listener: Listener | None = None

    @property
    def counters(self) -> Counters:
        """What has happened until now."""
        if self.hot is not None:
            self.hot.tally.count()
        return self._counters

    async def start(self) -> None:
        """Take the directory and the ports, open the store, accept connections. Raises StartError."""
        os.umask(0o077)
        raise_file_limit()
        logging.getLogger("cacheproxy").setLevel(self.config.text("log.level").upper())
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        config = self.config
        sockets = self._take_place()
        cert = certificate(config)
        self.addresses, self.urls = sockets.addresses, sockets.urls
        self.store = await self._open_store()
        self._closers.append(self.store.close)
        self._open_access_log()
        access = access_policy(config)
        resolver = Resolver(DialOptions(dns_ttl_s=config.seconds("upstream.dns_ttl")), self._clock.monotonic)
        self._closers.append(resolver.close)
        dialler = Dialler(
            access,
            DialOptions(connect_timeout_s=config.seconds("upstream.connect_timeout")),
            resolver,
            lambda: self.addresses,
        )
        upstream = self._client(dialler)
        self._closers.append(upstream.close)
        via = config.text("server.name") or f"cacheproxy-{secrets.token_hex(4)}"
        parts = Parts(
            store=self.store,
            upstream=upstream,
            clock=self._clock,
            recorder=self._counters,
            monotonic=self._clock.monotonic,
            access=access,
            caching=self._caching(),
            via=via,
            timeouts=Timeouts(
                config.seconds("upstream.first_byte_timeout"), config.seconds("upstream.idle_timeout")
            ),
            rules=config.rules,
            abandon=AbandonOptions(
                config.number("cache.finish_bytes"),
                config.seconds("cache.finish_fraction"),
                config.number("cache.finish_requests"),
            ),
            spools=SpoolBudget(limit_bytes=config.number("cache.spool")),
            keep_bytes=config.number("cache.memory") // 64,
            join_gap_bytes=config.number("cache.join_gap"),
            codings=config.texts("cache.ask_codings"),
            decoded_bytes=config.number("cache.decoded_max"),
            absolute_https=config.switch("upstream.absolute_https"),
        )
        self.engine = Engine(parts)
        drain_s = config.seconds("server.drain_timeout")
        self._closers.append(lambda: self.engine.flights.close(drain_s / 2))

        async def open_tunnel(request: RequestHead, client: str) -> socket.socket:
            return await open_destination(request, client, access, dialler, via)

        await self._listen(sockets, cert, upstream, open_tunnel)
        await self._open_to_operators()

    async def _listen(
        self,
        sockets: ListeningSockets,
        cert: Certificate | None,
        upstream: Client,
        open_tunnel: Callable[[RequestHead, str], Awaitable[socket.socket]],
    ) -> None:
        options = connection_options(self.config)
        self.hot = hot = self._hot_path(options)
        if hot is not None:
            self._counters.catch_up = hot.tally.count
            self._closers.append(hot.tally.settle)
        await self._before_listening(options, upstream)
        replies: DirectReplies | None = None
        if hot is not None:
            replies = ClientReplies(hot, self.engine.direct_path(upstream), self._clock, options.write_s)
        self.listener = listener = Listener(
            Services(
                self.engine.handle, open_tunnel, self._clock, self._counters, options, ahead=hot, direct=replies
            )
        )
        drain_s = self.config.seconds("server.drain_timeout")
        await listener.start(sockets, drain_s, self._accept_at_once, cert)
        self._closers.append(listener.close)

    # what a worker among several does otherwise

    _accept_at_once = ACCEPT_AT_ONCE

    def _take_place(self) -> ListeningSockets:
        """The directory, and the sockets to listen on."""
        lock = CacheDirectory(self.directory)
        self._closers.append(lock.close)
        return bind_all(self.config)

    async def _before_listening(self, options: ConnectionOptions, upstream: Client) -> None:
        """The engine is there; clients are not served yet."""

    async def _open_to_operators(self) -> None:
        admin = AdminServer(self._operations(), self.directory)
        try:
            await admin.start()
        except OSError as error:
            raise StartError(f"{self.directory / 'admin.sock'} cannot be made: {error.strerror}") from None
        # Closed next to last: `cacheproxy stop` waits for the socket to go, and may then start anew.
        self._closers.insert(1, admin.close)

    def _hot_path(self, options: ConnectionOptions) -> HotPath | None:
        if not self.config.switch("server.hot_path"):
            return None
        missing = missing_internals()
        if missing:
            log.warning(
                "the hot path is off: this aiohttp lacks %s; hits are answered correctly, but at a third of the speed",
                ", ".join(missing),
            )
            return None
        memo = ParseMemo(options.limits, self.config.number("server.parse_memo"))
        return HotPath(self.engine.hot, memo, self._clock, self._counters)

    async def _open_store(self) -> TieredStore:
        config = self.config
        memory = MemoryTier(config.number("cache.memory"), config.number("cache.disk_heads"))
        disk: DiskTier | None = None
        if config.number("cache.disk"):
            disk = self._disk_tier(disk_options(config), memory)
            try:
                await disk.open()
            except StoreError as error:
                raise StartError(str(error)) from None
        return self._tiered(memory, disk)

    def _disk_tier(self, options: DiskOptions, memory: MemoryTier) -> DiskTier:
        return DiskTier(self.directory, options, self._caching(), self._counters, memory)

    def _tiered(self, memory: MemoryTier, disk: DiskTier | None) -> TieredStore:
        return TieredStore(memory, disk, self._max_object())

    def _max_object(self) -> int:
        return max_object(self.config)

    def _caching(self) -> CachingOptions:
        return caching_options(self.config)

    def _open_access_log(self) -> None:
        loop = asyncio.get_running_loop()
        name = self.config.text("log.access")
        if not name:
            loop.add_signal_handler(signal.SIGUSR1, lambda: None)
            return
        path = self.directory / name
        access_log = AccessLog(
            path,
            self.config.number("log.access_size"),
            self.config.number("log.access_keep"),
            with_query=self.config.switch("log.query"),
        )
        self._counters.on_finished = access_log.record
        self._counters.log = access_log
        self._closers.append(access_log.close)
        loop.add_signal_handler(signal.SIGUSR1, access_log.reopen)

    def _client(self, dialler: Dialler) -> Client:
        config = self.config
        context = tls_context(config.text("upstream.ca_file") or None)
        pool = Pool(
            dialler,
            PoolOptions(
                per_origin=config.number("upstream.connections_per_origin"),
                total=config.number("upstream.connections"),
                idle_per_origin=config.number("upstream.idle_per_origin"),
                idle_timeout_s=config.seconds("upstream.keep_alive"),
                tls_timeout_s=config.seconds("upstream.connect_timeout"),
            ),
            lambda: context,
            self._counters,
        )
        return Client(pool, self._clock)

    def _operations(self) -> Operations:
        async def snapshot() -> dict[str, object]:
            usage = await self.store.usage()
            shown = self.counters.snapshot(usage, self._clock.monotonic() - self._started_at)
            memo = None if self.hot is None else self.hot.memo
            shown["memo_lookups"] = 0 if memo is None else memo.lookups
            shown["memo_hits"] = 0 if memo is None else memo.hits
            return shown

        async def purge(selector: Selector, dry_run: bool, soft: bool) -> int:
            return await self.engine.purge(selector, dry_run=dry_run, soft=soft)

        return Operations(
            self.store,
            purge,
            snapshot,
            self.stopped.set,
            self._clock,
            self.engine.key_of,
            self.config.texts("cache.ask_codings"),
        )

    async def close(self) -> None:
        """Stop accepting, drain, write what is queued, release everything; in reverse order of starting."""
        while self._closers:
            result = self._closers.pop()()
            if asyncio.iscoroutine(result):
                await result
