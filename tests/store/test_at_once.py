"""Reads by the loop: while the disk is quick, its thread idle and the file whole; else the thread does it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace

import pytest

from cacheproxy.errors import StoreError
from cacheproxy.ports import Candidate, Selector
from cacheproxy.store.at_once import AtOnce, Place
from tests.store.conftest import KIB, URL, House, content, read, response


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
    [(0.0004, 0.0), (0.001, 0.032), (0.1, 3.2), (10.0, 60.0)],
    ids=["quick", "slow", "very slow", "hung"],
)
def test_what_takes_long_is_followed_by_a_pause(cost_s: float, pause_s: float) -> None:
    """Of 32 times as long, at most a minute."""
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


@pytest.mark.parametrize("how", ["invalidate", "discard", "replace", "purge", "soft purge"])
async def test_a_head_goes_with_what_it_is_of(house: House, how: str) -> None:
    """As if it had its body."""
    (head,) = await on_disk(house, URL)
    match how:
        case "invalidate":
            house.store.invalidate(URL)
        case "discard":
            house.store.discard(head)
        case "replace":
            house.store.put(response(etag='"2"'), b"new")
        case _:
            selector = Selector(urls=(URL,))
            assert await house.store.purge(selector, dry_run=False, soft=how == "soft purge") == 1
    assert head not in house.store.lookup_memory(URL)
    found = house.store.find_at_once(URL)
    assert found is not None
    assert [one.stored.forced_stale for one in found if one.stored.entry_id == head.stored.entry_id] == (
        [True] if how == "soft purge" else []
    )


@pytest.mark.usefixtures("quick")
async def test_heads_have_a_limit(house: House) -> None:
    """The one that was used longest ago goes first."""
    house.heads_bytes = 40 * KIB
    keys = [f"http://h/{number}" for number in range(20)]
    await on_disk(house, *keys)
    left = [key for key in keys if house.store.lookup_memory(key)]
    assert 4 <= len(left) <= 10
    assert left == keys[-len(left) :]
    assert house.memory.bytes <= 40 * KIB
    (oldest,) = house.store.lookup_memory(left[0])
    house.store.touch(oldest.stored)
    assert house.store.find_at_once(keys[0])
    assert house.store.lookup_memory(left[0])
    assert not house.store.lookup_memory(left[1])
