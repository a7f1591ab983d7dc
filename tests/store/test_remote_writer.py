"""A worker's writer: nothing is lost that must not be, nothing waits for ever."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from cacheproxy.channel import Channel
from cacheproxy.store.batch import Order, Row
from cacheproxy.store.remote_writer import RemoteWriter, ToldInUse, ToldRanking


class Sent:
    """A channel that remembers what it was given."""

    def __init__(self) -> None:
        self.messages: list[tuple[Any, ...]] = []

    def send(self, *message: Any) -> None:
        self.messages.append(message)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [message[1:] for message in self.messages if message[0] == name]


def attached(writer: RemoteWriter) -> Sent:
    sent = Sent()
    writer.attach(cast(Channel, sent), 1)
    return sent


def row(results: list[bool], size: int = 10) -> Row:
    return Row(1, 1, 0, b"x" * size, results.append)


def order(log: list[object], name: str) -> Order:
    return Order(name, [(1,)], lambda: log.append(name), lambda done: log.append((name, done)))


@pytest.fixture
def writer() -> RemoteWriter:
    return RemoteWriter(100, ToldRanking(), lambda: 7)


async def test_rows_settle_as_the_keeper_says(writer: RemoteWriter) -> None:
    results: list[bool] = []
    writer.add_row(row(results))
    assert results == [False]
    sent = attached(writer)
    writer.add_row(row(results))
    writer.add_row(row(results))
    first, second = (message[1] for message in sent.named("row"))
    writer.settled(second, True)
    writer.settled(first, False)
    writer.settled(first, True)
    assert results == [False, True, False]


async def test_room_comes_with_results_and_ends_with_the_keeper(writer: RemoteWriter) -> None:
    assert not await writer.room(1)
    sent = attached(writer)
    results: list[bool] = []
    writer.add_row(row(results, 101))
    assert not writer.has_room
    waiting = asyncio.ensure_future(writer.room(1))
    await asyncio.sleep(0)
    writer.settled(sent.named("row")[0][1], True)
    assert await waiting
    writer.add_row(row(results, 101))
    writer.detach()
    assert results == [True, False]
    assert not await writer.room(1)


async def test_whoever_waits_for_room_hurries_the_keeper(writer: RemoteWriter) -> None:
    sent = attached(writer)
    for _ in range(2):
        writer.add_row(row([], 101))
        waiting = [asyncio.ensure_future(writer.room(1)) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(sent.named("full")) == 1, "once until it has answered"
        writer.settled(sent.named("row")[0][1], True)
        sent.messages.clear()
        assert await asyncio.gather(*waiting) == [True] * 3


async def test_orders_outlive_keepers_and_files(writer: RemoteWriter) -> None:
    log: list[object] = []
    sent = attached(writer)
    for name in ("first", "second", "third"):
        writer.order(order(log, name))
    numbers = [message[0] for message in sent.named("order")]
    writer.attempted(numbers[0], True)
    writer.committed(numbers[0])
    writer.attempted(numbers[1], False)
    writer.detach()
    # Each hears once of its first try.
    assert log == [("first", True), "first", ("second", False), ("third", False)]
    later = RemoteWriter(100, ToldRanking(), lambda: 7, writer)
    again = attached(later).named("order")
    assert [message[1] for message in again] == ["second", "third"]
    for message in again:
        later.attempted(message[0], True)
        later.committed(message[0])
    assert log[4:] == ["second", "third"]


async def test_too_many_orders_become_one(writer: RemoteWriter) -> None:
    log: list[object] = []
    for _ in range(101):
        writer.order(Order("one", [(1,)] * 100, lambda: log.append("one")))
    (only,) = attached(writer).named("order")
    assert only[1:3] == ("DELETE FROM entries WHERE entry_id <= ?", [(7,)])
    writer.committed(only[0])
    assert log == ["one"] * 101


async def test_the_end_waits_for_what_is_under_way() -> None:
    ranking = ToldRanking()
    writer = RemoteWriter(100, ranking, lambda: 7)
    sent = attached(writer)
    results: list[bool] = []
    writer.add_row(row(results))
    ranking.touches.add(5)
    ranking.touches.add(5)
    ranking.note_request("http://example.com/")
    running = asyncio.ensure_future(writer.run())
    await asyncio.sleep(0)
    writer.stop()
    await asyncio.sleep(0)
    assert not running.done()
    writer.settled(sent.named("row")[0][1], True)
    await asyncio.wait_for(running, 5)
    assert sent.named("touches") == [([(5, 2)],)]
    assert len(sent.named("asked")) == 1
    assert results == [True]
    writer.add_row(row(results))
    assert results == [True, False]


async def test_bodies_in_use_are_told_once() -> None:
    sent = Sent()
    in_use = ToldInUse(sent.send)
    in_use.begin_writing(1)
    in_use.pin(1)
    in_use.pin(1)
    in_use.pin(2)
    in_use.end_writing(1)
    in_use.unpin(1)
    assert sent.messages == [("hold", 1), ("hold", 2)]
    in_use.unpin(1)
    assert sent.messages[2:] == [("free", 1)]
    sent.messages.clear()
    in_use.tell_all()
    assert sent.messages == [("hold", 2)]


def test_requests_of_an_earlier_life_do_not_count_for_ever() -> None:
    ranking = ToldRanking()
    for _ in range(3):
        ranking.note_request("http://h/a")
    assert ranking.requests_for("http://h/a", 1) == 3
    assert ranking.requests_of("http://h/a") == 1, "the keeper counts"
    assert ranking.requests_for("http://h/a", 2) == 1
    assert len(ranking.take_asked()) == 3
