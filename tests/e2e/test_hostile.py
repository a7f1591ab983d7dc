"""What an attack found once, and must not find again."""

from __future__ import annotations

import asyncio
import time

import pytest

from cacheproxy.app import App
from tests.conftest import Connect
from tests.support.client import RawClient
from tests.support.origin import Origin, Received, Wire, response

FRESH = "Cache-Control: max-age=3600"


@pytest.mark.parametrize(
    "raw",
    [
        b"POST @ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST @ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"POST @ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST @ HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc",
        b"POST @ HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"GET @ HTTP/1.1\nHost: h\n\n",
        b"GET @ HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
        b"GET @ HTTP/1.1\r\nHost : h\r\n\r\n",
        b"GET @ HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
        b"GET @ HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
        b"GET @ HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n",
        b"GET @ HTTP/1.1\r\n\r\n",
        b"GET @ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET @ HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET  @ HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET @#frag HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"get\t@ HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
async def test_malformed_requests_close_and_reach_nobody(origin: Origin, client: RawClient, raw: bytes) -> None:
    follow = f"GET {origin.url('/follow')} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    await client.send(raw.replace(b"@", origin.url("/a").encode()) + follow)
    got = await client.reply()
    assert got.status in (400, 501)
    assert got.field("connection") == "close"
    assert await client.closed()
    assert origin.connections == 0


async def test_long_runs_of_space_cost_linear_time(client: RawClient) -> None:
    began = time.perf_counter()
    await client.send(b"GET http://h/ HTTP/1.1\r\nHost: h\r\nX:" + b" " * 32_000 + b"\x01\r\n\r\n")
    assert (await client.reply()).status == 400
    assert time.perf_counter() - began < 1


async def test_a_late_unsolicited_response_is_seen_before_reuse(origin: Origin, client: RawClient) -> None:
    sent = asyncio.Event()

    async def route(received: Received, wire: Wire) -> None:
        await wire.send(response(received.path.encode(), "Cache-Control: no-store"))
        if received.path == "/a":
            await asyncio.sleep(0)
            await wire.send(response(b"EVIL"))
            sent.set()

    origin.routes["*"] = route
    assert (await client.get(origin.url("/a"))).body == b"/a"
    await sent.wait()
    assert (await client.get(origin.url("/b"))).body == b"/b"


async def test_what_an_authenticated_connection_brings_is_for_its_user(
    origin: Origin, proxy: App, connect: Connect
) -> None:
    async def route(received: Received, wire: Wire) -> None:
        if received.path == "/login":
            await wire.send(response(b"", "WWW-Authenticate: NTLM", status="401 Unauthorized"))
        else:
            await wire.send(response(str(wire.number).encode(), FRESH, 'ETag: "s"'))

    origin.routes["*"] = route
    one, two = await connect(proxy), await connect(proxy)
    await one.get(origin.url("/login"))
    assert (await one.get(origin.url("/document"))).body == b"1"
    assert (await two.get(origin.url("/document"))).body == b"2"


@pytest.mark.parametrize("control", ["private, max-age=100", "no-store, max-age=100"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_update_that_may_not_be_shared_is_not(
    origin: Origin, client: RawClient, control: str, method: str
) -> None:
    async def route(received: Received, wire: Wire) -> None:
        fields = f'ETag: "1"\r\nX-Secret: A\r\nCache-Control: {control}\r\n\r\n'.encode()
        if received.line.startswith("HEAD"):
            await wire.send(b"HTTP/1.1 200 OK\r\n" + fields)
        elif received.field("if-none-match"):
            await wire.send(b"HTTP/1.1 304 Not Modified\r\n" + fields)
        else:
            await wire.send(response(b"x", 'ETag: "1"', "Cache-Control: max-age=0"))

    origin.routes["/a"] = route
    await client.get(origin.url("/a"))
    assert (await client.get(origin.url("/a"), method=method)).field("x-secret") == "A"
    third = await client.get(origin.url("/a"))
    assert (third.field("x-secret"), origin.count()) == (None, 3)


async def test_nominated_fields_do_not_choose_the_variant(origin: Origin, client: RawClient) -> None:
    async def route(received: Received, wire: Wire) -> None:
        await wire.send(response(",".join(received.field("origin")).encode() or b"none", FRESH, "Vary: Origin"))

    origin.routes["/a"] = route
    assert (await client.get(origin.url("/a"), "Origin: https://a", "Connection: Origin")).body == b"none"
    assert (await client.get(origin.url("/a"), "Origin: https://a")).body == b"https://a"


async def test_a_response_before_the_end_of_the_request(origin: Origin, client: RawClient) -> None:
    origin.reads_bodies = False

    async def duplex(received: Received, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while piece := await wire.reader.read(100):
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece.upper()))
            if b"end" in piece:
                await wire.send(b"0\r\n\r\n")
                return

    origin.routes["/a"] = duplex
    await client.send(f"POST {origin.url('/a')} HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n".encode())
    await client.head()
    for piece in (b"01234", b"56789", b"end"):
        await client.send(piece)
        assert await client.reader.readuntil(piece.upper() + b"\r\n")


async def test_a_pipelined_connect_waits_for_the_answers_before_it(
    origin: Origin,
    start_proxy,
    connect: Connect,  # type: ignore[no-untyped-def]
) -> None:
    app = await start_proxy(f"access.connect_ports=[{origin.port}]")
    body = b"b" * 3_975_000
    origin.routes["/a"] = response(body, "Cache-Control: no-store")
    client = await connect(app)
    await client.send(
        f"GET {origin.url('/a')} HTTP/1.1\r\nHost: x\r\n\r\n"
        f"CONNECT 127.0.0.1:{origin.port} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert (await client.reply()).body == body
    assert (await client.head()).startswith(b"HTTP/1.1 200 Connection")


async def test_head_invents_no_length(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"
    assert (await client.get(origin.url("/a"), method="HEAD")).field("content-length") is None


async def test_pipelined_requests_of_a_half_closed_client(origin: Origin, client: RawClient) -> None:
    origin.routes["*"] = response(b"ok")
    await client.send(
        "".join(f"GET {origin.url(f'/{n}')} HTTP/1.1\r\nHost: x\r\n\r\n" for n in range(3)).encode()
    )
    client.writer.write_eof()
    assert [(await client.reply()).body for _ in range(3)] == [b"ok"] * 3
    assert await client.closed()


async def test_one_range_request_does_not_stop_others_from_joining(
    origin: Origin, proxy: App, connect: Connect
) -> None:
    async def route(received: Received, wire: Wire) -> None:
        if received.field("range"):
            await wire.send(response(b"x", FRESH, "Content-Range: bytes 0-0/9", status="206 Partial Content"))
        else:
            await origin.until(lambda: pending() is None or pending().waiters == 9)  # type: ignore[union-attr]
            await wire.send(response(b"x" * 9, FRESH))

    def pending():  # type: ignore[no-untyped-def]
        return proxy.engine.flights.pending(origin.url("/a"))

    origin.routes["/a"] = route
    client = await connect(proxy)
    await client.get(origin.url("/a"), "Range: bytes=0-0")
    clients = [await connect(proxy) for _ in range(10)]
    tasks = [asyncio.ensure_future(one.get(origin.url("/a"))) for one in clients]
    while pending() is None or pending().waiters < 9:
        await asyncio.sleep(0)
    await origin._notify()
    assert [(await task).body for task in tasks] == [b"x" * 9] * 10
    assert origin.count() == 2


async def test_proxy_fields_stay_here(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = response(b"", "Proxy-Foo: z", "Proxy-Status: up; error=dns_error")
    got = await client.get(origin.url("/a"), "Proxy: http://evil", "Proxy-Foo: 1", "Proxy-Features: x")
    assert b"proxy" not in origin.requests[0].head.lower().replace(b"cacheproxy", b"")
    assert (got.field("proxy-foo"), got.field("proxy-status")) == (None, "up; error=dns_error")
