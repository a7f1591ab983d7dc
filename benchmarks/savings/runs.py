"""Which proxies play which groups in which order; one figure for each workload, proxy and seed."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.savings.group_a import group_a
from benchmarks.savings.group_bc import group_b, group_c
from benchmarks.savings.group_d import CASES
from benchmarks.savings.group_e import Player, Replay, replays
from benchmarks.savings.group_f import DAY_BYTES, DAY_S, office_day
from benchmarks.savings.origin import Origin
from benchmarks.savings.plan import Workload
from benchmarks.savings.play import Bench, Figure, restart
from benchmarks.savings.proxies import DISK, NotStarted, Ours, Proxy
from benchmarks.savings.squid import Squid, SquidCareful, SquidFrequent, SquidRecent, SquidTuned, squid_path

QUICK_BYTES = 60_000_000
QUICK_S = 25.0
GROUP_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    groups: str = "ABCDEF"
    seeds: int = 3
    quick: bool = False
    proxies: tuple[str, ...] = ()
    traces: Path | None = None
    scale: int = 8
    sample: float = 0.25
    most: int = 0
    pace: float = 150.0


Kind = type[Proxy]


def kinds(options: Options, *, eviction: bool = False) -> list[Kind]:
    """The proxies of a group; Squid only where it is installed."""
    squids: list[Kind] = [SquidFrequent, SquidRecent] if eviction else [Squid, SquidTuned, SquidCareful]
    found: list[Kind] = [Ours, *(squids if squid_path() else [])]
    return [kind for kind in found if not options.proxies or kind.name in options.proxies]


def say(text: str) -> None:
    """Progress, beside the results."""
    print(text, file=sys.stderr, flush=True)


@asynccontextmanager
async def bench(kind: Kind, disk_bytes: int = DISK) -> AsyncIterator[Bench]:
    """A fresh origin and a fresh proxy with an empty cache."""
    async with Origin() as origin, kind(disk_bytes) as proxy:
        made = Bench(proxy, origin)
        try:
            async with asyncio.timeout(GROUP_TIMEOUT_S):
                yield made
        finally:
            await made.clients.close()


def workloads(group: str, seed: int, options: Options) -> list[Workload]:
    """The workloads of groups A, B, C and F, the same for every proxy."""
    draw = random.Random(f"{group}{seed}")
    if group == "F":
        total, day_s = (QUICK_BYTES, QUICK_S) if options.quick else (DAY_BYTES, DAY_S)
        return [office_day(draw, total, day_s)]
    makers: dict[str, Callable[[random.Random], list[Workload]]] = {"A": group_a, "B": group_b, "C": group_c}
    return makers[group](draw)


async def _plain(group: str, kind: Kind, seed: int, options: Options) -> list[Figure]:
    figures = []
    async with bench(kind) as stage:
        for workload in workloads(group, seed, options):
            figure = Figure(group, workload.name, kind.name, seed)
            figures.append(await stage.measured(figure, lambda one=workload: stage.play(one)))  # type: ignore[misc]
    return figures


async def _gate(kind: Kind, seed: int) -> list[Figure]:
    figures = []
    async with bench(kind) as stage:
        for name, case in CASES.items():
            draw = random.Random(f"D{seed}{name}")
            figure = Figure("D", name, kind.name, seed)
            figures.append(await stage.measured(figure, lambda one=case, by=draw: one(stage, by)))  # type: ignore[misc]
    return figures


async def _replayed(kind: Kind, replay: Replay, pace: float) -> Figure:
    async with bench(kind, replay.disk_bytes) as stage:
        player = Player(stage, replay, pace)
        figure = await stage.measured(Figure("E", replay.name, kind.name, 1), player.play)
        restart(figure, stage.origin.sent.since(player.warm), player.asked_before)
        figure.extra = {"largest_store": float(player.largest_store), "disk": float(replay.disk_bytes)}
        return figure


def _rotated(found: list[Kind], by: int) -> list[Kind]:
    by %= max(1, len(found))
    return found[by:] + found[:by]


async def figures(options: Options) -> AsyncIterator[Figure]:
    """Everything that was asked for, as it is measured. A proxy that does not start is skipped by name."""
    turn = 0
    for seed in range(1, options.seeds + 1):
        for group in options.groups.replace("E", ""):
            turn += 1
            for kind in _rotated(kinds(options), turn):
                say(f"seed {seed}, group {group}: {kind.name}")
                try:
                    run = _gate(kind, seed) if group == "D" else _plain(group, kind, seed, options)
                    for figure in await run:
                        yield figure
                except (NotStarted, TimeoutError) as error:
                    say(f"{kind.name} skipped in group {group}: {error!r}")
    if "E" in options.groups:
        async for figure in _evictions(options):
            yield figure


async def _evictions(options: Options) -> AsyncIterator[Figure]:
    for turn, replay in enumerate(_wanted(options)):
        say(f"group E: simulating {replay.name}")
        for policy, fetched in (await asyncio.to_thread(replay.simulated)).items():
            figure = Figure("E", replay.name, f"sim {policy}", 1)
            figure.origin_bytes = figure.origin_body_bytes = int(fetched)
            yield figure
        for kind in _rotated(kinds(options, eviction=True), turn):
            say(f"group E: {replay.name}, {len(replay.trace.requests)} requests: {kind.name}")
            try:
                yield await _replayed(kind, replay, options.pace)
            except (NotStarted, TimeoutError) as error:
                say(f"{kind.name} skipped in {replay.name}: {error!r}")


def _wanted(options: Options) -> Iterator[Replay]:
    most = options.most or (4000 if options.quick else 0)
    yield from replays(options.traces, options.scale, options.sample, most)
