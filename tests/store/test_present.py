"""What was never stored is not looked up on disk; what is there always is."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.errors import StoreError
from cacheproxy.store import disk
from cacheproxy.store.absent import Absent
from cacheproxy.store.ghosts import key_hash
from cacheproxy.store.listing import Listing
from cacheproxy.store.present import Present
from tests.store.conftest import House, response, until

KEYS = [f"http://h/{number}" for number in range(3000)]
HASHES = st.integers(-(2**63), 2**63 - 1)


@given(st.sets(HASHES, max_size=200))
def test_what_was_added_is_there(hashes: set[int]) -> None:
    present = Present(0)
    present.add_all(hashes)
    assert all(hashed in present for hashed in hashes)


@pytest.mark.parametrize("keys", [0, 100_000, 200_000])
def test_how_often_it_errs(keys: int) -> None:
    chance = random.Random(keys)
    present = Present(keys)
    present.add_all(chance.getrandbits(64) - 2**63 for _ in range(max(keys, 60_000)))
    assert not present.is_full
    wrong = sum(chance.getrandbits(64) - 2**63 in present for _ in range(20_000))
    assert wrong < 20_000 / 50


def test_it_says_when_it_is_full() -> None:
    present = Present(0)
    present.add_all(key_hash(key) for key in KEYS for _ in range(30))
    assert not present.is_full
    present.add_all(range(0, 70_000_000, 997))
    assert present.is_full


def test_what_is_stored_while_the_list_is_made_is_in_it() -> None:
    """A list may have passed the place of what is on its way."""
    known = Absent()
    assert "http://h/never" not in known
    known.storing("http://h/before")
    listed = known.begin_list(0)
    known.storing("http://h/meanwhile")
    known.settled("http://h/before")
    known.end_list(listed)
    known.storing("http://h/after")
    assert "http://h/never" in known
    assert not known.needs_list
    for when in ("before", "meanwhile", "after"):
        assert f"http://h/{when}" not in known


def test_a_list_that_was_begun_anew_meanwhile_counts_for_nothing() -> None:
    known = Absent()
    first, second = known.begin_list(0), known.begin_list(0)
    known.end_list(first)
    assert known.needs_list
    known.end_list(second)
    assert not known.needs_list


def test_more_keys_than_it_has_room_for_are_not_listed_again_and_again() -> None:
    known = Absent()
    listed = known.begin_list(0)
    listed.add_all(range(0, 140_000_000, 997))
    assert listed.is_full
    known.end_list(listed)
    assert not known.needs_list
    listed.add_all(range(500, 140_000_000, 997))
    assert known.needs_list


async def test_what_is_on_disk_is_listed(house: House) -> None:
    for key in KEYS:
        house.store.put(response(key), b"x")
    await house.flush()
    await house.reopen()
    assert not any(map(house.store.is_absent, KEYS))
    assert not house.store.is_absent("http://h/never")
    await house.disk.list_keys()
    assert not any(map(house.store.is_absent, KEYS))
    assert house.store.is_absent("http://h/never")
    # Nothing is asked of the disk.
    lookups: list[str] = []
    house.disk.look_ups.reader.ask = lambda key, answered: lookups.append(key)  # type: ignore[method-assign]
    assert await house.store.lookup("http://h/never") == ()
    assert not lookups


async def test_stored_in_every_step_of_a_list(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is stored before, between and behind its pages, and committed or not, is found."""
    for key in KEYS[:2500]:
        house.store.put(response(key), b"x")
    await house.flush()
    waiting = KEYS[2500:]
    stored = KEYS[:2500]
    pages = Listing.key_hashes
    house.store.put(response(waiting[0]), b"x")
    stored.append(waiting.pop(0))

    async def storing(listing: Listing) -> AsyncIterator[list[int]]:
        async for page in pages(listing):
            for _ in range(50):
                house.store.put(response(waiting[0]), b"x")
                stored.append(waiting.pop(0))
            await house.flush()
            yield page
            house.store.put(response(waiting[0]), b"x")
            stored.append(waiting.pop(0))

    monkeypatch.setattr(Listing, "key_hashes", storing)
    await house.disk.list_keys()
    house.store.put(response(waiting[0]), b"x")
    stored.append(waiting.pop(0))
    await house.flush()
    house.forget_memory()
    for key in stored:
        assert not house.store.is_absent(key)
    assert await house.bodies(stored[-1]) == [b"x"]
    assert sum(map(house.store.is_absent, waiting)) > len(waiting) * 0.9


async def test_it_is_listed_by_itself_and_again_after_a_failure(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_LIST_EVERY_S", 0.0)
    failures = [StoreError("busy"), StoreError("busy")]
    pages = Listing.key_hashes

    async def failing(listing: Listing) -> AsyncIterator[list[int]]:
        if failures:
            raise failures.pop()
        async for page in pages(listing):
            yield page

    monkeypatch.setattr(Listing, "key_hashes", failing)
    await house.reopen()
    await until(lambda: house.store.is_absent("http://h/never"))
    assert not failures


async def test_a_list_of_a_file_that_is_no_more_counts_for_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = Listing.key_hashes

    async def replaced(listing: Listing) -> AsyncIterator[list[int]]:
        house.disk._listing = Listing(house.disk._connections[2])
        async for page in pages(listing):
            yield page

    monkeypatch.setattr(Listing, "key_hashes", replaced)
    await house.disk.list_keys()
    assert not house.store.is_absent("http://h/never")
