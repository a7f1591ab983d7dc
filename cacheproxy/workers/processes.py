"""What the keeper and the workers have in common as processes: when they end, and how they say that they began."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Protocol

from cacheproxy.workers.places import Report


class Runnable(Protocol):
    """`start()`, wait on `stopped`, `close()`."""

    stopped: asyncio.Event

    async def start(self) -> None:
        """Raises StartError."""

    async def close(self) -> None:
        """Drain and release everything."""


async def run_until_told(running: Runnable, lifeline: int, report: Report) -> None:
    """Run until SIGTERM, or until the supervisor has gone. Raises StartError."""
    loop = asyncio.get_running_loop()

    def supervisor_has_gone() -> None:
        loop.remove_reader(lifeline)
        running.stopped.set()

    loop.add_signal_handler(signal.SIGTERM, running.stopped.set)
    # Readable only at its end: nobody writes to it.
    loop.add_reader(lifeline, supervisor_has_gone)
    await running.start()
    report.say()
    await running.stopped.wait()
    await running.close()
    loop.remove_reader(lifeline)
    os.close(lifeline)
