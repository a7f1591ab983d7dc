"""What is on its way to the disk is found, although memory has let go of it: it is not fetched again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cacheproxy.ports import Candidate, Selector
from cacheproxy.store.arriving import Arriving
from cacheproxy.store.memory import MemoryBody
from tests.store.conftest import URL, House, Tap, io_error, response, until


class Held:
    """Transactions wait until `let_go`."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._go = asyncio.Event()
        tap.before = self._wait

    async def _wait(self, sql: str) -> None:
        if sql.startswith("BEGIN"):
            await self._go.wait()

    def let_go(self) -> None:
        """They go on."""
        self._tap.before = None
        self._go.set()


@pytest.fixture
async def held(house: House, tap: Tap) -> AsyncIterator[Held]:
    """Nothing is committed."""
    held = Held(tap)
    yield held
    held.let_go()
    await house.flush()


def look_up(house: House, key: str) -> asyncio.Future[list[bytes | None]]:
    """What the direct path finds."""
    found: asyncio.Future[list[bytes | None]] = asyncio.get_running_loop().create_future()
    house.store.look_up(key, lambda some: found.set_result([one.body.whole() for one in some or ()]))
    return found


@pytest.mark.parametrize("how", ["at once", "spooled"])
async def test_it_is_found(house: House, held: Held, how: str) -> None:
    if how == "at once":
        house.store.put(response(), b"body")
    else:
        await house.put(response(), b"body", whole=True)
    assert not house.store.is_absent(URL)
    house.forget_memory()
    assert await house.bodies(URL) == [b"body"]
    house.forget_memory()
    assert await look_up(house, URL) == [b"body"]
    held.let_go()
    await house.flush()
    house.forget_memory()
    assert await house.bodies(URL) == [b"body"]
    assert not house.disk.arriving.of(URL)


async def test_each_variant_once_and_only_the_newest(house: House, held: Held) -> None:
    for value, body in (("a", b"old a"), ("b", b"b"), ("a", b"new a")):
        house.store.put(response(nominated=("x",), variant=(value,)), body)
        house.forget_memory()
    assert await house.bodies(URL) == [b"b", b"new a"]
    held.let_go()
    await house.flush()
    house.forget_memory()
    assert await house.bodies(URL) == [b"b", b"new a"]


async def test_no_more_variants_than_are_stored(house: House, held: Held) -> None:
    for number in range(100):
        house.store.put(response(nominated=("x",), variant=(str(number),)), b"%d" % number)
    house.forget_memory()
    assert await house.bodies(URL) == [b"%d" % number for number in range(68, 100)]


@pytest.mark.parametrize("how", ["discard", "invalidate", "purge", "everything"])
async def test_what_is_removed_is_not_found(house: House, held: Held, how: str) -> None:
    made = house.store.put(response(), b"body")
    house.forget_memory()
    if how == "discard":
        house.store.discard(made)
    elif how == "invalidate":
        house.store.invalidate(URL)
    else:
        selector = Selector(urls=(URL,)) if how == "purge" else Selector(everything=True)
        purging = asyncio.ensure_future(house.store.purge(selector, dry_run=False, soft=False))
        held.let_go()
        await purging
    assert await house.bodies(URL) == []


async def test_a_purge_counts_each_once(house: House, held: Held) -> None:
    for _ in range(3):
        house.store.put(response(), b"body")
    house.store.put(response("http://other/"), b"body")
    house.forget_memory()
    for selector, count in ((Selector(urls=(URL,)), 1), (Selector(everything=True), 2)):
        assert await house.store.purge(selector, dry_run=True, soft=False) == count


async def test_it_has_the_head_that_it_was_given_since(house: House, held: Held) -> None:
    made = house.store.put(response(), b"body")
    newer = response(etag='"newer"').with_body(made.stored.entry_id, made.stored.body_id, 4)
    house.store.freshen(made, newer)
    house.forget_memory()
    (found,) = await house.store.lookup(URL)
    assert (found.stored.etag, found.body.whole()) == ('"newer"', b"body")


async def test_a_look_up_from_before_the_commit_finds_it(house: House, held: Held, tap: Tap) -> None:
    """The disk's answer is from before, and comes when nothing is on its way any more."""
    house.store.put(response(), b"body")
    house.forget_memory()
    asked, go = asyncio.Event(), asyncio.Event()

    async def hold(sql: str) -> None:
        if sql.startswith("SELECT e.key"):
            asked.set()
            await go.wait()

    tap.after = hold
    looking = asyncio.ensure_future(house.store.lookup(URL))
    await asked.wait()
    tap.after = None
    held.let_go()
    await house.flush()
    assert not house.disk.arriving.of(URL)
    go.set()
    found: list[Candidate] = list(await looking)
    assert [one.body.whole() for one in found] == [b"body"]


@pytest.mark.usefixtures("quick")
async def test_what_fails_to_get_there_is_not_found_any_more(house: House, tap: Tap) -> None:
    async def fail(sql: str) -> None:
        if not sql.startswith("SELECT"):
            raise io_error()

    tap.before = fail
    house.store.put(response(), b"body")
    house.forget_memory()
    assert await house.bodies(URL) == [b"body"]
    await house.flush()
    house.forget_memory()
    tap.before = None
    assert await house.bodies(URL) == []


async def test_what_failed_and_was_purged_does_not_come_back(house: House, tap: Tap) -> None:
    """A look-up that saw it on its way ends after that: nobody else knew of it any more."""
    failed, asked, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def before(sql: str) -> None:
        if not sql.startswith("SELECT"):
            failed.set()
            raise io_error()

    async def after(sql: str) -> None:
        if sql.startswith("SELECT e.key"):
            asked.set()
            await go.wait()

    tap.before, tap.after = before, after
    house.store.put(response(), b"body")
    house.forget_memory()
    looking = asyncio.ensure_future(house.store.lookup(URL))
    await asked.wait()
    tap.after = None
    house.disk.writer.commit_soon()
    await failed.wait()
    await until(lambda: not house.disk.arriving.of(URL))
    tap.before = None
    await house.store.purge(Selector(urls=(URL,)), dry_run=False, soft=False)
    go.set()
    assert list(await looking) == []
    assert not house.store.lookup_memory(URL)


def test_it_stays_within_bytes() -> None:
    arriving = Arriving(100_000)
    made = [
        Candidate(response(f"http://h/{number % 7}"), MemoryBody(bytes(number * 10)), "memory")
        for number in range(500)
    ]
    for _ in range(3):
        for one in made:
            arriving.add(one)
        inside = list(arriving)
        assert 0 < len(inside) < 100
        assert sum(one.body.available for one in inside) < 100_000
        for one in made:
            arriving.settled(one)
            arriving.settled(one)
        assert not list(arriving)
        assert not arriving.of("http://h/1")
