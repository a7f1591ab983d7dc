"""Two proxies that differ in one setting, fed the same segments on connections without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from cacheproxy.app import App
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.config.load import load
from cacheproxy.ports import ExchangeRecord, Selector
from cacheproxy.server.connection import ClientConnection
from cacheproxy.telemetry.access_log import format_line, line_parts
from cacheproxy.telemetry.counters import Repeated
from tests.support.origin import Origin

START = 1_800_000_000.0


class FrozenClock:
    """Time stands still until it is set."""

    def __init__(self) -> None:
        self.now = START

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Wire:
    """A transport that keeps what is written and can play a client that does not read."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.written = bytearray()
        self.protocol: ClientConnection
        self.is_over = False

    def write(self, data: bytes) -> None:
        assert not self.is_over or not data
        self.written += data

    def close(self) -> None:
        if not self.is_over:
            self.is_over = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self.is_over

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self.client, 1) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


class WireTransport(Wire, asyncio.Transport):  # type: ignore[misc]
    """What `connection_made` accepts."""

    def __init__(self, client: str) -> None:
        Wire.__init__(self, client)


class Lines:
    """An access log in memory."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def finished(self, record: ExchangeRecord) -> None:
        self.lines.append(format_line(record, with_query=True))

    def prepare(self, record: ExchangeRecord) -> tuple[str, str]:
        return line_parts(record, with_query=True)

    def repeat(self, ended: Sequence[tuple[Repeated, str, float, int, float]]) -> None:
        for what, client, at, count, _ in ended:
            self.lines.append(f"{at:.3f}      0 {client}{what.before}{count}{what.after}")


class Twin:
    """One of the two."""

    def __init__(self, directory: Path, *options: str) -> None:
        given = ['listen.addresses=["127.0.0.1:0"]', "server.name=twin", "log.level=error", 'log.access=""']
        self.app = App(load(None, [*given, "access.deny_destinations=[]", *options]), directory)
        self.clock = FrozenClock()
        self.app._clock = self.clock  # type: ignore[assignment]
        self.log = Lines()
        self.touched: list[int] = []

    async def start(self) -> None:
        await self.app.start()
        self.app.counters.on_finished = self.log.finished
        self.app.counters.log = self.log
        touch = self.app.store.touch

        def noted(stored: StoredResponse, uses: int = 1) -> None:
            self.touched += [stored.entry_id] * uses
            touch(stored, uses)

        self.app.store.touch = noted  # type: ignore[method-assign]

    def connect(self, client: str = "127.0.0.1") -> Wire:
        wire = WireTransport(client)
        assert self.app.listener is not None
        wire.protocol = self.app.listener._server()
        wire.protocol.connection_made(wire)
        return wire

    async def settle(self, wire: Wire) -> None:
        """Until the connection can do nothing more by itself."""
        conn = wire.protocol
        while len(self.app.engine.flights) or not (
            wire.is_over
            or conn._drain_waiter is not None
            or conn.inlet.is_dropping
            or (conn._direct is None and conn.inlet.is_idle and not conn.inlet._unread)
            or (conn._direct is None and conn.inlet._waiter is not None and not conn.inlet._waiter.done())
        ):
            await asyncio.sleep(0)
        # What is sent with others leaves now.
        await asyncio.sleep(0)

    async def feed(self, wire: Wire, *segments: bytes) -> None:
        for segment in segments:
            await self.settle(wire)
            if wire.is_over:
                return
            wire.protocol.data_received(segment)
        await self.settle(wire)

    async def finish(self, wire: Wire) -> None:
        """The client reads again, and ends."""
        if wire.protocol._paused:
            wire.protocol.resume_writing()
        await self.settle(wire)
        if not wire.is_over and not wire.protocol.eof_received():
            wire.close()
        while not wire.is_over:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def used(self) -> list[int]:
        """Uses, in no order: those that were noted, and those that the hot path will note."""
        hot = self.app.hot
        pending = [] if hot is None else [[stored.entry_id] * one.uses for one, stored in hot.tally._used]
        return sorted(chain(self.touched, *pending))

    def check_links(self) -> None:
        """A remembered request line leads to what its key has in memory, if that is one alone, or to nothing."""
        hot, memory = self.app.hot, self.app.store._memory
        assert hot is not None
        for line in (*hot.memo.lines.young.values(), *hot.memo.lines.old.values()):
            ready, found = line.ready, memory.find(line.key)
            if ready is None:
                continue
            prepared = [[one.prepared.plain, *(one.prepared.others or {}).values()] for one in found]
            if len(found) != 1 or ready not in prepared[0]:
                assert (ready.body, ready.on_disk, ready.facts) == (b"", None, None)
                assert (ready.rules, ready.is_for_all) == (None, False)
                if ready not in chain(*prepared):
                    assert (ready.head, ready.stored, ready.note) == (b"", None, None)

    def counted(self) -> dict[str, object]:
        counters = self.app.counters
        return {
            name: getattr(counters, name)
            for name in counters.__dataclass_fields__
            if name not in ("on_finished", "log", "catch_up", "hot_answers", "origin_bytes")
        }


IN_MEMORY = ("cache.disk=0", "cache.memory=8MiB")
ON_DISK = ("cache.disk=64MiB", "cache.memory=64KiB", "cache.keep_free=0", "cache.disk_wait=10s")
"""Little comes into memory, and only at its second reading; a slow machine does not matter."""


class Twins:
    """`hot` and `plain` and the origin of both; every step is done to both and must leave them equal."""

    def __init__(self, directory: Path, options: tuple[str, ...] = IN_MEMORY) -> None:
        self.origin = Origin()
        self._is_on_disk = options is ON_DISK
        self.hot = Twin(directory / "hot", *options)
        self.plain = Twin(directory / "plain", *options, "server.hot_path=false")
        self.pair = (self.hot, self.plain)

    async def start(self) -> None:
        await self.origin.start()
        for twin in self.pair:
            await twin.start()

    async def stop(self) -> None:
        for twin in self.pair:
            await twin.app.close()
        await self.origin.stop()

    @property
    def hot_answers(self) -> int:
        return self.hot.app.counters.hot_answers

    def each(self, change: Callable[[Twin], None]) -> None:
        for twin in self.pair:
            change(twin)

    async def reset(self) -> None:
        """Empty stores, the clock at its start."""
        for twin in self.pair:
            twin.clock.now = START
            if twin.app.hot is not None:
                twin.app.hot.tally.settle()
            twin.log.lines.clear()
            twin.touched.clear()
            await twin.app.store.purge(Selector(everything=True), dry_run=False, soft=False)

    async def to_disk(self) -> None:
        """What is stored is on disk, and nowhere else."""
        for twin in self.pair:
            disk = twin.app.store._disk
            assert disk is not None
            await disk.changes.mark_stale([0])
            for candidate in list(twin.app.store._memory):
                twin.app.store._memory.drop(candidate.stored.entry_id)

    def _lines(self, twin: Twin) -> list[str]:
        # The hot path reads a body from disk only to send it: so that it may come into memory later.
        return [line.replace("TCP_MEM_HIT", "TCP_HIT") if self._is_on_disk else line for line in twin.log.lines]

    def compare(self, hot: Wire, plain: Wire) -> None:
        assert bytes(hot.written) == bytes(plain.written)
        # First the counters: reading them has the hot path count what it has put off.
        assert self.hot.counted() == self.plain.counted()
        assert self._lines(self.hot) == self._lines(self.plain)
        assert self.hot.used() == self.plain.used()
        self.hot.check_links()
