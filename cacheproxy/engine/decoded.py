"""Content decoded for a client that cannot read it: piece by piece, bounded, cut visibly where it is damaged."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Protocol

import brotli
import zstandard

from cacheproxy.caching.decoding import decoded_fields
from cacheproxy.engine.streams import next_piece
from cacheproxy.errors import StoreError
from cacheproxy.ports import Answer

_PIECE_BYTES = 256 * 1024
# RFC 9659 §3: what a decoder of the zstd coding must support, and may refuse above.
_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
# zstandard gives all that its input holds at once: so little goes in that this is bounded.
_ZSTD_FEED_BYTES = 64
_BOMB_RATIO = 1000
# Streams whose first event may be long in coming: their head does not wait for it.
_EVENTS = ("text/event-stream", "application/x-ndjson", "multipart/x-mixed-replace")
_BOMB_AFTER_BYTES = 16 * 1024 * 1024


class NotDecodable(StoreError):
    """The content is not what its coding says, or grows beyond all measure."""


class _Decoder(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]: ...

    def end(self) -> None:
        """Raise NotDecodable where more should have come."""


class _Zlib:
    """gzip with any number of members, and deflate with or without its wrapper."""

    def __init__(self, coding: str) -> None:
        self._bits = 31 if coding == "gzip" else 15
        self._is_gzip = coding == "gzip"
        self._inner = zlib.decompressobj(self._bits)
        self._has_begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not self._has_begun and data:
            self._has_begun = True
            # RFC 9110 §8.4.1.2: some senders leave the zlib wrapper out.
            if not self._is_gzip and (data[0] & 0x0F) != 8:
                self._inner = zlib.decompressobj(-15)
        while data:
            if self._inner.eof:
                if not self._is_gzip or not data.strip(b"\0"):
                    return
                self._inner = zlib.decompressobj(self._bits)
            piece = self._inner.decompress(data, _PIECE_BYTES)
            if piece:
                yield piece
            data = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail

    def end(self) -> None:
        if self._has_begun and not self._inner.eof:
            raise NotDecodable("the coded content ends too early")


class _Brotli:
    def __init__(self) -> None:
        self._inner = brotli.Decompressor()
        self._has_begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._has_begun = True
        piece = self._inner.process(data, output_buffer_limit=_PIECE_BYTES)
        while piece or not self._inner.can_accept_more_data():
            if piece:
                yield piece
            if self._inner.is_finished():
                return
            piece = self._inner.process(b"", output_buffer_limit=_PIECE_BYTES)

    def end(self) -> None:
        if self._has_begun and not self._inner.is_finished():
            raise NotDecodable("the coded content ends too early")


class _Zstd:
    def __init__(self) -> None:
        self._context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
        self._inner = self._context.decompressobj()
        self._has_begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        view = memoryview(data)
        at = 0
        while at < len(view):
            if self._inner.eof:
                self._inner = self._context.decompressobj()
            self._has_begun = True
            step = view[at : at + _ZSTD_FEED_BYTES]
            piece = self._inner.decompress(step)
            at += len(step) - len(self._inner.unused_data)
            if piece:
                yield piece

    def end(self) -> None:
        if self._has_begun and not self._inner.eof:
            raise NotDecodable("the coded content ends too early")


def _decoder(coding: str) -> _Decoder:
    if coding == "zstd":
        return _Zstd()
    return _Brotli() if coding == "br" else _Zlib(coding)


class DecodedStream:
    """The content of `source` without its coding. Close it; raises NotDecodable."""

    def __init__(
        self, source: AsyncIterator[bytes], coding: str, max_bytes: int, on_damage: Callable[[], None]
    ) -> None:
        self._source = source
        self._on_damage = on_damage
        self._decoder = _decoder(coding)
        self._max_bytes = max_bytes
        self._pieces: Iterator[bytes] = iter(())
        self._coded = 0
        self._decoded = 0
        self._first: bytes | None = None
        self._is_over = False

    def __aiter__(self) -> DecodedStream:
        return self

    async def begin(self) -> None:
        """Decode the first piece, so that what cannot be decoded is found before the head goes."""
        self._first = await next_piece(self)

    async def __anext__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            if first:
                return first
        try:
            return await self._next()
        except NotDecodable:
            self._on_damage()
            raise

    async def _next(self) -> bytes:
        while not self._is_over:
            try:
                gathered = self._gather()
            except (zlib.error, brotli.error, zstandard.ZstdError) as error:
                raise NotDecodable(f"the coded content is damaged: {error}") from error
            if gathered:
                return gathered
            data = await next_piece(self._source)
            if not data:
                self._is_over = True
                self._decoder.end()
                break
            self._coded += len(data)
            self._pieces = self._decoder.feed(data)
        raise StopAsyncIteration

    def _gather(self) -> bytes:
        """Small pieces joined: a write for each would cost more than the copy."""
        gathered: list[bytes] = []
        size = 0
        for piece in self._pieces:
            gathered.append(piece)
            size += len(piece)
            if size >= _PIECE_BYTES:
                break
        self._decoded += size
        is_bomb = self._decoded > _BOMB_AFTER_BYTES and self._decoded > self._coded * _BOMB_RATIO
        if is_bomb or self._decoded > self._max_bytes:
            raise NotDecodable(f"{self._coded} coded bytes have become {self._decoded}")
        return gathered[0] if len(gathered) == 1 else b"".join(gathered)

    async def aclose(self) -> None:
        """Close the source."""
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def decoded(
    answer: Answer, coding: str, max_bytes: int, on_damage: Callable[[], None], *, has_body: bool
) -> Answer:
    """`answer` without its coding. Raises NotDecodable where already the first piece is damaged.

    `on_damage` is called where content proves damaged, then or later.
    """
    head = answer.head.with_fields(decoded_fields(answer.head.fields))
    if not has_body or head.status == 304 or (answer.stream is None and not answer.content):
        return Answer(head, must_close=answer.must_close)
    source = answer.stream if answer.stream is not None else _once(answer.content)
    stream = DecodedStream(source, coding, max_bytes, on_damage)
    if not (head.fields.get("content-type") or "").lower().startswith(_EVENTS):
        try:
            await stream.begin()
        except BaseException:
            await stream.aclose()
            raise
    return Answer(head, stream=stream, must_close=answer.must_close)
