"""New fields for what is stored, never a new body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching.age import current_age
from cacheproxy.caching.entry import Timing
from cacheproxy.caching.freshening import Update, head_confirms, may_update, merge
from cacheproxy.caching.options import CachingOptions, SetCookie
from cacheproxy.caching.reuse import remaining_lifetime
from tests.caching.build import NOW, OPTIONS, at, fields, request, response, stored

TIMING = Timing(NOW, NOW)


def merged(text: str, answer: str, options: CachingOptions = OPTIONS) -> list[tuple[str, str]]:
    return list(merge(stored(text), response(answer, 304), TIMING, options).fields)


@pytest.mark.parametrize(
    ("rfc", "text", "answer", "expected"),
    [
        ("9111 3.2 replaced", "X: 1 | Y: 2", "x: 3", "Y: 2 | x: 3"),
        ("9111 3.2 every line replaced", "X: 1 | x: 2", "X: 3", "X: 3"),
        ("9111 3.2 added", "X: 1", "Z: 2", "X: 1 | Z: 2"),
        ("9111 3.2 absent ones stay", "X: 1", "", "X: 1"),
        ("9111 3.2 not Content-Length", "Content-Length: 5", "Content-Length: 0", "Content-Length: 5"),
        ("9111 3.2 nor invented", "X: 1", "Content-Length: 0", "X: 1"),
        ("9111 3.2 nor what the body depends on", "Content-Encoding: gzip", "Content-Encoding: br | Content-Range: x",
         "Content-Encoding: gzip"),
        ("9111 4.1 nor what the key depends on", "Vary: A", "Vary: B", "Vary: A"),
        ("9111 3.1 nor hop by hop", "X: 1", "Connection: Y | Y: 2 | Keep-Alive: 5", "X: 1"),
        ("9111 5.2.2.7 nor what is private", "X: 1", 'Y: 2 | Cache-Control: private="Y"',
         'X: 1 | Cache-Control: private="Y"'),
        ("9111 5.1 the age starts anew", "Age: 50 | X: 1", "", "X: 1"),
        ("9111 5.1 the new age counts", "Age: 50 | X: 1", "Age: 5", "X: 1 | Age: 5"),
        ("9111 7.3 cookies are stripped", "X: 1", "Set-Cookie: a=1", "X: 1"),
    ],
)  # fmt: skip
def test_merge(rfc: str, text: str, answer: str, expected: str) -> None:
    assert merged(text, answer) == list(fields(expected))


def test_a_replayed_cookie_is_updated() -> None:
    options = CachingOptions(set_cookie=SetCookie.REPLAY)
    assert merged("Set-Cookie: a=1", "Set-Cookie: a=2", options) == [("Set-Cookie", "a=2")]


def test_a_field_that_the_304_declares_private_is_no_longer_kept() -> None:
    """RFC 9111 §5.2.2.7: the updated response says so; what it stored before counts as well."""
    assert merged("X: 1", 'Cache-Control: private="X"') == [("Cache-Control", 'private="X"')]


def test_the_response_is_fresh_again() -> None:
    """RFC 9111 §4.3.4."""
    old = stored(f"Cache-Control: max-age=60 | Date: {at(-500)} | Age: 50", age=500)
    fresh = merge(old, response(f"Date: {at(0)}", 304), TIMING, OPTIONS)
    assert remaining_lifetime(old, NOW) < 0
    assert (current_age(fresh, NOW), remaining_lifetime(fresh, NOW)) == (0, 60)


def test_a_304_without_date_was_generated_now() -> None:
    """RFC 9110 §6.6.1: a message without Date counts from its receipt; the old Date would keep it stale for ever."""
    old = stored(f"Cache-Control: max-age=60 | Date: {at(-500)}", age=500)
    assert remaining_lifetime(merge(old, response("", 304), TIMING, OPTIONS), NOW) == 60


def test_a_merge_keeps_the_place_and_ends_a_soft_purge() -> None:
    old = stored("X: 1", status=404, entry_id=7, length=5).with_body(7, 8, 5).stale()
    new = merge(old, response("", 304), TIMING, OPTIONS)
    assert (new.key, new.status, new.entry_id, new.body_id, new.length) == (old.key, 404, 7, 8, 5)
    assert not new.forced_stale


@pytest.mark.parametrize(
    ("rfc", "asked", "is_private", "answer", "update"),
    [
        ("9111 3.2 plain", "", False, "X: 1", Update.APPLY),
        ("9111 5.2.2.5 no-store", "", False, "Cache-Control: no-store", Update.DROP),
        ("9111 5.2.2.7 private", "", False, "Cache-Control: private", Update.DROP),
        ("9111 5.2.2.7 field names", "", False, 'Cache-Control: private="X"', Update.APPLY),
        ("9111 4.1 star", "", False, "Vary: A | Vary: *", Update.DROP),
        ("9111 3.5 authorization", "Authorization: x", False, "X: 1", Update.FOR_CLIENT_ONLY),
        ("9111 3.5 a connection of one user", "", True, "X: 1", Update.FOR_CLIENT_ONLY),
        ("9111 3.5 public", "Authorization: x", True, "Cache-Control: public", Update.APPLY),
        ("9111 3.5 s-maxage", "Authorization: x", False, "Cache-Control: s-maxage=5", Update.APPLY),
        ("9111 3.5 must-revalidate", "Authorization: x", False, "Cache-Control: must-revalidate", Update.APPLY),
        (
            "9111 3.5 max-age does not do",
            "Authorization: x",
            False,
            "Cache-Control: max-age=5",
            Update.FOR_CLIENT_ONLY,
        ),
        ("9111 3.5 still private", "Authorization: x", False, "Cache-Control: public, private", Update.DROP),
    ],
)
def test_may_update(rfc: str, asked: str, is_private: bool, answer: str, update: Update) -> None:
    made = may_update(request(asked), response(answer, 304), is_private_connection=is_private)
    assert made is update


LINES = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "X",
                "x",
                "Y",
                "ETag",
                "Age",
                "Date",
                "Content-Length",
                "Vary",
                "Connection",
                "Set-Cookie",
                "Cache-Control",
            ]
        ),
        st.sampled_from(["", "1", "x", at(0), "no-store", 'private="x"', "max-age=60", "*"]),
    )
)


@given(LINES, LINES)
def test_merging_twice_is_once_and_never_touches_the_length(
    old: list[tuple[str, str]], new: list[tuple[str, str]]
) -> None:
    before = stored(" | ".join(f"{name}: {value}" for name, value in old))
    answer = response(" | ".join(f"{name}: {value}" for name, value in new), 304)
    once = merge(before, answer, TIMING, OPTIONS)
    assert merge(once, answer, TIMING, OPTIONS) == once
    assert once.fields.all("content-length") == before.fields.all("content-length")
    assert once.fields.all("vary") == before.fields.all("vary")


@pytest.mark.parametrize(
    ("rfc", "text", "length", "answer", "confirms"),
    [
        ("9111 4.3.5 same tag", 'ETag: "a"', 5, 'ETag: "a"', True),
        ("9111 4.3.5 weak tag", 'ETag: "a"', 5, 'ETag: W/"a"', True),
        ("9111 4.3.5 other tag", 'ETag: "a"', 5, 'ETag: "b"', False),
        ("9111 4.3.5 tag where none was", "", 5, 'ETag: "b"', False),
        ("9111 4.3.5 same date", f"Last-Modified: {at(-9)}", 5, f"Last-Modified: {at(-9)}", True),
        ("9111 4.3.5 other date", f"Last-Modified: {at(-9)}", 5, f"Last-Modified: {at(-8)}", False),
        ("9111 4.3.5 same length", 'ETag: "a"', 5, 'ETag: "a" | Content-Length: 5', True),
        ("9111 4.3.5 other length", 'ETag: "a"', 5, 'ETag: "a" | Content-Length: 6', False),
        ("9111 4.3.5 length not known yet", 'ETag: "a"', None, 'ETag: "a" | Content-Length: 6', True),
        ("9111 4.3.5 says nothing", 'ETag: "a"', 5, "", True),
        ("9111 4.3.5 same tag, other date", f'ETag: "a" | Last-Modified: {at(-9)}', 5, f'ETag: "a" | Last-Modified: {at(-8)}',
         False),
    ],
)  # fmt: skip
def test_head(rfc: str, text: str, length: int | None, answer: str, confirms: bool) -> None:
    assert head_confirms(stored(text, length=length), response(answer)) == confirms
