"""The store's contract, for memory alone and for memory in front of a disk."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from cacheproxy.http.ranges import Slice
from cacheproxy.ports import ListedEntry, Selector
from tests.store.conftest import KIB, MIB, OPTIONS, URL, House, Tap, content, read, response, until

SIZES = [0, 1, 64 * KIB, 64 * KIB + 1, 256 * KIB, MIB + 7]
EVERYTHING = Selector(everything=True)


def variants(count: int) -> list[tuple[str | None, ...]]:
    """Values of one nominated field."""
    return [(f"v{n}",) for n in range(count)]


async def listed(house: House, glob: str | None = None) -> list[ListedEntry]:
    """What an operator sees."""
    return [entry async for entry in house.store.entries(glob)]


# storing and reading


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
@pytest.mark.usefixtures("quick")
async def test_what_is_stored_is_read(either: House, size: int, whole: bool) -> None:
    """Whole and in ranges, from the candidate that commit returns, from memory and from disk."""
    data = content(size, size)
    made = await either.put(response(), data, whole=whole)
    assert made is not None
    parts = [None, Slice(0, size), Slice(0, 0), Slice(size, size)]
    for start in {0, 1, size // 2, 256 * KIB - 1, 256 * KIB, size - 1}:
        parts += [Slice(start, end) for end in {start, start + 1, size, size - 1} if 0 <= start <= end <= size]
    for step in ("memory", "disk", "reopened"):
        if step != "memory":
            if not either.on_disk:
                break
            either.forget_memory()
            await either.flush()
        if step == "reopened":
            await either.reopen()
        (found,) = await either.store.lookup(URL)
        assert found.stored.length == size
        assert found.stored.fields == response().fields
        assert found.stored.timing == response().timing
        assert found.body.available == size
        for candidate in (found, made) if step != "reopened" else (found,):
            for part in parts:
                expected = data if part is None else data[part.start : part.end]
                assert await read(candidate, part) == expected, (step, part)


@pytest.mark.parametrize("size", [0, 1, 200 * KIB])
async def test_memory_answers_at_once(either: House, size: int) -> None:
    """A body that the spool still had is found without waiting, before it is on disk."""
    data = content("at once", size)
    assert either.store.lookup_memory(URL) == ()
    writer = either.store.begin(response(), None)
    assert writer is not None
    await writer.write(data)
    await writer.commit(response(), data)
    (found,) = either.store.lookup_memory(URL)
    assert found.body.whole() == data
    assert [one.stored.entry_id for one in await either.store.lookup(URL)] == [found.stored.entry_id]


async def test_an_unknown_key(either: House) -> None:
    """Nothing, without an error."""
    assert list(await either.store.lookup("http://nobody/")) == []
    assert either.recorder.failures == []


async def test_many_look_ups_at_once(either: House) -> None:
    """Each gets its own key's, also where keys repeat and a caller goes away."""
    keys = [f"http://h/{n}" for n in range(100)]
    for key in keys:
        await either.put(response(key), content(key, 100), whole=True)
    await either.flush()
    either.forget_memory() if either.on_disk else None
    gone = [asyncio.ensure_future(either.store.lookup(key)) for key in keys[:5]]
    tasks = [asyncio.ensure_future(either.store.lookup(key)) for key in [*keys, *keys, "http://no/"]]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    found = await asyncio.gather(*tasks)
    for key, candidates in zip([*keys, *keys], found, strict=False):
        assert [await read(one) for one in candidates] == [content(key, 100)]
    assert list(found[-1]) == []


@pytest.mark.parametrize("size", SIZES)
async def test_abort_leaves_nothing(either: House, size: int) -> None:
    """Nor does a commit after it, nor a second abort."""
    writer = either.store.begin(response(), size)
    assert writer is not None
    await writer.write(content(1, size))
    writer.abort()
    writer.abort()
    assert not writer.is_open
    await writer.write(b"more")
    assert await writer.commit(response(), None) is None
    assert list(await either.store.lookup(URL)) == []
    if either.on_disk:
        await either.flush()
        assert list(await (await either.reopen()).lookup(URL)) == []
        await until(lambda: either.sql("SELECT COUNT(*) FROM chunks") == [(0,)])


async def test_too_large(either: House) -> None:
    """Announced or found out: it is not stored, and the fetch goes on without an error."""
    limit = either.max_object_bytes = 2 * MIB
    await either.reopen()
    assert either.on_disk or either.memory.object_bytes >= limit
    limit = limit if either.on_disk else either.memory.object_bytes
    assert either.store.begin(response(), limit + 1) is None
    assert either.store.begin(response(), limit) is not None
    writer = either.store.begin(response(), None)
    assert writer is not None
    for _ in range(limit // (64 * KIB)):
        await writer.write(bytes(64 * KIB))
    assert writer.is_open
    progress: list[bool] = []
    writer.on_progress = lambda: progress.append(writer.is_open)
    await writer.write(b"x")
    assert progress[-1:] == [False]
    assert not writer.is_open
    assert await writer.commit(response(), None) is None
    assert list(await either.store.lookup(URL)) == []


# variants


@pytest.mark.usefixtures("quick")
async def test_commit_replaces_the_same_variant(either: House) -> None:
    """The newer response of a variant takes the older one's place; other variants and keys stay."""
    for n, value in enumerate(["gzip", "br", None]):
        await either.put(response(nominated=("accept-encoding",), variant=(value,)), b"old%d" % n)
    await either.put(response("http://other/"), b"other")
    await either.put(response(etag='"2"', nominated=("accept-encoding",), variant=("br",)), b"new")
    for _ in range(2):
        found = {one.stored.variant: await read(one) for one in await either.store.lookup(URL)}
        assert found == {("gzip",): b"old0", ("br",): b"new", (None,): b"old2"}
        assert await either.bodies("http://other/") == [b"other"]
        if either.on_disk:
            await either.reopen()


async def test_replaced_before_it_is_on_disk(house: House) -> None:
    """Twice the same variant within one transaction, or the second while only the first is on disk."""
    for n in range(3):
        await house.put(response(etag=f'"{n}"'), b"%d" % n, whole=True)
        await house.put(response(etag=f'"{n}+"'), b"%d+" % n, whole=True)
        assert await house.bodies(URL) == [b"%d+" % n]
        await house.flush()
        assert await house.bodies(URL) == [b"%d+" % n]
    await house.reopen()
    assert await house.bodies(URL) == [b"2+"]


async def test_what_is_replaced_is_not_counted(house: House, tap: Tap) -> None:
    """Its row is there until the next transaction."""
    await house.put(response(), b"old", whole=True)
    await house.flush()
    go = asyncio.Event()

    async def hold(sql: str) -> None:
        if sql.startswith("BEGIN"):
            await go.wait()

    tap.before = hold
    house.store.put(response(), b"new")
    for selector in (Selector(urls=(URL,)), Selector(glob="*")):
        assert await house.store.purge(selector, dry_run=True, soft=False) == 1
    tap.before = None
    go.set()
    await house.flush()


async def test_what_was_purged_while_it_was_fetched_is_not_kept(house: House) -> None:
    writer = house.store.begin(response(), 4)
    assert writer is not None
    await writer.write(b"body")
    await house.store.purge(EVERYTHING, dry_run=False, soft=False)
    assert await writer.commit(response(), b"body") is None
    assert not house.store.lookup_memory(URL)
    assert await house.bodies(URL) == []


async def test_a_look_up_before_the_commit_does_not_keep_the_old_one(house: House) -> None:
    """The disk has nothing for who looks while the first is on its way: the second replaces it all the same."""
    await house.put(response(etag='"1"'), b"old", whole=True)
    house.forget_memory()
    await house.disk.look_ups.lookup(URL)
    await house.put(response(etag='"2"'), b"new", whole=True)
    await house.flush()
    house.forget_memory()
    assert await house.bodies(URL) == [b"new"]


@pytest.mark.parametrize("size", [10, 70_000])
async def test_what_is_replaced_goes_also_where_its_successor_is_refused(
    house: House, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The origin has another version now, whether that is worth storing or not."""
    await house.put(response(etag='"1"'), content("old", size), whole=True)
    await house.flush()
    house.forget_memory()
    monkeypatch.setattr(house.disk.ranking, "admits", lambda key, size: False)
    if size == 10:
        house.store.put(response(etag='"2"'), content("new", size))
    else:
        assert house.store.begin(response(etag='"2"'), size) is None
    house.forget_memory()
    assert await house.bodies(URL) == []
    await house.reopen()
    assert await house.bodies(URL) == []


@pytest.mark.parametrize("size", [10, 70_000])
async def test_what_is_replaced_goes_also_where_its_successor_cannot_be_written(
    house: House, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory has the new one; once it lets go of that, the disk must not bring the old one back."""

    async def full(size: int) -> bool:
        return False

    await house.put(response(etag='"1"'), content("old", size), whole=True)
    await house.flush()
    house.forget_memory()
    with monkeypatch.context() as patch:
        patch.setattr(house.disk.writer, "room", full)
        new = await house.put(response(etag='"2"'), content("new", size), whole=True)
    assert new is not None
    assert await house.bodies(URL) == [content("new", size)]
    house.forget_memory()
    assert await house.bodies(URL) == []
    await house.reopen()
    assert await house.bodies(URL) == []


async def test_what_is_replaced_goes_also_where_its_successor_proves_too_large(tmp_path: Path) -> None:
    """From both tiers: what memory still has must not be answered any longer than what the disk has."""
    house = House(tmp_path)
    house.max_object_bytes = 300 * KIB
    await house.open()
    await house.put(response(etag='"1"'), b"old", whole=True)
    await house.flush()
    assert house.store.lookup_memory(URL)
    assert await house.put(response(etag='"2"'), content("new", 400 * KIB), announced=False) is None
    assert not house.store.lookup_memory(URL)
    assert await house.bodies(URL) == []
    await house.close()


async def more_than_memory_holds(house: House) -> list[str]:
    """The keys of small responses that are on disk alone."""
    house.memory_bytes = 64 * KIB
    await house.reopen()
    keys = [f"http://h/{number}" for number in range(60)]
    for key in keys:
        await house.put(response(key), content(key, KIB), whole=True)
    await house.flush()
    house.forget_memory()
    return keys


async def test_what_is_read_once_does_not_push_out_what_is_used(house: House) -> None:
    """From disk into memory: at once while there is room, then at the second use."""
    keys = await more_than_memory_holds(house)

    def tiers() -> list[str]:
        return [one.tier for key in keys for one in house.store.lookup_memory(key)]

    for key in keys:
        await house.store.lookup(key)
    first = tiers()
    count = first.count("memory")
    assert 0 < count < len(keys)
    assert first == ["memory"] * count + ["disk"] * (len(keys) - count)
    await house.store.lookup(keys[-1])
    assert tiers()[-1] == "memory"


@pytest.mark.parametrize("way", ["at once", "whole", "in parts"])
async def test_a_body_whose_head_is_in_memory_comes_there_at_its_second_reading(house: House, way: str) -> None:
    """Where there is no room, and however it is read, but for a part of it."""
    keys = await more_than_memory_holds(house)
    for key in keys:
        await house.store.lookup(key)
    (head,) = house.store.lookup_memory(keys[-1])
    assert (head.tier, head.body.whole(), head.body.available) == ("disk", None, KIB)
    if way == "at once":
        found = head.body.at_once()
        assert found is not None
        assert found.whole() == content(keys[-1], KIB)
    else:
        part = None if way == "whole" else Slice(10, 20)
        got = await read(head, part)
        assert got == (content(keys[-1], KIB) if part is None else content(keys[-1], KIB)[10:20])
    (now,) = house.store.lookup_memory(keys[-1])
    assert now.tier == ("disk" if way == "in parts" else "memory")


@pytest.mark.parametrize("size", [10, 70_000])
@pytest.mark.usefixtures("quick")
async def test_at_most_32_variants(either: House, size: int) -> None:
    """The oldest go first, from both tiers: what is still found can be read."""
    for value in variants(40):
        await either.put(response(nominated=("x",), variant=value), content(value, size))
    await either.flush()
    for _ in range(2):
        found = {one.stored.variant: one for one in await either.store.lookup(URL)}
        assert set(found) == set(variants(40)[8:])
        for value, candidate in found.items():
            assert await read(candidate) == content(value, size)
        if either.on_disk:
            await either.reopen()


# freshening


@pytest.mark.parametrize("size", [0, 10, 300 * KIB])
@pytest.mark.usefixtures("quick")
async def test_freshen_changes_the_head_not_the_body(either: House, size: int) -> None:
    """Visible at once, through every way in, and after reopening."""
    data = content("freshen", size)
    await either.put(response(), data)
    await either.put(response("http://other/"), b"other")
    (old,) = await either.store.lookup(URL)
    new = response(etag='"2"', extra=(("Age", "7"),), at=784222222.0)
    place = old.stored
    updated = either.store.freshen(old, new.with_body(place.entry_id, place.body_id, place.length))
    assert updated.stored.etag == '"2"'
    assert await read(updated) == data
    for step in ("memory", "disk", "flushed", "reopened"):
        if step != "memory":
            if not either.on_disk:
                break
            either.forget_memory()
        if step == "flushed":
            await either.flush()
        if step == "reopened":
            await either.reopen()
        (found,) = await either.store.lookup(URL)
        assert found.stored.fields == new.fields, step
        assert found.stored.timing == new.timing
        assert found.stored.entry_id == place.entry_id
        assert await read(found) == data
    assert await either.bodies("http://other/") == [b"other"]


@pytest.mark.parametrize("first", ["soft", "contradicted"])
@pytest.mark.usefixtures("quick")
async def test_stale_until_freshened(either: House, first: str) -> None:
    """A soft purge and a HEAD that contradicts (RFC 9111 §4.3.5) last until a validation, over a restart."""
    await either.put(response(), b"body")
    if first == "soft":
        assert await either.store.purge(Selector(urls=(URL,)), dry_run=False, soft=True) == 1
    else:
        (found,) = await either.store.lookup(URL)
        either.store.freshen(found, found.stored.stale())
    for _ in range(2):
        (found,) = await either.store.lookup(URL)
        assert found.stored.forced_stale
        assert await read(found) == b"body"
        if either.on_disk:
            await either.reopen()
    place = found.stored
    either.store.freshen(found, response().with_body(place.entry_id, place.body_id, place.length))
    for _ in range(2):
        (found,) = await either.store.lookup(URL)
        assert not found.stored.forced_stale
        if either.on_disk:
            await either.reopen()


# removing


async def fill(house: House) -> dict[str, bytes]:
    """Small and large bodies under several hosts."""
    bodies = {
        "http://one.example/a": content(1, 100),
        "http://one.example/b?q=1": content(2, 70_000),
        "http://one.example:8080/a": content(3, 10),
        "https://two.example/a": content(4, 300_000),
        "http://one.example.org/a": content(5, 0),
    }
    for key, data in bodies.items():
        await house.put(response(key), data, whole=len(data) < 1000)
    await house.flush()
    return bodies


REMOVALS = [
    pytest.param(Selector(urls=("http://one.example/a",)), {"http://one.example/a"}, id="url"),
    pytest.param(
        Selector(urls=("http://one.example/a", "https://two.example/a", "http://no/")),
        {"http://one.example/a", "https://two.example/a"},
        id="urls",
    ),
    pytest.param(
        Selector(host="ONE.example"),
        {"http://one.example/a", "http://one.example/b?q=1", "http://one.example:8080/a"},
        id="host",
    ),
    pytest.param(Selector(host="one.example:8080"), {"http://one.example:8080/a"}, id="host and port"),
    pytest.param(
        Selector(glob="http://one.example/*"), {"http://one.example/a", "http://one.example/b?q=1"}, id="glob"
    ),
    pytest.param(Selector(glob="*[?]q=?"), {"http://one.example/b?q=1"}, id="glob with classes"),
    pytest.param(Selector(glob="one"), set(), id="a glob matches the whole URL"),
    pytest.param(Selector(host="no.example"), set(), id="nothing"),
    pytest.param(
        EVERYTHING,
        {
            "http://one.example/a",
            "http://one.example/b?q=1",
            "http://one.example:8080/a",
            "https://two.example/a",
            "http://one.example.org/a",
        },
        id="all",
    ),
]


@pytest.mark.parametrize(("selector", "meant"), REMOVALS)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.usefixtures("quick")
async def test_purge(either: House, selector: Selector, meant: set[str], soft: bool) -> None:
    """A dry run counts and does nothing; then exactly what is meant goes, at once and for good."""
    bodies = await fill(either)
    assert await either.store.purge(selector, dry_run=True, soft=soft) == len(meant)
    for key, data in bodies.items():
        assert await either.bodies(key) == [data]
        assert not (await either.store.lookup(key))[0].stored.forced_stale
    assert await either.store.purge(selector, dry_run=False, soft=soft) == len(meant)
    for _ in range(2):
        for key, data in bodies.items():
            found = await either.store.lookup(key)
            if key in meant and not soft:
                assert list(found) == []
                assert either.store.lookup_memory(key) == ()
            else:
                assert [await read(one) for one in found] == [data]
                assert [one.stored.forced_stale for one in found] == [key in meant]
        if either.on_disk:
            await either.reopen()
    assert await either.store.purge(selector, dry_run=False, soft=False) == (len(meant) if soft else 0)


@pytest.mark.parametrize("how", ["discard", "invalidate"])
@pytest.mark.usefixtures("quick")
async def test_one_goes(either: House, how: str) -> None:
    """`discard` takes one variant, `invalidate` the whole key; both at once and for good."""
    for value in variants(3):
        await either.put(response(nominated=("x",), variant=value), content(value, 70_000))
    await either.put(response("http://other/"), b"other")
    if how == "discard":
        (gone,) = [one for one in await either.store.lookup(URL) if one.stored.variant == ("v1",)]
        either.store.discard(gone)
        left = {("v0",), ("v2",)}
    else:
        either.store.invalidate(URL)
        left = set()
    for _ in range(2):
        assert {one.stored.variant for one in await either.store.lookup(URL)} == left
        assert await either.bodies("http://other/") == [b"other"]
        if either.on_disk:
            await either.reopen()


async def test_discarding_the_newest_brings_nothing_older_back(house: House) -> None:
    """What it replaced is gone, even while the replacing transaction is still to come."""
    await house.put(response(), b"old")
    await house.put(response(etag='"2"'), b"new", whole=True)
    (new,) = house.store.lookup_memory(URL)
    house.store.discard(new)
    assert list(await house.store.lookup(URL)) == []
    await house.flush()
    assert list(await house.store.lookup(URL)) == []


async def test_what_comes_after_an_invalidation_stays(either: House) -> None:
    """Also where both go into one transaction."""
    await either.put(response(), b"old", whole=True)
    either.store.invalidate(URL)
    await either.put(response(etag='"2"'), b"new", whole=True)
    for _ in range(2):
        assert await either.bodies(URL) == [b"new"]
        if either.on_disk:
            await either.reopen()


@pytest.mark.parametrize("size", [100, 300 * KIB])
@pytest.mark.parametrize("how", ["discard", "invalidate", "purge", "all", "replace", "soft"])
async def test_a_look_up_under_way_brings_nothing_back(house: House, tap: Tap, size: int, how: str) -> None:
    """The statement has read the row; before its result arrives the entry is removed, committed and reclaimed."""
    await house.put(response(), content("gone", size))
    (old,) = await house.store.lookup(URL)
    house.forget_memory()
    fetched, go = asyncio.Event(), asyncio.Event()

    async def hold(sql: str) -> None:
        if sql.startswith("SELECT e.key"):
            fetched.set()
            await go.wait()

    tap.after = hold
    looking = asyncio.ensure_future(house.store.lookup(URL))
    await fetched.wait()
    tap.after = None
    match how:
        case "discard":
            house.store.discard(old)
        case "invalidate":
            house.store.invalidate(URL)
        case "purge":
            await house.store.purge(Selector(urls=(URL,)), dry_run=False, soft=False)
        case "all":
            await house.store.purge(EVERYTHING, dry_run=False, soft=False)
        case "replace":
            await house.put(response(etag='"2"'), b"new", whole=True)
        case "soft":
            await house.store.purge(Selector(urls=(URL,)), dry_run=False, soft=True)
    await house.flush()
    go.set()
    got = await looking
    if how not in ("replace", "soft"):
        # From the order on, also for who asked before it.
        assert list(got) == []
    for found in (house.store.lookup_memory(URL), await house.store.lookup(URL)):
        if how == "soft":
            assert all(one.stored.forced_stale for one in found)
        else:
            assert old.stored.entry_id not in {one.stored.entry_id for one in found}
    if how == "replace":
        assert await house.bodies(URL) == [b"new"]


@pytest.mark.parametrize("how", ["invalidate", "url", "all"])
async def test_a_commit_under_way_brings_nothing_back(house: House, tap: Tap, how: str) -> None:
    """The order comes while the response's transaction runs: neither tier keeps it."""
    began, go = asyncio.Event(), asyncio.Event()

    async def hold(sql: str) -> None:
        if sql.startswith("BEGIN") and not began.is_set():
            began.set()
            await go.wait()

    tap.before = hold
    committing = asyncio.ensure_future(house.put(response(), content("commit", 300 * KIB)))
    await began.wait()
    orders: list[asyncio.Future[int]] = []
    if how == "invalidate":
        house.store.invalidate(URL)
    else:
        selector = Selector(urls=(URL,)) if how == "url" else EVERYTHING
        orders = [asyncio.ensure_future(house.store.purge(selector, dry_run=False, soft=False))]
        # The order has looked for what there is, and has found nothing.
        for _ in range(2000):
            await asyncio.sleep(0)
    go.set()
    await asyncio.gather(committing, *orders)
    await house.flush()
    if how == "url":
        # Not removed is honest where nothing was found; what remains must be readable.
        assert await house.bodies(URL) in ([], [content("commit", 300 * KIB)])
        return
    assert house.store.lookup_memory(URL) == ()
    assert list(await house.store.lookup(URL)) == []
    await house.reopen()
    assert list(await house.store.lookup(URL)) == []


@pytest.mark.parametrize("how", ["discard", "invalidate", "all"])
async def test_freshening_brings_nothing_back(either: House, how: str) -> None:
    """A validation that ends after the removal of what it validated."""
    await either.put(response(), content("f", 300 * KIB))
    (old,) = await either.store.lookup(URL)
    match how:
        case "discard":
            either.store.discard(old)
        case "invalidate":
            either.store.invalidate(URL)
        case "all":
            await either.store.purge(EVERYTHING, dry_run=False, soft=False)
    either.store.freshen(old, old.stored)
    assert either.store.lookup_memory(URL) == ()
    assert list(await either.store.lookup(URL)) == []


@pytest.mark.parametrize("how", ["discard", "invalidate", "all", "replace"])
@pytest.mark.parametrize("from_disk", [False, True])
@pytest.mark.usefixtures("quick")
async def test_a_body_being_read_is_read_to_its_end(house: House, how: str, from_disk: bool) -> None:
    """Its rows stay until the last reader ends, then they go."""
    data = content("reading", MIB)
    await house.put(response(), data)
    if from_disk:
        house.forget_memory()
    (found,) = await house.store.lookup(URL)
    source = found.body.read(None)
    got = [await anext(source)]
    match how:
        case "discard":
            house.store.discard(found)
        case "invalidate":
            house.store.invalidate(URL)
        case "all":
            await house.store.purge(EVERYTHING, dry_run=False, soft=False)
        case "replace":
            await house.put(response(etag='"2"'), b"new")
    await house.flush()
    await house.put(response("http://other/"), content("other", MIB))
    got += [piece async for piece in source]
    assert b"".join(got) == data
    body_id = found.stored.body_id
    await house.flush()
    await until(lambda: house.sql("SELECT COUNT(*) FROM chunks WHERE body_id = ?", body_id) == [(0,)])


async def test_a_reader_that_leaves_early_keeps_nothing(house: House) -> None:
    """Closing the source is enough."""
    await house.put(response(), content("early", MIB))
    (found,) = await house.store.lookup(URL)
    source = found.body.read(None)
    await anext(source)
    house.store.discard(found)
    await source.aclose()  # type: ignore[attr-defined]
    await until(lambda: house.sql("SELECT COUNT(*) FROM chunks") == [(0,)])


@pytest.mark.parametrize("how", ["discard", "invalidate", "all", "replace"])
async def test_space_comes_back_without_further_ado(house: House, how: str) -> None:
    """Nobody reads, nothing else happens: the rows of what was removed are reclaimed all the same."""
    await house.put(response(), content("space", 3 * MIB))
    used = (await house.store.usage()).disk_bytes
    await house.flush()
    await until(lambda: house.sql("SELECT COUNT(*) FROM loose") == [(0,)])
    (found,) = await house.store.lookup(URL)
    match how:
        case "discard":
            house.store.discard(found)
        case "invalidate":
            house.store.invalidate(URL)
        case "all":
            await house.store.purge(EVERYTHING, dry_run=False, soft=False)
        case "replace":
            await house.put(response(etag='"2"'), b"new")
    await house.flush()
    await until(lambda: house.sql("SELECT COUNT(*) FROM chunks WHERE length > 3") == [(0,)], 3)
    assert (await house.store.usage()).disk_bytes < used - 2 * MIB


# operators


async def test_usage_and_list(either: House) -> None:
    """What operators see agrees with what was stored."""
    bodies = await fill(either)
    usage = await either.store.usage()
    assert usage.memory_entries == len(bodies)
    assert 0 < usage.memory_bytes <= either.memory_bytes
    if either.on_disk:
        assert usage.disk_entries == len(bodies)
        assert sum(map(len, bodies.values())) < usage.disk_bytes <= usage.disk_file_bytes
    entries = await listed(either)
    assert {entry.key: entry.status for entry in entries} == dict.fromkeys(bodies, 200)
    assert [entry.entry_id for entry in entries] == sorted(entry.entry_id for entry in entries)
    assert {entry.content_type for entry in entries} == {"text/plain"}
    assert {entry.key for entry in await listed(either, "https://*")} == {"https://two.example/a"}
    either.store.invalidate("https://two.example/a")
    assert await listed(either, "https://*") == []


async def test_list_pages(house: House) -> None:
    """More entries than a page holds, none twice, none left out; purge finds them all."""
    keys = {f"http://h/{n}" for n in range(2500)}
    writers = [house.store.begin(response(key), 0) for key in keys]
    for key, writer in zip(keys, writers, strict=True):
        assert writer is not None
        await writer.commit(response(key), b"")
    await house.flush()
    assert sorted(entry.key for entry in await listed(house)) == sorted(keys)
    assert await house.store.purge(Selector(glob="*1"), dry_run=False, soft=False) == 250
    assert await house.store.purge(EVERYTHING, dry_run=True, soft=False) == 2250
    assert await house.store.purge(EVERYTHING, dry_run=False, soft=False) == 2250
    assert await listed(house) == []


# against a model


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.usefixtures("quick")
async def test_random_histories(either: House, seed: int) -> None:
    """Whatever happens in whatever order: the store never shows anything but the last that was stored."""
    rng = random.Random(seed)
    model: dict[tuple[str, str], tuple[str, bytes]] = {}
    keys = [f"http://h/{n}" for n in range(4)]
    for step in range(80):
        key, value = rng.choice(keys), rng.choice(["", "x", "y"])
        match rng.choice(
            ["put", "put", "put", "abort", "freshen", "discard", "invalidate", "purge", "forget", "again"]
        ):
            case "put":
                size = rng.choice([0, 10, 70_000, 300_000])
                data = content((seed, step), size)
                shape = {"nominated": ("v",), "variant": (value,)} if value else {}
                await either.put(response(key, etag=f'"{step}"', **shape), data, whole=rng.random() < 0.5)
                model[key, value] = (f'"{step}"', data)
            case "abort":
                writer = either.store.begin(response(key), None)
                assert writer is not None
                await writer.write(bytes(rng.choice([0, 300_000])))
                writer.abort()
            case "freshen":
                for one in await either.store.lookup(key):
                    fields = one.stored.fields.replaced("ETag", f'"{step}"')
                    head = one.stored.head.with_fields(fields)
                    old = one.stored
                    new = type(old).build(
                        key,
                        old.nominated,
                        old.variant,
                        head,
                        old.timing,
                        OPTIONS,
                        entry_id=old.entry_id,
                        body_id=old.body_id,
                        length=old.length,
                    )
                    either.store.freshen(one, new)
                    name = (old.variant or ("",))[0] or ""
                    model[key, name] = (f'"{step}"', model[key, name][1])
            case "discard":
                await either.flush()
                for one in list(await either.store.lookup(key))[:1]:
                    either.store.discard(one)
                    del model[key, (one.stored.variant or ("",))[0] or ""]
            case "invalidate":
                either.store.invalidate(key)
                model = {place: what for place, what in model.items() if place[0] != key}
            case "purge":
                dry = rng.random() < 0.5
                await either.flush()
                count = await either.store.purge(Selector(glob="*[12]"), dry_run=dry, soft=False)
                hit = {place for place in model if place[0][-1] in "12"}
                assert count == len(hit)
                if not dry:
                    model = {place: what for place, what in model.items() if place not in hit}
            case "forget" if either.on_disk:
                await either.flush()
                either.forget_memory()
            case "again" if either.on_disk:
                await either.reopen()
        for key in keys:
            found = {
                (one.stored.variant or ("",))[0]: (one.stored.etag, await read(one))
                for one in await either.store.lookup(key)
            }
            assert found == {name: what for (at, name), what in model.items() if at == key}, step
