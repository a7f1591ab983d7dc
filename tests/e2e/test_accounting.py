"""The counters against what origin and clients really saw: misses, hits, 304s, ranges, collapsed, aborts."""

from __future__ import annotations

import asyncio

from cacheproxy.app import App
from tests.conftest import Connect
from tests.support.client import RawClient
from tests.support.origin import Origin, Received, Wire, response


async def test_bytes_equal_what_both_sides_counted(origin: Origin, proxy: App, connect: Connect) -> None:
    body = bytes(range(256)) * 4000

    async def validated(received: Received, wire: Wire) -> None:
        if received.field("if-none-match"):
            await wire.send(b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n')
        else:
            await wire.send(response(body, 'ETag: "1"', "Cache-Control: max-age=0"))

    origin.routes["/fresh"] = response(body, "Cache-Control: max-age=60")
    origin.routes["/validated"] = validated
    origin.routes["/private"] = response(body, "Cache-Control: no-store")
    clients = [await connect(proxy) for _ in range(6)]
    one = clients[0]
    for path in ("/fresh", "/fresh", "/validated", "/validated", "/private", "/none"):
        await one.get(origin.url(path))
    await one.get(origin.url("/fresh"), "Range: bytes=5-1000")
    await one.get(origin.url("/fresh"), method="HEAD")
    await asyncio.gather(*(client.get(origin.url("/fresh?collapsed")) for client in clients))
    assert proxy.counters.origin_bytes == origin.sent_bytes
    assert proxy.counters.client_bytes == sum(client.received_bytes for client in clients)


async def test_an_aborted_download_counts_what_crossed_the_wire(
    origin: Origin, proxy: App, connect: Connect
) -> None:
    body = b"z" * 30_000_000
    origin.routes["/big"] = response(body, "Cache-Control: no-store")
    client: RawClient = await connect(proxy)
    await client.send(f"GET {origin.url('/big')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await client.head()
    await client.reader.readexactly(2_000_000)
    client.reset()
    await origin.until(lambda: origin.closed == 1)
    while proxy.counters.requests < 1:
        await asyncio.sleep(0)
    # What lay in the sockets' buffers is all that the two counts may differ by; never the whole body.
    assert 2_000_000 <= proxy.counters.client_bytes < 14_000_000
    assert proxy.counters.client_bytes <= proxy.counters.origin_bytes < 20_000_000
