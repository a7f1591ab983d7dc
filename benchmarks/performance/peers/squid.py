"""Squid as Debian ships it, but for cache sizes, access log, port and directories."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.performance.peers.peer import Peer, Place
from benchmarks.performance.processes import BenchmarkError, Program, pinned, program, start

CONFIGURATION = """
acl CONNECT method CONNECT
acl SSL_ports port 443 {origin_port}
acl Safe_ports port 80 443 1025-65535
http_access deny !Safe_ports
http_access deny CONNECT !SSL_ports
http_access allow localhost manager
http_access deny manager
http_access allow localhost
http_access deny all
http_port 127.0.0.1:{port}
logfile_rotate 0
refresh_pattern ^ftp:           1440    20%     10080
refresh_pattern ^gopher:        1440    0%      1440
refresh_pattern -i (/cgi-bin/|\\?) 0     0%      0
refresh_pattern .               0       20%     4320

coredump_dir {directory}
pid_filename {directory}/squid.pid
cache_log {directory}/cache.log
shutdown_lifetime 0 seconds
maximum_object_size 256 MB
maximum_object_size_in_memory 8 MB
{sizes}
{log}
"""
READ = "Completed Validation Procedure"
READ_TIMEOUT_S = 60.0
ROCK_LOSES = (
    0.05  # keys that share a slot push each other out, and under load more and more objects are not kept
)
MEMORY = "cache_mem 1024 MB"
ROCK = "cache_mem 0 MB\ncache_dir rock {directory}/rock 2048"
BOTH = "cache_mem 1024 MB\ncache_dir rock {directory}/rock 2048"


def launch(name: str, place: Place, *, sizes: str, log: bool) -> Program:
    """Write the configuration, prepare the cache directory, start."""
    directory = place.directory
    if os.geteuid() == 0:
        shutil.chown(directory, "proxy", "proxy")
    text = CONFIGURATION.format(
        port=place.port,
        origin_port=place.origin.port,
        directory=directory,
        sizes=sizes.format(directory=directory),
        log=f"access_log daemon:{directory}/access.log squid" if log else "access_log none",
    )
    path = directory / "squid.conf"
    path.write_text(text)
    service = "bench" + secrets.token_hex(4)
    argv = [program("squid"), "--foreground", "-YC", "-n", service, "-f", str(path)]
    if "cache_dir" in text:
        _make_cache_dir(directory, path, service, place.cpus)
    started = start(name, argv, cpus=place.cpus, port=place.port, directory=directory, shared_memory=service)
    if "cache_dir" in text:
        _wait_until_read(started, directory / "cache.log")
    return started


def _wait_until_read(started: Program, log: Path) -> None:
    """Until Squid has been through its rock, even a new one, it loses what it stores there."""
    deadline = time.monotonic() + READ_TIMEOUT_S
    while READ not in log.read_text(errors="replace"):
        if time.monotonic() > deadline:
            started.stop()
            raise BenchmarkError(f"squid did not say {READ!r} within {READ_TIMEOUT_S:.0f} s")
        time.sleep(0.1)


def _make_cache_dir(directory: Path, configuration: Path, service: str, cpus: list[int]) -> None:
    (directory / "rock").mkdir()
    if os.geteuid() == 0:
        shutil.chown(directory / "rock", "proxy", "proxy")
    argv = pinned(cpus, [program("squid"), "-zN", "-n", service, "-f", str(configuration)])
    made = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if made.returncode != 0:
        raise BenchmarkError(f"squid -z: {made.stderr[-1000:]}")


def _peer(name: str, shown: str, sizes: str, *, log: bool) -> Peer:
    started: Callable[[str, Place], Program] = partial(launch, sizes=sizes, log=log)
    return Peer(
        name, shown, ("squid",), "squid", started, may_lose=ROCK_LOSES if "cache_dir" in sizes else 0.001
    )


PEERS = (
    _peer("squid", "memory, access log off", MEMORY, log=False),
    _peer("squid-log", "memory, access log on", MEMORY, log=True),
    _peer("squid-rock", "rock, no memory tier, access log off", ROCK, log=False),
    _peer("squid-rock-log", "rock, no memory tier, access log on", ROCK, log=True),
    _peer("squid-both", "memory and rock, access log on", BOTH, log=True),
)
