"""Codings asked for on behalf of clients, and undone for those who cannot read them."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import brotli
import pytest
import zstandard

from tests.conftest import Connect, StartProxy
from tests.support.client import RawClient
from tests.support.negotiating import FRESH, HTML, TEXT, VARY, Negotiating
from tests.support.origin import Origin, Received, Wire, response


@pytest.fixture
def page(origin: Origin) -> Negotiating:
    found = Negotiating()
    origin.routes["/p"] = found
    return found


@pytest.mark.parametrize("coding", ["zstd", "br", "gzip"])
async def test_asked_on_behalf_and_decoded(
    origin: Origin, client: RawClient, page: Negotiating, coding: str
) -> None:
    page.prefers = (coding,)
    for _ in range(2):
        got = await client.get(origin.url("/p"))
        assert (got.status, got.body) == (200, TEXT)
        assert got.field("content-encoding") is None
        assert got.field("content-length") is None
        assert got.field("etag") == f'W/"{coding}"'
        assert got.field("vary") == "Accept-Encoding"
        assert (got.field("repr-digest"), got.field("content-md5"), got.field("accept-ranges")) == (None,) * 3
    assert origin.requests[0].field("accept-encoding") == ["zstd, br, gzip"]
    assert page.chosen == [coding]
    assert origin.sent_bytes < 2000


async def test_one_variant_for_all_spellings(origin: Origin, client: RawClient, page: Negotiating) -> None:
    spellings = [
        "zstd, br, gzip",
        "gzip;q=0.5, br,zstd",
        "gzip, deflate, br, zstd",
        "gzip",
        "identity",
        "",
        "*",
        "BR",
    ]
    for spelling in [*spellings, *reversed(spellings)]:
        got = await client.get(origin.url("/p"), f"Accept-Encoding: {spelling}")
        if got.field("content-encoding") is None:
            assert got.body == TEXT, spelling
        else:
            assert got.field("content-encoding") == "zstd"
            assert zstandard.ZstdDecompressor().decompressobj().decompress(got.body) == TEXT
            assert "zstd" in spelling or "*" in spelling
    assert page.chosen == ["zstd"]


@pytest.mark.parametrize("first", ["zstd, br, gzip", "gzip, br, zstd;q=0.1"])
@pytest.mark.parametrize("vary", [VARY, "X-No: Vary"])
async def test_what_a_capable_client_asked_for_itself_is_decoded_too(
    origin: Origin, client: RawClient, page: Negotiating, first: str, vary: str
) -> None:
    page.fields = (FRESH, HTML, vary)
    await client.get(origin.url("/p"), f"Accept-Encoding: {first}")
    got = await client.get(origin.url("/p"))
    assert (got.body, got.field("content-encoding")) == (TEXT, None)
    assert "Accept-Encoding" in (got.field("vary") or "")
    assert page.chosen == ["zstd"]


async def test_a_tarball_that_is_labelled_as_coded_arrives_byte_for_byte(
    origin: Origin, client: RawClient
) -> None:
    body = gzip.compress(TEXT)
    for path, kind in (
        ("/a.tar.gz", "application/x-tar"),
        ("/b", "application/x-gzip"),
        ("/c.gz", "text/plain"),
    ):
        origin.routes[path] = response(body, FRESH, f"Content-Type: {kind}", "Content-Encoding: gzip")
        for field in ("Accept: */*", "Accept-Encoding: gzip", "Accept-Encoding: identity"):
            got = await client.get(origin.url(path), field)
            assert (got.body, got.field("content-encoding")) == (body, "gzip")
        assert origin.count(path) == 1


@pytest.mark.parametrize("where", ["request", "response"])
async def test_no_transform(origin: Origin, client: RawClient, page: Negotiating, where: str) -> None:
    fields: tuple[str, ...] = ("Cache-Control: no-transform",)
    if where == "response":
        page.fields, fields = ("Cache-Control: max-age=3600, no-transform", HTML, VARY), ()
    for _ in range(2):
        got = await client.get(origin.url("/p"), *fields)
        assert (got.body, got.field("etag"), got.field("content-length")) == (
            TEXT,
            '"identity"',
            str(len(TEXT)),
        )
    assert page.chosen == (["identity"] if where == "request" else ["zstd", "identity"])


async def test_ranges_of_a_coded_entry(origin: Origin, client: RawClient, page: Negotiating) -> None:
    await client.get(origin.url("/p"))
    got = await client.get(origin.url("/p"), "Range: bytes=5-9")
    assert (got.status, got.body) in ((200, TEXT), (206, TEXT[5:10]))
    # Whoever reads the coding gets a part of the coded form, under its own tag.
    got = await client.get(origin.url("/p"), "Range: bytes=5-9", "Accept-Encoding: zstd")
    assert (got.status, got.body, got.field("etag")) == (206, zstandard.compress(TEXT)[5:10], '"zstd"')
    assert page.chosen == ["zstd"]


async def test_a_range_first_is_asked_for_in_the_clients_words(
    origin: Origin, client: RawClient, page: Negotiating
) -> None:
    got = await client.get(origin.url("/p"), "Range: bytes=5-9")
    assert (got.status, got.body) == (206, TEXT[5:10])
    assert origin.requests[0].field("accept-encoding") == []
    assert (await client.get(origin.url("/p"))).body == TEXT


async def test_head_agrees_with_get(origin: Origin, client: RawClient, page: Negotiating) -> None:
    names = ("etag", "vary", "content-encoding", "content-length", "content-type", "repr-digest")
    for fields in ((), ("Accept-Encoding: zstd",)):
        before = await client.get(origin.url("/p"), *fields, method="HEAD")
        got = await client.get(origin.url("/p"), *fields)
        after = await client.get(origin.url("/p"), *fields, method="HEAD")
        for name in names:
            assert before.field(name) == got.field(name) == after.field(name), name


async def test_weakened_tags_are_mapped_back(origin: Origin, client: RawClient, page: Negotiating) -> None:
    page.fields = ("Cache-Control: max-age=0", HTML, VARY)
    tag = (await client.get(origin.url("/p"))).field("etag")
    got = await client.get(origin.url("/p"), f"If-None-Match: {tag}")
    assert (got.status, got.field("etag")) == (304, 'W/"zstd"')
    assert page.chosen == ["zstd", "304"]
    got = await client.get(origin.url("/p"), f"If-None-Match: {tag}")
    assert (got.status, got.field("etag")) == (304, 'W/"zstd"')
    assert (await client.get(origin.url("/p"), 'If-None-Match: "other"')).body == TEXT


async def test_uncacheable_responses_are_decoded_as_well(
    origin: Origin, client: RawClient, page: Negotiating
) -> None:
    page.fields = ("Cache-Control: no-store", HTML)
    for _ in range(2):
        got = await client.get(origin.url("/p"))
        assert (got.body, got.field("content-encoding")) == (TEXT, None)
    assert page.chosen == ["zstd", "zstd"]


async def test_a_new_version_reaches_all(origin: Origin, client: RawClient, page: Negotiating) -> None:
    page.fields = ("Cache-Control: max-age=0", HTML, VARY)
    await client.get(origin.url("/p"))
    page.body = b"new" * 1000
    page.prefers = ("gzip",)
    assert (await client.get(origin.url("/p"))).body == page.body


@pytest.mark.parametrize("coding", ["deflate", "compress", "aes128gcm", "gzip, br", "junk;q=1"])
async def test_codings_that_cannot_be_undone_end_soon(origin: Origin, client: RawClient, coding: str) -> None:
    """The origin sends the same whatever it is asked: the client gets it, after one more request at most."""
    origin.routes["/p"] = response(b"data", FRESH, HTML, f"Content-Encoding: {coding}")
    for _ in range(3):
        got = await client.get(origin.url("/p"))
        assert (got.status, got.body, got.field("content-encoding")) == (200, b"data", coding)
    assert origin.count() <= 2


@pytest.mark.parametrize("coding", ["br", "gzip", "zstd"])
async def test_events_pass_on_at_once(origin: Origin, client: RawClient, coding: str) -> None:
    opened, more = asyncio.Event(), asyncio.Event()

    async def events(received: Received, wire: Wire) -> None:
        await wire.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
            b"Transfer-Encoding: chunked\r\nContent-Encoding: " + coding.encode() + b"\r\n\r\n"
        )
        await opened.wait()
        compress = brotli.Compressor()
        coder = zlib.compressobj(6, zlib.DEFLATED, 31)
        frames = zstandard.ZstdCompressor().compressobj()
        for number in range(3):
            event = b"data: %d\n\n" % number
            if coding == "br":
                piece = compress.process(event) + compress.flush()
            elif coding == "gzip":
                piece = coder.compress(event) + coder.flush(zlib.Z_SYNC_FLUSH)
            else:
                piece = frames.compress(event) + frames.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
            await wire.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            await more.wait()
            more.clear()

    origin.routes["/e"] = events
    async with asyncio.timeout(10):
        await client.send(f"GET {origin.url('/e')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await client.head()
        opened.set()
        for number in range(3):
            assert (await client.reader.readuntil(b"\n\n\r\n")).endswith(b"data: %d\n\n\r\n" % number)
            more.set()


async def test_switched_off(
    origin: Origin, start_proxy: StartProxy, connect: Connect, page: Negotiating
) -> None:
    client = await connect(await start_proxy("cache.ask_codings=[]"))
    assert (await client.get(origin.url("/p"))).field("etag") == '"identity"'
    assert (await client.get(origin.url("/p"), "Accept-Encoding: gzip")).field("etag") == '"gzip"'
    assert page.chosen == ["identity", "gzip"]


async def test_only_what_is_listed(
    origin: Origin, start_proxy: StartProxy, connect: Connect, page: Negotiating
) -> None:
    client = await connect(await start_proxy('cache.ask_codings=["gzip"]'))
    assert (await client.get(origin.url("/p"))).body == TEXT
    assert page.chosen == ["gzip"]
