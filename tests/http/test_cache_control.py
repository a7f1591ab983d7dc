"""Cache-Control and Pragma."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.http.cache_control import (
    INVALID,
    RequestDirectives,
    ResponseDirectives,
    parse_request_directives,
    parse_response_directives,
)
from cacheproxy.http.message import Fields

DELTAS = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"]


def cache_control(*values: str) -> Fields:
    return Fields([("Cache-Control", value) for value in values])


RESPONSES: list[tuple[str, list[str], dict[str, Any]]] = [
    ("9111 5.2.2.1", ["max-age=60"], {"max_age": 60}),
    ("9111 5.2", ["MAX-AGE=60"], {"max_age": 60}),
    ("9111 5.2", ['max-age="60"'], {"max_age": 60}),
    ("9111 1.2.2", ["max-age=99999999999"], {"max_age": 2**31}),
    ("9111 4.2.1", ["max-age=060"], {"max_age": 60}),
    ("9111 4.2.1", ["max-age"], {"max_age": INVALID}),
    ("9111 4.2.1", ["max-age="], {"max_age": INVALID}),
    ("9111 4.2.1", ["max-age=-5"], {"max_age": INVALID}),
    ("9111 4.2.1", ["max-age=60.5"], {"max_age": INVALID}),
    ("9111 4.2.1", ["max-age=1h"], {"max_age": INVALID}),
    ("9111 4.2.1", ["max-age = 60"], {"max_age": INVALID}),
    ("9111 4.2.1", ["max-age='60'"], {"max_age": INVALID}),
    ("9111 4.2.1", ["max-age=60, max-age=5"], {"max_age": 5}),
    ("9111 4.2.1", ["max-age=60", "max-age=x"], {"max_age": INVALID}),
    ("9111 5.2.2.10", ["s-maxage=9, max-age=60"], {"s_maxage": 9, "max_age": 60}),
    ("9111 5.2.2.4", ["no-cache"], {"no_cache": True}),
    ("9111 5.2.2.4", ['no-cache="Set-Cookie, X"'], {"no_cache_fields": {"set-cookie", "x"}}),
    ("9111 5.2.2.4", ["no-cache=X"], {"no_cache_fields": {"x"}}),
    ("9111 5.2.2.4", ['no-cache="X", no-cache'], {"no_cache": True}),
    ("9111 5.2.2.4", ['no-cache=""'], {"no_cache": True}),
    ("9111 5.2.2.4", ['no-cache="a b"'], {"no_cache": True}),
    ("9111 5.2.2.4", ['no-cache="x'], {"no_cache": True}),
    ("9111 5.2.2.7", ["Private"], {"private": True}),
    ("9111 5.2.2.7", ['private="X"'], {"private_fields": {"x"}}),
    ("9111 5.2.2.7", ['private="X"', 'private="Y"'], {"private_fields": {"x", "y"}}),
    ("9111 5.2.2.5", ["no-store"], {"no_store": True}),
    ("9111 5.2.2.5", ["no-store=1"], {"no_store": True}),
    ("9111 5.2.2.5", ["no-store =1"], {"no_store": True}),
    ("9111 5.2.2.5", ["public", "No-Store"], {"public": True, "no_store": True}),
    ("9111 5.2.2.2", ["must-revalidate"], {"must_revalidate": True}),
    ("9111 5.2.2.8", ["proxy-revalidate"], {"proxy_revalidate": True}),
    ("9111 5.2.2.3", ["must-understand, no-store"], {"must_understand": True, "no_store": True}),
    ("9111 5.2.2.6", ["no-transform"], {"no_transform": True}),
    ("8246 2", ["immutable"], {"immutable": True}),
    ("5861 3", ["stale-while-revalidate=5"], {"stale_while_revalidate": 5}),
    ("5861 3", ["stale-while-revalidate=x"], {}),
    ("5861 4", ["stale-if-error=5"], {"stale_if_error": 5}),
    ("5861 4", ["stale-if-error"], {}),
    ("9111 5.2.3", ["foo, bar=1, max-age=60"], {"max_age": 60}),
    ("9111 5.2.3", ['ext="no-store, max-age=1"'], {}),
    ("9111 5.2.3", ["", " , ,"], {}),
    ("9111 5.2.3", ["nono-store, no-stores, xmax-age=5"], {}),
]


@pytest.mark.parametrize(
    ("rfc", "values", "expected"), RESPONSES, ids=[f"{case[0]} {' | '.join(case[1])}" for case in RESPONSES]
)
def test_response_directives(rfc: str, values: list[str], expected: dict[str, Any]) -> None:
    assert parse_response_directives(cache_control(*values)) == ResponseDirectives(**expected)


REQUESTS: list[tuple[str, list[tuple[str, str]], dict[str, Any]]] = [
    ("9111 5.2.1.1", [("Cache-Control", "max-age=5")], {"max_age": 5}),
    ("9111 5.2.1.1", [("Cache-Control", "max-age=x")], {"max_age": 0}),
    ("9111 5.2.1.2", [("Cache-Control", "max-stale")], {"max_stale": 2**31}),
    ("9111 5.2.1.2", [("Cache-Control", "max-stale=9")], {"max_stale": 9}),
    ("9111 5.2.1.2", [("Cache-Control", "max-stale, max-stale=9")], {"max_stale": 9}),
    ("9111 5.2.1.2", [("Cache-Control", "max-stale=x")], {}),
    ("9111 5.2.1.3", [("Cache-Control", "min-fresh=9")], {"min_fresh": 9}),
    ("9111 5.2.1.3", [("Cache-Control", "min-fresh=x")], {}),
    ("9111 5.2.1.4", [("Cache-Control", "no-cache")], {"no_cache": True}),
    ("9111 5.2.1.5", [("cache-control", "NO-STORE")], {"no_store": True}),
    ("9111 5.2.1.6", [("Cache-Control", "no-transform")], {"no_transform": True}),
    ("9111 5.2.1.7", [("Cache-Control", "only-if-cached")], {"only_if_cached": True}),
    ("9111 5.4", [("Pragma", "No-Cache")], {"no_cache": True}),
    ("9111 5.4", [("Pragma", "x, no-cache")], {"no_cache": True}),
    ("9111 5.4", [("Pragma", "x")], {}),
    ("9111 5.4", [("Pragma", "no-cache"), ("Cache-Control", "max-age=5")], {"max_age": 5}),
    ("9111 5.4", [("Pragma", "no-cache"), ("Cache-Control", "")], {}),
    ("9111 5.2", [], {}),
]


@pytest.mark.parametrize(
    ("rfc", "lines", "expected"),
    REQUESTS,
    ids=[f"{case[0]} {' | '.join(value for _, value in case[1])}" for case in REQUESTS],
)
def test_request_directives(rfc: str, lines: list[tuple[str, str]], expected: dict[str, Any]) -> None:
    asked = parse_request_directives(Fields(lines))
    assert asked == RequestDirectives(**expected)


def test_of_two_min_fresh_the_stricter_counts() -> None:
    """RFC 9111 §4.2.1: conflicting directives take the most restrictive; for min-fresh that is the larger."""
    assert parse_request_directives(cache_control("min-fresh=5, min-fresh=60")).min_fresh == 60


def test_pragma_says_nothing_in_a_response() -> None:
    """RFC 9111 §5.4."""
    assert parse_response_directives(Fields([("Pragma", "no-cache")])) == ResponseDirectives()


@given(st.lists(st.text(st.characters(max_codepoint=255)), max_size=3))
def test_any_text_gives_directives(values: list[str]) -> None:
    fields = cache_control(*values)
    parse_request_directives(fields)
    parse_response_directives(fields)


@given(
    st.permutations(["no-store", "private", "max-age=5", 's-maxage="7"', 'no-cache="x"', "ext=1"]), st.data()
)
def test_order_case_and_lines_do_not_matter(members: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(members)))
    upper = [member.upper() if data.draw(st.booleans()) else member for member in members]
    assert parse_response_directives(
        cache_control(", ".join(upper[:cut]), ",".join(upper[cut:]))
    ) == ResponseDirectives(
        no_store=True, private=True, max_age=5, s_maxage=7, no_cache_fields=frozenset({"x"})
    )


@given(st.sampled_from(DELTAS), st.integers(0, 2**31))
def test_seconds_come_back(name: str, seconds: int) -> None:
    parsed = parse_response_directives(cache_control(f"{name}={seconds}"))
    assert getattr(parsed, name.replace("-", "_")) == seconds


@given(st.text('no-stre,"= \\x', max_size=12))
def test_an_extension_never_frees_a_line_that_forbids(text: str) -> None:
    """RFC 9111 §5.2: what stands on another line, or behind it, cannot take no-store away."""
    assert parse_response_directives(cache_control(text, "no-store")).no_store
    assert parse_response_directives(cache_control("no-store, " + text)).no_store
