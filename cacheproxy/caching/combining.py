"""Parts of a representation: may a 206 be stored, may it be joined to what is here (RFC 9110 §15.3.7, RFC 9111 §3.3, §3.4).

Bytes are joined only under an equal strong validator; whatever does not fit exactly is another representation.
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheproxy.caching import storing
from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.caching.options import CachingOptions
from cacheproxy.caching.storing import DoNotStore, Store
from cacheproxy.http.cache_control import RequestDirectives
from cacheproxy.http.codings import content_codings
from cacheproxy.http.dates import parse_date
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.http.ranges import ContentRange, Slice, parse_content_range, parse_range
from cacheproxy.http.validators import is_strong, strong_match
from cacheproxy.reasons import Reason

_STRONG_AFTER_S = 60


@dataclass(frozen=True, slots=True)
class StorePart:
    """Store these bytes; `stored` is the complete response they belong to, as far as it is known."""

    stored: StoredResponse
    part: Slice


@dataclass(frozen=True, slots=True)
class Joins:
    """The 206 continues what is here with these bytes; `complete` is the length where it says it."""

    part: Slice
    complete: int | None


@dataclass(frozen=True, slots=True)
class Differs:
    """Not a part of the same representation, or not the part that was asked for.

    `is_other`: what is stored is not what the origin has now, or its word cannot be trusted.
    """

    why: str
    is_other: bool = True


def range_validator(stored: StoredResponse) -> str | None:
    """What goes into If-Range; None where parts of this response must not be joined.

    RFC 9110 §13.1.5, §8.8.2.2: a strong entity tag, or without any tag a Last-Modified that is at least a
    minute older than the response's own Date.
    """
    if stored.status != 200:
        return None
    if "etag" in stored.fields:
        return stored.etag if stored.etag is not None and is_strong(stored.etag) else None
    modified = stored.last_modified
    if modified is None or stored.fields.only("date") is None:
        return None
    modified_at = parse_date(modified, stored.timing.response_time)
    return modified if modified_at is not None and stored.date_at - modified_at >= _STRONG_AFTER_S else None


def part_fields(fields: Fields, stored: StoredResponse, start: int, end: int | None) -> Fields:
    """Request fields that ask for bytes `start` to `end` (None: to the end) of just this representation."""
    validator = range_validator(stored)
    assert validator is not None
    last = "" if end is None else str(end - 1)
    return fields.plus(("Range", f"bytes={start}-{last}"), ("If-Range", validator))


def judge(stored: StoredResponse, start: int, end: int | None, response: ResponseHead) -> Joins | Differs:
    """Whether a response to `part_fields` continues what is stored at `start`, and how far."""
    if response.status != 206:
        is_other = response.status == 416 or not _same_representation(stored, response.fields)
        return Differs(f"status {response.status} in place of a part", is_other)
    content = _content_range(response.fields)
    if content is None:
        return Differs("its Content-Range is missing, malformed or contradicts its length")
    if content.start != start or (end is not None and content.end > end):
        return Differs(f"it holds bytes {content.start}-{content.end - 1}, which were not asked for")
    if stored.length is not None and content.complete not in (None, stored.length):
        return Differs(f"its complete length is {content.complete}, not {stored.length}")
    if stored.length is not None and content.end > stored.length:
        return Differs("it goes beyond the end")
    if content.complete is not None and stored.held and stored.held[-1].end > content.complete:
        return Differs(f"its complete length is {content.complete}, but {stored.held[-1].end} bytes were there")
    if not _same_representation(stored, response.fields):
        return Differs("its validator is another one")
    return Joins(Slice(content.start, content.end), content.complete)


def decide_part(
    request: RequestHead,
    asked: RequestDirectives,
    response: ResponseHead,
    timing: Timing,
    options: CachingOptions,
    key: str | None = None,
) -> StorePart | DoNotStore:
    """Whether the 206 to a client's range request may be stored (RFC 9111 §3.3)."""
    content = _content_range(response.fields)
    if content is None or not _answers(request.fields, content):
        return DoNotStore(Reason.PARTIAL_CONTENT)
    verdict = storing.decide(request, asked, _complete_head(response, content), timing, options, key)
    if not isinstance(verdict, Store):
        return verdict
    if range_validator(verdict.stored) is None:
        return DoNotStore(Reason.PARTIAL_CONTENT)
    stored = verdict.stored.with_body(0, 0, content.complete)
    return StorePart(stored, Slice(content.start, content.end))


def _complete_head(response: ResponseHead, content: ContentRange) -> ResponseHead:
    fields = response.fields.without({"content-range", "content-length"})
    if content.complete is not None:
        fields = fields.plus(("Content-Length", str(content.complete)))
    return ResponseHead(200, "OK", fields)


def _content_range(fields: Fields) -> ContentRange | None:
    if (fields.get("content-type") or "").lower().startswith("multipart/byteranges"):
        # RFC 9110 §15.3.7.2: there the ranges stand inside the body, and a Content-Range must not be sent.
        return None
    value = fields.only("content-range")
    content = None if value is None else parse_content_range(value)
    if content is None:
        return None
    length = fields.get("content-length")
    return content if length is None or length.strip(" \t") == str(content.end - content.start) else None


def _answers(request: Fields, content: ContentRange) -> bool:
    value = request.only("range")
    specs = None if value is None else parse_range(value)
    if specs is None or len(specs) != 1:
        return False
    spec = specs[0]
    if spec.first is not None:
        return content.start == spec.first and (spec.last is None or content.end <= spec.last + 1)
    if content.complete is None or content.end != content.complete:
        return False
    return content.start == max(0, content.complete - (spec.last or 0))


def _same_representation(stored: StoredResponse, fields: Fields) -> bool:
    # Stricter than RFC 9110 §15.3.7, by which a part may leave it out: servers that code on the fly send
    # parts uncoded, some of them under the same tag.
    if content_codings(fields) != content_codings(stored.fields):
        return False
    if stored.etag is not None:
        etag = fields.only("etag")
        return etag is not None and strong_match(etag, stored.etag)
    modified = fields.only("last-modified")
    return "etag" not in fields and modified == stored.last_modified
