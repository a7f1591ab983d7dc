"""Filling caches before a suite, until the origin is asked for nothing any more."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

from benchmarks.performance.origin import Origin
from benchmarks.performance.peers.peer import Running
from benchmarks.performance.processes import BenchmarkError
from benchmarks.performance.traffic import FIXED_FIELDS

THREADS = 4
PASSES = 8


def fetch_all(port: int, authority: str, paths: Sequence[str]) -> None:
    """GET every path once through the program on `port`, over one connection. Raises BenchmarkError."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for path in paths:
            head = f"GET http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n{FIXED_FIELDS}\r\n"
            connection.sendall(head.encode())
            read_answer(connection)


def read_answer(connection: socket.socket) -> int:
    """Read one answer with a Content-Length and return its body's length. Raises BenchmarkError."""
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        piece = connection.recv(65536)
        if not piece:
            raise BenchmarkError("the connection ended within an answer's head")
        buffer += piece
    head, _, rest = buffer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if lines[0].split()[1] != "200":
        raise BenchmarkError(f"the answer was {lines[0]!r}")
    length = next((int(line[15:]) for line in lines[1:] if line.lower().startswith("content-length:")), None)
    if length is None:
        raise BenchmarkError("an answer without Content-Length")
    missing = length - len(rest)
    while missing > 0:
        piece = connection.recv(min(missing, 1 << 20))
        if not piece:
            raise BenchmarkError("the connection ended within a body")
        missing -= len(piece)
    return length


def fill(target: Running, origin: Origin, paths: Sequence[str]) -> None:
    """One pass over all paths, in several threads. Raises BenchmarkError."""
    failures: list[Exception] = []

    def work(part: Sequence[str]) -> None:
        try:
            fetch_all(target.port, origin.authority, part)
        except (OSError, BenchmarkError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(paths[number::THREADS],)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise BenchmarkError(f"{target.name}: filling failed: {failures[0]}")


def warm(target: Running, origin: Origin, paths: Sequence[str]) -> int:
    """Pass over all paths until one pass causes no request at the origin; what the last pass caused."""
    asked = 0
    for _ in range(PASSES):
        before = origin.requests()
        fill(target, origin, paths)
        asked = origin.requests() - before
        if asked == 0:
            break
    return asked
