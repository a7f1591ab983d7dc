"""Bodies as functions of their key: any slice of any version can be made again and compared."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib
import random
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

PIECE = 65536


def _optional(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_brotli = _optional("brotli")
CODINGS = ("br", "gzip") if _brotli is not None else ("gzip",)


@lru_cache(maxsize=1024)
def _piece(key: str, index: int, size: int) -> bytes:
    return random.Random(f"{key}#{index}").randbytes(size)


@lru_cache(maxsize=1024)
def _text(key: str, size: int) -> bytes:
    """Markup that gzip makes four to five times smaller, as web pages and indexes are."""
    draw = random.Random(key)
    words = ["".join(draw.choices("etaoinshrdlucmfw", k=draw.randint(3, 9))) for _ in range(400)]
    lines: list[str] = []
    length = 0
    while length < size:
        number = draw.randrange(100_000)
        title = " ".join(draw.choices(words, k=6))
        line = f'<li class="entry" data-id="{number}"><a href="/entry/{number}/{words[number % 400]}">{title}</a></li>\n'
        lines.append(line)
        length += len(line)
    return "".join(lines).encode("ascii")[:size]


@dataclass(frozen=True)
class Body:
    """`size` bytes that only this key has; `text` ones can be compressed."""

    key: str
    size: int
    text: bool = False

    def read(self, first: int, end: int) -> bytes:
        """The bytes from `first` up to `end`, the latter not included."""
        end = min(end, self.size)
        if self.text:
            return _text(self.key, self.size)[first:end]
        parts = []
        for index in range(first // PIECE, (max(first, end - 1)) // PIECE + 1):
            start = index * PIECE
            piece = _piece(self.key, index, min(PIECE, self.size - start))
            parts.append(piece[max(0, first - start) : max(0, end - start)])
        return b"".join(parts)

    def digest(self) -> str:
        """The value of Repr-Digest (RFC 9530)."""
        return f"sha-256=:{base64.b64encode(_sha256(self)).decode()}:"


@lru_cache(maxsize=64)
def _sha256(body: Body) -> bytes:
    digest = hashlib.sha256()
    for first in range(0, body.size, PIECE):
        digest.update(body.read(first, first + PIECE))
    return digest.digest()


@lru_cache(maxsize=2048)
def encoded(body: Body, coding: str) -> bytes:
    """The whole body in a content coding, always the same bytes."""
    plain = body.read(0, body.size)
    if coding == "br":
        assert _brotli is not None
        return bytes(_brotli.compress(plain, quality=5))
    return gzip.compress(plain, compresslevel=6, mtime=0)


def decoded(data: bytes, coding: str) -> bytes | None:
    """The body without its content coding; None when it is unknown or damaged."""
    try:
        if coding == "br" and _brotli is not None:
            return bytes(_brotli.decompress(data))
        return gzip.decompress(data) if coding == "gzip" else None
    except Exception:  # noqa: BLE001 - every library has errors of its own, all mean damaged
        return None
