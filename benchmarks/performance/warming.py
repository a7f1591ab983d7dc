"""Filling caches before a suite, until every object is stored."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

from benchmarks.performance.bulk import read_answer, value_of
from benchmarks.performance.origin import FETCHED
from benchmarks.performance.peers.peer import Running
from benchmarks.performance.processes import BenchmarkError
from benchmarks.performance.traffic import FIXED_FIELDS

THREADS = 4
PASSES = 7
LAST_PASSES = 4
LOOKED_AT = 10_000


def fetch_all(port: int, authority: str, paths: Sequence[str]) -> dict[str, str]:
    """GET every path once through the program on `port`; which fetch each answer stems from. Raises BenchmarkError."""
    found = {}
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for path in paths:
            head = f"GET http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n{FIXED_FIELDS}\r\n"
            connection.sendall(head.encode())
            found[path] = value_of(read_answer(connection)[0], FETCHED)
    return found


def fill(target: Running, authority: str, paths: Sequence[str]) -> dict[str, str]:
    """One pass over all paths, in several threads. Raises BenchmarkError."""
    failures: list[Exception] = []
    found: dict[str, str] = {}

    def work(part: Sequence[str]) -> None:
        try:
            found.update(fetch_all(target.port, authority, part))
        except (OSError, BenchmarkError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(paths[number::THREADS],)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise BenchmarkError(f"{target.name}: filling failed: {failures[0]}")
    return found


def warm(target: Running, authority: str, paths: Sequence[str]) -> set[str]:
    """Pass over all paths until passes bring what the pass before brought; the paths that never settled.

    A path that changed in one of the last passes counts as unsettled. Of very many paths a sample is looked at again.
    """
    before = fill(target, authority, paths)
    if len(paths) > LOOKED_AT:
        paths = paths[:: len(paths) // LOOKED_AT]
    changes: list[set[str]] = []
    for _ in range(PASSES):
        now = fill(target, authority, paths)
        changes.append({path for path in paths if now[path] != before[path]})
        if not changes[-1]:
            return set()
        before = now
    return set().union(*changes[-LAST_PASSES:])
