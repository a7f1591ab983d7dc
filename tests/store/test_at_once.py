"""Reads by the loop: while the disk is quick, its thread idle and the file whole; else the thread does it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.errors import StoreError
from cacheproxy.ports import Candidate, Selector
from cacheproxy.store.at_once import AtOnce, Place
from cacheproxy.store.memory import MemoryBody
from tests.store.conftest import KIB, OPTIONS, URL, House, Tap, content, read, response


class Disk:
    """A connection to nothing, on which a statement takes `costs_s`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.costs_s = 0.0
        self.calls = 0
        self.soon: list[Callable[[], None]] = []
        self.said: list[str] = []
        self.error: sqlite3.Error | None = None

    def cursor(self) -> Disk:
        return self

    def close(self) -> None:
        """Nothing is open."""

    def execute(self, sql: str, parameters: tuple[int, ...] = ()) -> Disk:
        self.calls += 1
        self.said.append(sql.split()[0])
        self.now += self.costs_s
        if self.error is not None:
            raise self.error
        return self

    def fetchall(self) -> list[tuple[object, ...]]:
        return []

    def at_once(self, wait_s: float) -> AtOnce:
        return AtOnce(self, wait_s, lambda: self.now, self.soon.append)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cost_s", "pause_s"),
    [(0.0004, 0.0), (0.001, 0.0), (0.1, 2.7), (100.0, 599.5)],
    ids=["quick", "slow for once", "slow", "hung"],
)
def test_what_takes_long_is_followed_by_a_pause(cost_s: float, pause_s: float) -> None:
    """Of 32 times as long, at most ten minutes, less half a second that was saved up."""
    disk = Disk()
    at_once = disk.at_once(0.0005)
    disk.costs_s = cost_s
    assert at_once.look_up(URL) == []
    disk.now += pause_s - 1e-6
    assert (at_once.look_up(URL) is None) is (pause_s > 0)
    before = disk.calls
    disk.now += 2e-6
    assert at_once.look_up(URL) == []
    assert disk.calls == before + 1


def test_what_is_slow_now_and_then_is_read_all_the_same() -> None:
    disk = Disk()
    at_once = disk.at_once(0.0005)
    disk.costs_s = 0.001
    for _ in range(100):
        assert at_once.look_up(URL) == []
        disk.now += 0.0315
    # One after the other: until half a second's worth of pauses has come together.
    answers = [at_once.look_up(URL) for _ in range(100)]
    assert 10 <= answers.count([]) <= 20
    assert answers == [[]] * answers.count([]) + [None] * answers.count(None)


@given(st.lists(st.tuples(st.floats(0.0, 0.2), st.floats(0.0, 0.5)), max_size=60))
@settings(deadline=None, derandomize=True, database=None)
def test_slow_reads_take_a_thirtieth_of_the_time(reads: list[tuple[float, float]]) -> None:
    """And half a second's share at first, and what the last one took."""
    disk = Disk()
    at_once = disk.at_once(0.0005)
    began, slow_s = disk.now, 0.0
    for cost_s, gap_s in reads:
        disk.costs_s = cost_s
        before = disk.calls
        at_once.look_up(URL)
        if disk.calls > before and cost_s > 0.0005:
            slow_s += cost_s
            assert slow_s <= (disk.now - began + 0.5) / 32 + cost_s + 1e-9
        disk.now += gap_s


def test_with_no_time_the_loop_never_waits() -> None:
    disk = Disk()
    at_once = disk.at_once(0.0)
    assert at_once.look_up(URL) is None
    assert at_once.first_row(Place(1)) is None
    assert disk.calls == 0


@pytest.mark.parametrize("error", [sqlite3.OperationalError, sqlite3.DatabaseError, sqlite3.ProgrammingError])
def test_what_fails_is_left_to_the_thread(error: type[sqlite3.Error]) -> None:
    disk = Disk()
    disk.error = error("no")
    at_once = disk.at_once(0.0005)
    assert (at_once.look_up(URL), at_once.first_row(Place(1))) == (None, None)


def test_bodies_of_one_turn_are_read_in_one_transaction() -> None:
    """But not heads, which change."""
    disk = Disk()
    at_once = disk.at_once(0.0005)
    for number in (1, 2):
        assert at_once.first_row(Place(number)) is None
    assert disk.said == ["BEGIN", "SELECT", "SELECT"]
    assert at_once.look_up(URL) == []
    assert disk.said[3:] == ["COMMIT", "SELECT"]
    for ended in disk.soon:
        ended()
    assert disk.said[5:] == []
    assert at_once.first_row(Place(1)) is None
    disk.soon[-1]()
    assert disk.said[5:] == ["BEGIN", "SELECT", "COMMIT"]


def test_a_transaction_ends_whatever_happens() -> None:
    disk = Disk()
    at_once = disk.at_once(0.0005)
    assert at_once.first_row(Place(1)) is None
    disk.error = sqlite3.ProgrammingError("closed")
    disk.soon[0]()
    disk.error = None
    assert at_once.first_row(Place(1)) is None
    assert disk.said[-2:] == ["BEGIN", "SELECT"]


# in the store


async def on_disk(house: House, *keys: str) -> list[Candidate]:
    """Responses on disk whose heads, and nothing else, are in memory."""
    house.memory_bytes = 1
    house.options = replace(house.options, wait_s=10.0)
    await house.reopen()
    for key in keys:
        await house.put(response(key), content(key, KIB))
    await house.flush()
    house.forget_memory()
    for key in keys:
        assert house.store.find_at_once(key)
    return [one for key in keys for one in house.store.lookup_memory(key)]


def whole(candidate: Candidate) -> bytes | None:
    found = candidate.body.at_once()
    return None if found is None else found.whole()


async def test_heads_and_bodies_are_found_at_once(house: House) -> None:
    """And the second time by the number of the row."""
    heads = await on_disk(house, "http://h/1", "http://h/2")
    for _ in range(3):
        assert [whole(one) for one in heads] == [content("http://h/1", KIB), content("http://h/2", KIB)]
    assert [one.body.whole() for one in heads] == [None, None]
    house.store.put(response("http://h/3"), b"new")
    house.forget_memory()
    await house.flush()
    assert whole(heads[0]) is not None
    found = house.store.find_at_once("http://h/3")
    assert found is not None
    assert [whole(one) for one in found] == [b"new"]
    assert house.store.find_at_once("http://h/none") == []
    assert house.store.is_absent("http://h/none")


async def test_a_number_that_is_another_bodys_now_is_not_believed(house: House) -> None:
    first, second = await on_disk(house, "http://h/1", "http://h/2")
    assert whole(first) is not None
    assert whole(second) is not None
    one, other = first.body._place, second.body._place  # type: ignore[attr-defined]
    one.number, other.number = other.number, one.number
    assert whole(first) == content("http://h/1", KIB)
    assert whole(second) == content("http://h/2", KIB)


@pytest.mark.parametrize("change", ["data = zeroblob(1024)", "data = x'00'", "checksum = 0", "first = 1"])
async def test_a_damaged_body_is_left_to_the_thread_which_says_so(house: House, change: str) -> None:
    (head,) = await on_disk(house, URL)
    await house.close()
    house.sql(f"UPDATE chunks SET {change}")
    await house.open()
    head = Candidate(head.stored, house.disk.body_of(head.stored), "disk")
    assert whole(head) is None
    assert house.recorder.failures == []
    with pytest.raises(StoreError, match="stored body"):
        await read(head)


async def test_a_damaged_head_is_dropped(house: House) -> None:
    await on_disk(house, URL)
    await house.close()
    house.sql("UPDATE entries SET head = x'00'")
    await house.open()
    assert house.store.find_at_once(URL) == []
    assert house.recorder.failures == ["checksum"]
    assert await house.bodies(URL) == []


async def test_nothing_is_found_at_once_in_a_closed_store(house: House) -> None:
    (head,) = await on_disk(house, URL)
    store = house.store
    await house.close()
    assert whole(head) is None
    assert store.find_at_once("http://h/other") is None


async def change(house: House, head: Candidate, how: str) -> None:
    """Something happens to what is stored under URL."""
    match how:
        case "invalidate":
            house.store.invalidate(URL)
        case "discard":
            house.store.discard(head)
        case "replace":
            house.store.put(response(etag='"2"'), b"new")
        case "freshen":
            house.store.freshen(head, renewed(head.stored))
        case _:
            selector = Selector(everything=True) if how == "purge all" else Selector(urls=(URL,))
            assert await house.store.purge(selector, dry_run=False, soft=how == "soft purge") == 1


@pytest.mark.parametrize("how", ["invalidate", "discard", "replace", "purge", "soft purge"])
async def test_a_head_goes_with_what_it_is_of(house: House, how: str) -> None:
    """As if it had its body."""
    (head,) = await on_disk(house, URL)
    await change(house, head, how)
    assert head not in house.store.lookup_memory(URL)
    found = house.store.find_at_once(URL)
    assert found is not None
    assert [one.stored.forced_stale for one in found if one.stored.entry_id == head.stored.entry_id] == (
        [True] if how == "soft purge" else []
    )


async def head_in_memory(house: House) -> Candidate:
    """The head of a response on disk; there is room for its body."""
    await house.put(response(), content(URL, KIB))
    await house.flush()
    house.forget_memory()
    (found,) = await house.store.lookup(URL)
    house.forget_memory()
    head = Candidate(found.stored, house.disk.body_of(found.stored), "disk")
    house.memory.put(head)
    return head


@pytest.mark.parametrize(
    "how", ["invalidate", "discard", "replace", "purge", "soft purge", "purge all", "freshen"]
)
async def test_what_is_removed_while_its_body_is_read_does_not_come_back(
    house: House, tap: Tap, how: str
) -> None:
    head = await head_in_memory(house)
    go_on, is_read = asyncio.Event(), asyncio.Event()

    async def after(sql: str) -> None:
        if "FROM chunks" in sql:
            is_read.set()
            await go_on.wait()

    tap.after = after
    reading = asyncio.ensure_future(read(head))
    await is_read.wait()
    await change(house, head, how)
    go_on.set()
    assert await reading == content(URL, KIB)
    assert head.stored not in [one.stored for one in house.store.lookup_memory(URL)]


def renewed(stored: StoredResponse) -> StoredResponse:
    """The same with the head of a 304 that came later."""
    timing = Timing(stored.timing.request_time + 1000, stored.timing.response_time + 1000)
    return StoredResponse.build(
        stored.key,
        (),
        (),
        stored.head,
        timing,
        OPTIONS,
        entry_id=stored.entry_id,
        body_id=stored.body_id,
        length=stored.length,
    )


@pytest.mark.parametrize("is_promoted", [False, True])
async def test_a_new_head_stays_the_new_one(house: House, is_promoted: bool) -> None:
    """RFC 9111 §4.3.4: also where what is validated was found before its body came into memory."""
    head = await head_in_memory(house)
    if is_promoted:
        assert await read(head) == content(URL, KIB)
    new = renewed(head.stored)
    updated = house.store.freshen(head, new)
    for _ in range(2):
        assert await read(updated) == content(URL, KIB)
        (now,) = house.store.lookup_memory(URL)
        assert now.stored is new
        assert now.tier == ("memory" if now.body.whole() is not None else "disk")
        updated = now


async def test_a_copy_of_anothers_response_is_not_taken_for_what_is_on_disk(house: House) -> None:
    """Workers keep copies (`OwnedStore.keep_copy`) under the same id, with no body on disk of their own."""
    head = await head_in_memory(house)
    house.forget_memory()
    copy = head.stored.with_body(head.stored.entry_id, 0, KIB)
    house.memory.put(Candidate(copy, MemoryBody(content(URL, KIB)), "memory"))
    (found,) = await house.disk.look_ups.lookup(URL)
    assert found.stored.body_id == head.stored.body_id


@pytest.mark.usefixtures("quick")
async def test_a_body_comes_into_memory_though_its_head_has_gone_meanwhile(house: House) -> None:
    """At its second reading within as many readings as memory has entries, however few heads there is room for."""
    house.memory_bytes, house.heads_bytes = 512 * KIB, 30 * KIB
    house.options = replace(house.options, wait_s=10.0)
    await house.reopen()
    keys = [f"http://h/{number}" for number in range(150)]
    for key in keys:
        house.store.put(response(key), content(key, KIB))
    await house.flush()
    house.forget_memory()
    again = keys[120:140]
    for key in (*keys[:120], *again, *again):
        for one in house.store.lookup_memory(key) or house.store.find_at_once(key) or ():
            assert whole(one) == content(key, KIB)
    assert {one.tier for key in again for one in house.store.lookup_memory(key)} == {"memory"}


@pytest.mark.usefixtures("quick")
async def test_heads_have_a_limit(house: House) -> None:
    """Whoever is read once pushes nothing out; at its second reading the one that was used longest ago goes."""
    house.heads_bytes = 40 * KIB
    keys = [f"http://h/{number}" for number in range(20)]
    await on_disk(house, *keys)
    left = [key for key in keys if house.store.lookup_memory(key)]
    assert 4 <= len(left) <= 10
    assert left == keys[: len(left)]
    assert house.memory.bytes <= 40 * KIB
    (oldest,) = house.store.lookup_memory(left[0])
    house.store.touch(oldest.stored)
    for key in keys[-2:]:
        assert house.store.find_at_once(key)
        assert house.store.lookup_memory(key)
    assert house.store.lookup_memory(left[0])
    assert not house.store.lookup_memory(left[1])


@pytest.mark.usefixtures("quick")
async def test_a_head_that_was_read_long_ago_was_not_read_just_now(house: House) -> None:
    """Within as many readings as memory has heads, or 64."""
    house.heads_bytes = 40 * KIB
    keys = [f"http://h/{number}" for number in range(100)]
    await on_disk(house, *keys)
    for key in (keys[20], keys[90]):
        assert house.store.find_at_once(key)
    assert not house.store.lookup_memory(keys[20])
    assert house.store.lookup_memory(keys[90])


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("how", ["", "invalidate", "discard", "purge", "freshen", "replace"])
async def test_a_body_that_makes_room_leaves_its_head(house: House, how: str) -> None:
    """What came from disk needs no look-up to be read there again; what happens to it, happens to its head."""
    keys = [URL, *[f"http://h/{number}" for number in range(40)]]
    await on_disk(house, *keys)
    house.memory_bytes, house.heads_bytes = 64 * KIB, 256 * KIB
    await house.reopen()
    for key in keys:
        assert house.store.find_at_once(key)
        # The second time it comes into memory, and pushes others out.
        for _ in range(2):
            (one,) = house.store.lookup_memory(key)
            assert whole(one) == content(key, KIB)
        assert house.store.lookup_memory(key)[0].tier == "memory"
    tiers = [one.tier for key in keys for one in house.store.lookup_memory(key)]
    assert len(tiers) == len(keys)
    assert 2 <= tiers.count("memory") <= 15
    assert house.memory.bytes <= 64 * KIB + house.heads_bytes
    (head,) = house.store.lookup_memory(URL)
    assert head.tier == "disk"
    assert whole(head) == content(URL, KIB)
    if how:
        await change(house, head, how)
        assert head.stored not in [one.stored for one in house.store.lookup_memory(URL)]
        await house.flush()
        assert head.stored not in [one.stored for one in await house.store.lookup(URL)]
