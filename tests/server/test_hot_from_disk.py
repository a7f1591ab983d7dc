"""Hits on disk by the hot path: who may have them, what outlives what, and that none is forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cacheproxy.http.dates import format_date
from cacheproxy.ports import Candidate, Selector
from cacheproxy.store.at_once import AtOnce
from tests.support.origin import response
from tests.support.twins import ON_DISK, START, Twin, Twins, Wire

DATE = "Date: " + format_date(START)
FRESH = "Cache-Control: max-age=3600"
OTHERS = [f"/other{number}" for number in range(25)]


@pytest.fixture
async def twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Twins]:
    monkeypatch.setattr("cacheproxy.store.writer.BATCH_DELAY_S", 0.001)
    twins = Twins(tmp_path, ON_DISK)
    await twins.start()
    twins.origin.routes["/a"] = response(b"old", DATE, FRESH)
    twins.origin.routes.update({path: response(b"x" * 700, DATE, FRESH) for path in OTHERS})
    yield twins
    await twins.stop()


async def keep_head_alone(twins: Twins, path: str) -> None:
    """Of what is stored, the head is in memory and the body on disk."""
    await twins.to_disk()
    store = twins.hot.app.store
    (found,) = await store.lookup(twins.origin.url(path))
    store._memory.drop(found.stored.entry_id)
    assert store._disk is not None
    store._memory.put(Candidate(found.stored, store._disk.body_of(found.stored), "disk"))


async def get(twins: Twins, twin: Twin, wire: Wire, path: str) -> bytes:
    at = len(wire.written)
    await twin.feed(wire, f"GET {twins.origin.url(path)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return bytes(wire.written[at:])


async def test_what_is_on_its_way_to_the_disk_is_not_remembered_by_the_request_line(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory has let go of it, so that nothing would tell the line when it is purged."""
    monkeypatch.setattr("cacheproxy.store.writer.BATCH_DELAY_S", 0.5)
    twin, key = twins.hot, twins.origin.url("/a")
    wire = twin.connect()
    for path in ("/a", *OTHERS):
        await get(twins, twin, wire, path)
    store = twin.app.store
    assert not store.lookup_memory(key)
    for _ in range(3):
        assert (await get(twins, twin, wire, "/a")).endswith(b"old")
    twins.origin.routes["/a"] = response(b"new", DATE, FRESH)
    assert await store.purge(Selector(urls=(key,)), dry_run=False, soft=False) == 1
    assert (await get(twins, twin, wire, "/a")).endswith(b"new")


async def test_the_use_that_brings_a_body_into_memory_is_noted(twins: Twins) -> None:
    for twin in twins.pair:
        wire = twin.connect()
        for path in ("/a", "/a", *OTHERS):
            await get(twins, twin, wire, path)
    await twins.to_disk()
    for twin in twins.pair:
        wire = twin.connect()
        for path in (*OTHERS, *OTHERS):
            await get(twins, twin, wire, path)
        if twin.app.hot is not None:
            twin.app.hot.tally.settle()
        twin.touched.clear()
        tiers = []
        for _ in range(6):
            assert (await get(twins, twin, wire, "/a")).endswith(b"old")
            if twin.app.hot is not None:
                # So that none waits to be noted when the body comes.
                twin.app.hot.tally.settle()
            tiers += [one.tier for one in twin.app.store.lookup_memory(twins.origin.url("/a"))]
        assert tiers[0] == "disk"
        assert tiers[-1] == "memory"
        assert len(twin.used()) == 6


async def test_whoever_is_not_allowed_in_does_not_have_the_disk_read(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = twins.hot
    await get(twins, twin, twin.connect(), "/a")
    await twins.to_disk()
    asked: list[str] = []
    look_up = AtOnce.look_up

    def noted(at_once: AtOnce, key: str) -> object:
        asked.append(key)
        return look_up(at_once, key)

    monkeypatch.setattr(AtOnce, "look_up", noted)
    answer = await get(twins, twin, twin.connect("203.0.113.9"), "/a")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert asked == []
    assert (await get(twins, twin, twin.connect(), "/a")).endswith(b"old")
    assert asked == [twins.origin.url("/a")]


async def test_a_mistake_in_reading_a_body_costs_nobody_an_answer(
    twins: Twins, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    twin = twins.hot
    wire = twin.connect()
    await get(twins, twin, wire, "/a")
    monkeypatch.setattr(AtOnce, "first_row", lambda at_once, place: 1 / 0)
    for _ in range(2):
        await keep_head_alone(twins, "/a")
        assert (await get(twins, twin, wire, "/a")).endswith(b"old")
    assert caplog.text.count("on the hot path") == 2
    assert len(twins.origin.requests) == 1


async def test_stale_while_revalidate_from_disk(twins: Twins) -> None:
    """RFC 5861 §3: what was validated in the background stays valid."""
    twin, origin = twins.hot, twins.origin
    swr = "Cache-Control: max-age=5, stale-while-revalidate=1000"
    origin.routes["/s"] = response(b"short", DATE, swr, 'ETag: "s"')
    wire = twin.connect()
    await get(twins, twin, wire, "/s")
    await keep_head_alone(twins, "/s")
    twin.clock.now += 10
    date = "Date: " + format_date(START + 10)
    origin.routes["/s"] = f'HTTP/1.1 304 Not Modified\r\n{date}\r\n{swr}\r\nETag: "s"\r\n\r\n'.encode()
    ages = []
    for _ in range(4):
        answer = await get(twins, twin, wire, "/s")
        assert answer.endswith(b"short")
        ages += [line for line in answer.split(b"\r\n") if line.startswith(b"Age:")]
        await twin.settle(wire)
    assert ages == [b"Age: 10", b"Age: 0", b"Age: 0", b"Age: 0"]
