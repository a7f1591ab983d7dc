"""The direct path over sockets: plain misses and disk hits without a task, and what it leaves to the ordinary path."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cacheproxy.app import App
from cacheproxy.engine import direct
from cacheproxy.store.ghosts import key_hash
from cacheproxy.store.look_ups import LookUps
from tests.conftest import Connect, StartProxy
from tests.support.client import RawClient
from tests.support.halves import Halves
from tests.support.origin import Origin, Received, Wire, response

pytestmark = pytest.mark.skipif(
    "hot_path" in os.environ.get("CACHEPROXY_TEST_OPTIONS", ""),
    reason="without the hot path there is no direct one",
)

FRESH = "Cache-Control: max-age=3600"
NEVER = "Cache-Control: no-store"
BODY = bytes(range(256)) * 4096


@pytest.fixture
async def ready(
    ordinary: list[str], origin: Origin, start_proxy: StartProxy, connect: Connect
) -> Callable[..., Awaitable[tuple[App, RawClient]]]:
    """Starts a proxy that has an idle connection to the origin, and a client."""

    async def start(*options: str, directory: Path | None = None) -> tuple[App, RawClient]:
        app = await start_proxy(*options, directory=directory)
        origin.routes.setdefault("/first", response(b"", NEVER))
        client = await connect(app)
        await client.get(origin.url("/first"))
        ordinary.clear()
        origin.requests.clear()
        return app, client

    return start


Ready = Callable[..., Awaitable[tuple[App, RawClient]]]


def held(origin: Origin, path: str, data: bytes) -> asyncio.Event:
    """A route that answers once the event is set."""
    opened = asyncio.Event()

    async def route(received: Received, wire: Wire) -> None:
        await opened.wait()
        await wire.send(data)

    origin.routes[path] = route
    return opened


async def silent(received: Received, wire: Wire) -> None:
    """A route that never answers."""


async def settled(app: App) -> None:
    """Until nothing is under way any more."""
    async with asyncio.timeout(10):
        while len(app.engine.flights) or app.engine.flights._pending or app.engine.flights.fillings.keys:
            await asyncio.sleep(0)


async def test_small_responses_are_stored_and_passed_on(
    origin: Origin, ready: Ready, ordinary: list[str]
) -> None:
    app, client = await ready()
    origin.routes["/a"] = response(b"hello", FRESH, 'ETag: "1"')
    for _ in range(3):
        reply = await client.get(origin.url("/a"))
        assert reply.body == b"hello"
    assert ordinary == []
    assert origin.count("/a") == 1
    assert (app.counters.hits, app.counters.misses) == (2, 2)
    assert app.counters.client_bytes == client.received_bytes
    assert app.counters.origin_bytes == origin.sent_bytes


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "500 Oops", "204 No Content", "301 Moved"])
async def test_what_is_for_one_client_passes(
    origin: Origin, ready: Ready, ordinary: list[str], status: str
) -> None:
    _, client = await ready()
    body = b"" if status.startswith("204") else b"mine"
    origin.routes["/a"] = response(
        body, NEVER, "Set-Cookie: a=b", "Connection: X-Own", "X-Own: 1", status=status
    )
    for count in (1, 2):
        reply = await client.get(origin.url("/a"))
        assert (reply.status, reply.body) == (int(status[:3]), body)
        assert reply.field("set-cookie") == "a=b"
        assert reply.field("x-own") is None
        assert "fwd=uri-miss" in (reply.field("cache-status") or "")
        assert origin.count("/a") == count
    assert ordinary == []


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_long_bodies_are_passed_on_as_they_come(
    origin: Origin, ready: Ready, ordinary: list[str], is_chunked: bool
) -> None:
    _, client = await ready()
    origin.routes["/a"] = halves = Halves(BODY, NEVER, is_chunked=is_chunked)
    assert await halves.fetch(client, origin.url("/a")) == BODY
    # The connections are fit for another.
    origin.routes["/b"] = response(b"next", NEVER)
    assert (await client.get(origin.url("/b"))).body == b"next"
    assert origin.connections == 1
    assert ordinary == []


async def test_a_slow_client_makes_the_origin_wait(origin: Origin, ready: Ready, ordinary: list[str]) -> None:
    app, client = await ready()
    body = BODY * 24
    origin.routes["/a"] = response(body, NEVER)
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(f"GET {origin.url('/a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    origin_bytes = -1
    await origin.until(lambda: origin.sent_bytes > 0)
    while origin_bytes != app.counters.origin_bytes:
        origin_bytes = app.counters.origin_bytes
        for _ in range(100):
            await asyncio.sleep(0)
    (connection,) = app.listener._server.connections  # type: ignore[union-attr]
    assert connection.transport.get_write_buffer_size() < 2 * 1024 * 1024  # type: ignore[attr-defined]
    client.reader._transport.resume_reading()  # type: ignore[attr-defined]
    assert (await client.reply()).body == body
    assert ordinary == []


async def test_large_responses_go_on_in_a_flight(origin: Origin, ready: Ready, ordinary: list[str]) -> None:
    app, client = await ready("cache.memory=64MiB")
    origin.routes["/a"] = response(BODY, FRESH)
    assert (await client.get(origin.url("/a"))).body == BODY
    assert ordinary == [origin.url("/a")]
    await settled(app)
    assert (await client.get(origin.url("/a"))).body == BODY
    assert origin.count("/a") == 1


async def test_content_that_only_we_asked_coded_is_decoded(origin: Origin, ready: Ready) -> None:
    _, client = await ready()
    text = b"text " * 500
    origin.routes["/a"] = response(
        gzip.compress(text),
        FRESH,
        "Content-Encoding: gzip",
        "Content-Type: text/plain",
        "Vary: Accept-Encoding",
    )
    for _ in range(2):
        reply = await client.get(origin.url("/a"))
        assert reply.body == text
        assert reply.field("content-encoding") is None
    assert origin.count("/a") == 1


async def test_many_clients_one_fetch(origin: Origin, ready: Ready, connect: Connect) -> None:
    app, client = await ready()
    opened = held(origin, "/a", response(b"shared", FRESH))
    clients = [client, *[await connect(app) for _ in range(19)]]
    tasks = [asyncio.ensure_future(one.get(origin.url("/a"))) for one in clients]
    await origin.until(lambda: origin.count("/a") == 1)
    flight = app.engine.flights.pending(origin.url("/a"))
    while flight is not None and flight.waiters < 19:
        await asyncio.sleep(0)
    opened.set()
    assert [(await task).body for task in tasks] == [b"shared"] * 20
    assert origin.count("/a") == 1
    # Every request counts for what is worth keeping, and once.
    ranking = app.store._disk.ranking if app.store._disk is not None else None
    assert ranking is not None and ranking.ghosts.count(key_hash(origin.url("/a"))) == 0
    while not (rows := await app.store._disk.look_ups.reader.select("SELECT hits FROM ranks")):  # type: ignore[union-attr]
        await asyncio.sleep(0)
    assert rows == [(20,)]


@pytest.mark.parametrize("fields", [FRESH, NEVER])
async def test_a_fetch_goes_on_for_those_who_wait(
    origin: Origin, ready: Ready, connect: Connect, fields: str
) -> None:
    app, client = await ready()
    opened = held(origin, "/a", response(b"here", fields))
    await client.send(f"GET {origin.url('/a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await origin.until(lambda: origin.count("/a") == 1)
    others = [await connect(app) for _ in range(5)]
    tasks = [asyncio.ensure_future(one.get(origin.url("/a"))) for one in others]
    flight = app.engine.flights.pending(origin.url("/a"))
    assert flight is not None
    while flight.waiters < 5:
        await asyncio.sleep(0)
    client.reset()
    while app.counters.aborted < 1:
        await asyncio.sleep(0)
    opened.set()
    assert [(await task).body for task in tasks] == [b"here"] * 5
    assert origin.count("/a") == (1 if fields == FRESH else 6)
    await settled(app)


async def test_who_waits_in_vain_asks_without_a_task(
    origin: Origin, ready: Ready, connect: Connect, ordinary: list[str]
) -> None:
    app, client = await ready()
    other = await connect(app)
    # Both ask at once, so that two idle connections are there afterwards.
    both = [held(origin, "/x", response(b"", NEVER)), held(origin, "/y", response(b"", NEVER))]
    tasks = [asyncio.ensure_future(one.get(origin.url(path))) for one, path in ((client, "/x"), (other, "/y"))]
    await origin.until(lambda: origin.count("/x") + origin.count("/y") == 2)
    for opened in both:
        opened.set()
    await asyncio.gather(*tasks)
    ordinary.clear()
    opened = held(origin, "/a", response(b"mine", NEVER))
    tasks = [asyncio.ensure_future(one.get(origin.url("/a"))) for one in (client, other)]
    await origin.until(lambda: origin.count("/a") == 1)
    flight = app.engine.flights.pending(origin.url("/a"))
    while flight is not None and not flight.waiters:
        await asyncio.sleep(0)
    opened.set()
    assert [(await task).body for task in tasks] == [b"mine"] * 2
    assert (origin.count("/a"), ordinary) == (2, [])
    assert (app.counters.misses, app.counters.collapsed) == (5, 0)
    await settled(app)


@pytest.mark.parametrize("fields", [FRESH, NEVER])
async def test_who_waits_may_leave(origin: Origin, ready: Ready, connect: Connect, fields: str) -> None:
    app, client = await ready()
    other = await connect(app)
    opened = held(origin, "/a", response(b"mine", fields))
    task = asyncio.ensure_future(client.get(origin.url("/a")))
    await origin.until(lambda: origin.count("/a") == 1)
    flight = app.engine.flights.pending(origin.url("/a"))
    assert flight is not None
    await other.send(f"GET {origin.url('/a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    while not flight.waiters:
        await asyncio.sleep(0)
    other.reset()
    while flight.waiters:
        await asyncio.sleep(0)
    opened.set()
    assert (await task).body == b"mine"
    await settled(app)
    assert (app.counters.aborted, origin.count("/a")) == (1, 1)


async def test_without_anybody_waiting_the_fetch_ends_with_its_client(origin: Origin, ready: Ready) -> None:
    app, client = await ready()
    origin.routes["/a"] = silent
    await client.send(f"GET {origin.url('/a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await origin.until(lambda: origin.count("/a") == 1)
    client.reset()
    await origin.until(lambda: origin.closed == 1)
    await settled(app)
    assert app.counters.aborted == 1


@pytest.mark.parametrize("where", ["answers", "store"])
async def test_a_mistake_of_ours_leaves_nobody_waiting(
    origin: Origin,
    ready: Ready,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    app, client = await ready()
    faults = 1

    def once(function: Callable[..., object]) -> Callable[..., object]:
        def wrong(*arguments: object, **named: object) -> object:
            nonlocal faults
            faults -= 1
            if faults >= 0:
                raise ValueError("a mistake")
            return function(*arguments, **named)

        return wrong

    if where == "answers":
        monkeypatch.setattr(direct, "forwarded_head", once(direct.forwarded_head))
    else:
        monkeypatch.setattr(LookUps, "_candidates", once(LookUps._candidates))
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    origin.routes["/a"] = response(b"right", NEVER)
    assert (await client.get(origin.url("/a"))).body == b"right"
    await settled(app)
    assert f"on the {'hot' if where == 'store' and app.hot is not None else 'direct'} path" in caplog.text


async def test_the_log_says_what_happened_to_each(
    origin: Origin, ready: Ready, tmp_path: Path, connect: Connect
) -> None:
    app, client = await ready(directory=tmp_path / "one")
    origin.routes["/a"] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(b"a" * 500, NEVER)
    sizes = [client.received_bytes]
    for path in ("/a", "/first"):
        await client.get(origin.url(path))
        sizes.append(client.received_bytes)
    origin.routes["/silent"] = silent
    await client.send(f"GET {origin.url('/silent')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await origin.until(lambda: origin.count("/silent") == 1)
    client.reset()
    await origin.until(lambda: origin.closed == 1)
    await app.close()
    lines = [line.split() for line in (tmp_path / "one" / "access.log").read_text().splitlines()]
    assert [int(line[4]) for line in lines] == [sizes[0], sizes[1] - sizes[0], sizes[2] - sizes[1], 0]
    assert [line[8] for line in lines] == ["HIER_DIRECT/127.0.0.1"] * 4
    assert lines[3][3] == "TCP_MISS_ABORTED/000"


async def test_a_connection_that_the_origin_has_closed_is_replaced(origin: Origin, ready: Ready) -> None:
    _, client = await ready()
    asked = 0

    async def route(received: Received, wire: Wire) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            wire.reset()
        else:
            await wire.send(response(b"second", NEVER))

    origin.routes["/a"] = route
    assert (await client.get(origin.url("/a"))).body == b"second"


async def test_failures_are_told_like_ever(origin: Origin, ready: Ready) -> None:
    app, client = await ready()
    origin.routes["/bad"] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
    reply = await client.get(origin.url("/bad"))
    assert reply.status == 502
    assert "http_protocol_error" in (reply.field("proxy-status") or "")
    await settled(app)


async def test_a_silent_origin_is_a_504(origin: Origin, ready: Ready) -> None:
    app, client = await ready("upstream.first_byte_timeout=50ms")
    origin.routes["/a"] = silent
    reply = await client.get(origin.url("/a"))
    assert reply.status == 504
    assert "http_response_timeout" in (reply.field("proxy-status") or "")
    assert len(app.engine._parts.upstream.deadlines) == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["cut", "stalled"])
async def test_a_body_that_breaks_off_is_cut_visibly(origin: Origin, ready: Ready, how: str) -> None:
    app, client = await ready("upstream.idle_timeout=50ms")

    async def route(received: Received, wire: Wire) -> None:
        await wire.send(f"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n{NEVER}\r\n\r\nhalf".encode())
        if how == "cut":
            wire.close()

    origin.routes["/a"] = route
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await client.get(origin.url("/a"))
    assert app.counters.aborted == 1
    assert len(app.engine._parts.upstream.deadlines) == 0  # type: ignore[attr-defined]


async def test_pipelined_requests_wait_their_turn(origin: Origin, ready: Ready) -> None:
    _, client = await ready()
    opened = held(origin, "/slow", response(b"slow", NEVER))
    origin.routes["/fast"] = response(b"fast", FRESH)
    await client.get(origin.url("/fast"))
    await client.send(f"GET {origin.url('/slow')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await origin.until(lambda: origin.count("/slow") == 1)
    for path in ("/fast", "/slow", "/fast"):
        await client.send(f"GET {origin.url(path)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    opened.set()
    assert [(await client.reply()).body for _ in range(4)] == [b"slow", b"fast", b"slow", b"fast"]


async def test_a_client_that_has_said_all_gets_its_answer(origin: Origin, ready: Ready) -> None:
    _, client = await ready()
    opened = held(origin, "/a", response(b"answer", NEVER))
    await client.send(f"GET {origin.url('/a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await origin.until(lambda: origin.count("/a") == 1)
    client.writer.write_eof()
    opened.set()
    reply = await client.reply()
    assert reply.body == b"answer"
    assert await client.closed()


async def test_interim_responses_pass(origin: Origin, ready: Ready, ordinary: list[str]) -> None:
    _, client = await ready()
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    origin.routes["/a"] = hints + response(b"final", NEVER)
    reply = await client.get(origin.url("/a"))
    assert (len(reply.interim), reply.body) == (1, b"final")
    assert ordinary == []


async def test_what_is_purged_meanwhile_is_not_stored(origin: Origin, ready: Ready) -> None:
    app, client = await ready()
    opened = held(origin, "/a", response(b"old", FRESH))
    task = asyncio.ensure_future(client.get(origin.url("/a")))
    await origin.until(lambda: origin.count("/a") == 1)
    app.engine.flights.invalidate(origin.url("/a"))
    opened.set()
    assert (await task).body == b"old"
    await settled(app)
    origin.routes["/a"] = response(b"new", FRESH)
    assert (await client.get(origin.url("/a"))).body == b"new"


async def test_disk_hits_need_no_task(
    origin: Origin, ready: Ready, ordinary: list[str], tmp_path: Path
) -> None:
    app, client = await ready("cache.memory=64KiB", directory=tmp_path / "one")
    for number in range(40):
        origin.routes[f"/{number}"] = response(b"%d " % number * 300, FRESH, 'ETag: "1"')
        await client.get(origin.url(f"/{number}"))
    await app.close()
    app, client = await ready("cache.memory=64KiB", directory=tmp_path / "one")
    for number in range(40):
        reply = await client.get(origin.url(f"/{number}"))
        assert reply.body == b"%d " % number * 300
        assert "; hit" in (reply.field("cache-status") or "")
    assert ordinary == []
    assert origin.requests == []
    assert app.counters.hits == 40


async def test_draining_waits_for_a_direct_answer(origin: Origin, ready: Ready) -> None:
    app, client = await ready()
    opened = held(origin, "/a", response(b"last", NEVER))
    task = asyncio.ensure_future(client.get(origin.url("/a")))
    await origin.until(lambda: origin.count("/a") == 1)
    assert app.listener is not None
    closing = asyncio.ensure_future(app.listener.close())
    await asyncio.sleep(0)
    opened.set()
    reply = await task
    assert (reply.body, reply.field("connection")) == (b"last", "close")
    await closing


@pytest.mark.parametrize("vary", ["Accept-Encoding", None])
async def test_who_comes_after_a_client_that_reads_the_coding_gets_what_it_reads(
    origin: Origin, ready: Ready, connect: Connect, ordinary: list[str], vary: str | None
) -> None:
    """The coding was asked for in the first one's stead as well."""
    app, client = await ready()
    lines = [FRESH, "Content-Encoding: gzip", "Content-Type: text/plain", *([f"Vary: {vary}"] if vary else [])]
    origin.routes["/a"] = response(gzip.compress(b"hello " * 50), *lines)
    first = await client.get(origin.url("/a"), "Accept-Encoding: gzip")
    assert gzip.decompress(first.body) == b"hello " * 50
    assert not ordinary
    for fields in ((), ("Accept-Encoding: identity",), ("Accept-Encoding: gzip;q=0",)):
        reply = await (await connect(app)).get(origin.url("/a"), *fields)
        assert reply.field("content-encoding") is None
        assert reply.body == b"hello " * 50
    again = await client.get(origin.url("/a"), "Accept-Encoding: gzip")
    assert (again.field("content-encoding"), again.body) == ("gzip", first.body)
    assert origin.count("/a") == 1


@pytest.mark.parametrize("how", ["large", "fails", "validated"])
async def test_what_is_under_way_at_the_stop_is_answered(
    origin: Origin, ready: Ready, connect: Connect, how: str
) -> None:
    """Also where the direct path leaves it to a task that has not begun yet."""
    app, _ = await ready("server.drain_timeout=10s")
    client = await connect(app)
    if how == "validated":
        origin.routes["/a"] = response(b"old", "Cache-Control: max-age=0", 'ETag: "1"')
        await client.get(origin.url("/a"))
    opened = asyncio.Event()

    async def route(received: Received, wire: Wire) -> None:
        await opened.wait()
        if how == "fails":
            wire.reset()
        else:
            await wire.send(response(BODY, FRESH))

    origin.routes["/a"] = route
    task = asyncio.ensure_future(client.get(origin.url("/a")))
    await origin.until(lambda: origin.count("/a") == (2 if how == "validated" else 1))
    closing = asyncio.ensure_future(app.close())
    assert app.listener is not None
    connections = app.listener._server._connections
    while not all(one.inlet.is_stopping for one in connections):  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    opened.set()
    reply = await task
    assert (reply.status, reply.body) == (200, BODY) if how != "fails" else reply.status == 502
    async with asyncio.timeout(5):
        await closing
    assert app.counters.requests == (3 if how == "validated" else 2)
