"""Ranges of a stored body: which bytes answer a Range request (RFC 9110 §14, RFC 9111 §3.4)."""

from __future__ import annotations

from dataclasses import dataclass

from cacheproxy.http.message import Fields
from cacheproxy.http.ranges import Slice, format_content_range, parse_range, satisfiable


@dataclass(frozen=True, slots=True)
class Whole:
    """The Range is absent or ignored: 200 with everything."""


@dataclass(frozen=True, slots=True)
class Parts:
    """206 with these slices, in the order asked."""

    slices: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class NotSatisfiable:
    """416: no asked byte exists."""


def plan(request: Fields, length: int) -> Whole | Parts | NotSatisfiable:
    """How a Range request for a complete body of `length` bytes is answered."""
    value = request.only("range")
    specs = None if value is None else parse_range(value)
    if specs is None:
        return Whole()
    slices = satisfiable(specs, length)
    if not slices:
        # RFC 9110 §14.1.2: a suffix of an empty representation is satisfiable, but no 206 can say so.
        is_suffix = length == 0 and any(spec.first is None and spec.last for spec in specs)
        return Whole() if is_suffix else NotSatisfiable()
    # RFC 9110 §14.2 lets a server ignore ranges that would cost more than the whole.
    if len(slices) > 1 and sum(part.length for part in slices) > length:
        return Whole()
    return Parts(tuple(slices))


def span(request: Fields) -> tuple[int, int | None] | None:
    """First byte and end (None: the body's) of the one range asked for of a body of unknown length.

    None where that depends on the length, or where there are several.
    """
    value = request.only("range")
    specs = None if value is None else parse_range(value)
    if specs is None or len(specs) != 1 or specs[0].first is None:
        return None
    return specs[0].first, None if specs[0].last is None else specs[0].last + 1


def multipart_pieces(
    parts: tuple[Slice, ...], length: int, content_type: str | None, boundary: str
) -> tuple[list[bytes], bytes, int]:
    """The heads of each part of a multipart/byteranges body, its end, and the body's whole length."""
    heads: list[bytes] = []
    total = 0
    for index, part in enumerate(parts):
        text = f"{'' if index == 0 else chr(13) + chr(10)}--{boundary}\r\n"
        if content_type is not None:
            text += f"Content-Type: {content_type}\r\n"
        text += f"Content-Range: {format_content_range(part, length)}\r\n\r\n"
        heads.append(text.encode("latin-1"))
        total += len(heads[-1]) + part.length
    end = f"\r\n--{boundary}--\r\n".encode("latin-1")
    return heads, end, total + len(end)
