"""Coded content that is damaged, cut or grows beyond all measure."""

from __future__ import annotations

import asyncio
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
from tests.support.negotiating import FRESH, HTML, TEXT, VARY, Negotiating
from tests.support.origin import Origin, response

CUT = (asyncio.IncompleteReadError, ConnectionError)


@pytest.fixture
def page(origin: Origin) -> Negotiating:
    found = Negotiating()
    origin.routes["/p"] = found
    return found


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


@pytest.mark.parametrize(
    ("coding", "bomb"),
    [("zstd", _zstd_bomb), ("br", _brotli_bomb), ("gzip", _gzip_bomb)],
    ids=["zstd", "br", "gzip"],
)
async def test_no_piece_of_a_bomb_is_large(coding: str, bomb: Callable[[], bytes]) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield bomb()

    told: list[bool] = []
    stream = DecodedStream(source(), coding, 16 << 20, lambda: told.append(True))
    total = 0
    with pytest.raises(NotDecodable):
        async for piece in stream:
            assert len(piece) <= 4 << 20
            total += len(piece)
    assert 0 < total <= 16 << 20
    assert told == [True]
