"""The pool at its limits: who waits is served by what others no longer need, in order, and nothing is lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from cacheproxy.errors import UpstreamError
from cacheproxy.http.uri import Origin
from cacheproxy.telemetry.counters import Counters
from cacheproxy.upstream.connection import OriginConnection
from cacheproxy.upstream.pool import Pool, PoolOptions

ONE, OTHER = Origin("http", "one", 80), Origin("http", "other", 80)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Pairs:
    """Opens socket pairs; the far ends are kept."""

    def __init__(self) -> None:
        self.far: list[socket.socket] = []

    async def open(self, host: str, port: int) -> socket.socket:
        near, far = socket.socketpair()
        near.setblocking(False)
        self.far.append(far)
        return near


@pytest.fixture
async def pairs() -> AsyncIterator[Pairs]:
    pairs = Pairs()
    yield pairs
    for far in pairs.far:
        far.close()


def pool_of(pairs: Pairs, **options: float) -> Pool:
    return Pool(pairs, PoolOptions(**options), lambda: None, Counters())  # type: ignore[arg-type, return-value]


async def use(connection: OriginConnection, pairs: Pairs) -> None:
    """One whole exchange, after which the connection may be used again."""
    connection.send_head("GET", b"GET / HTTP/1.1\r\n\r\n", is_whole=True)
    for far in pairs.far:
        far.setblocking(False)
        try:
            if far.recv(100):
                far.sendall(ANSWER)
        except BlockingIOError:
            continue
    while not connection.may_be_reused:
        await connection.next_event()


async def waiting(pool: Pool, origin: Origin, *, fresh: bool = False) -> asyncio.Task[OriginConnection]:
    task = asyncio.ensure_future(pool.connect(origin) if fresh else pool.obtain(origin))
    await asyncio.sleep(0)
    return task


async def test_what_is_released_goes_to_the_first_who_waits(pairs: Pairs) -> None:
    pool = pool_of(pairs, per_origin=1)
    connection = await pool.obtain(ONE)
    first, second = await waiting(pool, ONE), await waiting(pool, ONE)
    for task in (first, second):
        await use(connection, pairs)
        pool.release(connection)
        assert await task is connection
    assert len(pairs.far) == 1
    assert not pool.waiting


async def test_what_has_ended_on_its_way_is_not_used(pairs: Pairs) -> None:
    """RFC 9112 §9.3.1, §9.2."""
    pool = pool_of(pairs, per_origin=1)
    connection = await pool.obtain(ONE)
    task = await waiting(pool, ONE)
    await use(connection, pairs)
    pool.release(connection)
    pairs.far[0].sendall(b"HTTP/1.1 200 nobody asked\r\n\r\n")
    assert await task is not connection
    assert connection.is_closed


async def test_who_wants_a_new_one_gets_the_place(pairs: Pairs) -> None:
    pool = pool_of(pairs, per_origin=1)
    connection = await pool.obtain(ONE)
    task = await waiting(pool, ONE, fresh=True)
    await use(connection, pairs)
    pool.release(connection)
    assert await task is not connection
    assert connection.is_closed


async def test_under_the_limit_for_all_an_idle_place_is_anybodys(pairs: Pairs) -> None:
    pool = pool_of(pairs, per_origin=2, total=1)
    connection = await pool.obtain(ONE)
    task = await waiting(pool, OTHER)
    await use(connection, pairs)
    pool.release(connection)
    assert (await task).origin == OTHER


async def test_an_idle_connection_makes_room_for_a_new_one(pairs: Pairs) -> None:
    pool = pool_of(pairs, per_origin=1)
    connection = await pool.obtain(ONE)
    await use(connection, pairs)
    pool.release(connection)
    assert await pool.connect(ONE) is not connection
    assert connection.is_closed


@pytest.mark.parametrize("way", ["released", "closed"])
async def test_what_comes_to_who_has_left_goes_to_the_next(pairs: Pairs, way: str) -> None:
    pool = pool_of(pairs, per_origin=1)
    connection = await pool.obtain(ONE)
    leaving, staying = await waiting(pool, ONE), await waiting(pool, ONE)
    await use(connection, pairs)
    if way == "released":
        pool.release(connection)
    else:
        connection.close()
    # Both in one turn of the loop: it has been told, and is cancelled before it can look.
    leaving.cancel()
    got = await staying
    assert (got is connection) == (way == "released")
    assert leaving.cancelled()
    assert not pool.waiting


async def test_who_waits_for_too_long_is_told_why(pairs: Pairs) -> None:
    pool = pool_of(pairs, per_origin=1, wait_s=0.0)
    await pool.obtain(ONE)
    with pytest.raises(UpstreamError, match="all 1 connections"):
        await pool.obtain(ONE)
    assert not pool.waiting


async def test_who_wants_a_new_one_is_not_passed_by(pairs: Pairs) -> None:
    pool = pool_of(pairs, per_origin=1)
    connection = await pool.obtain(ONE)
    posting, getting = await waiting(pool, ONE, fresh=True), await waiting(pool, ONE)
    await use(connection, pairs)
    pool.release(connection)
    new = await posting
    assert new is not connection
    assert not getting.done()
    new.close()
    await getting


async def test_a_place_is_for_an_origin_that_has_room(pairs: Pairs) -> None:
    """Under the limit for all: whoever has as many as it may have does not take the wake-up from who could use it."""
    third = Origin("http", "third", 80)
    pool = pool_of(pairs, per_origin=2, total=3)
    for _ in range(2):
        await pool.obtain(ONE)
    other = await pool.obtain(OTHER)
    one, two, last = await waiting(pool, ONE), await waiting(pool, ONE), await waiting(pool, third)
    other.close()
    assert (await last).origin == third
    for task in (one, two):
        assert not task.done()
        task.cancel()


class NeverComes:
    """Is told of a place and does not take it."""

    may_reuse = True

    def given(self, connection: OriginConnection | None) -> bool:
        return True


async def test_a_place_for_which_nobody_comes_is_the_next_ones(pairs: Pairs) -> None:
    pool = pool_of(pairs, per_origin=1)
    connection = await pool.obtain(ONE)
    pool.waiting.add(ONE, NeverComes())
    task = await waiting(pool, ONE)
    connection.close()
    async with asyncio.timeout(5):
        await task
