"""The only source of wall-clock and monotonic time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


class SystemClock:
    """Time of the machine: `wall()` in epoch seconds, `monotonic()` in seconds that never go back."""

    # The functions themselves: every exchange asks several times.
    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class EventLoop(asyncio.SelectorEventLoop):
    """asyncio's own, which tells the time in half the time: every request asks it several times."""

    # A method would be a call of Python's.
    time = staticmethod(time.monotonic)


def run(main: Coroutine[object, object, T]) -> T:
    """As `asyncio.run`, in such a loop."""
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        return runner.run(main)
