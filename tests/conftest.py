"""Fixtures for whole-proxy tests: an origin, a proxy in this process, raw clients."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cacheproxy.app import App
from cacheproxy.config.load import load
from cacheproxy.engine.exchange import Engine
from cacheproxy.ports import Answer, Exchange
from tests.support.client import RawClient
from tests.support.echo import Echo
from tests.support.origin import Origin

StartProxy = Callable[..., Awaitable[App]]
Connect = Callable[..., Awaitable[RawClient]]


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The targets of the requests that the ordinary path has seen."""
    seen: list[str] = []
    handle = Engine.handle

    async def watched(engine: Engine, exchange: Exchange) -> Answer:
        seen.append(exchange.head.request_target)
        return await handle(engine, exchange)

    monkeypatch.setattr(Engine, "handle", watched)
    return seen


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    made = Origin()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    made = Echo()
    await made.start()
    yield made
    assert made.server is not None
    made.server.close()


@pytest.fixture
async def start_proxy(tmp_path: Path) -> AsyncIterator[StartProxy]:
    """Starts proxies on free ports; settings as -o options. Loopback is reachable unless a test says otherwise."""
    running: list[App] = []

    async def start(*options: str, directory: Path | None = None, open_loopback: bool = True) -> App:
        given = ['listen.addresses=["127.0.0.1:0"]', "cache.memory=8MiB", "cache.disk=64MiB", "log.level=error"]
        if open_loopback:
            given.append("access.deny_destinations=[]")
        # The whole suite under another setting: CACHEPROXY_TEST_OPTIONS="server.hot_path=false"
        given += os.environ.get("CACHEPROXY_TEST_OPTIONS", "").split()
        app = App(load(None, [*given, *options]), directory or tmp_path / f"cache{len(running)}")
        await app.start()
        running.append(app)
        return app

    yield start
    for app in running:
        await app.close()


@pytest.fixture
async def proxy(start_proxy: StartProxy) -> App:
    return await start_proxy()


@pytest.fixture
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Opens raw connections to a proxy."""
    clients: list[RawClient] = []

    async def open_client(app: App) -> RawClient:
        client = await RawClient.connect(app.addresses[0][1])
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        client.close()


@pytest.fixture
async def client(proxy: App, connect: Connect) -> RawClient:
    return await connect(proxy)
