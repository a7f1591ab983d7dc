"""An origin that negotiates codings: it takes the best of what it is offered."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import brotli
import zstandard

from tests.support.origin import Received, Wire, response

TEXT = b"All work and no play makes Jack a dull boy. " * 4000
FRESH = "Cache-Control: max-age=3600"
HTML = "Content-Type: text/html"
VARY = "Vary: Accept-Encoding"


def identity(data: bytes) -> bytes:
    return data


CODERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstandard.compress,
    "br": brotli.compress,
    "gzip": gzip.compress,
    "identity": identity,
}


class Negotiating:
    """An origin that takes the best of what it is offered."""

    def __init__(
        self, *fields: str, prefers: tuple[str, ...] = ("zstd", "br", "gzip"), body: bytes = TEXT
    ) -> None:
        self.fields = fields or (FRESH, HTML, VARY)
        self.prefers = prefers
        self.body = body
        self.damage: Callable[[bytes], bytes] = identity
        self.chosen: list[str] = []

    async def __call__(self, received: Received, wire: Wire) -> None:
        offered = [
            one.partition(";")[0].strip() for one in ",".join(received.field("accept-encoding")).split(",")
        ]
        coding = next((one for one in self.prefers if one in offered), "identity")
        tag = f'"{coding}"'
        if tag in ", ".join(received.field("if-none-match")):
            self.chosen.append("304")
            await wire.send(f"HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n{FRESH}\r\n\r\n".encode())
            return
        self.chosen.append(coding)
        body = CODERS[coding](self.body)
        fields = [f"ETag: {tag}", *self.fields]
        if coding != "identity":
            body = self.damage(body)
            fields += [f"Content-Encoding: {coding}", "Repr-Digest: sha-256=:AAAA:", "Content-MD5: x"]
        if received.field("range"):
            first, last = (int(one) for one in received.field("range")[0].removeprefix("bytes=").split("-"))
            fields.append(f"Content-Range: bytes {first}-{last}/{len(body)}")
            await wire.send(response(body[first : last + 1], *fields, status="206 Partial Content"))
            return
        data = response(body, *fields)
        await wire.send(
            data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if received.line.startswith("HEAD") else data
        )
