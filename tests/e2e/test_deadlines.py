"""Deadlines of client connections, with times that a test can wait for."""

from __future__ import annotations

import asyncio

from tests.conftest import Connect, StartProxy
from tests.support.origin import Origin, Received, Wire, response


async def test_a_head_must_be_complete_in_time(start_proxy: StartProxy, connect: Connect) -> None:
    client = await connect(await start_proxy("server.header_timeout=100ms"))
    await client.send(b"GET http://h/ HTTP/1.1\r\nHost: h\r\n")
    got = await client.reply()
    assert (got.status, got.field("connection")) == (408, "close")
    assert await client.closed()


async def test_idle_connections_are_closed(start_proxy: StartProxy, connect: Connect) -> None:
    client = await connect(await start_proxy("server.idle_timeout=100ms"))
    assert await client.closed()


async def test_a_body_must_not_stand_still(origin: Origin, start_proxy: StartProxy, connect: Connect) -> None:
    origin.routes["/a"] = response(b"")
    client = await connect(await start_proxy("server.body_timeout=100ms"))
    await client.send(f"POST {origin.url('/a')} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc".encode())
    assert (await client.reply()).status == 408
    await origin.until(lambda: origin.closed == 1)
    assert origin.count() == 0


async def test_a_client_that_reads_nothing_is_cut_off(
    origin: Origin, start_proxy: StartProxy, connect: Connect
) -> None:
    app = await start_proxy("server.write_timeout=100ms")
    origin.routes["/a"] = response(b"x" * 30_000_000, "Cache-Control: no-store")
    client = await connect(app)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(f"GET {origin.url('/a')} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    await origin.until(lambda: origin.closed == 1)
    while not app.counters.aborted:
        await asyncio.sleep(0)
    assert app.counters.aborted == 1


async def test_a_stall_within_a_response(origin: Origin, start_proxy: StartProxy, connect: Connect) -> None:
    async def stall(received: Received, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nCache-Control: max-age=60\r\n\r\nabc")
        await wire.reader.read()

    origin.routes["/a"] = stall
    client = await connect(await start_proxy("upstream.idle_timeout=100ms"))
    await client.send(f"GET {origin.url('/a')} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    await client.head()
    assert await client.reader.read() == b"abc"
    await origin.until(lambda: origin.closed == 1)


async def test_too_many_clients_are_refused_at_once(start_proxy: StartProxy, connect: Connect) -> None:
    app = await start_proxy("server.max_connections=2")
    kept = [await connect(app) for _ in range(2)]
    third = await connect(app)
    assert await third.closed()
    await kept[0].send(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await kept[0].reply()).status == 200
