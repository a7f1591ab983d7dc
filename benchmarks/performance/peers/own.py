"""cacheproxy itself, access log and statistics on; the echo server; and no proxy at all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.performance.peers.peer import Peer, Place
from benchmarks.performance.processes import Program, start
from benchmarks.performance.sizes import SIZES

ROOT = Path(__file__).parents[3]


def launch(name: str, place: Place, *, memory: str, workers: int = 1) -> Program:
    """This checkout's proxy, as a user starts it."""
    argv = [
        *(sys.executable, "-m", "cacheproxy", "serve", "--listen", f"127.0.0.1:{place.port}"),
        *("--cache-dir", str(place.directory / "cache"), "--memory", memory, "--workers", str(workers)),
        *("-o", "access.deny_destinations=[]", "-o", f"access.connect_ports=[443, {place.origin.port}]"),
    ]
    env = {"PYTHONPATH": str(ROOT)}
    return start(name, argv, cpus=place.cpus, port=place.port, directory=place.directory, env=env)


def echo(name: str, place: Place, *, size: int) -> Program:
    """The echo server with an answer of this size."""
    argv = [sys.executable, "-m", "benchmarks.performance.echo", str(place.port), str(size)]
    env = {"PYTHONPATH": str(ROOT)}
    return start(name, argv, cpus=place.cpus, port=place.port, directory=place.directory, env=env)


def nothing(name: str, place: Place) -> Program:
    """Not a program: the runner sends clients of `direct` to the origin itself."""
    raise AssertionError(f"{name} is never started")


def _ours(name: str, shown: str, memory: str) -> Peer:
    started: Callable[[str, Place], Program] = partial(launch, memory=memory)
    return Peer(name, shown, (), "", started)


def _echo(size: str) -> Peer:
    started: Callable[[str, Place], Program] = partial(echo, size=SIZES[size])
    return Peer(f"echo-{size}", f"asyncio, a fixed answer of {size}", (), "", started, proxy=False)


PEERS = (
    _ours("ours", "memory and disk, access log on", "1GiB"),
    _ours("ours-disk", "disk, memory tier of 64 KiB, access log on", "64KiB"),
    _echo("1k"),
    _echo("16k"),
    Peer("workers-2", "as ours, two workers", (), "", partial(launch, memory="1GiB", workers=2)),
    Peer("direct", "no proxy", (), "", nothing, proxy=False),
)
