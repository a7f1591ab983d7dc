"""The loop that the processes run in is asyncio's, and tells the machine's time."""

from __future__ import annotations

import asyncio
import time

import pytest

from cacheproxy.clock import EventLoop, run


def test_it_runs_to_the_end() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, EventLoop)
        assert time.monotonic() <= loop.time() <= time.monotonic()
        done: list[str] = []
        later, told = loop.create_future(), loop.create_future()
        loop.call_at(loop.time() + 0.002, later.set_result, None)
        loop.call_later(0.001, done.append, "first")
        loop.call_soon(told.set_result, None)
        await told
        await later
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await loop.create_future()
        return [*done, "last"]

    assert run(main()) == ["first", "last"]


def test_what_it_raises_comes_out() -> None:
    async def main() -> None:
        raise KeyError("here")

    with pytest.raises(KeyError, match="here"):
        run(main())
