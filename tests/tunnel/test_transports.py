"""Tunnels with TLS at one end or at both: what raw sockets do for the others."""

from __future__ import annotations

import asyncio
import random
import socket
from types import TracebackType
from typing import Self

import pytest

from cacheproxy.tunnel.relay import RelayCount, relay_transports
from cacheproxy.tunnel.transports import _HELD_BYTES, End
from tests.support.tls import Held, tls_pair
from tests.support.tunnel import open_descriptors, reset, tcp_pair

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TlsWire:
    """`client` and `destination` are the far ends; the relay runs inside `async with`."""

    def __init__(self, *, is_tls_beyond: bool = False, early: bytes = b"", idle_s: float = 60.0) -> None:
        self._is_tls_beyond = is_tls_beyond
        self._early, self._idle_s = early, idle_s
        self.count = RelayCount()
        self.client: Stream
        self.destination: Stream
        self.near: Held
        self.far: End
        self.task: asyncio.Task[None]

    async def _relay(self, near: End, far: End) -> None:
        try:
            await relay_transports(near, far, self._early, self._idle_s, self.count)
        finally:
            near.release()
            far.close(5)
            self.near.transport.close()

    async def __aenter__(self) -> Self:
        self.near, *client = await tls_pair()
        self.client = (client[0], client[1])
        if self._is_tls_beyond:
            beyond, *destination = await tls_pair()
            self.destination = (destination[0], destination[1])
            self.far = End.take(beyond.transport)
        else:
            far, sock = tcp_pair()
            self.destination = await asyncio.open_connection(sock=sock)
            self.far = await End.at(far)
            assert far.fileno() == -1
        self.task = asyncio.create_task(self._relay(End.take(self.near.transport), self.far))
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        for _, writer in (self.client, self.destination):
            writer.transport.abort()
        self.near.transport.abort()
        self.far.transport.abort()
        async with asyncio.timeout(10):
            await self.near.lost

    async def ended(self) -> RelayCount:
        async with asyncio.timeout(20):
            await self.task
        return self.count


async def _send(stream: Stream, data: bytes, chance: random.Random) -> None:
    view = memoryview(data)
    while view:
        size = chance.choice((1, 700, 9_000, 70_000, 400_000))
        stream[1].write(bytes(view[:size]))
        view = view[size:]
        await stream[1].drain()


async def _receive(stream: Stream, count: int, chance: random.Random) -> bytes:
    received = bytearray()
    while len(received) < count:
        piece = await stream[0].read(min(count - len(received), chance.choice((1, 700, 9_000, 400_000))))
        assert piece
        received += piece
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
    return bytes(received)


@pytest.mark.parametrize("is_tls_beyond", [False, True], ids=["socket", "https parent"])
@pytest.mark.parametrize("seed", range(3))
async def test_random_bytes_both_ways(is_tls_beyond: bool, seed: int) -> None:
    chance = random.Random(seed)
    up, down, early = chance.randbytes(3_000_000), chance.randbytes(2_000_000), chance.randbytes(50)
    async with TlsWire(is_tls_beyond=is_tls_beyond, early=early) as wire:
        async with asyncio.timeout(60):
            _, _, at_destination, at_client = await asyncio.gather(
                _send(wire.client, up, chance),
                _send(wire.destination, down, chance),
                _receive(wire.destination, len(early + up), chance),
                _receive(wire.client, len(down), chance),
            )
        assert (at_destination == early + up, at_client == down) == (True, True)
        wire.destination[1].close()
        count = await wire.ended()
    assert (count.up, count.down) == (len(early + up), len(down))


async def test_the_destinations_end_comes_behind_its_last_bytes() -> None:
    async with TlsWire() as wire:
        last = random.Random(1).randbytes(3_000_000)
        wire.destination[1].write(last)
        wire.destination[1].write_eof()
        async with asyncio.timeout(20):
            assert await wire.client[0].read() == last
        await wire.ended()
        assert await wire.near.lost is None


@pytest.mark.parametrize("is_tls_beyond", [False, True], ids=["socket", "https parent"])
async def test_the_clients_end_comes_behind_its_last_bytes(is_tls_beyond: bool) -> None:
    async with TlsWire(is_tls_beyond=is_tls_beyond) as wire:
        last = random.Random(1).randbytes(3_000_000)
        wire.client[1].write(last)
        wire.client[1].close()
        async with asyncio.timeout(20):
            assert await wire.destination[0].read() == last
        assert (await wire.ended()).up == len(last)


async def test_a_reset_of_the_destination_ends_it() -> None:
    async with TlsWire() as wire:
        wire.destination[1].write(b"partial")
        async with asyncio.timeout(20):
            assert await wire.client[0].readexactly(7) == b"partial"
            reset(wire.destination[1].get_extra_info("socket")._sock)
            assert await wire.client[0].read() == b""
        await wire.ended()


async def test_a_client_that_breaks_off_ends_it() -> None:
    async with TlsWire() as wire:
        wire.client[1].transport.abort()
        async with asyncio.timeout(20):
            assert await wire.destination[0].read() == b""
        await wire.ended()


async def test_idle_ends_it() -> None:
    async with TlsWire(idle_s=0.05) as wire:
        assert await wire.ended() == RelayCount(0, 0)
        async with asyncio.timeout(20):
            assert await wire.client[0].read() == b""
            assert await wire.destination[0].read() == b""


async def test_a_slow_reader_holds_the_sender_back() -> None:
    """What is on the way is bounded, whatever is sent."""
    async with TlsWire() as wire:
        # The far client's own transport stops reading: what it has read so far is its business.
        wire.client[1].transport.pause_reading()  # type: ignore[attr-defined]
        far = wire.far.transport
        sender = wire.destination[1]
        sender.write(bytes(64_000_000))
        async with asyncio.timeout(20):
            while far.is_reading():
                await asyncio.sleep(0)
        held = wire.near.transport.get_write_buffer_size()
        assert held <= _HELD_BYTES + 2 * 256 * 1024
        assert wire.task.done() is False
        wire.client[1].transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            assert len(await wire.client[0].readexactly(64_000_000)) == 64_000_000


async def test_the_transport_goes_back_to_whom_it_belonged() -> None:
    near, _, writer = await tls_pair()
    end = End.take(near.transport)
    end.release()
    assert near.transport.get_protocol() is near
    near.transport.resume_reading()
    writer.write(b"hello")
    async with asyncio.timeout(10):
        while not near.received:
            await asyncio.sleep(0)
        # Its end is told to the former as well where it comes first, and where it is on its way already.
        end = End.take(near.transport)
        near.transport.abort()
        end.release()
        assert await near.lost is None
    writer.close()


async def test_no_descriptor_is_left() -> None:
    before = open_descriptors()
    for ending in ("client", "destination", "cancel"):
        async with TlsWire() as wire:
            if ending == "client":
                wire.client[1].close()
                await wire.ended()
            elif ending == "destination":
                wire.destination[1].close()
                await wire.ended()
    async with asyncio.timeout(10):
        while open_descriptors() > before:
            await asyncio.sleep(0)


async def test_a_socket_that_cannot_become_a_transport_is_closed() -> None:
    with socket.socket() as unconnected:
        unconnected.setblocking(False)
        before = open_descriptors()
        end = await End.at(unconnected)
        end.close(1)
        async with asyncio.timeout(10):
            while open_descriptors() >= before:
                await asyncio.sleep(0)
