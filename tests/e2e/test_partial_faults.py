"""Partial bodies when the origin changes, lies or refuses, and when the store loses what it had."""

from __future__ import annotations

import asyncio

import pytest

from cacheproxy.app import App
from tests.conftest import Connect, StartProxy
from tests.e2e.test_partial import BODY, NEVER_FINISH, SIZE, aborted, ranged
from tests.support.files import LONG_AGO, File, noise, quiet, take
from tests.support.origin import Origin, Received, Wire, response

OTHER = noise(SIZE, seed=2)
CUT = (asyncio.IncompleteReadError, ConnectionError)


@pytest.fixture
async def app(start_proxy: StartProxy) -> App:
    return await start_proxy(*NEVER_FINISH)


@pytest.fixture
def file(origin: Origin) -> File:
    found = File(BODY)
    origin.routes["/f"] = found
    return found


async def test_a_new_version_is_fetched_from_the_start(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    url = origin.url("/f")
    await aborted(app, connect, file, url, 1_000_000)
    file.body, file.etag = OTHER, '"2"'
    client = await connect(app)
    got = await client.get(url)
    assert (got.body, got.field("etag")) == (OTHER, '"2"')
    await quiet(app)
    assert (await client.get(url)).body == OTHER
    assert file.asked == [(0, SIZE), (0, SIZE)]


async def test_a_version_that_changes_within_a_reply_is_cut_and_asked_for_once(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    async def changing(received: Received, wire: Wire) -> None:
        await file(received, wire)
        if wire.writer.is_closing():
            file.body, file.etag = OTHER, '"2"'

    origin.routes["/f"] = changing
    file.cuts = [1_000_000]
    with pytest.raises(CUT):
        await (await connect(app)).get(origin.url("/f"))
    assert file.asked == [(0, SIZE), (0, SIZE)]
    await quiet(app)
    # What is left of the old version is not served any more.
    got = await (await connect(app)).get(origin.url("/f"), "Range: bytes=0-99")
    assert got.body == OTHER[:100]


async def test_an_origin_without_ranges_cuts_once_and_starts_over(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    file.has_ranges = False
    file.cuts = [1_000_000]
    with pytest.raises(CUT):
        await (await connect(app)).get(origin.url("/f"))
    await quiet(app)
    asked = len(file.asked)
    assert asked == 2
    client = await connect(app)
    assert (await client.get(origin.url("/f"))).body == BODY
    assert (await client.get(origin.url("/f"))).body == BODY
    assert len(file.asked) == 3


@pytest.mark.parametrize(
    ("etag", "modified"),
    [('W/"1"', None), (None, None), (None, "Sun, 06 Nov 2033 08:49:30 GMT"), ('W/"1"', LONG_AGO)],
    ids=["weak", "none", "young-date", "weak-with-date"],
)
async def test_without_a_strong_validator_nothing_is_joined(
    origin: Origin, app: App, connect: Connect, file: File, etag: str | None, modified: str | None
) -> None:
    file.etag, file.modified = etag, modified
    url = origin.url("/f")
    await aborted(app, connect, file, url, 1_000_000)
    client = await connect(app)
    assert (await client.get(url, "Range: bytes=500-999")).body == BODY[500:1000]
    await quiet(app)
    assert (await client.get(url)).body == BODY
    assert file.conditions == []
    assert file.asked == [(0, SIZE), (500, 1000), (0, SIZE)]


async def test_only_if_cached(origin: Origin, app: App, connect: Connect, file: File) -> None:
    url = origin.url("/f")
    await aborted(app, connect, file, url, 1_000_000)
    client = await connect(app)
    only = "Cache-Control: only-if-cached"
    assert (await client.get(url, only)).status == 504
    await ranged(client, url, 10, 900_000, only)
    assert (await client.get(url, only, "Range: bytes=999999-1000000")).status == 504
    assert (await client.get(url, only, "Range: bytes=-1")).status == 504
    assert len(file.asked) == 1


async def test_what_needs_no_gap_fetches_none(origin: Origin, app: App, connect: Connect, file: File) -> None:
    url = origin.url("/f")
    await aborted(app, connect, file, url, 1_000_000)
    client = await connect(app)
    head = await client.get(url, method="HEAD")
    assert (head.status, head.field("content-length")) == (200, str(SIZE))
    assert (await client.get(url, 'If-None-Match: "1"')).status == 304
    got = await client.get(url, f"Range: bytes={SIZE}-")
    assert (got.status, got.field("content-range")) == (416, f"bytes */{SIZE}")
    assert (await client.get(url, "Range: bytes=5-9", 'If-Range: "1"')).body == BODY[5:10]
    await quiet(app)
    assert origin.count() == 1


async def test_purge_and_invalidation_while_fetching(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    url = origin.url("/f")
    for method in ("PURGE", "POST"):
        file.stop_at, file.go, file.stopped = 1_000_000, asyncio.Event(), asyncio.Event()
        file.asked.clear()
        whole = asyncio.ensure_future((await connect(app)).get(url))
        await file.stopped.wait()
        origin.routes["/f"] = response(b"done") if method == "POST" else file
        assert (await (await connect(app)).get(url, method=method, body=b"")).status in (200, 404)
        origin.routes["/f"] = file
        file.go.set()
        assert (await whole).body == BODY
        await quiet(app)
        assert (await (await connect(app)).get(url, "Cache-Control: only-if-cached")).status == 504


async def test_a_purged_part_leaves_its_reader_whole(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    """The stored bytes go while somebody reads ahead of them: they are fetched again under the same tag."""
    url = origin.url("/f")
    await ranged(await connect(app), url, 2_000_000, 2_900_000)
    await quiet(app)
    file.stop_at = 1_000_000
    whole = asyncio.ensure_future((await connect(app)).get(url))
    await file.stopped.wait()
    await (await connect(app)).get(url, method="PURGE")
    file.stop_at = None
    file.go.set()
    assert (await whole).body == BODY


@pytest.mark.parametrize(
    "fields",
    [
        ["Cache-Control: private, max-age=60"],
        ["Cache-Control: no-store"],
        ["Cache-Control: max-age=60", "Vary: *"],
    ],
    ids=["private", "no-store", "vary-star"],
)
async def test_a_206_that_may_not_be_stored(
    origin: Origin, app: App, connect: Connect, file: File, fields: list[str]
) -> None:
    file.fields = fields
    client = await connect(app)
    for _ in range(2):
        await ranged(client, origin.url("/f"), 0, 1000)
    assert len(file.asked) == 2


async def test_a_206_to_credentials_is_not_shared(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    url, client = origin.url("/f"), await connect(app)
    await ranged(client, url, 0, 1000, "Authorization: Basic eA==")
    await quiet(app)
    await ranged(client, url, 0, 1000)
    await quiet(app)
    # What its user's gap brings joins, but stays with that user.
    await ranged(client, url, 0, 2000, "Authorization: Basic eA==")
    await quiet(app)
    await ranged(client, url, 0, 2000)
    assert file.asked == [(0, 1000), (0, 1000), (1000, 2000), (1000, 2000)]


async def test_a_gap_that_is_private_ends_the_sharing(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    url, client = origin.url("/f"), await connect(app)
    await ranged(client, url, 0, 1000)
    await quiet(app)
    file.fields = ["Cache-Control: private"]
    await ranged(client, url, 0, 2000)
    await quiet(app)
    await ranged(client, url, 0, 1000)
    assert file.asked == [(0, 1000), (1000, 2000), (0, 1000)]


async def test_cookies_on_a_206_are_not_stored(origin: Origin, app: App, connect: Connect, file: File) -> None:
    url, client = origin.url("/f"), await connect(app)
    file.fields.append("Set-Cookie: id=1")
    first = await client.get(url, "Range: bytes=0-999")
    await quiet(app)
    second = await client.get(url, "Range: bytes=0-999")
    third = await client.get(url, "Range: bytes=0-1999")
    assert [one.field("set-cookie") for one in (first, second, third)] == ["id=1", None, None]


async def test_an_origin_that_fails_for_a_while_keeps_the_part(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    url = origin.url("/f")
    await aborted(app, connect, file, url, 1_000_000)
    origin.routes["/f"] = response(b"busy", status="503 Busy")
    client = await connect(app)
    assert (await client.get(url)).status == 503
    origin.routes["/f"] = file
    assert (await client.get(url)).body == BODY
    assert file.asked[1:] == [(1_000_000, SIZE)]


async def test_damage_in_a_stored_part_is_fetched_again(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    url = origin.url("/f")
    await aborted(app, connect, file, url, 1_000_000)
    assert app.store._disk is not None
    db = app.store._disk.writer._db
    await db.execute("UPDATE chunks SET data = zeroblob(length) WHERE first = 262144")
    await db.commit()
    client = await connect(app)
    assert (await client.get(url)).body == BODY
    await quiet(app)
    assert (await client.get(url)).body == BODY
    assert (await client.get(url)).body == BODY
    assert len(file.asked) <= 4


async def test_parts_after_eviction(origin: Origin, start_proxy: StartProxy, connect: Connect) -> None:
    app = await start_proxy(
        "cache.finish_bytes=0", "cache.finish_fraction=1.0", "cache.disk=4MiB", "cache.finish_requests=0"
    )
    files = [File(noise(900_000, seed)) for seed in range(12)]
    client = await connect(app)
    for round_ in range(2):
        for number, file in enumerate(files):
            origin.routes[f"/{number}"] = file
            url = origin.url(f"/{number}")
            start = 100_000 * round_
            got = await client.get(url, f"Range: bytes={start}-{start + 500_000 - 1}")
            assert got.body == file.body[start : start + 500_000]
    for number, file in enumerate(files):
        assert (await client.get(origin.url(f"/{number}"))).body == file.body


async def test_without_a_disk(origin: Origin, start_proxy: StartProxy, connect: Connect, file: File) -> None:
    app = await start_proxy(*NEVER_FINISH, "cache.disk=0", "cache.memory=64MiB")
    url, client = origin.url("/f"), await connect(app)
    await ranged(client, url, 5, 1000)
    file.cuts = [1_000_000]
    assert (await client.get(url)).body == BODY
    assert file.asked == [(5, 1000), (0, SIZE), (1_000_000, SIZE)]
    small = File(BODY[:100_000])
    origin.routes["/s"] = small
    assert (await client.get(origin.url("/s"))).body == BODY[:100_000]
    assert (await client.get(origin.url("/s"), "Range: bytes=7-9")).body == BODY[7:10]
    assert len(small.asked) == 1


async def test_unknown_complete_length(origin: Origin, app: App, connect: Connect, file: File) -> None:
    url, client = origin.url("/f"), await connect(app)
    file.complete = "*"
    first = await client.get(url, "Range: bytes=100-999")
    assert (first.status, first.body) == (206, BODY[100:1000])
    await quiet(app)
    again = await client.get(url, "Range: bytes=200-299")
    assert (again.status, again.body, again.field("content-range")) == (206, BODY[200:300], "bytes 200-299/*")
    more = await client.get(url, "Range: bytes=500-1999")
    assert (more.status, more.body, more.field("content-range")) == (206, BODY[500:2000], "bytes 500-1999/*")
    await quiet(app)
    file.complete = None
    rest = await client.get(url, "Range: bytes=1500-")
    assert (rest.body, rest.field("content-range")) == (BODY[1500:], f"bytes 1500-{SIZE - 1}/{SIZE}")
    await quiet(app)
    assert (await client.get(url)).body == BODY
    assert file.asked == [(100, 1000), (1000, 2000), (2000, SIZE), (0, 100)]


async def test_a_chunked_body_cut_by_the_client(origin: Origin, app: App, connect: Connect, file: File) -> None:
    file.is_chunked, file.stop_at = True, 1_000_000
    url = origin.url("/f")
    # Chunk heads and all.
    assert len(await take(await connect(app), url, 900_000)) == 900_000
    await quiet(app)
    file.stop_at = None
    client = await connect(app)
    got = await client.get(url, "Range: bytes=300000-", "Accept-Encoding: identity")
    assert (got.status, got.body) == (206, BODY[300_000:])
    await quiet(app)
    assert (await client.get(url)).body == BODY
    assert len(file.asked) == 2
    assert file.asked[1][0] > 800_000


async def test_a_waiter_that_leaves_takes_its_replacement_along(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    """The client goes while its gap is asked for; the answer is another version: nothing stays open."""
    url = origin.url("/f")
    await aborted(app, connect, file, url, 1_000_000)
    gate = asyncio.Event()

    async def late(received: Received, wire: Wire) -> None:
        await gate.wait()
        file.body, file.etag = OTHER, '"2"'
        await file(received, wire)

    origin.routes["/f"] = late
    client = await connect(app)
    await client.send(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await origin.until(lambda: origin.count() == 2)
    client.reset()
    gate.set()
    await quiet(app)
    assert app.engine._parts.spools.used_bytes == 0


async def test_what_is_too_large_to_store_is_shared_and_resumed_all_the_same(
    origin: Origin, start_proxy: StartProxy, connect: Connect, file: File
) -> None:
    app = await start_proxy(*NEVER_FINISH, "cache.max_object=1MiB")
    file.cuts = [1_000_000]
    clients = [await connect(app) for _ in range(4)]
    for got in await asyncio.gather(*(client.get(origin.url("/f")) for client in clients)):
        assert got.body == BODY
    assert file.asked == [(0, SIZE), (1_000_000, SIZE)]
    await quiet(app)
    # Nobody needs the rest of what is not kept.
    file.stop_at, file.sent = SIZE - 1000, 0
    await take(clients[0], origin.url("/f"), SIZE - 1000)
    await quiet(app)
    assert file.sent == SIZE - 1000
