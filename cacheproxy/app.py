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
from cacheproxy.caching.options import CachingOptions, SetCookie
from cacheproxy.clock import SystemClock
from cacheproxy.config.load import access_policy, parse_listen
from cacheproxy.config.model import Config
from cacheproxy.engine.exchange import Engine
from cacheproxy.engine.parts import Parts
from cacheproxy.engine.spool import SpoolBudget
from cacheproxy.errors import StartError, StoreError
from cacheproxy.http.head import HeadLimits
from cacheproxy.http.message import RequestHead
from cacheproxy.policy.rules import Timeouts, overrides_from
from cacheproxy.ports import Selector
from cacheproxy.server.direct import ClientReplies, DirectReplies
from cacheproxy.server.hot_path import HotPath
from cacheproxy.server.listener import Listener, bind
from cacheproxy.server.options import ConnectionOptions
from cacheproxy.server.parse_memo import ParseMemo
from cacheproxy.server.self_check import missing_internals
from cacheproxy.server.services import Services
from cacheproxy.sockets import raise_file_limit, room_for_clients
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


def max_object(config: Config) -> int:
    """The largest body that is stored."""
    return config.number("cache.max_object") or config.number("cache.disk") // 4 or 2**62


def disk_options(config: Config) -> DiskOptions:
    """How the disk is used, where it is. Raises StartError."""
    disk_bytes = config.number("cache.disk")
    if disk_bytes < 4 * 1024 * 1024:
        raise StartError("cache.disk is too small: at least 4MiB, or 0 for none")
    return DiskOptions(
        disk_bytes,
        config.number("cache.keep_free"),
        config.number("cache.write_queue"),
        config.seconds("cache.disk_wait"),
    )


def caching_options(config: Config) -> CachingOptions:
    """What RFC 9111 leaves to the operator."""
    return CachingOptions(
        set_cookie=SetCookie(config.text("cache.set_cookie")),
        heuristic_fraction=config.seconds("cache.heuristic_fraction"),
        heuristic_max_s=config.seconds("cache.heuristic_max"),
        name_lifetime_s=config.seconds("cache.name_lifetime"),
        drop_query=config.texts("cache.drop_query"),
        overrides=overrides_from(config.rules),
        stale_disconnected_s=config.seconds("cache.stale_disconnected"),
    )


class App:
    """A proxy. `start()`, wait on `stopped`, `close()`; `addresses` tells where it listens."""

    def __init__(self, config: Config, directory: Path) -> None:
        self.config = config
        self.directory = directory
        self.addresses: list[tuple[str, int]] = []
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
        self.addresses = [sock.getsockname()[:2] for sock in sockets]
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

        await self._listen(sockets, upstream, open_tunnel)
        await self._open_to_operators()

    async def _listen(
        self,
        sockets: list[socket.socket],
        upstream: Client,
        open_tunnel: Callable[[RequestHead, str], Awaitable[socket.socket]],
    ) -> None:
        options = self._connection_options()
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
        await listener.start(sockets, self.config.seconds("server.drain_timeout"), *self._accept_at_once)
        self._closers.append(listener.close)

    # what a worker among several does otherwise

    _accept_at_once: tuple[int, ...] = ()

    def _take_place(self) -> list[socket.socket]:
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

    def _connection_options(self) -> ConnectionOptions:
        config = self.config
        return ConnectionOptions(
            head_s=config.seconds("server.header_timeout"),
            idle_s=config.seconds("server.idle_timeout"),
            body_s=config.seconds("server.body_timeout"),
            body_rate=config.number("server.body_rate"),
            write_s=config.seconds("server.write_timeout"),
            tunnel_idle_s=config.seconds("server.tunnel_idle_timeout"),
            max_connections=min(config.number("server.max_connections"), room_for_clients()),
            limits=HeadLimits(
                config.number("limits.target"),
                config.number("limits.field"),
                config.number("limits.head"),
                config.number("limits.fields"),
            ),
        )

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


def bind_all(config: Config) -> list[socket.socket]:
    """Listening sockets for every address of `listen.addresses`. Raises StartError."""
    return [sock for text in config.texts("listen.addresses") for sock in bind(*parse_listen(text))]
