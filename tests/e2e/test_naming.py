"""What names say, end to end: tracking parameters, signed links, `[[rules]]`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from cacheproxy.app import App
from cacheproxy.config.load import load
from tests.conftest import Connect, StartProxy
from tests.support.client import RawClient
from tests.support.origin import Origin, Received, Wire, response

FRESH = "Cache-Control: max-age=3600"
StartRuled = Callable[..., Awaitable[RawClient]]


@pytest.fixture
def ruled(tmp_path: Path, connect: Connect) -> StartRuled:
    """Starts a proxy with these lines in `[[rules]]`, and connects."""
    running: list[App] = []

    async def start(*lines: str) -> RawClient:
        path = tmp_path / "rules.toml"
        path.write_text("\n".join(["[[rules]]", 'host = "127.0.0.1"', *lines]))
        options = ['listen.addresses=["127.0.0.1:0"]', "access.deny_destinations=[]", "log.level=error"]
        app = App(load(path, [*options, "cache.disk=64MiB"]), tmp_path / "ruled")
        await app.start()
        running.append(app)
        return await connect(app)

    start.running = running  # type: ignore[attr-defined]
    return start


@pytest.fixture(autouse=True)
async def _ended(ruled: StartRuled):  # type: ignore[no-untyped-def]
    yield
    for app in ruled.running:  # type: ignore[attr-defined]
        await app.close()


async def admin(app: App, method: str, path: str, body: object = None) -> object:
    """One request to the admin socket."""
    reader, writer = await asyncio.open_unix_connection(str(app.directory / "admin.sock"))
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    answer = await reader.read()
    writer.close()
    return json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("?utm_source=x", ""),
        ("?utm_source=x&utm_medium=y&fbclid=1&gclid=2", ""),
        ("?a=1&utm_source=x&b=2", "?a=1&b=2"),
        ("?gclid", ""),
        ("?UTM_SOURCE=x", "?UTM_SOURCE=x"),
        ("?xutm_source=x", "?xutm_source=x"),
        ("?", "?"),
        ("?X-Amz-Signature=1&utm_source=x", "?X-Amz-Signature=1&utm_source=x"),
    ],
)
async def test_tracking_leaves_key_and_request(
    origin: Origin, client: RawClient, query: str, asked: str
) -> None:
    origin.routes["*"] = response(b"x", FRESH)
    for _ in range(2):
        assert (await client.get(origin.url("/a" + query))).status == 200
    assert (await client.get(origin.url("/a" + asked))).body == b"x"
    assert [one.path for one in origin.requests] == ["/a" + asked]


async def test_what_an_origin_reflects_cannot_reach_others(origin: Origin, client: RawClient) -> None:
    async def reflecting(received: Received, wire: Wire) -> None:
        await wire.send(response(received.path.encode(), FRESH))

    origin.routes["*"] = reflecting
    await client.get(origin.url("/a?utm_content=<script>"))
    for field in ("Range: bytes=0-1", "Cache-Control: no-cache", "Accept: */*"):
        assert b"script" not in (await client.get(origin.url("/a?utm_content=evil"), field)).body
    assert (await client.get(origin.url("/a"))).body == b"/a"


async def test_switched_off(origin: Origin, start_proxy: StartProxy, connect: Connect) -> None:
    origin.routes["*"] = response(b"x", FRESH)
    client = await connect(await start_proxy("cache.drop_query=[]"))
    for path in ("/a?utm_source=1", "/a?utm_source=2", "/a"):
        await client.get(origin.url(path))
    assert [one.path for one in origin.requests] == ["/a?utm_source=1", "/a?utm_source=2", "/a"]


async def test_other_methods_go_as_they_came_and_invalidate_the_key(origin: Origin, client: RawClient) -> None:
    origin.routes["*"] = response(b"x", FRESH)
    await client.get(origin.url("/a"))
    await client.get(origin.url("/a?utm_source=x"), method="POST", body=b"q")
    await client.get(origin.url("/a"))
    assert [one.path for one in origin.requests] == ["/a", "/a?utm_source=x", "/a"]


@pytest.mark.parametrize("way", ["PURGE", "admin"])
async def test_purge_and_show_mean_the_same_url(origin: Origin, proxy: App, connect: Connect, way: str) -> None:
    origin.routes["*"] = response(b"x", FRESH)
    client = await connect(proxy)
    await client.get(origin.url("/a?utm_source=x&b=1"))
    shown = await admin(proxy, "GET", "/show?url=" + quote(origin.url("/a?b=1&gclid=7"), safe=""))
    assert isinstance(shown, list)
    assert [(one["url"], one["bytes"], one["stored_bytes"]) for one in shown] == [(origin.url("/a?b=1"), 1, 1)]
    url = origin.url("/a?b=1&utm_medium=z")
    if way == "PURGE":
        assert (await client.get(url, method="PURGE")).status == 200
    else:
        assert await admin(proxy, "POST", "/purge", {"urls": [url]}) == {"count": 1}
    await client.get(origin.url("/a?b=1"))
    assert origin.count() == 2


async def test_ignore_query(origin: Origin, ruled: StartRuled) -> None:
    client = await ruled('ignore_query = ["session"]')
    origin.routes["*"] = response(b"x", FRESH)
    for path in ("/a?session=1&b=2", "/a?session=2&b=2", "/a?b=2"):
        await client.get(origin.url(path))
    assert [one.path for one in origin.requests] == ["/a?b=2"]


async def test_signed_query(origin: Origin, ruled: StartRuled) -> None:
    client = await ruled('signed_query = ["token"]')
    origin.routes["*"] = response(b"x", FRESH, 'ETag: "1"')
    for path in ("/a?token=1&b=2", "/a?token=2&b=2"):
        assert (await client.get(origin.url(path))).body == b"x"
    assert [one.path for one in origin.requests] == ["/a?token=1&b=2"]
    await client.get(origin.url("/a?token=3&b=2"), "Cache-Control: no-cache")
    assert origin.requests[-1].path == "/a?token=3&b=2"
    (app,) = ruled.running  # type: ignore[attr-defined]
    assert await admin(app, "POST", "/purge", {"urls": [origin.url("/a?token=9&b=2")]}) == {"count": 1}


@pytest.mark.parametrize(
    ("lines", "fields", "request_field", "fetches"),
    [
        (['min_lifetime = "1h"'], ["Cache-Control: max-age=0", 'ETag: "1"'], "", 1),
        (['min_lifetime = "1h"'], ["Cache-Control: no-cache", 'ETag: "1"'], "", 3),
        (['min_lifetime = "1h"'], ["Cache-Control: no-store"], "", 3),
        (['min_lifetime = "1h"'], ["Cache-Control: private, max-age=9"], "", 3),
        (['max_lifetime = "0s"'], [FRESH, 'ETag: "1"'], "", 3),
        (["never_store = true"], [FRESH], "", 3),
        ([], [FRESH, 'ETag: "1"'], "Cache-Control: no-cache", 3),
        (["ignore_reload = true"], [FRESH, 'ETag: "1"'], "Cache-Control: no-cache", 1),
        (["ignore_reload = true"], [FRESH, 'ETag: "1"'], "Cache-Control: max-age=0", 1),
        (["ignore_reload = true"], [FRESH, 'ETag: "1"'], "Pragma: no-cache", 1),
        (["ignore_reload = true"], [FRESH], "Cache-Control: no-store", 3),
    ],
)
async def test_rules(
    origin: Origin, ruled: StartRuled, lines: list[str], fields: list[str], request_field: str, fetches: int
) -> None:
    client = await ruled(*lines)
    origin.routes["*"] = response(b"x", *fields)
    for _ in range(3):
        got = await client.get(origin.url("/a"), *([request_field] if request_field else []))
        assert (got.status, got.body) == (200, b"x")
    assert origin.count() == fetches


async def test_never_store_holds_for_parts_too(origin: Origin, ruled: StartRuled) -> None:
    client = await ruled("never_store = true")
    fields = (FRESH, 'ETag: "1"', "Content-Range: bytes 0-0/9")
    origin.routes["*"] = response(b"x", *fields, status="206 Partial Content")
    for _ in range(2):
        assert (await client.get(origin.url("/a"), "Range: bytes=0-0")).status == 206
    assert origin.count() == 2
