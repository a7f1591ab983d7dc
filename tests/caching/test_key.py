"""Which stored response answers a request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching.key import cache_key, choose, has_routing_field, is_routing_field, matches
from cacheproxy.http.uri import parse_absolute
from tests.caching.build import at, fields, request, stored


@pytest.mark.parametrize(
    ("rfc", "one", "other", "is_same"),
    [
        ("9110 4.2.3 default port", "http://h:80/", "http://h/", True),
        ("9110 4.2.3 host case", "http://H/", "http://h/", True),
        ("9110 4.2.3 empty path", "http://h", "http://h/", True),
        ("9110 4.2.3 scheme", "http://h/", "https://h/", False),
        ("9110 4.2.3 port", "http://h/", "http://h:443/", False),
        ("9110 4.2.3 path case", "http://h/a", "http://h/A", False),
        ("3986 6.2.2 escapes as sent", "http://h/%7e", "http://h/~", False),
        ("3986 6.2.2 escaped slash", "http://h/a%2Fb", "http://h/a/b", False),
        ("3986 6.2.2 dots as sent", "http://h/a/../b", "http://h/b", False),
        ("3986 3.4 empty query", "http://h/a?", "http://h/a", False),
        ("3986 3.4 query order", "http://h/?a&b", "http://h/?b&a", False),
    ],
)
def test_keys(rfc: str, one: str, other: str, is_same: bool) -> None:
    assert (cache_key(parse_absolute(one)) == cache_key(parse_absolute(other))) == is_same


ROUTING = [
    "Forwarded",
    "X-Forwarded",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Scheme",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Original-URL",
    "X-Original-Host",
    "X-Rewrite-URL",
    "X-Override-URL",
    "X-Host",
    "X-Real-Host",
    "X-HTTP-Host",
    "X-HTTP-Host-Override",
    "X-HTTP-DestinationURL",
    "X-Proxy-URL",
    "X-URL-Scheme",
    "Front-End-Https",
    "X-HTTP-Method",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X_Forwarded_Host",
    "x_http_method_override",
]
OTHERS = (
    "Host X-Forwarded-For X_Forwarded_For Origin Cookie Accept Referer X-Requested-With X-Real-IP Content-Type"
)


@pytest.mark.parametrize("name", ROUTING)
def test_fields_that_choose_another_resource_are_seen(name: str) -> None:
    """reliability.md §3, unkeyed input; gateways read `_` as `-`."""
    assert has_routing_field(fields(f"Accept: x | {name}: evil"))


@pytest.mark.parametrize("name", OTHERS.split())
def test_other_fields_do_not_route(name: str) -> None:
    assert not is_routing_field(name.lower())
    assert not has_routing_field(fields(f"{name}: x"))


@pytest.mark.parametrize(
    ("rfc", "vary", "before", "now", "is_match"),
    [
        ("9111 4.1 no Vary", "X: 1", "A: 1", "A: 2", True),
        ("9111 4.1 same", "Vary: A", "A: 1", "a: 1", True),
        ("9111 4.1 other", "Vary: A", "A: 1", "A: 2", False),
        ("9111 4.1 gone", "Vary: A", "A: 1", "", False),
        ("9111 4.1 new", "Vary: A", "", "A: 1", False),
        ("9111 4.1 absent twice", "Vary: A", "", "B: 1", True),
        ("9111 4.1 every line", "Vary: A | Vary: B", "A: 1 | B: 1", "A: 1 | B: 2", False),
        ("9111 4.1 not nominated", "Vary: A", "A: 1 | B: 1", "B: 2 | A: 1", True),
    ],
)
def test_matches(rfc: str, vary: str, before: str, now: str, is_match: bool) -> None:
    assert matches(stored(vary, asked=before), request(now)) == is_match


OLD = stored(f"Date: {at(-9)} | Vary: A", asked="A: 1", entry_id=3)
NEW = stored(f"Date: {at(-1)} | Vary: A", asked="A: 1", entry_id=1)
LATER = stored(f"Date: {at(-1)} | Vary: A", asked="A: 1", entry_id=2)
OTHER = stored(f"Date: {at(0)} | Vary: A", asked="A: 2", entry_id=4)


@given(st.permutations([OLD, NEW, LATER, OTHER]))
def test_the_most_recent_match_is_chosen_in_any_order(candidates: list[object]) -> None:
    """RFC 9111 §4: by Date; of equal ones the last stored."""
    assert choose(request("A: 1"), candidates) is LATER  # type: ignore[arg-type]
    assert choose(request("A: 2"), candidates) is OTHER  # type: ignore[arg-type]
    assert choose(request(), candidates) is None  # type: ignore[arg-type]
