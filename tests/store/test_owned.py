"""A worker's store: whoever changes something waits until nobody else answers with the old."""

from __future__ import annotations

import asyncio

import pytest

from cacheproxy.store.memory import MemoryTier
from cacheproxy.store.owned import OwnedStore

MINE, YOURS = "http://h/mine", "http://h/yours"


class Others:
    """The other workers: they have heard when `hear` lets a round through."""

    def __init__(self) -> None:
        self.recalled: list[str] = []
        self.asked: list[str] = []
        self.rounds: list[asyncio.Future[bool]] = []

    async def is_done(self) -> bool:
        self.rounds.append(asyncio.get_running_loop().create_future())
        return await self.rounds[-1]

    async def hear(self, *, surely: bool = True) -> None:
        """The round that was asked for last is over."""
        while not self.rounds or self.rounds[-1].done():
            await asyncio.sleep(0)
        self.rounds[-1].set_result(surely)
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
def others() -> Others:
    return Others()


@pytest.fixture
def store(others: Others) -> OwnedStore:
    memory = MemoryTier(1 << 20)
    return OwnedStore(
        memory,
        None,
        1 << 20,
        1,
        lambda key: key == MINE,
        lambda: True,
        others.recalled.append,
        others.asked.append,
        others.is_done,
    )


async def test_nobody_is_waited_for_who_was_told_nothing(store: OwnedStore, others: Others) -> None:
    store.invalidate(MINE)
    await store.invalidated()
    assert (others.rounds, others.recalled) == ([], [])


async def test_what_was_lent_is_recalled_and_heard(store: OwnedStore, others: Others) -> None:
    store._lent[MINE] = True
    store.invalidate(MINE)
    waiting = asyncio.ensure_future(store.invalidated())
    await others.hear()
    await waiting
    assert (others.recalled, len(others.rounds)) == ([MINE], 1)
    await store.invalidated()
    assert len(others.rounds) == 1


async def test_the_second_waits_for_the_recall_of_the_first(store: OwnedStore, others: Others) -> None:
    store._lent[MINE] = True
    store.invalidate(MINE)
    first = asyncio.ensure_future(store.invalidated())
    await asyncio.sleep(0)
    store.invalidate(MINE)
    second = asyncio.ensure_future(store.invalidated())
    await asyncio.sleep(0)
    await others.hear()
    assert second.done() and not first.done()
    others.rounds[0].set_result(True)
    await first


async def test_recalls_for_other_reasons_count_too(store: OwnedStore, others: Others) -> None:
    store._lent[MINE] = True
    store._changes(MINE)
    store.invalidate(MINE)
    waiting = asyncio.ensure_future(store.invalidated())
    await others.hear()
    await waiting


async def test_what_a_predecessor_lent_is_waited_for(store: OwnedStore, others: Others) -> None:
    store.joined()
    store.invalidate(MINE)
    waiting = asyncio.ensure_future(store.invalidated())
    await others.hear()
    await waiting


async def test_an_owner_that_was_told_tells_the_rest(store: OwnedStore, others: Others) -> None:
    store.invalidate(YOURS)
    waiting = asyncio.ensure_future(store.invalidated())
    await others.hear()
    assert not waiting.done()
    await others.hear()
    await waiting
    assert (others.asked, len(others.rounds)) == ([YOURS], 2)


async def test_what_not_everybody_has_heard_is_waited_for_again(store: OwnedStore, others: Others) -> None:
    store._lent[MINE] = True
    store.invalidate(MINE)
    for surely in (False, True):
        waiting = asyncio.ensure_future(store.invalidated())
        await others.hear(surely=surely)
        await waiting
    await store.invalidated()
    assert len(others.rounds) == 2
