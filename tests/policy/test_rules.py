"""The operator's exceptions for hosts, URLs and content types."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching.overrides import NO_OVERRIDES, Overrides
from cacheproxy.http.message import Fields
from cacheproxy.http.uri import parse_absolute
from cacheproxy.policy.rules import (
    NO_QUERY_NAMES,
    QueryNames,
    Rule,
    Timeouts,
    overrides_from,
    placed,
    query_names,
    timeouts_for,
)

DEFAULT = Timeouts(120, 60)
DEB = "http://m/pool/main/h/hello_1.0_all.deb"


@pytest.mark.parametrize(
    ("rule", "url", "applies"),
    [
        (Rule(host="h.example"), "http://h.example/", True),
        (Rule(host="H.Example"), "http://h.EXAMPLE:81/x", True),
        (Rule(host="h.example"), "http://www.h.example/", False),
        (Rule(host="*.example"), "https://h.example/", True),
        (Rule(host=".example.com"), "http://example.com/", True),
        (Rule(host=".Example.com"), "http://a.b.example.com/", True),
        (Rule(host=".example.com"), "http://badexample.com/", False),
        (Rule(host=".example.com"), "http://example.com.evil/", False),
        (Rule(glob="http://h/a/*"), "http://h/a/b?c", True),
        (Rule(glob="http://h/a/*"), "http://h/b", False),
        (Rule(glob="*/A*"), "http://h/a", False),
        (Rule(host="h", glob="*.iso"), "http://h/x.iso", True),
        (Rule(host="h", glob="*.iso"), "http://i/x.iso", False),
        (Rule(host="h", glob="*.iso"), "http://h/x", False),
        (Rule(unchanging=True), DEB, True),
        (Rule(unchanging=True), DEB + "?x", False),
        (Rule(unchanging=True), "http://m/dists/sid/InRelease", False),
        (Rule(), "http://h/", True),
    ],
)
def test_applies(rule: Rule, url: str, applies: bool) -> None:
    assert rule.applies(parse_absolute(url)) == applies


@pytest.mark.parametrize(
    ("pattern", "content_type", "applies"),
    [
        ("video/*", "video/mp4", True),
        ("video/*", "Video/MP4; codecs=x", True),
        ("Video/MP4", "video/mp4", True),
        ("video/*", "text/html", False),
        ("video/*", None, False),
        ("*", None, True),
    ],
)
def test_content_type(pattern: str, content_type: str | None, applies: bool) -> None:
    fields = Fields([] if content_type is None else [("Content-Type", content_type)])
    assert Rule(content_type=pattern).applies_to(parse_absolute("http://h/"), fields) == applies


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], DEFAULT),
        ([Rule(host="other", first_byte_timeout_s=1)], DEFAULT),
        ([Rule(host="h", first_byte_timeout_s=1)], Timeouts(1, 60)),
        ([Rule(host="h", idle_timeout_s=0)], Timeouts(120, 0)),
        (
            [Rule(host="h", first_byte_timeout_s=1), Rule(host="*", first_byte_timeout_s=2, idle_timeout_s=3)],
            Timeouts(1, 3),
        ),
    ],
)
def test_the_first_rule_that_sets_a_timeout_wins(rules: list[Rule], expected: Timeouts) -> None:
    assert timeouts_for(parse_absolute("http://h/"), rules, DEFAULT) == expected


@pytest.mark.parametrize(
    ("rules", "url", "expected"),
    [
        ([], "http://h/?a=1", NO_QUERY_NAMES),
        ([Rule(host="h", ignore_query=("a",))], "http://h/?a=1", QueryNames(("a",), ())),
        ([Rule(host="h", ignore_query=("a",))], "http://h/", NO_QUERY_NAMES),
        ([Rule(host="i", ignore_query=("a",))], "http://h/?a=1", NO_QUERY_NAMES),
        ([Rule(host="h", signed_query=("s",))], "http://h/?a=1", QueryNames((), ("s",))),
        (
            [Rule(host="h", ignore_query=("a",)), Rule(ignore_query=("b",), signed_query=("*",))],
            "http://h/?a=1",
            QueryNames(("a",), ("*",)),
        ),
        ([Rule(host="h", ignore_query=()), Rule(ignore_query=("b",))], "http://h/?b", NO_QUERY_NAMES),
        ([Rule(content_type="*", ignore_query=("b",))], "http://h/?b", NO_QUERY_NAMES),
    ],
)
def test_query_names(rules: list[Rule], url: str, expected: QueryNames) -> None:
    assert query_names(parse_absolute(url), rules) == expected


def test_placed() -> None:
    rules = [Rule(host="h", ignore_query=("sid",), signed_query=("P*",))]
    where = placed(parse_absolute("http://h/a?sid=1&P1=2&b&gclid=3"), rules, ("gclid",))
    assert (str(where.target), where.key) == ("http://h/a?P1=2&b", "http://h/a?b")


VIDEO = Fields([("Content-Type", "video/mp4")])


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], NO_OVERRIDES),
        ([Rule(host="h", idle_timeout_s=5)], NO_OVERRIDES),
        ([Rule(host="i", pin=True)], NO_OVERRIDES),
        ([Rule(host="h", min_lifetime_s=5)], Overrides(min_lifetime_s=5, source="h")),
        ([Rule(glob="*", max_lifetime_s=0)], Overrides(max_lifetime_s=0, source="*")),
        ([Rule(content_type="text/*", never_store=True)], NO_OVERRIDES),
        (
            [Rule(content_type="video/*", min_lifetime_s=5, pin=True)],
            Overrides(min_lifetime_s=5, pin=True, lengthens_pages=True, source="video/*"),
        ),
        (
            [Rule(host="h", ignore_reload=False), Rule(host="*", ignore_reload=True, never_store=True)],
            Overrides(never_store=True, source="h, *"),
        ),
        (
            [Rule(preset="p", min_lifetime_s=5), Rule(preset="p", min_lifetime_s=9, max_lifetime_s=7)],
            Overrides(min_lifetime_s=5, max_lifetime_s=7, source="p"),
        ),
    ],
)
def test_overrides(rules: list[Rule], expected: Overrides) -> None:
    assert overrides_from(rules)("http://h/a", VIDEO) == expected


@given(st.text(max_size=30))
def test_a_key_that_is_no_uri_has_no_overrides(key: str) -> None:
    assert overrides_from([Rule(host="nowhere.example", pin=True)])(key, Fields()) == NO_OVERRIDES
