"""Requests, responses and stored responses for the case tables, each from one line of text.

Fields are written `Name: value | Name: value`. All happens at NOW unless a case says otherwise.
"""

from __future__ import annotations

from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.caching.key import cache_key
from cacheproxy.caching.options import CachingOptions
from cacheproxy.http.dates import format_date
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.http.uri import parse_absolute
from cacheproxy.http.vary import nominated_names, variant_of

NOW = 1_800_000_000.0
URL = "http://h/a"
OPTIONS = CachingOptions()


def at(offset: float) -> str:
    """The HTTP date `offset` seconds from NOW."""
    return format_date(NOW + offset)


def fields(text: str) -> Fields:
    """Field lines from `Name: value | Name: value`."""
    lines = []
    for line in text.split(" | ") if text else []:
        name, _, value = line.partition(":")
        lines.append((name, value.strip(" ")))
    return Fields(lines)


def request(text: str = "", method: str = "GET", url: str = URL) -> RequestHead:
    """A request for `url`."""
    return RequestHead(method, url, (1, 1), fields(text), parse_absolute(url))


def response(text: str = "", status: int = 200) -> ResponseHead:
    """A response as the origin sent it: without Date unless `text` has one."""
    return ResponseHead(status, "", fields(text))


def stored(
    text: str = "",
    *,
    status: int = 200,
    age: float = 0,
    asked: str = "",
    options: CachingOptions = OPTIONS,
    entry_id: int = 0,
    length: int | None = None,
) -> StoredResponse:
    """What a fetch `age` seconds before NOW stored; `asked` holds that request's fields."""
    head = response(text, status)
    nominated = nominated_names(head.fields) or ()
    return StoredResponse.build(
        cache_key(parse_absolute(URL)),
        nominated,
        variant_of(nominated, fields(asked)),
        head,
        Timing(NOW - age, NOW - age),
        options,
        entry_id=entry_id,
        length=length,
    )
