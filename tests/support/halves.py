"""A long body that comes in two parts, the second when the test says so."""

from __future__ import annotations

import asyncio

from tests.support.client import RawClient
from tests.support.origin import Received, Wire

_FIRST = b"abc"


class Halves:
    """A route: a head with `fields`, three bytes, and `body` once it `may_go_on`."""

    def __init__(self, body: bytes, fields: str, *, is_chunked: bool) -> None:
        self.may_go_on = asyncio.Event()
        self._body = body
        self._fields = fields
        self._is_chunked = is_chunked

    async def __call__(self, received: Received, wire: Wire) -> None:
        if self._is_chunked:
            await wire.send(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{self._fields}\r\n\r\n".encode())
            await wire.send(b"3\r\n" + _FIRST + b"\r\n")
            await self.may_go_on.wait()
            await wire.send(f"{len(self._body):x}\r\n".encode() + self._body + b"\r\n0\r\n\r\n")
        else:
            length = len(_FIRST) + len(self._body)
            await wire.send(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{self._fields}\r\n\r\n".encode())
            await wire.send(_FIRST)
            await self.may_go_on.wait()
            await wire.send(self._body)

    async def fetch(self, client: RawClient, url: str) -> bytes:
        """What a client gets behind the first part, which must be there while the origin holds the second."""
        await client.send(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (b"chunked" in await client.head()) is self._is_chunked
        await client.reader.readexactly(len(b"3\r\n" + _FIRST + b"\r\n") if self._is_chunked else len(_FIRST))
        self.may_go_on.set()
        if not self._is_chunked:
            return await client.reader.readexactly(len(self._body))
        rest = b""
        while size := int(await client.reader.readuntil(b"\r\n"), 16):
            rest += (await client.reader.readexactly(size + 2))[:-2]
        assert await client.reader.readexactly(2) == b"\r\n"
        return rest
