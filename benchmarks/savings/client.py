"""Clients of the proxy: raw connections, absolute-form, bytes counted and checked, able to leave in the middle."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from benchmarks.savings.checking import Check, Head

TIMEOUT_S = 120.0
FAILURES = {500, 502, 503, 504}


@dataclass
class Tally:
    """What all clients of a workload received."""

    requests: int = 0
    delivered: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@dataclass
class Reply:
    """One answer as a client saw it."""

    head: Head
    received: int = 0
    complete: bool = False


class Broken(Exception):
    """The connection ended before the answer did."""


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer


@dataclass
class Clients:
    """All clients together: at most `most` requests at once, idle connections kept."""

    proxy_port: int
    origin_port: int
    tally: Tally = field(default_factory=Tally)
    most: int = 60
    _idle: list[_Connection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.most)

    async def close(self) -> None:
        for connection in self._idle:
            connection.writer.close()
        self._idle.clear()

    async def get(
        self, target: str, fields: dict[str, str], check: Check | None = None, cut: int = 0
    ) -> Reply | None:
        """Asks for a path of the origin; None when no answer came. Failures and wrong bodies go to the tally."""
        self.tally.requests += 1
        async with self._slots:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    reply = await self._ask(target, fields, check, cut)
            except (TimeoutError, OSError, Broken, asyncio.IncompleteReadError) as error:
                self.tally.failed.append(f"{target}: {type(error).__name__} {error}")
                return None
        if reply.head.status in FAILURES:
            self.tally.failed.append(f"{target}: {reply.head.status}")
        elif check is not None:
            problem = check.finish() if reply.complete else check.problem
            if problem:
                self.tally.wrong.append(f"{target}: {reply.head.status}: {problem}")
        return reply

    async def _ask(self, target: str, fields: dict[str, str], check: Check | None, cut: int) -> Reply:
        authority = f"127.0.0.1:{self.origin_port}"
        lines = [f"GET http://{authority}{target} HTTP/1.1", f"Host: {authority}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        request = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        while True:
            used = bool(self._idle)
            connection = self._idle.pop() if used else await self._connect()
            try:
                connection.writer.write(request)
                head = await self._head(connection)
            except (OSError, asyncio.IncompleteReadError) as error:
                connection.writer.close()
                if used and not getattr(error, "partial", b""):
                    continue  # the proxy had closed it meanwhile
                raise
            reply = Reply(head)
            keep = False
            try:
                keep = await self._receive(connection, reply, check, cut)
            finally:
                if keep:
                    self._idle.append(connection)
                else:
                    connection.writer.transport.abort()
            return reply

    async def _connect(self) -> _Connection:
        return _Connection(*await asyncio.open_connection("127.0.0.1", self.proxy_port, limit=262_144))

    async def _head(self, connection: _Connection) -> Head:
        while True:
            head = Head.parse((await connection.reader.readuntil(b"\r\n\r\n"))[:-4])
            if head.status >= 200:
                return head

    async def _receive(self, connection: _Connection, reply: Reply, check: Check | None, cut: int) -> bool:
        """Reads the body up to `cut`; whether the connection may be used again."""
        fields = reply.head.fields
        comparable = check is not None and reply.head.status not in FAILURES and reply.head.status != 304
        if check is not None and comparable:
            check.begin(reply.head)
        feeder = check if comparable else None
        if "chunked" in fields.get("transfer-encoding", "").lower():
            reply.complete = await self._chunks(connection, reply, feeder, cut)
        elif "content-length" in fields or reply.head.status in (204, 304):
            length = 0 if reply.head.status in (204, 304) else int(fields["content-length"])
            reply.complete = await self._exactly(connection, reply, feeder, length, cut)
        else:
            while piece := await connection.reader.read(65_536):
                if self._take(reply, feeder, piece, cut):
                    return False
            reply.complete = True
            return False
        return reply.complete and "close" not in fields.get("connection", "").lower()

    def _take(self, reply: Reply, check: Check | None, piece: bytes, cut: int) -> bool:
        """Counts and compares a piece; whether this client now leaves."""
        if cut:
            piece = piece[: cut - reply.received]
        reply.received += len(piece)
        self.tally.delivered += len(piece)
        if check is not None:
            check.feed(piece)
        return bool(cut) and reply.received >= cut

    async def _exactly(
        self, connection: _Connection, reply: Reply, check: Check | None, length: int, cut: int
    ) -> bool:
        while length:
            piece = await connection.reader.read(min(65_536, length))
            if not piece:
                raise Broken(f"{length} bytes missing")
            length -= len(piece)
            if self._take(reply, check, piece, cut):
                return False
        return True

    async def _chunks(self, connection: _Connection, reply: Reply, check: Check | None, cut: int) -> bool:
        while size := int((await connection.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            if not await self._exactly(connection, reply, check, size, cut):
                return False
            await connection.reader.readexactly(2)
        while await connection.reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return True
