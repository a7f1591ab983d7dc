"""Answers from a stored response: the client's conditions, its ranges, the body from wherever it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import blake2b

from cacheproxy.caching import partial, preconditions
from cacheproxy.engine.answers import stored_fields
from cacheproxy.engine.assembled import AssembledBody
from cacheproxy.engine.parts import Parts
from cacheproxy.engine.streams import close_stream, next_piece
from cacheproxy.errors import StoreError
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.http.ranges import Slice, format_content_range
from cacheproxy.ports import Answer, BodySource, Candidate
from cacheproxy.reasons import Reason


class Damaged(Exception):
    """A stored body cannot be read: the request is a miss."""


class NotHere(Exception):
    """The asked range lies too far ahead of what a running fetch has: fetch it apart."""


class _Opened:
    """A body whose first piece has been read already, so that a damaged one is found before the head goes."""

    def __init__(self, first: bytes, rest: AsyncIterator[bytes]) -> None:
        self._first: bytes | None = first
        self._rest = rest

    def __aiter__(self) -> _Opened:
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await anext(self._rest)

    async def aclose(self) -> None:
        await close_stream(self._rest)


async def answer_from(
    parts: Parts,
    request: RequestHead,
    candidate: Candidate,
    age: float,
    reason: Reason,
    *,
    collapsed: bool = False,
    cookies: Fields | None = None,
) -> Answer:
    """The answer to GET or HEAD from a stored response.

    `cookies` are Set-Cookie lines that the origin has just sent for this very request. Raises Damaged
    where the body cannot be read, NotHere where a range is too far ahead in a running fetch.
    """
    now = parts.clock.wall()
    stored = candidate.stored
    fields = stored_fields(parts, stored, age, reason, now, collapsed=collapsed)
    if cookies is not None:
        fields = fields.where(lambda name, _: name not in ("set-cookie", "set-cookie2")).plus(*cookies.lines)
    if preconditions.is_not_modified(request.fields, stored, now):
        return Answer(ResponseHead(304, "Not Modified", preconditions.not_modified_fields(fields)))
    if request.method == "HEAD":
        return Answer(ResponseHead(stored.status, stored.reason_phrase, fields), length=stored.length)
    if (
        stored.status == 200
        and "range" in request.fields
        and preconditions.range_applies(request.fields, stored, now)
    ):
        ranged = await _ranged(parts, request, candidate, fields)
        if ranged is not None:
            return ranged
    head = ResponseHead(stored.status, stored.reason_phrase, fields)
    whole = candidate.body.whole()
    if whole is not None:
        return Answer(head, content=whole, length=len(whole))
    return Answer(head, stream=await _open(candidate.body, None), length=stored.length)


async def _open(body: BodySource, part: Slice | None) -> AsyncIterator[bytes]:
    stream = body.read(part)
    if isinstance(body, AssembledBody):
        return stream
    try:
        first = await next_piece(stream)
    except StoreError as error:
        await close_stream(stream)
        raise Damaged(str(error)) from error
    return _Opened(first, stream) if first else stream


async def _ranged(parts: Parts, request: RequestHead, candidate: Candidate, fields: Fields) -> Answer | None:
    length = candidate.stored.length
    if length is None:
        return _of_unknown_length(request, candidate, fields)
    plan = partial.plan(request.fields, length)
    if isinstance(plan, partial.Whole):
        return None
    if isinstance(plan, partial.NotSatisfiable):
        fields = fields.without({"content-length", "content-type", "content-encoding", "etag", "last-modified"})
        return Answer(
            ResponseHead(416, "Range Not Satisfiable", fields.replaced("Content-Range", f"bytes */{length}"))
        )
    if (
        isinstance(candidate.body, AssembledBody)
        and not candidate.body.assembly.is_resumable
        and max(part.start for part in plan.slices) > candidate.body.available + parts.join_gap_bytes
    ):
        raise NotHere
    if len(plan.slices) == 1:
        part = plan.slices[0]
        fields = fields.replaced("Content-Range", format_content_range(part, length))
        head = ResponseHead(206, "Partial Content", fields)
        whole = candidate.body.whole()
        if whole is not None:
            return Answer(head, content=whole[part.start : part.end], length=part.length)
        return Answer(head, stream=await _open(candidate.body, part), length=part.length)
    boundary = blake2b(repr((candidate.stored.key, plan.slices)).encode(), digest_size=12).hexdigest()
    heads, end, total = partial.multipart_pieces(plan.slices, length, fields.get("content-type"), boundary)
    stream = _Multipart(candidate.body, plan.slices, heads, end)
    fields = fields.replaced("Content-Type", f"multipart/byteranges; boundary={boundary}")
    return Answer(ResponseHead(206, "Partial Content", fields), stream=stream, length=total)


def _of_unknown_length(request: RequestHead, candidate: Candidate, fields: Fields) -> Answer:
    """A part of what no response has told the length of yet: only bytes that are known to exist."""
    body = candidate.body
    first, end = partial.span(request.fields) or (0, None)
    if end is None or not isinstance(body, AssembledBody) or not body.surely_has(Slice(first, end)):
        raise NotHere
    fields = fields.without({"content-length"}).replaced("Content-Range", f"bytes {first}-{end - 1}/*")
    head = ResponseHead(206, "Partial Content", fields)
    return Answer(head, stream=body.read(Slice(first, end)), length=end - first)


class _Multipart:
    """Several ranges; closing it also gives up what was prepared for one of them and not read."""

    def __init__(self, body: BodySource, slices: tuple[Slice, ...], heads: list[bytes], end: bytes) -> None:
        self._body = body
        self._pieces = _multipart(body, slices, heads, end)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        await close_stream(self._pieces)
        if isinstance(self._body, AssembledBody):
            await self._body.aclose()


async def _multipart(
    body: BodySource, slices: tuple[Slice, ...], heads: list[bytes], end: bytes
) -> AsyncIterator[bytes]:
    for part, head in zip(slices, heads, strict=True):
        yield head
        stream = body.read(part)
        try:
            async for piece in stream:
                yield piece
        finally:
            await close_stream(stream)
    yield end
