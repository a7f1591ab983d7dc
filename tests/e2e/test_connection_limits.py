"""More requests than connections to an origin: each is served as soon as one is free, on both paths."""

from __future__ import annotations

import asyncio
import os

import pytest

from cacheproxy.app import App
from cacheproxy.upstream.connection import OriginConnection
from tests.conftest import Connect, StartProxy
from tests.support.origin import Origin, Received, Wire, response

NEVER = "Cache-Control: no-store"
LIMIT = "upstream.connections_per_origin=1"
ONLY_DIRECT = pytest.mark.skipif(
    "hot_path" in os.environ.get("CACHEPROXY_TEST_OPTIONS", ""),
    reason="without the hot path there is no direct one",
)


class Gate:
    """Answers with the path, once `opened`."""

    def __init__(self, origin: Origin) -> None:
        self.opened = asyncio.Event()
        origin.routes["*"] = self

    async def __call__(self, received: Received, wire: Wire) -> None:
        await self.opened.wait()
        await wire.send(response(received.path.encode(), NEVER))


def waiting(app: App) -> int:
    pool = app.engine._parts.upstream.pool  # type: ignore[attr-defined]
    return sum(len(queue) for queue in pool.waiting._queues.values())


async def until_waiting(app: App, count: int) -> None:
    async with asyncio.timeout(10):
        while waiting(app) < count:
            await asyncio.sleep(0)


@ONLY_DIRECT
async def test_plain_requests_wait_for_a_connection_without_a_task(
    origin: Origin, start_proxy: StartProxy, connect: Connect, ordinary: list[str]
) -> None:
    app, gate = await start_proxy(LIMIT), Gate(origin)
    clients = [await connect(app) for _ in range(6)]
    tasks = [asyncio.ensure_future(clients[0].get(origin.url("/0")))]
    await origin.until(lambda: origin.count("/0") == 1)
    tasks += [asyncio.ensure_future(one.get(origin.url(f"/{n}"))) for n, one in enumerate(clients) if n]
    await until_waiting(app, 5)
    assert len(ordinary) == 1  # the first, which opened the connection
    gate.opened.set()
    replies = await asyncio.gather(*tasks)
    assert [reply.body for reply in replies] == [f"/{n}".encode() for n in range(6)]
    assert len(ordinary) == origin.connections == 1
    assert waiting(app) == 0


async def test_requests_with_bodies_and_plain_ones_wait_together(
    origin: Origin, start_proxy: StartProxy, connect: Connect
) -> None:
    app, gate = await start_proxy(LIMIT), Gate(origin)
    first, posting, getting = [await connect(app) for _ in range(3)]
    tasks = [asyncio.ensure_future(first.get(origin.url("/0")))]
    await origin.until(lambda: origin.count("/0") == 1)
    tasks.append(asyncio.ensure_future(posting.get(origin.url("/1"), method="POST", body=b"x")))
    await until_waiting(app, 1)
    tasks.append(asyncio.ensure_future(getting.get(origin.url("/2"))))
    await until_waiting(app, 2)
    gate.opened.set()
    assert [reply.body for reply in await asyncio.gather(*tasks)] == [b"/0", b"/1", b"/2"]
    assert waiting(app) == 0


async def test_who_leaves_while_it_waits_leaves_its_place_to_the_next(
    origin: Origin, start_proxy: StartProxy, connect: Connect
) -> None:
    app, gate = await start_proxy(LIMIT), Gate(origin)
    first, leaving, staying = [await connect(app) for _ in range(3)]
    task = asyncio.ensure_future(first.get(origin.url("/0")))
    await origin.until(lambda: origin.count("/0") == 1)
    await leaving.send(f"GET {origin.url('/1')} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    await until_waiting(app, 1)
    last = asyncio.ensure_future(staying.get(origin.url("/2")))
    await until_waiting(app, 2)
    leaving.reset()
    async with asyncio.timeout(10):
        while not app.counters.aborted:
            await asyncio.sleep(0)
    gate.opened.set()
    assert [(await one).body for one in (task, last)] == [b"/0", b"/2"]
    assert origin.count("/1") == 0


async def test_a_connection_that_ends_leaves_its_place_to_who_waits(
    origin: Origin, start_proxy: StartProxy, connect: Connect
) -> None:
    app = await start_proxy(LIMIT)
    opened = asyncio.Event()

    async def route(received: Received, wire: Wire) -> None:
        await opened.wait()
        await wire.send(response(received.path.encode(), NEVER, "Connection: close"))
        wire.close()

    origin.routes["*"] = route
    clients = [await connect(app) for _ in range(3)]
    tasks = [asyncio.ensure_future(clients[0].get(origin.url("/0")))]
    await origin.until(lambda: origin.count("/0") == 1)
    tasks += [asyncio.ensure_future(one.get(origin.url(f"/{n}"))) for n, one in enumerate(clients) if n]
    await until_waiting(app, 2)
    opened.set()
    assert [reply.body for reply in await asyncio.gather(*tasks)] == [b"/0", b"/1", b"/2"]
    assert origin.connections == 3


@ONLY_DIRECT
async def test_an_idle_connection_that_has_something_to_say_is_not_asked(
    origin: Origin, start_proxy: StartProxy, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9112 §9.2: bytes that nobody asked for, and that the loop has not seen yet, answer no request."""
    app = await start_proxy()
    client = await connect(app)
    origin.routes["*"] = response(b"good", NEVER)
    await client.get(origin.url("/first"))
    quiet = iter([False])
    monkeypatch.setattr(OriginConnection, "is_quiet", property(lambda connection: next(quiet, True)))
    assert (await client.get(origin.url("/a"))).body == b"good"
    assert origin.count("/a") == 1
    assert origin.connections == 2
