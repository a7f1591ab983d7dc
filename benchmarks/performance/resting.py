"""What a connection costs that does nothing: proportional set size per idle keep-alive connection."""

from __future__ import annotations

import socket
import time
from dataclasses import asdict, dataclass

from benchmarks.performance.bulk import read_answer
from benchmarks.performance.origin import Origin
from benchmarks.performance.peers.peer import Running
from benchmarks.performance.processes import pss_bytes
from benchmarks.performance.traffic import FIXED_FIELDS

PEERS = ("ours", "squid", "ats", "nginx-cache")
SETTLE_S = 0.5
BEFORE = 50  # connections that come and go first, so that pools and code are there


@dataclass(frozen=True, slots=True)
class Resting:
    """Memory of one peer at rest."""

    peer: str
    connections: int
    base_bytes: int
    bytes_per_connection: float

    def record(self) -> dict[str, object]:
        """As a line of JSON."""
        return {"kind": "resting", **asdict(self)}


def open_idle(target: Running, origin: Origin, count: int) -> list[socket.socket]:
    """Connections that have each had one answer, a memory hit, and are kept open."""
    uri = f"http://{origin.authority}/obj/1k/1"
    head = f"GET {uri} HTTP/1.1\r\nHost: {origin.authority}\r\n{FIXED_FIELDS}\r\n".encode()
    found: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", target.port), timeout=10)
            found.append(connection)
            connection.sendall(head)
            read_answer(connection)
    except Exception:
        close(found)
        raise
    return found


def close(connections: list[socket.socket]) -> None:
    """Close them all."""
    for connection in connections:
        connection.close()


def measure(target: Running, origin: Origin, count: int) -> Resting:
    """PSS with `count` idle connections less PSS before, per connection."""
    close(open_idle(target, origin, BEFORE))
    time.sleep(SETTLE_S)
    before = pss_bytes(target.pids())
    held = open_idle(target, origin, count)
    time.sleep(SETTLE_S)
    after = pss_bytes(target.pids())
    close(held)
    time.sleep(SETTLE_S)
    return Resting(target.name, count, before, (after - before) / count)
