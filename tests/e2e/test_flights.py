"""Concurrent requests: one fetch serves many, and only what may be shared is shared."""

from __future__ import annotations

import asyncio
from typing import Any

import aiosqlite
import pytest

from cacheproxy.app import App
from cacheproxy.engine.flight import Flight
from cacheproxy.engine.outcome import Restart
from cacheproxy.ports import Selector
from cacheproxy.store.body_writer import TieredBodyWriter
from tests.conftest import Connect, StartProxy
from tests.support.client import RawClient, Reply
from tests.support.origin import Origin, Received, Wire, response

FRESH = "Cache-Control: max-age=3600"
BODY = bytes(range(256)) * 8000


class Gate:
    """A route that sends its head, then waits to be opened before the rest."""

    def __init__(self, *fields: str, first: int = 1000, body: bytes = BODY) -> None:
        self.opened = asyncio.Event()
        self.begun = asyncio.Event()
        self.fields = fields
        self.first = first
        self.body = body
        self.cut = False

    async def __call__(self, received: Received, wire: Wire) -> None:
        if received.field("if-none-match"):
            await wire.send(b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n')
            return
        head = "\r\n".join(["HTTP/1.1 200 OK", *self.fields, f"Content-Length: {len(self.body)}"])
        await wire.send(head.encode() + b"\r\n\r\n" + self.body[: self.first])
        self.begun.set()
        await self.opened.wait()
        if self.cut:
            wire.reset()
        else:
            await wire.send(self.body[self.first :])


async def many(connect: Connect, app: App, url: str, count: int, *fields: str) -> list[asyncio.Task[Reply]]:
    clients = [await connect(app) for _ in range(count)]
    return [asyncio.ensure_future(client.get(url, *fields)) for client in clients]


async def test_fifty_clients_one_fetch(origin: Origin, proxy: App, connect: Connect) -> None:
    gate = Gate(FRESH)
    origin.routes["/big"] = gate
    tasks = await many(connect, proxy, origin.url("/big"), 50)
    await gate.begun.wait()
    gate.opened.set()
    for task in tasks:
        assert (await task).body == BODY
    assert origin.count() == 1
    assert proxy.counters.collapsed == 49


async def test_the_first_client_leaving_changes_nothing(origin: Origin, proxy: App, connect: Connect) -> None:
    gate = Gate(FRESH)
    origin.routes["/big"] = gate
    first = await connect(proxy)
    await first.send(f"GET {origin.url('/big')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await first.head()
    others = await many(connect, proxy, origin.url("/big"), 3)
    (filling,) = proxy.engine.flights.fillings.candidates(origin.url("/big"))
    (part,) = filling.body.assembly.parts  # type: ignore[attr-defined]
    while len(part.spool._readers) < 4:
        await asyncio.sleep(0)
    first.reset()
    gate.opened.set()
    for task in others:
        assert (await task).body == BODY
    assert origin.count() == 1


async def test_late_joiner_reads_from_byte_zero(origin: Origin, proxy: App, connect: Connect) -> None:
    body = bytes(range(256)) * 16000
    gate = Gate(FRESH, first=3_000_000, body=body)
    origin.routes["/big"] = gate
    (first,) = await many(connect, proxy, origin.url("/big"), 1)
    await gate.begun.wait()
    while proxy.counters.client_bytes < 2_900_000:
        await asyncio.sleep(0)
    (late,) = await many(connect, proxy, origin.url("/big"), 1)
    gate.opened.set()
    assert (await first).body == body
    assert (await late).body == body
    assert origin.count() == 1


@pytest.mark.parametrize(
    "fields",
    [("Cache-Control: no-store",), ("Cache-Control: private",), (FRESH, "Vary: *")],
    ids=["no-store", "private", "vary-star"],
)
async def test_what_may_not_be_shared_releases_the_waiters(
    origin: Origin, proxy: App, connect: Connect, fields: tuple[str, ...]
) -> None:
    gate = Gate(*fields, body=b"mine" * 500)
    origin.routes["/a"] = gate
    tasks = await many(connect, proxy, origin.url("/a"), 8)
    # No gate is open: every client must have got its own fetch before any of them ends.
    await origin.until(lambda: origin.count() == 8)
    gate.opened.set()
    assert [(await task).body for task in tasks] == [b"mine" * 500] * 8


@pytest.mark.parametrize("control", ["no-cache", "max-age=0"])
async def test_joiners_validate_for_themselves(
    origin: Origin, proxy: App, connect: Connect, control: str
) -> None:
    gate = Gate(f"Cache-Control: {control}", 'ETag: "1"')
    origin.routes["/a"] = gate
    tasks = await many(connect, proxy, origin.url("/a"), 5)
    await origin.until(lambda: origin.count() == 5)
    gate.opened.set()
    for task in tasks:
        assert (await task).body == BODY
    # One body; the other four asked with If-None-Match and follow it.
    assert len([one for one in origin.requests if one.field("if-none-match")]) == 4


async def test_requests_that_demand_validation_do_not_join(
    origin: Origin, proxy: App, connect: Connect
) -> None:
    gate = Gate(FRESH, 'ETag: "1"')
    origin.routes["/a"] = gate
    tasks = await many(connect, proxy, origin.url("/a"), 1)
    await gate.begun.wait()
    tasks += await many(connect, proxy, origin.url("/a"), 2, "Cache-Control: no-cache")
    await origin.until(lambda: origin.count() == 3)
    gate.opened.set()
    for task in tasks:
        assert (await task).body == BODY


async def test_cookies_do_not_reach_whoever_joins(origin: Origin, proxy: App, connect: Connect) -> None:
    gate = Gate(FRESH, "Set-Cookie: id=1")
    origin.routes["/a"] = gate
    tasks = await many(connect, proxy, origin.url("/a"), 5)
    await gate.begun.wait()
    gate.opened.set()
    cookies = [(await task).field("set-cookie") for task in tasks]
    assert sorted(cookies, key=str) == [None, None, None, None, "id=1"]


async def test_a_cut_fetch_cuts_everybody_and_stores_nothing(
    origin: Origin, proxy: App, connect: Connect
) -> None:
    gate = Gate(FRESH)
    gate.cut = True
    origin.routes["/a"] = gate
    tasks = await many(connect, proxy, origin.url("/a"), 4)
    await gate.begun.wait()
    gate.opened.set()
    for task in tasks:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await task
    origin.routes["/a"] = response(b"whole", FRESH)
    client = await connect(proxy)
    assert (await client.get(origin.url("/a"))).body == b"whole"


async def test_waiters_share_the_failure_before_the_head(origin: Origin, proxy: App, connect: Connect) -> None:
    arrived = asyncio.Event()

    async def route(received: Received, wire: Wire) -> None:
        await arrived.wait()
        wire.reset()

    origin.routes["/a"] = route
    tasks = await many(connect, proxy, origin.url("/a"), 20)
    await origin.until(lambda: origin.count() == 1)
    pending = proxy.engine.flights.pending(origin.url("/a"))
    while pending is not None and pending.waiters < 19:
        await asyncio.sleep(0)
    arrived.set()
    assert {(await task).status for task in tasks} == {502}
    assert origin.count() == 1


async def test_an_abandoned_large_download_ends_upstream_too(
    origin: Origin, proxy: App, connect: Connect
) -> None:
    gate = Gate(FRESH, body=b"x" * 8_000_000)
    origin.routes["/a"] = gate
    client = await connect(proxy)
    await client.send(f"GET {origin.url('/a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await client.head()
    client.reset()
    while len(proxy.engine.flights):
        await asyncio.sleep(0)
    gate.opened.set()
    await origin.until(lambda: origin.closed == 1)


async def test_a_slow_reader_of_what_is_not_stored_sets_the_pace(
    origin: Origin, start_proxy: StartProxy, connect: Connect
) -> None:
    app = await start_proxy("cache.disk=0", "cache.memory=1MiB")
    body = b"y" * 40_000_000
    origin.routes["/a"] = response(body, FRESH)
    slow: RawClient = await connect(app)
    await slow.send(f"GET {origin.url('/a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await slow.head()
    held = app.engine._parts.spools
    for _ in range(2000):
        await asyncio.sleep(0)
    assert held.used_bytes <= 4 * 1024 * 1024
    assert await slow.reader.readexactly(len(body)) == body


async def test_purge_while_filling_leaves_nothing(origin: Origin, proxy: App, connect: Connect) -> None:
    gate = Gate(FRESH)
    origin.routes["/a"] = gate
    (task,) = await many(connect, proxy, origin.url("/a"), 1)
    await gate.begun.wait()
    client = await connect(proxy)
    await client.get(origin.url("/a"), method="PURGE")
    gate.opened.set()
    assert (await task).body == BODY
    await client.get(origin.url("/a"))
    assert origin.count("/a") == 2


@pytest.mark.parametrize("size", [1000, 300_000])
@pytest.mark.parametrize("where", ["before the queue", "in the queue"])
async def test_a_purge_finds_what_is_on_its_way_to_the_disk(
    origin: Origin,
    start_proxy: StartProxy,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    size: int,
) -> None:
    """Its client has all of it; no look-up finds it yet, and it must not come back later."""
    app = await start_proxy("cache.memory=0", "cache.ask_codings=[]")
    client, url = await connect(app), origin.url("/a")
    reached, go_on = asyncio.Event(), asyncio.Event()
    finish_rows, execute = TieredBodyWriter._finish_rows, aiosqlite.Connection.execute

    async def finish_rows_later(writer: TieredBodyWriter) -> bool:
        reached.set()
        await go_on.wait()
        return await finish_rows(writer)

    async def begin_later(connection: aiosqlite.Connection, sql: str, *parameters: Any) -> Any:
        if sql.startswith("BEGIN"):
            reached.set()
            await go_on.wait()
        return await execute(connection, sql, *parameters)

    if where == "in the queue":
        monkeypatch.setattr(aiosqlite.Connection, "execute", begin_later)
    else:
        monkeypatch.setattr(TieredBodyWriter, "_finish_rows", finish_rows_later)
    origin.routes["/a"] = response(b"old".ljust(size, b"."), FRESH)
    assert (await client.get(url)).body.startswith(b"old")
    async with asyncio.timeout(10):
        await reached.wait()
        assert (await client.get(url, method="PURGE")).body.startswith(b"1 stored response of")
        go_on.set()
        await app.engine.flights.close(10)
    origin.routes["/a"] = response(b"new", "Cache-Control: no-store")
    assert (await client.get(url)).body == b"new"
    assert [entry.url async for entry in app.store.entries(None)] == []


async def test_a_purge_leaves_alone_what_it_does_not_mean(origin: Origin, proxy: App, connect: Connect) -> None:
    gate = Gate(FRESH)
    origin.routes["/a"] = gate
    (task,) = await many(connect, proxy, origin.url("/a"), 1)
    await gate.begun.wait()
    for selector in (Selector(urls=(origin.url("/b"),)), Selector(host="b.example"), Selector(glob="*/b")):
        assert await proxy.engine.purge(selector, dry_run=False, soft=False) == 0
    gate.opened.set()
    assert (await task).body == BODY
    client = await connect(proxy)
    await client.get(origin.url("/a"))
    assert origin.count("/a") == 1


@pytest.mark.parametrize("fields", [FRESH, "Cache-Control: no-store"])
async def test_who_ends_in_the_middle_of_an_answer_has_left(
    origin: Origin, proxy: App, connect: Connect, fields: str
) -> None:
    """No further byte of the origin's is needed to notice it."""
    gate = Gate(fields)
    origin.routes["/big"] = gate
    origin.routes["/first"] = response(b"")
    client = await connect(proxy)
    await client.get(origin.url("/first"))
    await client.send(f"GET {origin.url('/big')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await client.head()
    await client.reader.readexactly(1000)
    (connection,) = proxy.listener._server.connections  # type: ignore[union-attr]
    connection.outlet._midway_since -= 1  # type: ignore[attr-defined]
    client.writer.write_eof()
    assert await client.closed()
    while proxy.counters.aborted < 1 or proxy.engine._parts.upstream.pool._open:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    gate.opened.set()
    await origin.until(lambda: origin.closed == 1)
    assert proxy.counters.origin_bytes < 2000


async def test_who_ends_behind_the_request_gets_all_of_the_answer(
    origin: Origin, proxy: App, connect: Connect
) -> None:
    gate = Gate(FRESH)
    origin.routes["/big"] = gate
    client = await connect(proxy)
    await client.send(f"GET {origin.url('/big')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    client.writer.write_eof()
    await client.head()
    gate.opened.set()
    assert await client.reader.readexactly(len(BODY)) == BODY
    assert await client.closed()


async def test_one_who_waits_cannot_stop_the_others() -> None:
    flight = Flight("key")
    heard: list[object] = []
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context["exception"]))

    def wrong(outcome: object) -> None:
        raise ValueError("a mistake")

    def left(outcome: object) -> None:
        heard.append("left")

    for listener in (wrong, heard.append, left):
        flight.tell(listener)
    flight.leave(left)
    assert flight.waiters == 2
    outcome = Restart(discard=False)
    flight.settle(outcome)
    await asyncio.sleep(0)
    assert (heard, [type(one) for one in faults], flight.waiters) == ([outcome], [ValueError], 0)
