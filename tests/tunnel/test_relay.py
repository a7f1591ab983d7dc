"""The relay over real TCP sockets: byte-exact, half-close, abnormal ends, exact counts; copied and spliced."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable

import pytest

from cacheproxy.tunnel import direction
from cacheproxy.tunnel import relay as relay_module
from cacheproxy.tunnel.direction import SPLICE_AFTER_BYTES, Direction, Shared, Waits
from cacheproxy.tunnel.pace import Pace
from cacheproxy.tunnel.pipes import Pipes
from tests.support.tunnel import Wire, open_descriptors, receive_all, reset, send_all

BOTH = pytest.mark.parametrize("pipes", [0, 4], ids=["copied", "spliced"])
LARGE = 3_000_000


def payload(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@BOTH
@pytest.mark.parametrize("buffer_bytes", [0, 4096, 200_000])
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("is_changing", [False, True])
async def test_both_ways_at_once_are_byte_exact(
    pipes: int, buffer_bytes: int, seed: int, is_changing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`is_changing`: from splices to large copies and back, again and again."""
    if is_changing:
        monkeypatch.setattr(Pace, "note", lambda self, moved, now: setattr(self, "is_fast", not self.is_fast))
    up, down = payload(seed, LARGE + seed), payload(-seed, LARGE // 2)
    shared = Shared(Pipes(pipes))

    async def end(sock: socket.socket, data: bytes, chance: int) -> bytes:
        async def send() -> None:
            await send_all(sock, data, random.Random(chance))
            sock.shutdown(socket.SHUT_WR)

        sending = asyncio.create_task(send())
        received = await receive_all(sock, random.Random(chance + 1))
        await sending
        return received

    before = open_descriptors()
    async with asyncio.timeout(30), Wire(shared, buffer_bytes=buffer_bytes) as wire:
        at_client, at_destination = await asyncio.gather(
            end(wire.client, up, seed), end(wire.destination, down, seed + 100)
        )
        count = await wire.ended()
    assert at_destination == up
    assert at_client == down
    assert (count.up, count.down) == (len(up), len(down))
    assert (shared.pipes.lent, open_descriptors()) == (0, before)


@BOTH
@pytest.mark.parametrize("first", ["client", "destination"])
@pytest.mark.parametrize("size", [0, 1, SPLICE_AFTER_BYTES * 4])
async def test_either_side_may_end_first_and_still_receive(pipes: int, first: str, size: int) -> None:
    data = payload(size, size)
    async with asyncio.timeout(20), Wire(Shared(Pipes(pipes))) as wire:
        ends = [wire.client, wire.destination]
        one, other = ends if first == "client" else reversed(ends)
        sending = asyncio.create_task(send_all(one, data))
        assert await receive_all(other, limit=size) == data
        await sending
        one.shutdown(socket.SHUT_WR)
        assert await receive_all(other) == b""
        answering = asyncio.create_task(send_all(other, data + b"bye"))
        assert await receive_all(one, limit=size + 3) == data + b"bye"
        await answering
        assert not wire.task.done()
        other.shutdown(socket.SHUT_WR)
        count = await wire.ended()
        assert await receive_all(one) == b""
        assert count.up + count.down == 2 * size + 3


@BOTH
async def test_early_bytes_go_first_however_many(pipes: int) -> None:
    early, late = payload(5, 700_000), payload(6, 700_000)
    async with asyncio.timeout(20), Wire(Shared(Pipes(pipes)), early=early, buffer_bytes=4096) as wire:
        sending = asyncio.create_task(send_all(wire.client, late))
        assert await receive_all(wire.destination, limit=len(early + late)) == early + late
        await sending
        assert (await wire.cancel()).up == len(early + late)


def sink_waits(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """An event for the moment in which some direction begins to wait for its sink."""
    full = asyncio.Event()
    before: Callable[[Direction, Waits], None] = Direction._wait_for

    def wait_for(self: Direction, what: Waits) -> None:
        if what is Waits.SINK:
            full.set()
        before(self, what)

    monkeypatch.setattr(Direction, "_wait_for", wait_for)
    return full


async def stuff(wire: Wire, full: asyncio.Event) -> asyncio.Task[None]:
    """The destination sends without end, until the client, who reads nothing, has made the relay wait."""
    sending = asyncio.create_task(send_all(wire.destination, bytes(64 * 1024 * 1024)))
    # Enough to splice is read; then nothing.
    await receive_all(wire.client, limit=SPLICE_AFTER_BYTES * 2)
    full.clear()
    await full.wait()
    return sending


@BOTH
async def test_a_client_that_reads_nothing_is_waited_for_without_spinning(
    pipes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = sink_waits(monkeypatch)
    pumped = 0
    before: Callable[[Direction], None] = Direction._pump

    def pump(self: Direction) -> None:
        nonlocal pumped
        pumped += 1
        before(self)

    monkeypatch.setattr(Direction, "_pump", pump)
    async with asyncio.timeout(20), Wire(Shared(Pipes(pipes)), buffer_bytes=64 * 1024) as wire:
        sending = await stuff(wire, full)
        # The client's kernel may take a little more while it tunes its buffers.
        for _ in range(200):
            await asyncio.sleep(0)
        settled = pumped
        for _ in range(200):
            await asyncio.sleep(0)
        assert pumped - settled <= 2
        sending.cancel()


@BOTH
async def test_a_stop_while_the_client_is_slow_counts_what_the_client_gets(
    pipes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = sink_waits(monkeypatch)
    shared = Shared(Pipes(pipes))
    before = open_descriptors()
    async with asyncio.timeout(20), Wire(shared, buffer_bytes=64 * 1024) as wire:
        sending = await stuff(wire, full)
        assert shared.pipes.lent == min(pipes, 1)
        count = await wire.cancel()
        sending.cancel()
        rest = await receive_all(wire.client)
        assert count.down == SPLICE_AFTER_BYTES * 2 + len(rest)
        assert (count.up, shared.pipes.lent) == (0, 0)
    assert open_descriptors() == before


@BOTH
async def test_a_client_that_resets_in_the_middle_ends_the_tunnel(
    pipes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = sink_waits(monkeypatch)
    shared = Shared(Pipes(pipes))
    before = open_descriptors()
    async with asyncio.timeout(20), Wire(shared, buffer_bytes=64 * 1024) as wire:
        sending = await stuff(wire, full)
        reset(wire.client)
        count = await wire.ended()
        with pytest.raises(ConnectionError):
            await sending
        assert SPLICE_AFTER_BYTES * 2 <= count.down < 64 * 1024 * 1024
        assert (count.up, shared.pipes.lent) == (0, 0)
    assert open_descriptors() == before


@BOTH
@pytest.mark.parametrize("size", [10, LARGE])
async def test_a_destination_that_resets_after_sending_ends_the_tunnel(pipes: int, size: int) -> None:
    async with asyncio.timeout(20), Wire(Shared(Pipes(pipes))) as wire:
        sending = asyncio.create_task(send_all(wire.destination, payload(1, size)))
        assert await receive_all(wire.client, limit=size) == payload(1, size)
        await sending
        reset(wire.destination)
        count = await wire.ended()
        assert (count.up, count.down) == (0, size)
        assert await receive_all(wire.client) == b""


@BOTH
async def test_what_a_broken_destination_has_said_still_arrives(pipes: int) -> None:
    # A server that refuses an upload: it answers, closes, and its kernel resets what still comes.
    answer = payload(9, 400_000)
    async with asyncio.timeout(20), Wire(Shared(Pipes(pipes)), buffer_bytes=64 * 1024) as wire:
        uploading = asyncio.create_task(send_all(wire.client, bytes(LARGE)))
        await receive_all(wire.destination, limit=1000)
        answering = asyncio.create_task(send_all(wire.destination, answer))
        received = bytearray(await receive_all(wire.client, limit=len(answer) - 50_000))
        await answering
        wire.destination.close()
        uploading.cancel()
        received += await receive_all(wire.client, limit=50_000)
        assert bytes(received) == answer
        assert (await wire.ended()).down == len(answer)


@BOTH
async def test_urgent_data_is_not_taken_for_the_end(pipes: int) -> None:
    async with asyncio.timeout(20), Wire(Shared(Pipes(pipes))) as wire:
        data = payload(3, SPLICE_AFTER_BYTES * 3)
        sending = asyncio.create_task(send_all(wire.client, data))
        assert await receive_all(wire.destination, limit=len(data)) == data
        await sending
        wire.client.send(b"!", socket.MSG_OOB)
        await send_all(wire.client, data)
        wire.client.shutdown(socket.SHUT_WR)
        assert await receive_all(wire.destination) == data


class Ahead:
    """The loop's clock, put forward by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        real = loop.time
        self.by_s = 0.0
        monkeypatch.setattr(loop, "time", lambda: real() + self.by_s)


async def test_idle_time_is_that_of_both_directions_together(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Ahead(monkeypatch)
    async with Wire(Shared(Pipes(0)), idle_s=100) as wire:
        for turn in range(6):
            clock.by_s += 70
            one, other = (wire.client, wire.destination) if turn < 3 else (wire.destination, wire.client)
            await send_all(one, b"x")
            assert await receive_all(other, limit=1) == b"x"
        assert not wire.task.done()
        clock.by_s += 100
        async with asyncio.timeout(20):
            count = await wire.ended()
        assert (count.up, count.down) == (3, 3)
        assert await receive_all(wire.client) == b""


async def test_a_broken_side_leaves_the_other_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Ahead(monkeypatch)
    full = sink_waits(monkeypatch)
    broken = asyncio.Event()
    ended: Callable[..., None] = relay_module._Tunnel._direction_ended

    def direction_ended(self: relay_module._Tunnel, direction: Direction, how: object) -> None:
        ended(self, direction, how)
        broken.set()

    monkeypatch.setattr(relay_module._Tunnel, "_direction_ended", direction_ended)
    async with Wire(Shared(Pipes(0)), idle_s=900, buffer_bytes=4096) as wire:
        sending = await stuff(wire, full)
        reset(wire.destination)
        await asyncio.wait([sending])
        # Only its writing side can notice: what it reads waits for the client.
        await send_all(wire.client, b"x")
        await broken.wait()
        assert not wire.task.done()
        clock.by_s += relay_module._LAST_WORDS_S
        await wire.ended()


class Plenty(socket.socket):
    """Fills every buffer."""

    def recv_into(self, buffer: memoryview, *_: int) -> int:  # type: ignore[override]
        return len(buffer)


class Slow(socket.socket):
    """Takes one byte."""

    def send(self, data: bytes, *_: int) -> int:  # type: ignore[override]
        return 1


@pytest.mark.parametrize(
    ("others", "rest"),
    [
        (0, direction._LARGE_PIECE_BYTES - 1),
        (direction.MAX_HOLDING_MUCH - 1, direction._LARGE_PIECE_BYTES - 1),
        (direction.MAX_HOLDING_MUCH, direction._PIECE_BYTES - 1),
    ],
)
async def test_what_fast_tunnels_hold_for_slow_ends_is_bounded(
    others: int, rest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large pieces have large rests: only so many directions may hold one."""
    monkeypatch.setattr(Pace, "note", lambda self, moved, now: setattr(self, "is_fast", True))
    shared = Shared(Pipes(0))
    shared.holding_much = others
    with Plenty() as source, Slow() as sink:
        one = Direction(source, sink, shared, lambda one, how: None)
        one.moved = SPLICE_AFTER_BYTES
        for _ in range(2):
            # The first begins to measure.
            one._left = b""
            one._pump()
        assert len(one._left) == rest
        assert shared.holding_much == others + (rest > direction._PIECE_BYTES)
        one.stop()
    assert shared.holding_much == others
