"""An origin on loopback that counts every byte the kernel takes from it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Self

from benchmarks.savings.answers import Answer, Slice, answer
from benchmarks.savings.bodies import encoded
from benchmarks.savings.resources import Catalogue

DAY = 86400.0
SEND = 16384


@dataclass
class Sent:
    """What left the origin so far."""

    bytes: int = 0
    body_bytes: int = 0
    requests: int = 0
    not_modified: int = 0
    by_label: Counter[str] = field(default_factory=Counter)

    def copy(self) -> Sent:
        return Sent(self.bytes, self.body_bytes, self.requests, self.not_modified, Counter(self.by_label))

    def since(self, before: Sent) -> Sent:
        return Sent(
            self.bytes - before.bytes,
            self.body_bytes - before.body_bytes,
            self.requests - before.requests,
            self.not_modified - before.not_modified,
            self.by_label - before.by_label,
        )


class Origin:
    """One server; `down` is "", "503" (an answer of its own) or "reset" (no answer at all)."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.sent = Sent()
        self.port = 0
        self.down = ""
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.remembers = False
        self._epoch = time.time() - 100 * DAY
        self._dropped: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._active = 0
        self._last = time.monotonic()
        self._listener: socket.socket | None = None

    async def __aenter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        # Small buffers: what the kernel has taken is soon what the proxy has taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._spawn(self._accept(listener))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()

    async def idle(self, quiet_s: float = 1.0, most_s: float = 60.0) -> None:
        """Until nothing has been sent for a while: proxies go on after their clients have left."""
        until = time.monotonic() + most_s
        while time.monotonic() < until:
            rest = quiet_s - (time.monotonic() - self._last)
            if rest <= 0 and not self._active:
                return
            await asyncio.sleep(max(rest, 0.05))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._spawn(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    more = await loop.sock_recv(connection, 65536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                self._active += 1
                try:
                    keep = await self._answer(connection, head.decode("latin-1"))
                finally:
                    self._active -= 1
                if not keep:
                    return
        except OSError:
            return  # the proxy has left; what the kernel took before is counted
        finally:
            connection.close()

    async def _answer(self, connection: socket.socket, head: str) -> bool:
        """Sends one answer; whether the connection may be used again."""
        line, *rest = head.split("\r\n")
        method, target, _ = line.split(" ")
        fields: dict[str, str] = {}
        for one in rest:
            name, _, value = one.partition(":")
            fields[name.strip().lower()] = value.strip()
        self.sent.requests += 1
        if self.remembers:
            self.seen.append((target, fields))
        if self.down == "reset":
            return False
        path, _, query = target.partition("?")
        resource = self.catalogue.find(path)
        now = time.time()
        if self.down or resource is None:
            reply = Answer(503 if self.down else 404, [("Cache-Control", "no-store")])
            await self._send(connection, reply.head(), path, body=False)
            return True
        version = self.catalogue.version(resource)
        reply = answer(resource, version, query, fields, now, self._epoch)
        if resource.cookies:
            reply.fields.append(("Set-Cookie", f"id=c{self.sent.requests}; Path=/"))
        self.sent.not_modified += reply.status == 304
        await self._send(connection, reply.head(), path, body=False)
        if method == "HEAD" or reply.status == 304:
            return True
        most = reply.length()
        if resource.drop_at and path not in self._dropped:
            self._dropped.add(path)
            most = resource.drop_at
        await self._send_body(connection, reply, path, resource.rate, most)
        return most == reply.length()

    async def _send_body(
        self, connection: socket.socket, reply: Answer, path: str, rate: int, most: int
    ) -> None:
        began, sent = time.monotonic(), 0
        for piece in _pieces(reply):
            piece = piece[: most - sent]
            await self._send(connection, piece, path, body=True)
            sent += len(piece)
            if sent >= most:
                return
            if rate and (ahead := began + sent / rate - time.monotonic()) > 0:
                await asyncio.sleep(ahead)

    async def _send(self, connection: socket.socket, data: bytes, path: str, *, body: bool) -> None:
        label = path.split("/")[1]
        view = memoryview(data)
        while view:
            try:
                count = connection.send(view)
            except BlockingIOError:
                await _writable(connection)
                continue
            self.sent.bytes += count
            self.sent.body_bytes += count if body else 0
            self.sent.by_label[label] += count
            self._last = time.monotonic()
            view = view[count:]


async def _writable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    number = connection.fileno()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(number, wake)
    try:
        await ready
    finally:
        with contextlib.suppress(ValueError):
            loop.remove_writer(number)


def _pieces(reply: Answer) -> Iterator[bytes]:
    for part in reply.parts:
        if isinstance(part, bytes):
            yield part
            continue
        yield from _slice(part)


def _slice(part: Slice) -> Iterator[bytes]:
    body, coding, first, end = part
    whole = encoded(body, coding) if coding else b""
    for start in range(first, end, SEND):
        stop = min(end, start + SEND)
        yield whole[start:stop] if coding else body.read(start, stop)
