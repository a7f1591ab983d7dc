"""Validations on the direct path over sockets: who waits, who leaves, what is purged meanwhile.

That they are the ordinary path's own is for `tests/server/test_validation_equals_ordinary.py` to prove.
"""

from __future__ import annotations

import asyncio

import pytest

from cacheproxy.app import App
from tests.conftest import Connect
from tests.e2e.test_direct_path import Ready, held, pytestmark, ready, settled, silent
from tests.support.client import RawClient
from tests.support.origin import Origin, response

__all__ = ["pytestmark", "ready"]

AGAIN = "Cache-Control: max-age=0"
STORED = response(b"stored", AGAIN, 'ETag: "1"')
HOLDS = response(b"", AGAIN, 'ETag: "1"', status="304 Not Modified")


async def stored(origin: Origin, ready: Ready, *options: str) -> tuple[App, RawClient]:
    """A proxy that has /a, which has to be validated each time."""
    app, client = await ready(*options)
    origin.routes["/a"] = STORED
    assert (await client.get(origin.url("/a"))).body == b"stored"
    await settled(app)
    origin.requests.clear()
    return app, client


async def until_waiting(app: App, origin: Origin, count: int) -> None:
    """Until so many wait for what another asks."""
    await origin.until(lambda: origin.count("/a") == 1)
    async with asyncio.timeout(10):
        while app.engine.flights._pending[origin.url("/a")].waiters < count:
            await asyncio.sleep(0)


async def test_one_asks_for_all_who_come_meanwhile(
    origin: Origin, ready: Ready, connect: Connect, ordinary: list[str]
) -> None:
    app, client = await stored(origin, ready)
    opened = held(origin, "/a", HOLDS)
    others = [await connect(app) for _ in range(4)]
    tasks = [asyncio.ensure_future(one.get(origin.url("/a"))) for one in (client, *others)]
    await until_waiting(app, origin, len(others))
    # They wait in tasks; the first one does not.
    assert len(ordinary) == len(others)
    origin.routes["/a"] = HOLDS
    opened.set()
    for reply in await asyncio.gather(*tasks):
        assert (reply.status, reply.body) == (200, b"stored")


async def test_who_has_waited_in_vain_waits_no_more(origin: Origin, ready: Ready, connect: Connect) -> None:
    """What is stale again at once does not serve those who waited: they ask at once, not one after another."""
    app, client = await stored(origin, ready)
    clients = [client, *[await connect(app) for _ in range(5)]]
    for waiting in (True, False):
        opened = held(origin, "/a", HOLDS)
        tasks = [asyncio.ensure_future(one.get(origin.url("/a"))) for one in clients]
        if waiting:
            await until_waiting(app, origin, 5)
        else:
            await origin.until(lambda: origin.count("/a") == 6)
        opened.set()
        for reply in await asyncio.gather(*tasks):
            assert (reply.status, reply.body) == (200, b"stored")
        origin.requests.clear()
    # A miss is still fetched once for all.
    opened = held(origin, "/a", response(b"new", AGAIN, 'ETag: "2"'))
    assert (await client.get(origin.url("/a"), method="PURGE")).status == 200
    tasks = [asyncio.ensure_future(one.get(origin.url("/a"))) for one in clients]
    await until_waiting(app, origin, 5)
    opened.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("seconds", [0, 60])
async def test_what_is_fresh_again_serves_all_who_waited(
    origin: Origin, ready: Ready, connect: Connect, seconds: int
) -> None:
    app, client = await stored(origin, ready)
    fresh = response(b"", f"Cache-Control: max-age={seconds}", 'ETag: "1"', status="304 Not Modified")
    opened = held(origin, "/a", fresh)
    clients = [client, *[await connect(app) for _ in range(5)]]
    tasks = [asyncio.ensure_future(one.get(origin.url("/a"))) for one in clients]
    await until_waiting(app, origin, 5)
    opened.set()
    await asyncio.gather(*tasks)
    assert origin.count("/a") == (1 if seconds else 6)


async def test_who_is_known_waits_for_it_too(origin: Origin, ready: Ready, connect: Connect) -> None:
    app, client = await stored(origin, ready)
    opened = held(origin, "/a", HOLDS)
    tasks = [asyncio.ensure_future(client.get(origin.url("/a")))]
    await origin.until(lambda: origin.count("/a") == 1)
    other = await connect(app)
    tasks.append(asyncio.ensure_future(other.get(origin.url("/a"), "Authorization: Basic eA==")))
    await until_waiting(app, origin, 1)
    assert origin.count("/a") == 1
    origin.routes["/a"] = HOLDS
    opened.set()
    for reply in await asyncio.gather(*tasks):
        assert (reply.status, reply.body) == (200, b"stored")


async def test_everybody_who_reloads_asks(origin: Origin, ready: Ready, connect: Connect) -> None:
    app, client = await stored(origin, ready)
    opened = held(origin, "/a", HOLDS)
    other = await connect(app)
    tasks = [
        asyncio.ensure_future(one.get(origin.url("/a"), "Cache-Control: no-cache")) for one in (client, other)
    ]
    await origin.until(lambda: origin.count("/a") == 2)
    opened.set()
    for reply in await asyncio.gather(*tasks):
        assert (reply.status, reply.body) == (200, b"stored")
    assert app.counters.reasons["revalidated"] == 2


@pytest.mark.parametrize("has_other", [False, True], ids=["alone", "another waits"])
async def test_a_client_that_leaves(origin: Origin, ready: Ready, connect: Connect, has_other: bool) -> None:
    app, client = await stored(origin, ready)
    tags: list[str] = []
    app.counters.on_finished = lambda record: tags.append(record.tag) if record.is_aborted else None
    opened = held(origin, "/a", HOLDS)
    await client.send(f"GET {origin.url('/a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await origin.until(lambda: origin.count("/a") == 1)
    task = None
    if has_other:
        task = asyncio.ensure_future((await connect(app)).get(origin.url("/a")))
        await until_waiting(app, origin, 1)
    client.reset()
    async with asyncio.timeout(10):
        while not app.counters.aborted:
            await asyncio.sleep(0)
    opened.set()
    if task is not None:
        origin.routes["/a"] = HOLDS
        assert (await task).body == b"stored"
    await settled(app)
    assert app.counters.aborted == 1
    # Nothing has been answered, so nothing was modified.
    assert tags == ["TCP_MISS"]
    origin.routes["/a"] = HOLDS
    assert (await (await connect(app)).get(origin.url("/a"))).body == b"stored"


async def test_what_is_purged_meanwhile_is_given_and_not_stored(
    origin: Origin, ready: Ready, ordinary: list[str]
) -> None:
    app, client = await stored(origin, ready)
    opened = held(origin, "/a", HOLDS)
    task = asyncio.ensure_future(client.get(origin.url("/a")))
    await origin.until(lambda: origin.count("/a") == 1)
    app.engine.flights.invalidate(origin.url("/a"))
    app.store.invalidate(origin.url("/a"))
    opened.set()
    assert (await task).body == b"stored"
    assert not ordinary
    origin.routes["/a"] = response(b"new", AGAIN)
    assert (await client.get(origin.url("/a"))).body == b"new"
    assert not origin.requests[-1].field("if-none-match")


@pytest.mark.parametrize(
    ("directives", "status"), [("max-age=0, stale-if-error=60", 200), ("max-age=0, must-revalidate", 504)]
)
async def test_an_origin_that_does_not_answer(
    origin: Origin, ready: Ready, directives: str, status: int
) -> None:
    app, client = await ready("upstream.first_byte_timeout=50ms")
    origin.routes["/a"] = response(b"stored", f"Cache-Control: {directives}", 'ETag: "1"')
    await client.get(origin.url("/a"))
    origin.routes["/a"] = silent
    reply = await client.get(origin.url("/a"))
    assert reply.status == status
    # It was not asked again.
    assert origin.count("/a") == 2
    await settled(app)
    assert len(app.engine._parts.upstream.deadlines) == 0  # type: ignore[attr-defined]


async def test_a_connection_that_has_ended_is_not_a_failure(origin: Origin, ready: Ready) -> None:
    app, client = await stored(origin, ready)
    closed = []

    async def closing(received: object, wire: object) -> None:
        if not closed:
            closed.append(received)
            wire.close()  # type: ignore[attr-defined]
        else:
            await wire.send(HOLDS)  # type: ignore[attr-defined]

    origin.routes["/a"] = closing
    reply = await client.get(origin.url("/a"))
    assert (reply.status, reply.body) == (200, b"stored")
    assert (reply.field("cache-status") or "").startswith("cacheproxy; hit")
    assert origin.count("/a") == 2
    await settled(app)


async def test_bodies_on_disk_are_validated_too(
    origin: Origin, ready: Ready, ordinary: list[str], tmp_path: object
) -> None:
    app, client = await ready("cache.memory=64KiB", "cache.disk_wait=10s")
    origin.routes["/a"] = response(b"x" * 3000, AGAIN, 'ETag: "1"')
    assert len((await client.get(origin.url("/a"))).body) == 3000
    origin.routes["/a"] = HOLDS
    async with asyncio.timeout(10):
        while not (found := app.store.lookup_memory(origin.url("/a"))) or found[0].tier != "disk":
            await client.get(origin.url("/a"))
    ordinary.clear()
    for _ in range(3):
        assert (await client.get(origin.url("/a"))).body == b"x" * 3000
    assert not ordinary
