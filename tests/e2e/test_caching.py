"""The way of a request through the whole house: misses, hits, validation, variants, ranges, purge."""

from __future__ import annotations

import asyncio

import pytest

from cacheproxy.app import App
from tests.conftest import Connect, StartProxy
from tests.support.client import RawClient
from tests.support.origin import Origin, Received, Wire, response

FRESH = "Cache-Control: max-age=3600"


async def test_second_request_does_not_reach_the_origin(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = response(b"hello", FRESH, 'ETag: "1"')
    first = await client.get(origin.url("/a"))
    second = await client.get(origin.url("/a"))
    assert (first.body, second.body) == (b"hello", b"hello")
    assert origin.count() == 1
    assert first.field("cache-status") == "cacheproxy; fwd=uri-miss; fwd-status=200; stored"
    assert (second.field("cache-status") or "").startswith("cacheproxy; hit; ttl=35")
    assert second.field("age") == "0"


async def test_fields_keep_order_case_and_number(origin: Origin, client: RawClient) -> None:
    fields = ("X-b: 1", "x-A: 2", "X-B: 3", "Server: odd", "Date: Sun, 06 Nov 1994 08:49:37 GMT")
    origin.routes["/a"] = response(b"", *fields)
    got = await client.get(origin.url("/a"), "Foo: 1", "bAr: 2", "Foo: 3", "Cookie: a=b", "cookie: c=d")
    lines = got.head.decode().split("\r\n")[1:]
    assert tuple(lines[:5]) == fields
    sent = origin.requests[0].head.decode().split("\r\n")
    assert sent[0] == "GET /a HTTP/1.1"
    assert sent[1:-1] == [
        f"Host: 127.0.0.1:{origin.port}",
        "Foo: 1",
        "bAr: 2",
        "Foo: 3",
        "Cookie: a=b",
        "cookie: c=d",
        "Accept-Encoding: zstd, br, gzip",
    ]
    assert sent[-1].startswith("Via: 1.1 cacheproxy-")


async def test_hop_by_hop_fields_stay_here(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = response(
        b"", "Connection: x-own", "X-Own: 1", "Keep-Alive: timeout=5", "Upgrade: h2c"
    )
    got = await client.get(
        origin.url("/a"),
        "Connection: x-mine, Host",
        "X-Mine: 1",
        "Proxy-Authorization: Basic c2VjcmV0",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Upgrade: websocket",
    )
    names = {line.split(":")[0].lower() for line in origin.requests[0].head.decode().split("\r\n")[1:]}
    assert names == {"host", "accept-encoding", "via"}
    assert got.field("x-own") is None
    assert got.field("keep-alive") is None
    assert got.field("upgrade") is None


async def test_stale_is_validated_and_freshened(origin: Origin, client: RawClient) -> None:
    async def route(received: Received, wire: Wire) -> None:
        if received.field("if-none-match") == ['"1"']:
            await wire.send(
                b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nX-New: yes\r\nCache-Control: max-age=60\r\n\r\n'
            )
        else:
            await wire.send(response(b"body", 'ETag: "1"', "Cache-Control: max-age=0"))

    origin.routes["/a"] = route
    await client.get(origin.url("/a"))
    second = await client.get(origin.url("/a"))
    third = await client.get(origin.url("/a"))
    assert (second.status, second.body, second.field("x-new")) == (200, b"body", "yes")
    assert (second.field("cache-status") or "").startswith("cacheproxy; hit; fwd=stale; fwd-status=304")
    assert third.body == b"body"
    assert origin.count() == 2


async def test_clients_own_conditions_and_ranges_are_answered_from_the_store(
    origin: Origin, client: RawClient
) -> None:
    body = bytes(range(256)) * 400
    origin.routes["/a"] = response(body, FRESH, 'ETag: "1"', "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT")
    await client.get(origin.url("/a"))
    url = origin.url("/a")
    assert (await client.get(url, 'If-None-Match: "1"')).status == 304
    assert (await client.get(url, "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT")).status == 304
    part = await client.get(url, "Range: bytes=100-199")
    assert (part.status, part.body, part.field("content-range")) == (
        206,
        body[100:200],
        f"bytes 100-199/{len(body)}",
    )
    assert (await client.get(url, "Range: bytes=-5")).body == body[-5:]
    assert (await client.get(url, "Range: bytes=99999999-")).status == 416
    assert (await client.get(url, "Range: bytes=0-1", 'If-Range: "2"')).status == 200
    several = await client.get(url, "Range: bytes=0-1,5-6")
    assert several.status == 206
    assert b"Content-Range: bytes 5-6/" in several.body
    assert origin.count() == 1


async def test_head_is_answered_from_a_stored_get(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = response(b"hello", FRESH)
    await client.get(origin.url("/a"))
    got = await client.get(origin.url("/a"), method="HEAD")
    assert (got.status, got.field("content-length"), origin.count()) == (200, "5", 1)


async def test_vary_keeps_variants_apart(origin: Origin, client: RawClient) -> None:
    async def route(received: Received, wire: Wire) -> None:
        await wire.send(response(received.field("accept-language")[0].encode(), FRESH, "Vary: Accept-Language"))

    origin.routes["/a"] = route
    for language in ("de", "en", "de", "en"):
        got = await client.get(origin.url("/a"), f"Accept-Language: {language}")
        assert got.body == language.encode()
    assert origin.count() == 2


@pytest.mark.parametrize(
    "field", ["X-Forwarded-Host: evil", "X-Original-URL: /admin", "X-HTTP-Method-Override: DELETE"]
)
async def test_routing_fields_neither_fill_the_store_nor_read_it(
    origin: Origin, client: RawClient, field: str
) -> None:
    origin.routes["/a"] = response(b"x", FRESH)
    await client.get(origin.url("/a"), field)
    await client.get(origin.url("/a"))
    await client.get(origin.url("/a"), field)
    await client.get(origin.url("/a"))
    assert origin.count() == 3


async def test_cookies_of_one_never_reach_another(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = response(b"x", FRESH, "Set-Cookie: id=1", "Set-Cookie2: id=2")
    first = await client.get(origin.url("/a"))
    second = await client.get(origin.url("/a"))
    assert first.field("set-cookie") == "id=1"
    assert (second.field("set-cookie"), second.field("set-cookie2")) == (None, None)
    assert origin.count() == 1


@pytest.mark.parametrize(("mode", "replayed", "fetches"), [("replay", "id=1", 1), ("bypass", "id=1", 2)])
async def test_set_cookie_setting(
    origin: Origin, start_proxy: StartProxy, connect: Connect, mode: str, replayed: str, fetches: int
) -> None:
    client = await connect(await start_proxy(f"cache.set_cookie={mode}"))
    origin.routes["/a"] = response(b"x", FRESH, "Set-Cookie: id=1")
    await client.get(origin.url("/a"))
    assert (await client.get(origin.url("/a"))).field("set-cookie") == replayed
    assert origin.count() == fetches


async def test_cookie_on_a_304_reaches_only_its_own_client(origin: Origin, client: RawClient) -> None:
    async def route(received: Received, wire: Wire) -> None:
        if received.field("if-none-match"):
            await wire.send(
                b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nSet-Cookie: id=7\r\nCache-Control: max-age=60\r\n\r\n'
            )
        else:
            await wire.send(response(b"x", 'ETag: "1"', "Cache-Control: max-age=0"))

    origin.routes["/a"] = route
    await client.get(origin.url("/a"))
    assert (await client.get(origin.url("/a"))).field("set-cookie") == "id=7"
    assert (await client.get(origin.url("/a"))).field("set-cookie") is None


async def test_unsafe_method_invalidates_target_and_location(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = response(b"x", FRESH)
    origin.routes["/b"] = response(b"y", FRESH)

    async def post(received: Received, wire: Wire) -> None:
        await wire.send(response(b"", "Location: /b", status="201 Created"))

    for path in ("/a", "/b"):
        await client.get(origin.url(path))
    origin.routes["/a"] = post
    await client.get(origin.url("/a"), method="POST", body=b"data")
    origin.routes["/a"] = response(b"new", FRESH)
    assert (await client.get(origin.url("/a"))).body == b"new"
    await client.get(origin.url("/b"))
    assert origin.count("/b") == 2


async def test_stale_is_served_when_the_origin_is_gone(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = response(b"old", 'ETag: "1"', "Cache-Control: max-age=0")
    origin.routes["/b"] = response(b"old", 'ETag: "1"', "Cache-Control: max-age=0, must-revalidate")
    for path in ("/a", "/b"):
        await client.get(origin.url(path))
    await origin.stop()
    got = await client.get(origin.url("/a"))
    assert (got.status, got.body) == (200, b"old")
    assert "detail=disconnected" in (got.field("cache-status") or "")
    assert (await client.get(origin.url("/b"))).status == 502


async def test_purge_over_http(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = response(b"x", FRESH)
    await client.get(origin.url("/a"))
    assert (await client.get(origin.url("/a"), method="PURGE")).status == 200
    assert (await client.get(origin.url("/a"), method="PURGE")).status == 404
    await client.get(origin.url("/a"))
    assert origin.count() == 2


async def test_the_cache_survives_a_restart(origin: Origin, start_proxy: StartProxy, connect: Connect) -> None:
    big = bytes(range(256)) * 4000
    origin.routes["/small"] = response(b"x" * 5000, FRESH)
    origin.routes["/big"] = response(big, FRESH)
    first = await start_proxy()
    client = await connect(first)
    for path in ("/small", "/big"):
        await client.get(origin.url(path))
    await first.close()
    second = await start_proxy(directory=first.directory)
    client = await connect(second)
    assert (await client.get(origin.url("/small"))).body == b"x" * 5000
    assert (await client.get(origin.url("/big"))).body == big
    assert (await client.get(origin.url("/big"), "Range: bytes=300000-300009")).body == big[300000:300010]
    assert origin.count() == 2


async def test_post_with_explicit_freshness_serves_later_gets(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = response(b"result", FRESH, "Content-Location: /a")
    await client.get(origin.url("/a"), method="POST", body=b"q")
    assert (await client.get(origin.url("/a"))).body == b"result"
    assert origin.count() == 1


async def test_only_if_cached(origin: Origin, client: RawClient) -> None:
    got = await client.get(origin.url("/a"), "Cache-Control: only-if-cached")
    assert (got.status, origin.count()) == (504, 0)


async def test_stale_while_revalidate_answers_at_once_and_asks_once(origin: Origin, client: RawClient) -> None:
    release = asyncio.Event()

    async def route(received: Received, wire: Wire) -> None:
        if received.field("if-none-match"):
            await release.wait()
            await wire.send(response(b"new", 'ETag: "2"', FRESH))
        else:
            await wire.send(
                response(b"old", 'ETag: "1"', "Cache-Control: max-age=0, stale-while-revalidate=60")
            )

    origin.routes["/a"] = route
    await client.get(origin.url("/a"))
    for _ in range(3):
        assert (await client.get(origin.url("/a"))).body == b"old"
    await origin.until(lambda: origin.count() == 2)
    release.set()
    while (await client.get(origin.url("/a"))).body != b"new":
        pass
    assert origin.count() == 2


async def test_store_failure_is_a_miss_never_an_error(origin: Origin, proxy: App, connect: Connect) -> None:
    origin.routes["/a"] = response(b"x" * 100_000, FRESH)
    client = await connect(proxy)
    disk = proxy.store._disk
    assert disk is not None
    for connection in list(disk._connections):
        await connection.close()
    assert disk._at_once is not None
    disk._at_once.close()
    for _ in range(3):
        assert (await client.get(origin.url("/a"))).status == 200
    assert proxy.counters.store_failures > 0


async def test_an_answer_that_waits_for_others_is_not_stored_after_the_next_change(
    origin: Origin, proxy: App, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9111 §4.4: other processes hear of an invalidation before its answer goes; meanwhile another may come."""
    heard = asyncio.Event()
    waiting: list[bool] = []

    async def invalidated() -> None:
        waiting.append(True)
        if len(waiting) == 1:
            await heard.wait()

    monkeypatch.setattr(proxy.store, "invalidated", invalidated)
    url = origin.url("/p")
    origin.routes["/p"] = response(b"state 1", "Cache-Control: max-age=600", f"Content-Location: {url}")
    one, other = await connect(proxy), await connect(proxy)
    posting = asyncio.ensure_future(one.get(url, method="POST", body=b"x"))
    while not waiting:
        await asyncio.sleep(0)
    origin.routes["/p"] = response(b"deleted")
    assert (await other.get(url, method="DELETE")).body == b"deleted"
    heard.set()
    assert (await posting).body == b"state 1"
    origin.routes["/p"] = response(b"gone", "Cache-Control: max-age=600")
    assert (await other.get(url)).body == b"gone"


async def test_an_answer_that_waits_for_others_holds_no_connection(
    origin: Origin, start_proxy: StartProxy, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await start_proxy("upstream.connections_per_origin=1")
    heard, waiting = asyncio.Event(), asyncio.Event()

    async def invalidated() -> None:
        waiting.set()
        await heard.wait()

    monkeypatch.setattr(app.store, "invalidated", invalidated)
    origin.routes["/p"] = response(b"done")
    one, other = await connect(app), await connect(app)
    posting = asyncio.ensure_future(one.get(origin.url("/p"), method="POST", body=b"x"))
    await waiting.wait()
    async with asyncio.timeout(5):
        assert (await other.get(origin.url("/p"))).body == b"done"
    heard.set()
    assert (await posting).body == b"done"
