"""The hot path over sockets: it is on, it is counted, it keeps connections alive, it can be turned off."""

from __future__ import annotations

import logging
import os

import pytest
from aiohttp.web_protocol import RequestHandler

from tests.conftest import Connect, StartProxy
from tests.support.origin import Origin, response

FRESH = "Cache-Control: max-age=3600"

pytestmark = pytest.mark.skipif(
    "hot_path" in os.environ.get("CACHEPROXY_TEST_OPTIONS", ""), reason="the hot path is set from outside"
)


async def test_hits_are_hot_and_counted(origin: Origin, start_proxy: StartProxy, connect: Connect) -> None:
    app = await start_proxy()
    origin.routes["/a"] = response(b"hello", FRESH, 'ETag: "1"')
    client = await connect(app)
    for _ in range(5):
        assert (await client.get(origin.url("/a"))).body == b"hello"
    assert app.counters.hot_answers == 4
    assert (app.counters.requests, app.counters.hits, app.counters.misses) == (5, 4, 1)
    assert app.counters.client_bytes == client.received_bytes
    assert app.hot is not None
    assert app.hot.memo.lookups == 5
    assert app.hot.memo.hits >= 3


async def test_large_bodies_arrive_whole(origin: Origin, start_proxy: StartProxy, connect: Connect) -> None:
    app = await start_proxy("cache.memory=128MiB")
    body = bytes(range(256)) * 4096
    origin.routes["/a"] = response(body, FRESH)
    client = await connect(app)
    for _ in range(4):
        assert (await client.get(origin.url("/a"))).body == body
    assert app.counters.hot_answers == 3


async def test_hot_answers_keep_the_connection_alive(
    origin: Origin, start_proxy: StartProxy, connect: Connect
) -> None:
    app = await start_proxy("server.idle_timeout=0.3")
    origin.routes["/a"] = response(b"hello", FRESH)
    client = await connect(app)
    await client.get(origin.url("/a"))
    assert app.listener is not None
    (connection,) = app.listener._server.connections
    first = connection.inlet.idle_since  # type: ignore[attr-defined]
    await client.get(origin.url("/a"))
    assert connection.inlet.idle_since > first  # type: ignore[attr-defined]
    # And it ends all the same once nothing comes.
    assert await client.reader.read() == b""
    assert app.counters.hot_answers == 1


async def test_off(origin: Origin, start_proxy: StartProxy, connect: Connect) -> None:
    app = await start_proxy("server.hot_path=false")
    origin.routes["/a"] = response(b"hello", FRESH)
    client = await connect(app)
    for _ in range(3):
        await client.get(origin.url("/a"))
    assert (app.hot, app.counters.hits, app.counters.hot_answers) == (None, 2, 0)


async def test_another_aiohttp_turns_it_off_loudly(
    start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(RequestHandler, "_task_handler")
    with caplog.at_level(logging.WARNING, "cacheproxy"):
        app = await start_proxy("log.level=warning")
    assert app.hot is None
    assert "the hot path is off: this aiohttp lacks _task_handler" in caplog.text
