"""Forwarding: methods, bodies, interim responses, framing both ways, connections, errors."""

from __future__ import annotations

import asyncio

import pytest

from cacheproxy.app import App
from tests.conftest import Connect, StartProxy
from tests.support.client import RawClient
from tests.support.origin import Origin, Received, Wire, response


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "PROPFIND", "M-SEARCH", "BREW", "get", "X!#$%&'*+-.^_`|~1"]
)
async def test_every_method_is_forwarded(origin: Origin, client: RawClient, method: str) -> None:
    origin.routes["/a"] = response(b"done", "Cache-Control: max-age=60")
    for _ in range(2):
        assert (await client.get(origin.url("/a"), method=method)).body == b"done"
    assert [one.line for one in origin.requests] == [f"{method} /a HTTP/1.1"] * 2


async def test_trace_is_refused(origin: Origin, client: RawClient) -> None:
    got = await client.get(origin.url("/a"), method="TRACE")
    assert (got.status, "GET" in (got.field("allow") or ""), origin.count()) == (405, True, 0)


async def test_bodies_with_length_and_chunked(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = response(b"ok")
    body = bytes(range(256)) * 2000
    await client.get(origin.url("/a"), method="PUT", body=body)
    await client.send(
        f"POST {origin.url('/a')} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    for at in range(0, len(body), 70_001):
        piece = body[at : at + 70_001]
        await client.send(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece))
    await client.send(b"0\r\nTrailer: dropped\r\n\r\n")
    await client.reply()
    assert [one.body for one in origin.requests] == [body, body]
    assert origin.requests[1].field("transfer-encoding") == ["chunked"]


async def test_chunked_and_close_delimited_responses(origin: Origin, client: RawClient) -> None:
    origin.routes["/chunked"] = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n"
        b"4;x=y\r\nWiki\r\n5\r\npedia\r\n0\r\nX-Trailer: 1\r\n\r\n"
    )

    async def to_close(received: Received, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\nuntil the end")
        wire.close()

    origin.routes["/close"] = to_close
    first = await client.get(origin.url("/chunked"))
    second = await client.get(origin.url("/chunked"))
    assert (first.body, first.field("transfer-encoding")) == (b"Wikipedia", "chunked")
    assert (second.body, second.field("content-length"), second.field("x-trailer")) == (b"Wikipedia", "9", None)
    for _ in range(2):
        # An end that only the connection's end tells may be a cut: passed on, never stored as whole.
        assert (await client.get(origin.url("/close"))).body == b"until the end"
    assert (origin.count("/chunked"), origin.count("/close")) == (1, 2)


async def test_http_1_0_client(origin: Origin, proxy: App, connect: Connect) -> None:
    origin.routes["/a"] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    client = await connect(proxy)
    await client.send(f"GET {origin.url('/a')} HTTP/1.0\r\n\r\n".encode())
    got = await client.reply()
    assert (got.body, got.field("transfer-encoding"), got.field("connection")) == (b"abc", None, "close")
    origin.routes["/b"] = response(b"abc")
    client = await connect(proxy)
    for _ in range(2):
        await client.send(f"GET {origin.url('/b')} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode())
        assert (await client.reply()).field("connection") == "keep-alive"


async def test_pipelined_requests_are_answered_in_order(origin: Origin, client: RawClient) -> None:
    async def slow(received: Received, wire: Wire) -> None:
        await origin.until(lambda: origin.count() >= 1)
        await wire.send(response(received.path.encode()))

    origin.routes["*"] = slow
    text = "".join(f"GET {origin.url(f'/{n}')} HTTP/1.1\r\nHost: x\r\n\r\n" for n in range(5))
    post = f"POST {origin.url('/p')} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET /"
    await client.send((text + post + f"GET {origin.url('/z')} HTTP/1.1\r\nHost: x\r\n\r\n").encode())
    bodies = [(await client.reply()).body for _ in range(7)]
    assert bodies == [b"/0", b"/1", b"/2", b"/3", b"/4", b"/p", b"/z"]


async def test_expect_100_continue_is_the_origins_to_answer(origin: Origin, client: RawClient) -> None:
    origin.reads_bodies = False

    async def route(received: Received, wire: Wire) -> None:
        assert received.field("expect") == ["100-continue"]
        await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await wire.reader.readexactly(5)
        await wire.send(response(body.upper()))

    origin.routes["/a"] = route
    await client.send(
        f"POST {origin.url('/a')} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    assert (await client.head()).startswith(b"HTTP/1.1 100")
    await client.send(b"hello")
    assert (await client.reply()).body == b"HELLO"


async def test_expectation_refused_by_the_origin(origin: Origin, client: RawClient) -> None:
    origin.reads_bodies = False
    origin.routes["/a"] = response(b"no", status="417 Expectation Failed")
    await client.send(
        f"POST {origin.url('/a')} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    got = await client.reply()
    assert (got.status, got.field("connection")) == (417, "close")


async def test_interim_responses_pass_on(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response(
        b"x", "Cache-Control: max-age=60"
    )
    first = await client.get(origin.url("/a"))
    assert [one.split(b"\r\n")[:2] for one in first.interim] == [[b"HTTP/1.1 103 Early Hints", b"Link: </x>"]]
    assert not (await client.get(origin.url("/a"))).interim


async def test_pieces_pass_on_at_once(origin: Origin, client: RawClient) -> None:
    seen = asyncio.Event()

    async def events(received: Received, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await seen.wait()
        await wire.send(b"data: 2\n\n")
        wire.close()

    origin.routes["/a"] = events
    await client.send(f"GET {origin.url('/a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await client.head()
    assert await client.reader.readuntil(b"\n\n") == b"9\r\ndata: 1\n\n"
    seen.set()
    assert b"data: 2\n\n" in await client.reader.readuntil(b"0\r\n\r\n")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_bodiless_responses(origin: Origin, client: RawClient, status: str) -> None:
    origin.routes["/a"] = f"HTTP/1.1 {status}\r\nX: 1\r\n\r\n".encode()
    got = await client.get(origin.url("/a"))
    assert (got.status, got.field("x"), got.field("content-length")) == (int(status[:3]), "1", None)
    origin.routes["/b"] = response(b"next")
    assert (await client.get(origin.url("/b"))).body == b"next"


async def test_a_closed_pooled_connection_is_retried_silently(origin: Origin, client: RawClient) -> None:
    async def once(received: Received, wire: Wire) -> None:
        if len([one for one in origin.requests if one.connection == wire.number]) == 2:
            wire.reset()
        else:
            await wire.send(response(b"ok", "Cache-Control: no-store"))

    origin.routes["/a"] = once
    assert (await client.get(origin.url("/a"))).body == b"ok"
    assert (await client.get(origin.url("/a"))).body == b"ok"
    assert (origin.count(), origin.connections) == (3, 2)


async def test_unsolicited_bytes_never_answer_the_next_request(origin: Origin, client: RawClient) -> None:
    async def route(received: Received, wire: Wire) -> None:
        await wire.send(response(b"right", "Cache-Control: no-store") + response(b"smuggled"))

    origin.routes["*"] = route
    for path in ("/a", "/b", "/c"):
        assert (await client.get(origin.url(path))).body == b"right"
    assert origin.connections == 3


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: 1\n\nbody",
        b"HTTP/1.1 200 OK\r\nX : 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 11,
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_malformed_responses_are_502_and_not_stored(
    origin: Origin, client: RawClient, raw: bytes
) -> None:
    origin.routes["/a"] = raw
    got = await client.get(origin.url("/a"))
    while got.status < 200:
        got = await client.reply()
    assert got.status == 502
    assert "http_protocol_error" in (got.field("proxy-status") or "")
    origin.routes["/a"] = response(b"good")
    assert (await client.get(origin.url("/a"))).body == b"good"


async def test_every_cut_of_a_response_is_seen(origin: Origin, proxy: App, connect: Connect) -> None:
    whole = response(b"hello world", "Cache-Control: max-age=60")
    for cut in range(len(whole)):

        async def route(received: Received, wire: Wire, cut: int = cut) -> None:
            await wire.send(whole[:cut])
            wire.close()

        origin.routes["/a"] = route
        client = await connect(proxy)
        try:
            assert (await client.get(origin.url("/a"))).status == 502
        except asyncio.IncompleteReadError as error:
            assert b"hello world"[: len(error.partial)] == error.partial
        client.close()
    origin.routes["/a"] = whole
    assert (await (await connect(proxy)).get(origin.url("/a"))).body == b"hello world"


async def test_connection_authentication_stays_with_its_client(
    origin: Origin, proxy: App, connect: Connect
) -> None:
    async def route(received: Received, wire: Wire) -> None:
        if received.field("authorization"):
            await wire.send(response(str(wire.number).encode(), "Cache-Control: no-store"))
        else:
            await wire.send(response(b"", "WWW-Authenticate: Negotiate", status="401 Unauthorized"))

    origin.routes["/a"] = route
    one, two = await connect(proxy), await connect(proxy)
    for user in (one, two):
        assert (await user.get(origin.url("/a"))).status == 401
    numbers = [
        (await user.get(origin.url("/a"), "Authorization: Negotiate abc")).body for user in (one, two, one, two)
    ]
    assert numbers == [b"1", b"2", b"1", b"2"]
    one.close()
    await origin.until(lambda: origin.closed == 1)
    third = await connect(proxy)
    assert (await third.get(origin.url("/a"), "Authorization: Negotiate abc")).body == b"3"


async def test_loops_are_detected(origin: Origin, start_proxy: StartProxy, connect: Connect) -> None:
    app = await start_proxy("server.name=here")
    client = await connect(app)
    assert (await client.get(origin.url("/a"), "Via: 1.0 other, 1.1 HERE")).status == 508
    client = await connect(app)
    assert (await client.get(f"http://127.0.0.1:{app.addresses[0][1]}/x")).status == 508
    assert origin.count() == 0


async def test_max_forwards_and_options(origin: Origin, client: RawClient) -> None:
    origin.routes["*"] = response(b"")
    assert (await client.get(origin.url("/a"), "Max-Forwards: 0", method="OPTIONS")).field("allow")
    assert origin.count() == 0
    await client.get(origin.url("/a"), "Max-Forwards: 3", method="OPTIONS")
    assert origin.requests[-1].field("max-forwards") == ["2"]
    await client.get(f"http://127.0.0.1:{origin.port}", method="OPTIONS")
    assert origin.requests[-1].line == "OPTIONS * HTTP/1.1"


@pytest.mark.parametrize(
    ("url", "status", "kind"),
    [
        ("http://no-such-host.invalid/", 502, "dns_error"),
        ("http://127.0.0.1:1/", 502, "connection_refused"),
        ("ftp://127.0.0.1/", 501, "http_request_error"),
        ("http://user:pw@127.0.0.1/", 400, "http_request_error"),
        ("/index.html", 400, "http_request_error"),
    ],
)
async def test_errors_name_their_cause(client: RawClient, url: str, status: int, kind: str) -> None:
    await client.send(
        f"GET {url} HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nCookie: sess=4711\r\n\r\n".encode()
    )
    got = await client.reply()
    assert got.status == status
    assert kind in (got.field("proxy-status") or "")
    assert b"What to try" in got.body
    assert b"4711" not in got.body


async def test_error_pages_are_escaped(client: RawClient) -> None:
    got = await client.get("http://127.0.0.1:1/<script>alert(1)</script>", "Accept: text/html")
    assert b"<script" not in got.body
    assert b"&lt;script" in got.body


async def test_timeouts_and_their_rule(origin: Origin, start_proxy: StartProxy, connect: Connect) -> None:
    async def silent(received: Received, wire: Wire) -> None:
        await wire.reader.read()

    origin.routes["/a"] = silent
    client = await connect(await start_proxy("upstream.first_byte_timeout=50ms"))
    got = await client.get(origin.url("/a"))
    assert (got.status, "http_response_timeout" in (got.field("proxy-status") or "")) == (504, True)


async def test_destinations_are_judged_by_the_address(
    start_proxy: StartProxy, connect: Connect, origin: Origin
) -> None:
    app = await start_proxy(open_loopback=False)
    for host in (
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
    ):
        client = await connect(app)
        got = await client.get(f"http://{host}:{origin.port}/")
        assert got.status in (403, 502), host
        client = await connect(app)
        await client.send(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
        assert (await client.reply()).status in (403, 502), host
    assert origin.connections == 0


async def test_allowed_exceptions_win(start_proxy: StartProxy, connect: Connect, origin: Origin) -> None:
    origin.routes["/"] = response(b"in")
    app = await start_proxy(f'access.allow_destinations=["127.0.0.1:{origin.port}"]', open_loopback=False)
    client = await connect(app)
    assert (await client.get(origin.url("/"))).body == b"in"


async def test_half_closed_client_still_gets_its_answer(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = response(b"answer")
    await client.send(f"GET {origin.url('/a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    client.writer.write_eof()
    assert (await client.reply()).body == b"answer"
    assert await client.closed()


async def test_truncated_request_is_never_completed(origin: Origin, client: RawClient) -> None:
    origin.routes["/a"] = response(b"")
    await client.send(f"POST {origin.url('/a')} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc".encode())
    await origin.until(lambda: origin.connections == 1)
    client.close()
    await origin.until(lambda: origin.closed == 1)
    assert origin.count() == 0


async def test_responses_byte_by_byte(origin: Origin, client: RawClient) -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"

    async def drip(received: Received, wire: Wire) -> None:
        for at in range(len(whole)):
            await wire.send(whole[at : at + 1])
            await asyncio.sleep(0)

    origin.routes["/a"] = drip
    assert (await client.get(origin.url("/a"))).body == b"hello world"
