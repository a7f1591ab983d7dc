"""A raw HTTP client over a socket: sends bytes, reads one response at a time."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass


@dataclass
class Reply:
    """One response as it arrived; `interim` holds the 1xx heads before it."""

    status: int
    head: bytes
    body: bytes
    interim: list[bytes]

    def field(self, name: str) -> str | None:
        values = self.fields(name)
        return ", ".join(values) if values else None

    def fields(self, name: str) -> list[str]:
        found = []
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                found.append(value.strip())
        return found


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received_bytes = 0

    @classmethod
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None) -> RawClient:
        name = None if tls is None else "localhost"
        return cls(
            *await asyncio.open_connection("127.0.0.1", port, limit=1 << 20, ssl=tls, server_hostname=name)
        )

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> bytes:
        raw = await self.reader.readuntil(b"\r\n\r\n")
        self.received_bytes += len(raw)
        return raw[:-4]

    async def reply(self, method: str = "GET") -> Reply:
        """The next response, whole. Raises IncompleteReadError where it is cut."""
        async with asyncio.timeout(20):
            interim: list[bytes] = []
            while True:
                head = await self.head()
                status = int(head.split(b" ", 2)[1])
                if status >= 200:
                    break
                interim.append(head)
            found = Reply(status, head, b"", interim)
            if method == "HEAD" or status in (204, 304):
                return found
            length = found.field("content-length")
            if length is not None:
                found.body = await self.reader.readexactly(int(length))
                self.received_bytes += len(found.body)
            elif found.field("transfer-encoding") == "chunked":
                while True:
                    line = await self.reader.readuntil(b"\r\n")
                    size = int(line, 16)
                    piece = await self.reader.readexactly(size + 2)
                    self.received_bytes += len(line) + len(piece)
                    if not size:
                        break
                    found.body += piece[:-2]
            else:
                found.body = await self.reader.read()
                self.received_bytes += len(found.body)
            return found

    async def get(self, url: str, *fields: str, method: str = "GET", body: bytes = b"") -> Reply:
        authority = url.split("/")[2]
        lines = [f"{method} {url} HTTP/1.1", f"Host: {authority}", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return await self.reply(method)

    async def closed(self) -> bool:
        """Whether the other side has ended the connection (waits for it)."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        import socket
        import struct

        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
