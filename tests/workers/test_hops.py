"""The direct path through another worker: what one owns and another's client asks for, without a task on either side."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cacheproxy.config.load import load
from cacheproxy.engine.direct_hop import DirectHops
from cacheproxy.engine.hop import HOP_FIELD
from tests.support.client import RawClient, Reply
from tests.support.halves import Halves
from tests.support.origin import Origin, Received, Wire, response
from tests.support.pair import Half

FRESH = "Cache-Control: max-age=3600"
NEVER = "Cache-Control: no-store"
BODY = bytes(range(256)) * 4096
OPTIONS = [
    'listen.addresses=["127.0.0.1:0"]',
    "cache.memory=8MiB",
    "cache.disk=0",
    "access.deny_destinations=[]",
    "server.name=pair",
    'log.access=""',
    "log.level=error",
]


class Pair:
    """`asked` has the client's connection, `owner` what it asks for; `seen` the targets on either ordinary path."""

    def __init__(self, asked: Half, owner: Half, client: RawClient, origin: Origin, seen: list[str]) -> None:
        self.asked = asked
        self.owner = owner
        self.client = client
        self.seen = seen
        self._origin = origin
        self._paths: dict[str, str] = {}

    def path(self, name: str) -> str:
        """A path of the origin's whose URL the other one owns."""
        number = 0
        while name not in self._paths:
            found = f"/{name}{number}"
            if self.owner.owners.owns(self._origin.url(found)):
                self._paths[name] = found
            number += 1
        return self._paths[name]

    def serve(self, name: str, route: bytes | Callable[..., object]) -> str:
        """Its URL."""
        self._origin.routes[self.path(name)] = route  # type: ignore[assignment]
        return self._origin.url(self.path(name))

    async def get(self, name: str, *fields: str) -> Reply:
        return await self.client.get(self._origin.url(self.path(name)), *fields)

    async def ready(self) -> None:
        """Connections are idle: from one to the other, and from there to the origin."""
        self.serve("first", response(b"", NEVER))
        assert (await self.get("first")).status == 200
        self.seen.clear()
        self._origin.requests.clear()


@pytest.fixture
async def pair(
    origin: Origin, tmp_path: Path, ordinary: list[str], request: pytest.FixtureRequest
) -> AsyncIterator[Pair]:
    config = load(None, [*OPTIONS, *getattr(request, "param", ())])
    halves: list[Half] = []
    for number in range(2):
        (directory := tmp_path / str(number)).mkdir()
        halves.append(Half(config, directory, tmp_path, number, halves))
        await halves[-1].start()
    client = await RawClient.connect(halves[0].addresses[0][1])
    made = Pair(halves[0], halves[1], client, origin, ordinary)
    await made.ready()
    yield made
    client.close()
    for half in halves:
        await half.close()


pytestmark = pytest.mark.skipif(
    "hot_path" in os.environ.get("CACHEPROXY_TEST_OPTIONS", ""),
    reason="without the hot path there is no direct one",
)


async def test_a_miss(pair: Pair, origin: Origin) -> None:
    pair.serve("a", response(b"one", NEVER, f"{HOP_FIELD}: nonsense"))
    reply = await pair.get("a")
    assert (reply.status, reply.body) == (200, b"one")
    assert HOP_FIELD.encode() not in reply.head
    assert reply.field("via") == "1.1 pair"
    assert "fwd=uri-miss" in (reply.field("cache-status") or "")
    (received,) = origin.requests
    assert received.field(HOP_FIELD) == []
    assert received.field("via") == ["1.1 pair"]
    assert pair.seen == []
    # It is counted where the client is, the origin's bytes where they came.
    assert (pair.asked.counters.requests, pair.asked.counters.misses) == (2, 2)
    assert (pair.owner.counters.requests, pair.asked.counters.origin_bytes) == (0, 0)
    assert pair.owner.counters.origin_bytes > 0


async def test_a_hit_is_lent_and_called_back(pair: Pair, origin: Origin) -> None:
    url = pair.serve("a", response(b"one", FRESH))
    for word in ("fwd=uri-miss", "hit", "hit"):
        reply = await pair.get("a")
        assert reply.body == b"one"
        assert word in (reply.field("cache-status") or "")
        assert HOP_FIELD.encode() not in reply.head
    assert origin.count() == 1
    assert pair.seen == []
    assert [one.stored.key for one in pair.asked.store.lookup_memory(url)] == [url]
    assert (pair.asked.counters.hits, pair.asked.counters.hot_answers) == (2, 1)
    # What was answered at once keeps no drain waiting.
    assert [one._answering for one in pair.owner.hops._server.connections] == [False]  # type: ignore[attr-defined]
    pair.owner.store.invalidate(url)
    assert not pair.asked.store.lookup_memory(url)
    assert "fwd=uri-miss" in ((await pair.get("a")).field("cache-status") or "")


async def test_a_copy_is_used_while_another_host_keeps_its_codings(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    coded = response(gzip.compress(b"one"), FRESH, "Content-Encoding: gzip", "Vary: Accept-Encoding")
    url = pair.serve("a", coded)
    for word in ("fwd=uri-miss", "hit"):
        assert word in ((await pair.get("a", "Accept-Encoding: gzip")).field("cache-status") or "")
    assert pair.asked.store.lookup_memory(url)
    pair.asked.engine._forwarder.keep_codings.add("other.example")
    asked: list[object] = []
    begin = DirectHops.begin
    monkeypatch.setattr(DirectHops, "begin", lambda *arguments: asked.append(arguments) or begin(*arguments))
    assert "hit" in ((await pair.get("a", "Accept-Encoding: gzip")).field("cache-status") or "")
    assert asked == []


async def test_what_was_called_back_meanwhile_is_not_kept(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    url = pair.serve("a", response(b"one", FRESH))
    await pair.get("a")
    lend = pair.owner.owned.lend

    def recalled(key: str, content: bytes) -> tuple[int, bytes] | None:
        lent = lend(key, content)
        pair.owner.owned.invalidate(key)
        return lent

    monkeypatch.setattr(pair.owner.owned, "lend", recalled)
    assert "hit" in ((await pair.get("a")).field("cache-status") or "")
    assert not pair.asked.store.lookup_memory(url)


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_mistake_of_ours_leaves_nobody_waiting(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    pair.serve("a", response(BODY[:size], FRESH))
    await pair.get("a")

    def broken(*arguments: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(pair.asked.owned, "keep_copy", broken)
    reply = await pair.get("a")
    assert reply.status == 500
    assert "another worker's answer" in caplog.text


async def test_variants(pair: Pair, origin: Origin) -> None:
    async def route(received: Received, wire: Wire) -> None:
        word = received.field("accept-language")[0].encode()
        await wire.send(response(word, FRESH, "Vary: Accept-Language"))

    pair.serve("a", route)
    for _ in range(3):
        for language in ("de", "fr"):
            assert (await pair.get("a", f"Accept-Language: {language}")).body == language.encode()
    assert origin.count() == 2


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_long_bodies_are_passed_on_as_they_come(pair: Pair, is_chunked: bool) -> None:
    halves = Halves(BODY, NEVER, is_chunked=is_chunked)
    assert await halves.fetch(pair.client, pair.serve("a", halves)) == BODY
    pair.serve("b", response(b"next", NEVER))
    assert (await pair.get("b")).body == b"next"
    assert pair.seen == []


async def test_a_large_hit_is_lent_in_pieces(pair: Pair, origin: Origin) -> None:
    url = pair.serve("a", response(BODY[:100_000], FRESH))
    for _ in range(3):
        assert (await pair.get("a")).body == BODY[:100_000]
    assert origin.count() == 1
    assert pair.asked.store.lookup_memory(url)


async def test_a_slow_client_makes_the_origin_wait(pair: Pair, origin: Origin) -> None:
    body = BODY * 24
    url = pair.serve("a", response(body, NEVER))
    pair.client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await pair.client.send(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await origin.until(lambda: origin.count() > 0)
    before = -1
    while before != pair.owner.counters.origin_bytes:
        before = pair.owner.counters.origin_bytes
        for _ in range(100):
            await asyncio.sleep(0)
    for half in (pair.asked, pair.owner):
        for connection in half.listener._server.connections:  # type: ignore[union-attr]
            assert connection.transport.get_write_buffer_size() < 2 * 1024 * 1024  # type: ignore[attr-defined]
    pair.client.reader._transport.resume_reading()  # type: ignore[attr-defined]
    assert (await pair.client.reply()).body == body
    assert pair.seen == []


async def test_interim_responses_pass(pair: Pair) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    pair.serve("a", hints + response(b"one", NEVER))
    reply = await pair.get("a")
    assert reply.body == b"one"
    assert [b"Early Hints" in head for head in reply.interim] == [True]
    assert pair.seen == []


async def test_what_the_owner_cannot_have_is_told_like_ever(pair: Pair) -> None:
    async def broken(received: Received, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 two hundred\r\n\r\n")

    pair.serve("a", broken)
    reply = await pair.get("a")
    assert reply.status == 502
    assert "http_protocol_error" in (reply.field("proxy-status") or "")
    assert HOP_FIELD.encode() not in reply.head
    assert pair.asked.counters.errors == 1
    # The owner's ordinary path told it.
    assert len(pair.seen) == 1


async def test_a_body_that_breaks_off_is_cut_visibly(pair: Pair) -> None:
    async def cut(received: Received, wire: Wire) -> None:
        await wire.send(f"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n{NEVER}\r\n\r\nabc".encode())
        wire.close()

    pair.serve("a", cut)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await pair.get("a")
    assert pair.asked.counters.aborted == 1


async def test_an_owner_that_has_gone_is_done_without(pair: Pair, origin: Origin) -> None:
    pair.serve("a", response(b"one", NEVER))
    await pair.owner.close()
    reply = await pair.get("a")
    assert (reply.status, reply.body) == (200, b"one")


@pytest.mark.parametrize("begun", [False, True])
async def test_who_leaves_ends_the_fetch(pair: Pair, origin: Origin, begun: bool) -> None:
    async def stalled(received: Received, wire: Wire) -> None:
        if begun:
            await wire.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n{NEVER}\r\n\r\nabc".encode())
        await wire.reader.read(1)
        wire.close()

    url = pair.serve("a", stalled)
    await pair.client.send(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await origin.until(lambda: origin.count() == 1)
    if begun:
        await pair.client.head()
    pair.client.reset()
    await origin.until(lambda: origin.closed == 1)
    assert pair.seen == []


@pytest.mark.parametrize("fields", [(), ("Accept: x",)])
async def test_many_clients_are_one_fetch(pair: Pair, origin: Origin, fields: tuple[str, ...]) -> None:
    may = asyncio.Event()

    async def route(received: Received, wire: Wire) -> None:
        await may.wait()
        await wire.send(response(b"one", FRESH))

    url = pair.serve("a", route)
    clients = [
        await RawClient.connect(half.addresses[0][1]) for half in (pair.asked, pair.owner) for _ in range(8)
    ]
    answers = [asyncio.create_task(client.get(url, *fields)) for client in clients]
    await origin.until(lambda: origin.count() == 1)
    may.set()
    assert [(await answer).body for answer in answers] == [b"one"] * 16
    assert origin.count() == 1
    for client in clients:
        client.close()


async def test_a_connection_bound_to_one_client_serves_nobody_else(pair: Pair, origin: Origin) -> None:
    unauthorised = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n"
    pair.serve("a", unauthorised)
    assert (await pair.get("a")).status == 401
    assert pair.seen == []
    await origin.until(lambda: origin.closed == 1)


async def test_what_a_client_says_of_hops_takes_the_ordinary_path(pair: Pair, origin: Origin) -> None:
    url = pair.serve("a", response(b"one", NEVER))
    lie = f'{HOP_FIELD}: {{"client":"203.0.113.9","version":[1,1]}}'
    for fields in ((lie,), (lie, f"Connection: {HOP_FIELD}")):
        assert (await pair.get("a", *fields)).body == b"one"
    assert pair.seen == [url] * 4
    assert all(received.field(HOP_FIELD) == [] for received in origin.requests)


@pytest.mark.parametrize("pair", [(), ("server.hot_path=false",)], indirect=True, ids=["direct", "ordinary"])
async def test_the_heads_are_the_ordinary_paths(pair: Pair, origin: Origin) -> None:
    pair.serve("never", response(b"one", NEVER, 'ETag: W/"1"', "Connection: X-Mine", "X-Mine: 1", "Date: now"))
    pair.serve("fresh", response(b"two", FRESH, 'ETag: "2"', "Vary: Accept-Language"))
    pair.serve("none", b"HTTP/1.1 204 No Content\r\n\r\n")
    pair.serve("gone", response(b"", FRESH).replace(b"200 OK", b"410 Gone"))
    found: list[bytes] = []
    for name in ("never", "fresh", "fresh", "fresh", "none", "gone", "gone"):
        reply = await pair.get(name, "Connection: keep-alive", "Accept-Language: de", "X-Id: 1")
        head = re.sub(rb"(Date|Age): [^\r\n]*|ttl=\d+", b"", reply.head)
        found.append(head + b"\r\n\r\n" + reply.body)
    sent = [re.sub(rb":\d+|/\w+ ", b"", received.head) for received in origin.requests]
    assert (found, sent) == HEADS.setdefault("heads", (found, sent))


HEADS: dict[str, tuple[list[bytes], list[bytes]]] = {}
