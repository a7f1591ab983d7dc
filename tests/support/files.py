"""A resource of an origin that knows ranges, counts what it sends and breaks off or lies where a test says so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from cacheproxy.app import App
from tests.support.client import RawClient
from tests.support.origin import Received, Wire

_PIECE = 32 * 1024
LONG_AGO = "Sun, 06 Nov 1994 08:49:37 GMT"
Head = tuple[str, list[str], bytes]


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes of which no two places look alike."""
    return random.Random(seed).randbytes(size)


class File:
    """Route of an `Origin`. `asked` holds the slice of each request for content, `sent` the bytes of body."""

    def __init__(self, body: bytes, *fields: str, etag: str | None = '"1"') -> None:
        self.body = body
        self.fields = list(fields) or ["Cache-Control: max-age=3600"]
        self.etag = etag
        self.modified: str | None = None
        self.has_ranges = True
        self.is_chunked = False
        self.complete: str | None = None
        self.asked: list[tuple[int, int]] = []
        self.conditions: list[str] = []
        self.sent = 0
        # Positions in the body: where to wait for `go`, and where to break off, once for each entry.
        self.stop_at: int | None = None
        self.go = asyncio.Event()
        self.stopped = asyncio.Event()
        self.cuts: list[int] = []
        # Called when a body has been broken off.
        self.on_cut: Callable[[], None] | None = None
        # Changes the head of a 206 (status line, fields, body) before it is sent.
        self.lie: Callable[[int, int, Head], Head] | None = None

    def _range(self, received: Received) -> tuple[int, int] | None:
        value = received.field("range")
        if not value or not self.has_ranges:
            return None
        condition = received.field("if-range")
        self.conditions += condition
        if condition and condition[0] not in (self.etag, self.modified):
            return None
        first, _, last = value[0].removeprefix("bytes=").partition("-")
        if "," in last:
            return None
        if not first:
            return max(0, len(self.body) - int(last)), len(self.body)
        return int(first), min(int(last) + 1 if last else len(self.body), len(self.body))

    def _validators(self) -> list[str]:
        found = [] if self.etag is None else [f"ETag: {self.etag}"]
        return found if self.modified is None else [*found, f"Last-Modified: {self.modified}"]

    async def __call__(self, received: Received, wire: Wire) -> None:
        if self.etag is not None and self.etag in ", ".join(received.field("if-none-match")):
            lines = ["HTTP/1.1 304 Not Modified", *self._validators(), *self.fields]
            await wire.send("\r\n".join(lines).encode() + b"\r\n\r\n")
            return
        part = self._range(received)
        if part is not None and part[0] >= len(self.body):
            await wire.send(
                f"HTTP/1.1 416 No\r\nContent-Range: bytes */{len(self.body)}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            return
        start, end = part or (0, len(self.body))
        status, fields = "200 OK", [*self._validators(), *self.fields, "Date: Sun, 06 Nov 2033 08:49:37 GMT"]
        if part is not None:
            complete = self.complete or str(len(self.body))
            status = "206 Partial Content"
            fields.append(f"Content-Range: bytes {start}-{end - 1}/{complete}")
        fields.append("Transfer-Encoding: chunked" if self.is_chunked else f"Content-Length: {end - start}")
        body = self.body[start:end]
        if part is not None and self.lie is not None:
            status, fields, body = self.lie(start, end, (status, fields, body))
        if received.line.startswith("HEAD"):
            body = b""
        else:
            self.asked.append((start, end))
        await wire.send("\r\n".join([f"HTTP/1.1 {status}", *fields]).encode() + b"\r\n\r\n")
        await self._send(wire, start, body)

    async def _send(self, wire: Wire, start: int, body: bytes) -> None:
        wire.writer.transport.set_write_buffer_limits(0)
        cut = next((one for one in self.cuts if start <= one < start + len(body)), None)
        at = 0
        while at < len(body):
            position = start + at
            marks = [one for one in (cut, self.stop_at) if one is not None and one > position]
            size = min([_PIECE, *(one - position for one in marks)])
            if cut == position:
                self.cuts.remove(cut)
                wire.close()
                if self.on_cut is not None:
                    self.on_cut()
                return
            if self.stop_at == position:
                self.stopped.set()
                await self.go.wait()
            piece = body[at : at + size]
            at += len(piece)
            self.sent += len(piece)
            await wire.send(b"%x\r\n%s\r\n" % (len(piece), piece) if self.is_chunked else piece)
        if self.is_chunked and body:
            await wire.send(b"0\r\n\r\n")


async def quiet(app: App) -> None:
    """Wait until no fetch is under way."""
    async with asyncio.timeout(10):
        while len(app.engine.flights):
            await asyncio.sleep(0)


async def take(client: RawClient, url: str, count: int, *fields: str) -> bytes:
    """The first `count` bytes of an answer's body; then the client is gone."""
    lines = [f"GET {url} HTTP/1.1", f"Host: {url.split('/')[2]}", *fields]
    await client.send("\r\n".join(lines).encode() + b"\r\n\r\n")
    async with asyncio.timeout(10):
        await client.head()
        data = await client.reader.readexactly(count)
    client.reset()
    return data
