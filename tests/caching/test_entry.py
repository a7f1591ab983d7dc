"""A stored response: everything that later decisions read, parsed once."""

from __future__ import annotations

import pytest

from cacheproxy.caching.entry import StoredResponse, Timing
from tests.caching.build import NOW, OPTIONS, at, response, stored


@pytest.mark.parametrize(
    ("rfc", "text", "date"),
    [
        ("9110 6.6.1 stated", f"Date: {at(-5)}", NOW - 5),
        ("9110 6.6.1 absent: receipt", "", NOW),
        ("9110 6.6.1 broken: receipt", "Date: today", NOW),
        ("9110 6.6.1 two: receipt", f"Date: {at(-5)} | Date: {at(-5)}", NOW),
    ],
)
def test_the_date_of_generation(rfc: str, text: str, date: float) -> None:
    assert stored(text).date_at == date


@pytest.mark.parametrize(
    ("text", "etag", "has_validator"),
    [
        ("", None, False),
        ('ETag: "a"', '"a"', True),
        ('ETag: "a" | ETag: "b"', None, False),
        (f"Last-Modified: {at(-5)}", None, True),
    ],
)
def test_validators(text: str, etag: str | None, has_validator: bool) -> None:
    """RFC 9110 §8.8: a repeated one is none."""
    one = stored(text)
    assert (one.etag, one.has_validator) == (etag, has_validator)


def test_parsed_once() -> None:
    head = response(f"Cache-Control: max-age=60 | Date: {at(-30)} | Age: 10", 404)
    one = StoredResponse.build("k", ("a",), ("1",), head, Timing(NOW - 4, NOW), OPTIONS)
    assert (one.key, one.nominated, one.variant, one.head) == ("k", ("a",), ("1",), head)
    assert (one.directives.max_age, one.lifetime.seconds, one.corrected_initial_age) == (60, 60, 30)
    assert one.stale().forced_stale
    assert not one.forced_stale
    placed = one.with_body(1, 2, 3)
    assert (placed.entry_id, placed.body_id, placed.length) == (1, 2, 3)


def test_a_placed_response_differs_in_its_place_only() -> None:
    before = stored('ETag: "1"')._replace(forced_stale=True, asked_for=("gzip",), length=3)
    after = before.with_body(7, 8, 9, ())
    assert after == before._replace(entry_id=7, body_id=8, length=9, held=())
