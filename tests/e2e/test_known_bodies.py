"""A body that we hold under another URL is not fetched again; a digest that is wrong keeps a body out (RFC 9530)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import sqlite3
from collections.abc import Callable

import pytest

from cacheproxy.app import App
from cacheproxy.ports import Selector
from tests.conftest import Connect, StartProxy
from tests.support.client import RawClient
from tests.support.origin import Origin, Received, Wire, response

MIB = 1024 * 1024
BODY = hashlib.shake_128(b"known").digest(3 * MIB)
FRESH = "Cache-Control: max-age=600"


def digest(body: bytes) -> str:
    return f"Repr-Digest: sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def slow(origin: Origin, fields: tuple[str, ...], sent: list[int]) -> Callable[[Received, Wire], object]:
    """Sends its body in pieces, as fast as they are taken, and counts them."""

    async def route(received: Received, wire: Wire) -> None:
        sent.append(0)
        head = "\r\n".join(("HTTP/1.1 200 OK", *fields, f"Content-Length: {len(BODY)}"))
        await wire.send(head.encode() + b"\r\n\r\n")
        for at in range(0, len(BODY), 65536):
            await wire.send(BODY[at : at + 65536])
            sent[-1] += 65536
            await asyncio.sleep(0)

    return route


@pytest.mark.parametrize(
    ("extra", "is_shared"),
    [((), True), (("Authorization: Basic eDp5",), False), (("Cookie: a=b",), False)],
)
async def test_the_same_body_under_another_url(
    origin: Origin, proxy: App, client: RawClient, connect: Connect, extra: tuple[str, ...], is_shared: bool
) -> None:
    fields = (FRESH, "Cache-Control: public", digest(BODY), 'ETag: "a"', "Content-Type: application/x")
    first: list[int] = []
    second: list[int] = []
    origin.routes["/one"] = slow(origin, fields, first)
    origin.routes["/two"] = slow(origin, fields, second)
    assert (await client.get(origin.url("/one"))).body == BODY
    while len(proxy.engine.flights):
        await asyncio.sleep(0)
    got = await (await connect(proxy)).get(origin.url("/two"), *extra)
    assert got.body == BODY
    assert (proxy.counters.origin_bytes < 2 * len(BODY) - MIB) is is_shared


def aliases(origin: Origin, *names: str) -> None:
    """The same body with its digest under several URLs."""
    fields = (FRESH, digest(BODY), "Content-Type: application/x")
    for name in names:
        origin.routes[f"/{name}"] = slow(origin, fields, [])


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_a_wrong_digest_is_not_stored(
    origin: Origin, client: RawClient, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    caplog.set_level(logging.WARNING, "cacheproxy")
    origin.routes["/a"] = response(BODY[:size], FRESH, digest(b"other"))
    for n in (1, 2):
        assert (await client.get(origin.url("/a"))).body == BODY[:size]
        assert origin.count() == n
    assert "does not have its digest" in caplog.text


async def test_it_is_known_after_a_restart_and_forgotten_with_its_response(
    origin: Origin, start_proxy: StartProxy, connect: Connect
) -> None:
    aliases(origin, "one", "two", "three")
    first = await start_proxy()
    assert (await (await connect(first)).get(origin.url("/one"))).body == BODY
    await first.close()
    second = await start_proxy(directory=first.directory)
    client = await connect(second)
    assert (await client.get(origin.url("/two"))).body == BODY
    assert second.counters.origin_bytes < len(BODY) - MIB
    while len(second.engine.flights):
        await asyncio.sleep(0)
    assert await second.engine.purge(Selector(everything=True), dry_run=False, soft=False) == 2
    fetched = second.counters.origin_bytes
    assert (await client.get(origin.url("/three"))).body == BODY
    assert second.counters.origin_bytes >= fetched + len(BODY)


@pytest.mark.parametrize(
    "damage", ["UPDATE chunks SET checksum = checksum + 1 WHERE first > 0", "UPDATE digests SET facts = 'x'"]
)
async def test_a_damaged_copy_is_not_served_and_does_not_hide_another(
    origin: Origin, start_proxy: StartProxy, connect: Connect, damage: str
) -> None:
    aliases(origin, "one", "two", "three")
    first = await start_proxy()
    client = await connect(first)
    for name in ("one", "two"):
        assert (await client.get(origin.url(f"/{name}"))).body == BODY
        while len(first.engine.flights):
            await asyncio.sleep(0)
    await first.close()
    with sqlite3.connect(first.directory / "cache.db") as connection:
        connection.create_function("key_hash", 1, hash)
        newest = "(SELECT MAX(entry_id) FROM entries)"
        column = "body_id" if "chunks" in damage else "entry_id"
        connection.execute(f"{damage} {'AND' if 'WHERE' in damage else 'WHERE'} {column} = {newest}")
    connection.close()
    second = await start_proxy(directory=first.directory)
    assert (await (await connect(second)).get(origin.url("/three"))).body == BODY
    assert second.counters.origin_bytes < len(BODY) - MIB
