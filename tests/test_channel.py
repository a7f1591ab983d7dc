"""Messages between the processes of one proxy."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cacheproxy.channel import Channel, ChannelLost, Handlers
from cacheproxy.errors import StoreError


class Ends:
    """Two connected ends; `heard` is what the far one was sent."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.lost: list[Channel] = []
        self.near: Channel
        self.far: Channel

    def handlers(self, channel: Channel) -> Handlers:
        async def double(value: int) -> int:
            return value * 2

        async def fail(text: str) -> None:
            raise StoreError(text)

        async def never() -> None:
            await asyncio.Event().wait()

        return {"note": self.heard.append, "double": double, "fail": fail, "never": never}


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[Ends]:
    made = Ends()
    arrived: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()
    path = str(tmp_path / "s")
    server = await loop.create_unix_server(
        lambda: Channel(made.handlers, made.lost.append, arrived.set_result), path
    )
    _, made.near = await loop.create_unix_connection(lambda: Channel(made.handlers, made.lost.append), path)
    made.far = await arrived
    yield made
    await made.near.close()
    await made.far.close()
    server.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_messages_arrive_in_order_whatever_their_size(ends: Ends) -> None:
    sent = [os.urandom(size) for size in (0, 1, 100_000, 5_000_000, 3)]
    for data in sent:
        ends.near.send("note", data)
    await until(lambda: len(ends.heard) == len(sent))
    assert ends.heard == sent


async def test_calls_bring_results_and_errors(ends: Ends) -> None:
    assert await asyncio.gather(*(ends.near.call("double", n) for n in range(50))) == list(range(0, 100, 2))
    with pytest.raises(StoreError, match="the disk is full"):
        await ends.near.call("fail", "the disk is full")
    with pytest.raises(ChannelLost, match="does not answer"):
        await ends.near.call("never", timeout_s=0.01)
    assert await ends.far.call("double", 4) == 8


async def test_a_lost_end_fails_calls_and_swallows_messages(ends: Ends) -> None:
    call = asyncio.ensure_future(ends.near.call("never"))
    await asyncio.sleep(0)
    await ends.far.close()
    with pytest.raises(ChannelLost):
        await call
    assert not ends.near.is_open
    ends.near.send("note", b"nobody hears this")
    with pytest.raises(ChannelLost):
        await ends.near.call("double", 1)
    await until(lambda: len(ends.lost) == 2)


async def test_what_is_sent_in_one_turn_goes_out_together_and_in_order(ends: Ends) -> None:
    written: list[bytes] = []
    transport = ends.near._transport
    assert transport is not None
    write = transport.write
    transport.write = lambda data: (written.append(bytes(data)), write(data))[1]  # type: ignore[method-assign]
    for number in range(100):
        ends.near.send("note", number)
    assert not written
    assert ends.near.waiting_bytes > 100
    await until(lambda: len(ends.heard) == 100)
    assert ends.heard == list(range(100))
    assert len(written) == 1
    # More than a little does not wait for the turn's end.
    ends.near.send("note", "x" * 100_000)
    assert len(written) == 2
    ends.near.send("note", "last")
    await ends.near.close()
    await until(lambda: len(ends.heard) == 102)
    assert ends.heard[-1] == "last"
