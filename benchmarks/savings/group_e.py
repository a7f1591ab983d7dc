"""Group E, eviction: traces in their order through caches that are much smaller than what they ask for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.savings.checking import Check
from benchmarks.savings.origin import Sent
from benchmarks.savings.play import Bench
from benchmarks.savings.proxies import MIB
from benchmarks.savings.resources import Resource
from benchmarks.savings.simulation import POLICIES, WARM, simulate
from benchmarks.savings.traces import Trace, office_week, read

SHARES = (0.05, 0.25)
SMALLEST = 4 * MIB
"""What our proxy takes at least."""
WORKERS = 8


@dataclass(frozen=True)
class Replay:
    """One trace with one cache size."""

    name: str
    trace: Trace
    disk_bytes: int

    def simulated(self) -> dict[str, float]:
        """Bytes that each policy would fetch after the warm-up."""
        return {policy: float(simulate(self.trace, self.disk_bytes, policy).fetched) for policy in POLICIES}


def replays(folder: Path | None, scale: int, sample: float, most: int) -> list[Replay]:
    """Every trace of the folder, else the made-up office, at 5 and 25 % of its footprint. Raises ValueError."""
    files = sorted(folder.glob("*.npz")) if folder else []
    if folder and not files:
        raise ValueError(f"no .npz files in {folder}")
    found = []
    for trace in [read(file) for file in files] or [office_week()]:
        small = trace.scaled(scale).sampled(sample)
        small = Trace(small.name, small.requests[:most] if most else small.requests)
        footprint = small.footprint()
        for share in SHARES:
            # Whole MiB: Squid takes no others.
            disk = max(SMALLEST, round(footprint * share / MIB) * MIB)
            found.append(Replay(f"{small.name}-{share:.0%}", small, disk))
    return found


class Player:
    """Asks for a trace in its order with a few clients; misses are paced."""

    def __init__(self, bench: Bench, replay: Replay, pace: float) -> None:
        self.bench = bench
        self.replay = replay
        self.pace = pace
        self.warm = Sent()
        self.asked_before = 0
        self.largest_store = 0
        self._next = 0

    async def play(self) -> None:
        began = time.monotonic()
        base = self.bench.origin.sent.requests
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._worker(began, base))

    async def _worker(self, began: float, base: int) -> None:
        requests = self.replay.trace.requests
        warm = int(len(requests) * WARM)
        while self._next < len(requests):
            number, self._next = self._next, self._next + 1
            if number == warm:
                self.warm = self.bench.origin.sent.copy()
                self.asked_before = self.bench.clients.tally.delivered
            if number % (len(requests) // 8 + 1) == 0:
                self.largest_store = max(self.largest_store, await self.bench.proxy.store_bytes())
            while self.bench.origin.sent.requests - base > self.pace * (time.monotonic() - began) + WORKERS:
                await asyncio.sleep(0.02)
            await self._ask(*requests[number])

    async def _ask(self, one: int, size: int) -> None:
        file = Resource(f"/t/{one}/{size}", size, modified=False)
        await self.bench.clients.get(file.path, {}, Check(lambda: [file.body(0)]))
