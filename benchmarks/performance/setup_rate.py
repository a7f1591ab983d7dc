"""The load of many short tunnels: CONNECT, one request, close; fifty at a time, in one epoll loop."""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass, field

from benchmarks.performance.load import Outcome
from benchmarks.performance.peers.peer import Running


@dataclass(slots=True)
class Visit:
    """One tunnel from its connection to its end."""

    connection: socket.socket
    began: float
    stage: str = "connecting"  # connecting, asked, inside
    received: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class Tally:
    """What came of all visits."""

    times_s: list[float] = field(default_factory=list)
    bytes: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class SetupRate:
    """Opens tunnels for `seconds`; each carries one small request."""

    authority: str
    path: str
    concurrent: int
    seconds: float = 1.0

    def run(self, target: Running, slot: int) -> Outcome:
        """Keep `concurrent` visits going until the time is over; unfinished ones do not count."""
        loop = _Loop(self, target.port)
        began = time.monotonic()
        tally = loop.run(began + self.seconds)
        took = time.monotonic() - began
        times = sorted(tally.times_s)
        p50, p99 = (times[int(len(times) * part)] * 1e3 for part in (0.5, 0.99)) if times else (None, None)
        return Outcome(len(times), took, tally.bytes, tally.errors, p50, p99, 0.0)


class _Loop:
    def __init__(self, load: SetupRate, port: int) -> None:
        self._load = load
        self._port = port
        self._connect = f"CONNECT {load.authority} HTTP/1.1\r\nHost: {load.authority}\r\n\r\n".encode()
        self._get = f"GET {load.path} HTTP/1.1\r\nHost: {load.authority}\r\nConnection: close\r\n\r\n".encode()
        self._poll = select.epoll()
        self._visits: dict[int, Visit] = {}
        self._tally = Tally()

    def run(self, until: float) -> Tally:
        for _ in range(self._load.concurrent):
            self._begin()
        while (now := time.monotonic()) < until:
            for number, _ in self._poll.poll(until - now):
                visit = self._visits[number]
                try:
                    over = self._step(visit)
                except OSError:
                    self._tally.errors += 1
                    over = True
                if over:
                    self._end(visit)
                    self._begin()
        for visit in list(self._visits.values()):
            self._end(visit)
        self._poll.close()
        return self._tally

    def _begin(self) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", self._port))
        self._visits[connection.fileno()] = Visit(connection, time.monotonic())
        self._poll.register(connection.fileno(), select.EPOLLOUT)

    def _end(self, visit: Visit) -> None:
        number = visit.connection.fileno()
        self._poll.unregister(number)
        del self._visits[number]
        visit.connection.close()

    def _step(self, visit: Visit) -> bool:
        """One event; whether the visit is over. Raises OSError."""
        if visit.stage == "connecting":
            visit.connection.send(self._connect)
            visit.stage = "asked"
            self._poll.modify(visit.connection.fileno(), select.EPOLLIN)
            return False
        piece = visit.connection.recv(65536)
        visit.received += piece
        if visit.stage == "asked":
            if not piece:
                raise ConnectionError
            if b"\r\n\r\n" in visit.received:
                if b" 200" not in visit.received[:16]:
                    raise ConnectionError
                visit.received.clear()
                visit.connection.send(self._get)
                visit.stage = "inside"
            return False
        if piece:
            return False
        if b" 200" not in visit.received[:16]:
            raise ConnectionError
        self._tally.times_s.append(time.monotonic() - visit.began)
        self._tally.bytes += len(visit.received)
        return True
