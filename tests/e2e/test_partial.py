"""No byte is fetched twice: what broke off is kept and completed, ranges are stored, gaps and only gaps fetched."""

from __future__ import annotations

import asyncio

import pytest

from cacheproxy.app import App
from cacheproxy.ports import Selector
from tests.conftest import Connect, StartProxy
from tests.support.client import RawClient
from tests.support.files import LONG_AGO, File, noise, quiet, take
from tests.support.origin import Origin

SIZE = 3_000_000
BODY = noise(SIZE)
NEVER_FINISH = (
    "cache.finish_bytes=0",
    "cache.finish_fraction=1.0",
    "cache.finish_requests=0",
    "cache.join_gap=64KiB",
)


@pytest.fixture
async def app(start_proxy: StartProxy) -> App:
    return await start_proxy(*NEVER_FINISH)


@pytest.fixture
def file(origin: Origin) -> File:
    found = File(BODY)
    origin.routes["/f"] = found
    return found


async def aborted(app: App, connect: Connect, file: File, url: str, at: int, *fields: str) -> None:
    """A client that leaves when `at` bytes have come."""
    file.stop_at = at
    start = 0
    for field in fields:
        start = int(field.partition("=")[2].partition("-")[0])
    assert await take(await connect(app), url, at - start, *fields) == BODY[start:at]
    await quiet(app)
    file.stop_at = None


def spans(client: RawClient, url: str, *ranges: tuple[int, int]) -> list[asyncio.Task[bytes]]:
    """Several ranges one after the other on one connection."""

    async def one(start: int, end: int) -> bytes:
        got = await client.get(url, f"Range: bytes={start}-{end - 1}")
        assert (got.status, got.field("content-range")) == (206, f"bytes {start}-{end - 1}/{SIZE}")
        return got.body

    return [asyncio.ensure_future(one(*span)) for span in ranges]


async def ranged(client: RawClient, url: str, start: int, end: int, *fields: str) -> None:
    """Get a range and compare it."""
    got = await client.get(url, f"Range: bytes={start}-{end - 1}", *fields)
    assert (got.status, got.field("content-range")) == (206, f"bytes {start}-{end - 1}/{SIZE}")
    assert got.body == BODY[start:end]


async def test_after_an_abort_only_the_rest_is_fetched(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    url = origin.url("/f")
    await aborted(app, connect, file, url, 1_000_000)
    client = await connect(app)
    got = await client.get(url)
    assert (got.status, got.body) == (200, BODY)
    assert file.asked == [(0, SIZE), (1_000_000, SIZE)]
    assert file.conditions == ['"1"']
    await quiet(app)
    assert (await client.get(url)).body == BODY
    assert len(file.asked) == 2


async def test_an_abort_is_finished_where_that_pays(
    origin: Origin, start_proxy: StartProxy, connect: Connect, file: File
) -> None:
    app = await start_proxy("cache.finish_bytes=1MiB", "cache.finish_fraction=1.0")
    url = origin.url("/f")
    file.stop_at = SIZE - 500_000
    await take(await connect(app), url, SIZE - 500_000)
    file.go.set()
    await quiet(app)
    assert file.sent == SIZE
    assert (await (await connect(app)).get(url)).body == BODY
    assert file.asked == [(0, SIZE)]


async def test_half_is_finished_less_is_not(
    origin: Origin, start_proxy: StartProxy, connect: Connect, file: File
) -> None:
    app = await start_proxy("cache.finish_bytes=0", "cache.finish_fraction=0.5")
    for at, is_finished in ((SIZE // 2 - 300_000, False), (SIZE // 2 + 10_000, True)):
        path = f"/f?{at}"
        file.stop_at, file.sent, file.go = at, 0, asyncio.Event()
        await take(await connect(app), origin.url(path), at)
        if is_finished:
            file.go.set()
        await quiet(app)
        assert (file.sent == SIZE) is is_finished


async def test_what_was_asked_for_before_is_finished(
    origin: Origin, start_proxy: StartProxy, connect: Connect, file: File
) -> None:
    app = await start_proxy("cache.finish_bytes=0", "cache.finish_fraction=1.0")
    url = origin.url("/f")
    await aborted(app, connect, file, url, 600_000)
    # Whoever asks for a part looks for something in it: no reason to fetch all of it.
    await aborted(app, connect, file, url, 800_000, f"Range: bytes=600000-{SIZE - 1}")
    assert file.sent < SIZE
    file.stop_at, file.go = 1_000_000, asyncio.Event()
    assert await take(await connect(app), url, 1_000_000) == BODY[:1_000_000]
    file.go.set()
    await quiet(app)
    sent = file.sent
    assert sent >= SIZE
    assert (await (await connect(app)).get(url)).body == BODY
    assert file.sent == sent


@pytest.mark.parametrize("how", ["purged", "not written"])
async def test_what_is_worth_nothing_any_more_is_not_finished(
    origin: Origin, start_proxy: StartProxy, connect: Connect, how: str
) -> None:
    # More than sockets hold.
    origin.routes["/f"] = file = File(bytes(40_000_000))
    app = await start_proxy("cache.finish_bytes=1GiB", "cache.disk=1GiB", "cache.keep_free=1MiB")
    url = origin.url("/f")
    file.stop_at = 1_000_000
    await take(await connect(app), url, 1_000_000)
    while not app.counters.aborted:
        await asyncio.sleep(0)
    assert len(app.engine.flights)
    if how == "purged":
        await app.engine.purge(Selector(urls=(url,)), dry_run=False, soft=False)
    else:
        (assembly,) = app.engine.flights.fillings._assemblies[url]
        writer = assembly.parts[0].spool._writer
        assert writer is not None
        writer.abort()
    file.go.set()
    await quiet(app)
    assert file.sent < len(file.body)


async def test_what_was_asked_for_before_it_changed_is_finished(
    origin: Origin, start_proxy: StartProxy, connect: Connect, file: File
) -> None:
    app = await start_proxy("cache.finish_bytes=0", "cache.finish_fraction=1.0")
    file.fields = ["Cache-Control: no-cache"]
    url = origin.url("/f")
    assert (await (await connect(app)).get(url)).body == BODY
    await quiet(app)
    file.etag, file.stop_at, file.sent = '"2"', 400_000, 0
    await take(await connect(app), url, 400_000)
    file.go.set()
    await quiet(app)
    assert file.sent == SIZE


async def test_an_origin_that_breaks_off_is_resumed_within_the_reply(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    file.cuts = [700_000, 1_500_001, 2_999_999]
    client = await connect(app)
    assert (await client.get(origin.url("/f"))).body == BODY
    assert file.asked == [(0, SIZE), (700_000, SIZE), (1_500_001, SIZE), (2_999_999, SIZE)]
    assert file.sent == SIZE
    await quiet(app)
    assert (await client.get(origin.url("/f"))).body == BODY
    assert file.sent == SIZE


async def test_a_ranged_reply_is_resumed_too(origin: Origin, app: App, connect: Connect, file: File) -> None:
    file.cuts = [1_200_000]
    await ranged(await connect(app), origin.url("/f"), 1_000_000, 2_000_000)
    assert file.asked == [(1_000_000, 2_000_000), (1_200_000, 2_000_000)]


async def test_a_body_of_unknown_length_is_resumed(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    file.is_chunked = True
    file.cuts = [900_000]
    client = await connect(app)
    assert (await client.get(origin.url("/f"))).body == BODY
    assert file.sent == SIZE
    await quiet(app)
    assert (await client.get(origin.url("/f"))).body == BODY
    assert file.sent == SIZE


async def test_resume_as_curl_does_it(origin: Origin, app: App, connect: Connect, file: File) -> None:
    url = origin.url("/f")
    await aborted(app, connect, file, url, 1_000_000)
    # The client has fewer bytes than the proxy.
    got = await (await connect(app)).get(url, "Range: bytes=600000-")
    assert (got.status, got.body) == (206, BODY[600_000:])
    assert file.asked[1:] == [(1_000_000, SIZE)]


async def test_stored_ranges_are_answered_from_the_store(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    url, client = origin.url("/f"), await connect(app)
    await ranged(client, url, 1000, 500_000)
    await quiet(app)
    await ranged(client, url, 1000, 500_000)
    await ranged(client, url, 250_000, 250_001)
    await ranged(client, url, 499_999, 500_000)
    assert file.asked == [(1000, 500_000)]


@pytest.mark.parametrize(
    ("first", "then", "fetched"),
    [
        ([(0, 1000)], (500, 1500), [(1000, 1500)]),
        ([(1000, 2000)], (500, 1500), [(500, 1000)]),
        ([(1000, 2000)], (500, 2500), [(500, 1000), (2000, 2500)]),
        ([(5000, 6000), (1000, 2000)], (0, 7000), [(0, 1000), (2000, 5000), (6000, 7000)]),
        ([(5000, 6000), (1000, 2000), (1500, 5500)], (1000, 6000), []),
        ([(SIZE - 10, SIZE), (0, 10)], (0, SIZE), [(10, SIZE - 10)]),
        ([(300_000, 900_000), (0, 300_000)], (0, 900_000), []),
    ],
)
async def test_gaps_and_only_gaps_are_fetched(
    origin: Origin,
    app: App,
    connect: Connect,
    file: File,
    first: list[tuple[int, int]],
    then: tuple[int, int],
    fetched: list[tuple[int, int]],
) -> None:
    url, client = origin.url("/f"), await connect(app)
    for span in first:
        await ranged(client, url, *span)
        await quiet(app)
    file.asked.clear()
    await ranged(client, url, *then)
    assert file.asked == fetched
    assert set(file.conditions) <= {'"1"'}


async def test_suffixes(origin: Origin, app: App, connect: Connect, file: File) -> None:
    url, client = origin.url("/f"), await connect(app)
    assert (await client.get(url, "Range: bytes=-1000")).body == BODY[-1000:]
    await quiet(app)
    assert (await client.get(url, "Range: bytes=-500")).body == BODY[-500:]
    assert (await client.get(url, "Range: bytes=-2000")).body == BODY[-2000:]
    assert file.asked == [(SIZE - 1000, SIZE), (SIZE - 2000, SIZE - 1000)]


async def test_several_ranges_of_a_part(origin: Origin, app: App, connect: Connect, file: File) -> None:
    url, client = origin.url("/f"), await connect(app)
    await ranged(client, url, 0, 10_000)
    await quiet(app)
    got = await client.get(url, "Range: bytes=100-199,20000-20009,50-59")
    assert got.status == 206
    for start, end in ((100, 200), (20_000, 20_010), (50, 60)):
        assert f"Content-Range: bytes {start}-{end - 1}/{SIZE}\r\n\r\n".encode() + BODY[start:end] in got.body
    assert file.asked == [(0, 10_000), (20_000, 20_010)]
    got = await client.get(url, "Range: bytes=0-0,30000-30000", "Cache-Control: only-if-cached")
    assert got.status == 504
    assert len(file.asked) == 2


async def test_the_whole_while_parts_are_stored(origin: Origin, app: App, connect: Connect, file: File) -> None:
    url, client = origin.url("/f"), await connect(app)
    await ranged(client, url, 500_000, 1_000_000)
    await ranged(client, url, 2_000_000, 2_500_000)
    await quiet(app)
    assert (await client.get(url)).body == BODY
    await quiet(app)
    assert file.sent == SIZE
    got = await client.get(url)
    assert (got.body, got.field("content-length")) == (BODY, str(SIZE))
    assert file.sent == SIZE


async def test_a_restart_in_between(
    origin: Origin, start_proxy: StartProxy, connect: Connect, file: File
) -> None:
    first = await start_proxy(*NEVER_FINISH)
    url = origin.url("/f")
    await aborted(first, connect, file, url, 800_000)
    await ranged(await connect(first), url, 2_000_000, 2_200_000)
    await first.close()
    second = await start_proxy(*NEVER_FINISH, directory=first.directory)
    client = await connect(second)
    await ranged(client, url, 100_000, 700_000)
    assert len(file.asked) == 2
    assert (await client.get(url)).body == BODY
    assert file.asked[2:] == [(800_000, 2_000_000), (2_200_000, SIZE)]


async def test_a_shutdown_keeps_what_has_arrived(
    origin: Origin, start_proxy: StartProxy, connect: Connect, file: File
) -> None:
    first = await start_proxy(*NEVER_FINISH, "server.drain_timeout=0.1s")
    file.stop_at = 1_000_000
    task = asyncio.ensure_future((await connect(first)).get(origin.url("/f")))
    await file.stopped.wait()
    while first.counters.client_bytes < 1_000_000:
        await asyncio.sleep(0)
    await first.close()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await task
    file.stop_at = None
    second = await start_proxy(*NEVER_FINISH, directory=first.directory)
    assert (await (await connect(second)).get(origin.url("/f"))).body == BODY
    assert file.asked[1:] == [(1_000_000, SIZE)]


async def test_a_reader_close_behind_or_ahead_joins(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    url = origin.url("/f")
    file.stop_at = 1_000_000
    whole = asyncio.ensure_future((await connect(app)).get(url))
    await file.stopped.wait()
    behind = spans(await connect(app), url, (500_000, 900_000))
    assert await behind[0] == BODY[500_000:900_000]
    ahead = spans(await connect(app), url, (1_050_000, 1_200_000))
    await asyncio.sleep(0)
    assert len(file.asked) == 1
    file.go.set()
    assert await ahead[0] == BODY[1_050_000:1_200_000]
    assert (await whole).body == BODY
    assert file.asked == [(0, SIZE)]


async def test_a_reader_far_ahead_fetches_its_own_part(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    url = origin.url("/f")
    file.stop_at = 1_000_000
    whole = asyncio.ensure_future((await connect(app)).get(url))
    await file.stopped.wait()
    await ranged(await connect(app), url, 2_000_000, 2_100_000)
    assert file.asked == [(0, SIZE), (2_000_000, 2_100_000)]
    file.go.set()
    assert (await whole).body == BODY
    await quiet(app)
    assert (await (await connect(app)).get(url)).body == BODY
    assert len(file.asked) == 2


async def test_eight_clients_with_equal_and_different_ranges(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    url = origin.url("/f")
    span = [(0, 400_000), (0, 400_000), (200_000, 600_000), (600_000, 900_000)] * 2
    clients = [await connect(app) for _ in span]
    await asyncio.gather(*(ranged(one, url, *part) for one, part in zip(clients, span, strict=True)))
    await quiet(app)
    assert file.sent == 900_000


@pytest.mark.parametrize("validator", ["etag", "modified"])
async def test_a_stale_part_is_validated_by_the_fetch_of_the_rest(
    origin: Origin, app: App, connect: Connect, file: File, validator: str
) -> None:
    file.fields = ["Cache-Control: max-age=0"]
    if validator == "modified":
        file.etag, file.modified = None, LONG_AGO
    url = origin.url("/f")
    await aborted(app, connect, file, url, 1_000_000)
    assert (await (await connect(app)).get(url)).body == BODY
    assert file.asked == [(0, SIZE), (1_000_000, SIZE)]
    assert file.conditions == ['"1"' if validator == "etag" else LONG_AGO]
