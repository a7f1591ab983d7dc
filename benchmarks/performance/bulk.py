"""Loads of one client that reads large bodies: through the cache, and through a tunnel."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from benchmarks.performance.load import Outcome
from benchmarks.performance.peers.peer import Running
from benchmarks.performance.processes import BenchmarkError

WINDOW = 1 << 20
TIMEOUT_S = 60.0


def read_head(connection: socket.socket) -> tuple[list[str], bytes]:
    """The lines of an answer's head, and what arrived of the body. Raises BenchmarkError."""
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
    return lines, rest


def value_of(lines: list[str], name: str) -> str:
    """The value of the first field called `name`, or an empty text."""
    wanted = name.lower()
    for line in lines[1:]:
        found, _, value = line.partition(":")
        if found.lower() == wanted:
            return value.strip()
    return ""


def read_answer(connection: socket.socket, window: bytearray | None = None) -> tuple[list[str], int]:
    """Read one answer with a Content-Length: its head's lines, its body's length. Raises BenchmarkError."""
    lines, rest = read_head(connection)
    value = value_of(lines, "Content-Length")
    if not value:
        raise BenchmarkError("an answer without Content-Length")
    length = int(value)
    missing = length - len(rest)
    window = window if window is not None else bytearray(65536)
    while missing > 0:
        read = connection.recv_into(window, min(missing, len(window)))
        if not read:
            raise BenchmarkError("the connection ended within a body")
        missing -= read
    return lines, length


def open_tunnel(port: int, authority: str) -> socket.socket:
    """A connection through CONNECT. Raises OSError, BenchmarkError."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
    try:
        connection.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        _, rest = read_head(connection)
        if rest:
            raise BenchmarkError("bytes after the answer to CONNECT")
    except (OSError, BenchmarkError):
        connection.close()
        raise
    return connection


@dataclass(frozen=True, slots=True)
class Bulk:
    """GETs the same large body again and again over one connection, for at least `seconds`."""

    authority: str
    path: str
    tunnel: bool
    seconds: float = 1.0

    def run(self, target: Running, slot: int) -> Outcome:
        """Read bodies and count their bytes; the tunnel is opened before the clock starts."""
        straight = target.program is None
        if self.tunnel and not straight:
            connection = open_tunnel(target.port, self.authority)
        else:
            connection = socket.create_connection(("127.0.0.1", target.port), timeout=TIMEOUT_S)
        uri = self.path if self.tunnel else f"http://{self.authority}{self.path}"
        head = f"GET {uri} HTTP/1.1\r\nHost: {self.authority}\r\n\r\n".encode()
        window = bytearray(WINDOW)
        requests = received = 0
        began = time.monotonic()
        with connection:
            while time.monotonic() - began < self.seconds:
                connection.sendall(head)
                received += read_answer(connection, window)[1]
                requests += 1
        took = time.monotonic() - began
        return Outcome(requests, took, received, 0, None, None, 0.0)
