"""Codings asked for on behalf of clients, and undone for those who cannot read them."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from collections.abc import AsyncIterator, Callable

import brotli
import pytest
import zstandard

from cacheproxy.app import App
from cacheproxy.engine.decoded import DecodedStream, NotDecodable
from tests.conftest import Connect, StartProxy
from tests.support.client import RawClient
from tests.support.files import quiet
from tests.support.origin import Origin, Received, Wire, response

TEXT = b"All work and no play makes Jack a dull boy. " * 4000
FRESH = "Cache-Control: max-age=3600"
HTML = "Content-Type: text/html"
VARY = "Vary: Accept-Encoding"
CUT = (asyncio.IncompleteReadError, ConnectionError)


def identity(data: bytes) -> bytes:
    return data


CODERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstandard.compress,
    "br": brotli.compress,
    "gzip": gzip.compress,
    "identity": identity,
}


class Negotiating:
    """An origin that takes the best of what it is offered."""

    def __init__(
        self, *fields: str, prefers: tuple[str, ...] = ("zstd", "br", "gzip"), body: bytes = TEXT
    ) -> None:
        self.fields = fields or (FRESH, HTML, VARY)
        self.prefers = prefers
        self.body = body
        self.damage: Callable[[bytes], bytes] = identity
        self.chosen: list[str] = []

    async def __call__(self, received: Received, wire: Wire) -> None:
        offered = [
            one.partition(";")[0].strip() for one in ",".join(received.field("accept-encoding")).split(",")
        ]
        coding = next((one for one in self.prefers if one in offered), "identity")
        tag = f'"{coding}"'
        if tag in ", ".join(received.field("if-none-match")):
            self.chosen.append("304")
            await wire.send(f"HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n{FRESH}\r\n\r\n".encode())
            return
        self.chosen.append(coding)
        body = CODERS[coding](self.body)
        fields = [f"ETag: {tag}", *self.fields]
        if coding != "identity":
            body = self.damage(body)
            fields += [f"Content-Encoding: {coding}", "Repr-Digest: sha-256=:AAAA:", "Content-MD5: x"]
        if received.field("range"):
            first, last = (int(one) for one in received.field("range")[0].removeprefix("bytes=").split("-"))
            fields.append(f"Content-Range: bytes {first}-{last}/{len(body)}")
            await wire.send(response(body[first : last + 1], *fields, status="206 Partial Content"))
            return
        data = response(body, *fields)
        await wire.send(
            data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if received.line.startswith("HEAD") else data
        )


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


def _flipped(data: bytes) -> bytes:
    return b"\x00\x01\x02\x03" + data[4:]


def _truncated(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


@pytest.mark.parametrize("coding", ["zstd", "br", "gzip"])
@pytest.mark.parametrize("cacheable", [True, False])
async def test_damage_before_the_head_is_asked_again_and_the_host_remembered(
    origin: Origin, client: RawClient, page: Negotiating, coding: str, cacheable: bool
) -> None:
    page.prefers, page.damage = (coding,), lambda data: b"\xff\xff\xff\xff" + data[4:]
    if not cacheable:
        page.fields = ("Cache-Control: no-store", HTML)
    got = await client.get(origin.url("/p"))
    assert (got.status, got.body, got.field("etag")) == (200, TEXT, '"identity"')
    assert page.chosen == [coding, "identity"]
    origin.routes["/q"] = page
    assert (await client.get(origin.url("/q"))).body == TEXT
    assert page.chosen == [coding, "identity", "identity"]


@pytest.mark.parametrize("vary", [VARY, "X-No: Vary"])
async def test_damage_without_vary_does_not_stay(
    origin: Origin, proxy: App, client: RawClient, page: Negotiating, vary: str
) -> None:
    page.fields, page.damage = (FRESH, HTML, vary), lambda data: b"\xff\xff\xff\xff" + data[4:]
    for _ in range(3):
        assert (await client.get(origin.url("/p"))).body == TEXT
        await quiet(proxy)
    assert page.chosen == ["zstd", "identity"]


@pytest.mark.parametrize("coding", ["zstd", "br", "gzip"])
@pytest.mark.parametrize("cacheable", [True, False])
async def test_damage_after_the_head_is_a_visible_cut_once(
    origin: Origin, proxy: App, connect: Connect, page: Negotiating, coding: str, cacheable: bool
) -> None:

    page.body = random.Random(1).randbytes(1_500_000)
    page.prefers, page.damage = (coding,), _truncated
    page.fields = (FRESH if cacheable else "Cache-Control: no-store", HTML, VARY)
    with pytest.raises(CUT):
        await (await connect(proxy)).get(origin.url("/p"))
    await quiet(proxy)
    got = await (await connect(proxy)).get(origin.url("/p"))
    assert (got.body, got.field("etag")) == (page.body, '"identity"')
    assert page.chosen == [coding, "identity"]


def _brotli_bomb() -> bytes:
    compressor = brotli.Compressor(quality=1)
    return b"".join(compressor.process(bytes(1 << 20)) for _ in range(64)) + compressor.finish()


def _gzip_bomb() -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(compressor.compress(bytes(1 << 20)) for _ in range(64)) + compressor.flush()


def _zstd_bomb() -> bytes:
    return zstandard.compress(bytes(64 << 20))


@pytest.mark.parametrize(
    ("coding", "bomb"),
    [("zstd", _zstd_bomb), ("br", _brotli_bomb), ("gzip", _gzip_bomb)],
    ids=["zstd", "br", "gzip"],
)
async def test_bombs_are_cut_within_bounds(
    origin: Origin, start_proxy: StartProxy, connect: Connect, coding: str, bomb: Callable[[], bytes]
) -> None:
    app = await start_proxy("cache.decoded_max=20MiB")
    origin.routes["/p"] = response(bomb(), FRESH, HTML, VARY, f"Content-Encoding: {coding}")
    client = await connect(app)
    await client.send(f"GET {origin.url('/p')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    received = 0
    await client.head()
    while data := await client.reader.read(1 << 20):
        received += len(data)
    assert received <= 20 * 1024 * 1024 + 200_000


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


@pytest.mark.parametrize(
    ("coding", "bomb"),
    [("zstd", _zstd_bomb), ("br", _brotli_bomb), ("gzip", _gzip_bomb)],
    ids=["zstd", "br", "gzip"],
)
async def test_no_piece_of_a_bomb_is_large(coding: str, bomb: Callable[[], bytes]) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield bomb()

    told: list[bool] = []
    stream = DecodedStream(source(), coding, 1 << 30, lambda: told.append(True))
    total = 0
    with pytest.raises(NotDecodable):
        async for piece in stream:
            assert len(piece) <= 4 << 20
            total += len(piece)
    assert 0 < total <= 32 << 20
    assert told == [True]
