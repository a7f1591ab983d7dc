"""An origin that sends exactly the bytes a test gives it, and remembers exactly what it received."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class Received:
    """One request as it arrived."""

    head: bytes
    body: bytes
    connection: int

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]

    def field(self, name: str) -> list[str]:
        found = []
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                found.append(value.strip())
        return found


class Wire:
    """The origin's side of one connection."""

    def __init__(self, origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.origin = origin
        self.reader = reader
        self.writer = writer
        self.number = 0

    async def send(self, data: bytes) -> None:
        self.origin.sent_bytes += len(data)
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


Handler = Callable[[Received, Wire], Awaitable[None]]


@dataclass
class Origin:
    """Routes by path; a bytes route is sent as it stands on a connection that stays open."""

    routes: dict[str, bytes | Handler] = field(default_factory=dict)
    requests: list[Received] = field(default_factory=list)
    sent_bytes: int = 0
    connections: int = 0
    closed: int = 0
    port: int = 0
    reads_bodies: bool = True
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def count(self, path: str | None = None) -> int:
        return len([one for one in self.requests if path is None or one.path == path])

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something about the origin holds."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(condition)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        wire = Wire(self, reader, writer)
        wire.number = self.connections
        await self._notify()
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                received = Received(head[:-4], b"", wire.number)
                if self.reads_bodies:
                    received.body = await self._body(received, reader)
                self.requests.append(received)
                await self._notify()
                route = self.routes.get(received.path.partition("?")[0], self.routes.get("*"))
                if route is None:
                    await wire.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                elif isinstance(route, bytes):
                    await wire.send(route)
                else:
                    await route(received, wire)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self.closed += 1
            self._tasks.discard(task)
            try:
                await self._notify()
            except asyncio.CancelledError:
                pass

    async def _body(self, received: Received, reader: asyncio.StreamReader) -> bytes:
        length = received.field("content-length")
        if length:
            return await reader.readexactly(int(length[0]))
        if received.field("transfer-encoding"):
            body = b""
            while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
            return body
        return b""


def response(body: bytes = b"", *fields: str, status: str = "200 OK") -> bytes:
    """A whole response with Content-Length."""
    lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
