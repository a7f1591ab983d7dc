"""CONNECT: half-close, early bytes, refusals, counts."""

from __future__ import annotations

import asyncio
import random

import pytest

from cacheproxy.app import App
from tests.conftest import Connect, StartProxy
from tests.support.client import RawClient
from tests.support.echo import Echo, connect_head
from tests.support.tunnel import open_descriptors


@pytest.fixture
async def app(start_proxy: StartProxy, echo: Echo) -> App:
    return await start_proxy(f"access.connect_ports=[443, {echo.port}, 1]")


async def test_half_close_is_kept_and_bytes_counted(app: App, echo: Echo, connect: Connect) -> None:
    client = await connect(app)
    await client.send(connect_head(echo.port))
    assert (await client.head()).startswith(b"HTTP/1.1 200")
    payload = bytes(range(256)) * 8000
    sender = asyncio.ensure_future(client.send(payload))
    assert await client.reader.readexactly(len(payload)) == payload
    await sender
    client.writer.write_eof()
    assert await client.reader.read() == b"goodbye"
    while not app.counters.tunnels:
        await asyncio.sleep(0)
    assert app.counters.tunnel_bytes == 2 * len(payload) + len(b"goodbye")
    assert (app.counters.client_bytes, app.counters.requests) == (0, 0)


async def test_early_bytes_are_delivered(app: App, echo: Echo, connect: Connect) -> None:
    client = await connect(app)
    await client.send(connect_head(echo.port) + b"early")
    await client.head()
    assert await client.reader.readexactly(5) == b"early"


@pytest.mark.parametrize(
    ("authority", "status", "kind"),
    [
        ("127.0.0.1:25", 403, "http_request_denied"),
        ("127.0.0.1:1", 502, "connection_refused"),
        ("no-such-host.invalid:443", 502, "dns_error"),
        ("127.0.0.1", 400, "http_request_error"),
        ("127.0.0.1:65979", 400, "http_request_error"),
        ("127.0.0.1:0", 400, "http_request_error"),
    ],
)
async def test_refused_connect_says_why_and_closes(
    app: App, connect: Connect, authority: str, status: int, kind: str
) -> None:
    client = await connect(app)
    await client.send(f"CONNECT {authority} HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n".encode())
    got = await client.reply()
    assert (got.status, kind in (got.field("proxy-status") or "")) == (status, True)
    assert got.field("connection") == "close"
    assert await client.closed()


async def test_idle_tunnels_end(start_proxy: StartProxy, echo: Echo, connect: Connect) -> None:
    app = await start_proxy(f"access.connect_ports=[{echo.port}]", "server.tunnel_idle_timeout=100ms")
    client = await connect(app)
    await client.send(connect_head(echo.port))
    await client.head()
    assert await client.closed()


async def test_the_proxys_own_port_is_refused(start_proxy: StartProxy, connect: Connect) -> None:
    app = await start_proxy("access.connect_ports=[" + ",".join(str(port) for port in (443,)) + "]")
    client = await connect(app)
    await client.send(connect_head(app.addresses[0][1]))
    assert (await client.reply()).status in (403, 508)


async def test_two_hundred_tunnels_leave_no_descriptor_and_exact_counts(
    start_proxy: StartProxy, echo: Echo
) -> None:
    # Without an access log, whose file is opened some time after the start.
    app = await start_proxy(f"access.connect_ports=[{echo.port}]", 'log.access=""')
    chance = random.Random(4)
    moved = 0
    before = open_descriptors()

    async def one(size: int, ending: str) -> int:
        client = await RawClient.connect(app.addresses[0][1])
        await client.send(connect_head(echo.port))
        await client.head()
        data = chance.randbytes(size)
        sending = asyncio.ensure_future(client.send(data))
        assert await client.reader.readexactly(size) == data
        await sending
        if ending == "half-close":
            client.writer.write_eof()
            assert await client.reader.read() == b"goodbye"
        if ending == "reset":
            client.reset()
        else:
            client.close()
        try:
            await client.writer.wait_closed()
        except ConnectionError:
            pass
        return 2 * size + (len(b"goodbye") if ending == "half-close" else 0)

    for _ in range(10):
        moved += sum(
            await asyncio.gather(
                *(
                    one(chance.choice((0, 1, 3000, 600_000)), chance.choice(("half-close", "reset", "close")))
                    for _ in range(20)
                )
            )
        )
    async with asyncio.timeout(20):
        while app.counters.tunnels < 200 or open_descriptors() > before:
            await asyncio.sleep(0)
    assert open_descriptors() == before
    # After a plain close the goodbye may still be taken by the client's kernel, or not any more.
    assert moved <= app.counters.tunnel_bytes <= moved + 200 * len(b"goodbye")


async def test_stop_ends_tunnels_after_the_drain_time(
    start_proxy: StartProxy, echo: Echo, connect: Connect
) -> None:
    app = await start_proxy(f"access.connect_ports=[{echo.port}]", "server.drain_timeout=100ms")
    client = await connect(app)
    await client.send(connect_head(echo.port) + b"x" * 1000)
    await client.head()
    assert await client.reader.readexactly(1000) == b"x" * 1000
    await app.close()
    assert await client.closed()
    assert (app.counters.tunnels, app.counters.tunnel_bytes) == (1, 2000)


async def test_a_destination_that_resets_ends_the_tunnel(start_proxy: StartProxy, connect: Connect) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        RawClient(reader, writer).reset()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    app = await start_proxy(f"access.connect_ports=[{port}]")
    client = await connect(app)
    await client.send(connect_head(port))
    await client.head()
    await client.send(b"hello")
    assert await client.closed()
    while not app.counters.tunnels:
        await asyncio.sleep(0)
    assert app.counters.tunnel_bytes == 5
    server.close()
