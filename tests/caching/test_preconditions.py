"""The client's own conditions."""

from __future__ import annotations

import pytest

from cacheproxy.caching.preconditions import is_not_modified, not_modified_fields, range_applies
from tests.caching.build import NOW, at, fields, stored

DATE = f"Date: {at(0)}"
MODIFIED = f"{DATE} | Last-Modified: {at(-100)}"


@pytest.mark.parametrize(
    ("rfc", "text", "asked", "is_304"),
    [
        ("9110 13.1.2 same", 'ETag: "a"', 'If-None-Match: "a"', True),
        ("9110 13.1.2 other", 'ETag: "a"', 'If-None-Match: "b"', False),
        ("9110 13.1.2 in a list", 'ETag: "a"', 'If-None-Match: "b", W/"a"', True),
        ("9110 13.1.2 in two lines", 'ETag: "a"', 'If-None-Match: "b" | If-None-Match: "a"', True),
        ("9110 13.1.2 weak comparison", 'ETag: W/"a"', 'If-None-Match: "a"', True),
        ("9110 13.1.2 comma in a tag", 'ETag: "a,b"', 'If-None-Match: "a,b"', True),
        ("9110 13.1.2 part of a tag", 'ETag: "a"', 'If-None-Match: "a,b"', False),
        ("9110 13.1.2 unquoted", "ETag: a", "If-None-Match: a", True),
        ("9110 13.1.2 star", "", "If-None-Match: *", True),
        ("9110 13.1.2 no tag here", "", 'If-None-Match: "a"', False),
        (
            "9110 13.1.3 ignored beside a tag",
            MODIFIED,
            f'If-None-Match: "x" | If-Modified-Since: {at(0)}',
            False,
        ),
        ("9110 13.1.3 same", MODIFIED, f"If-Modified-Since: {at(-100)}", True),
        ("9110 13.1.3 later", MODIFIED, f"If-Modified-Since: {at(0)}", True),
        ("9110 13.1.3 earlier", MODIFIED, f"If-Modified-Since: {at(-101)}", False),
        ("9110 13.1.3 broken", MODIFIED, "If-Modified-Since: yesterday", False),
        ("9110 13.1.3 two lines", MODIFIED, f"If-Modified-Since: {at(0)} | If-Modified-Since: {at(0)}", False),
        ("9110 13.1.3 broken here", f"{DATE} | Last-Modified: x", f"If-Modified-Since: {at(0)}", False),
        ("9111 4.3.2 Date stands in", DATE, f"If-Modified-Since: {at(0)}", True),
        ("9111 4.3.2 Date is later", DATE, f"If-Modified-Since: {at(-1)}", False),
        ("9111 4.3.2 receipt stands in", "", f"If-Modified-Since: {at(0)}", True),
        ("9110 13.1 no condition", MODIFIED, "", False),
    ],
)
def test_is_not_modified(rfc: str, text: str, asked: str, is_304: bool) -> None:
    assert is_not_modified(fields(asked), stored(text), NOW) == is_304


@pytest.mark.parametrize("status", [204, 301, 404, 500])
def test_only_a_200_becomes_a_304(status: int) -> None:
    """RFC 9110 §13.2.1: conditions are ignored where the answer would not be 2xx."""
    assert not is_not_modified(fields('If-None-Match: "a"'), stored('ETag: "a"', status=status), NOW)


@pytest.mark.parametrize(
    ("rfc", "text", "asked", "applies"),
    [
        ("9110 13.1.5 absent", 'ETag: "a"', "Range: bytes=0-1", True),
        ("9110 13.1.5 same tag", 'ETag: "a"', 'If-Range: "a"', True),
        ("9110 13.1.5 other tag", 'ETag: "a"', 'If-Range: "b"', False),
        ("9110 13.1.5 weak tag", 'ETag: W/"a"', 'If-Range: W/"a"', False),
        ("9110 13.1.5 weak asked", 'ETag: "a"', 'If-Range: W/"a"', False),
        ("9110 13.1.5 no tag here", "", 'If-Range: "a"', False),
        ("9110 13.1.5 a list", 'ETag: "a"', 'If-Range: "a", "b"', False),
        ("9110 13.1.5 two lines", 'ETag: "a"', 'If-Range: "a" | If-Range: "a"', False),
        ("9110 13.1.5 unquoted", "ETag: a", "If-Range: a", False),
        ("9110 13.1.5 same date", MODIFIED, f"If-Range: {at(-100)}", True),
        ("9110 13.1.5 later date", MODIFIED, f"If-Range: {at(0)}", False),
        ("9110 13.1.5 earlier date", MODIFIED, f"If-Range: {at(-200)}", False),
        ("9110 8.8.2.2 a second is strong", f"{DATE} | Last-Modified: {at(-1)}", f"If-Range: {at(-1)}", True),
        ("9110 8.8.2.2 the same is weak", f"{DATE} | Last-Modified: {at(0)}", f"If-Range: {at(0)}", False),
        ("9110 13.1.5 no date here", DATE, f"If-Range: {at(0)}", False),
        ("9110 13.1.5 no date at all", f"{DATE} | Last-Modified: x", "If-Range: x", False),
    ],
)
def test_range_applies(rfc: str, text: str, asked: str, applies: bool) -> None:
    assert range_applies(fields(asked), stored(text), NOW) == applies


def test_a_304_carries_what_it_must_and_nothing_about_the_content() -> None:
    """RFC 9110 §15.4.5."""
    must = "Cache-Control: x | Content-Location: /a | Date: d | ETag: e | Expires: f | Vary: v"
    content = "Content-Length: 5 | Content-Type: t | CONTENT-ENCODING: gzip | Content-Range: r"
    assert not_modified_fields(fields(f"{content} | {must}")) == fields(must)
