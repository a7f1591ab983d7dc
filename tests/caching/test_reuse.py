"""May it be used without asking the origin."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.reuse import (
    Forward,
    Refuse,
    ServeStored,
    Validate,
    decide,
    may_be_stale,
    remaining_lifetime,
    serve_on_failure,
)
from cacheproxy.http.cache_control import parse_request_directives
from cacheproxy.reasons import Reason
from tests.caching.build import NOW, OPTIONS, fields, stored

A = ' | ETag: "a"'
FORBID_STALE = ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache"]
DAY = 86400


def decision(asked: str, one: StoredResponse | None, has_variants: bool = False) -> tuple[type, Reason]:
    """Kind and reason of the decision on a request with Cache-Control `asked`."""
    directives = parse_request_directives(fields(f"Cache-Control: {asked}" if asked else ""))
    made = decide(directives, one, has_variants, NOW)
    return type(made), made.reason


@pytest.mark.parametrize(
    ("rfc", "asked", "text", "age", "expected"),
    [
        ("9111 4.2 fresh", "", "max-age=60", 59, (ServeStored, Reason.HIT)),
        ("9111 4.2 no longer", "", "max-age=60", 60, (Validate, Reason.STALE)),
        ("9111 4.2 never was", "", "max-age=0", 0, (Validate, Reason.STALE)),
        ("9111 5.2.2.10 s-maxage", "", "s-maxage=60, max-age=5", 59, (ServeStored, Reason.HIT)),
        ("9111 5.2.2.4 no-cache", "", "no-cache, max-age=60", 0, (Validate, Reason.NO_CACHE)),
        ("9111 5.2.2.4 field names", "", 'no-cache="X", max-age=60', 0, (ServeStored, Reason.HIT)),
        ("9111 5.2.2.2 must-revalidate, fresh", "", "must-revalidate, max-age=60", 0, (ServeStored, Reason.HIT)),
        ("9111 5.2.1.4 no-cache", "no-cache", "max-age=60", 0, (Validate, Reason.REQUEST_NO_CACHE)),
        ("9111 5.2.1.1 max-age=0", "max-age=0", "max-age=60", 0, (Validate, Reason.REQUEST_MAX_AGE)),
        ("9111 5.2.1.1 young", "max-age=30", "max-age=60", 30, (ServeStored, Reason.HIT)),
        ("9111 5.2.1.1 old", "max-age=30", "max-age=60", 31, (Validate, Reason.REQUEST_MAX_AGE)),
        ("9111 5.2.1.1 not longer", "max-age=90", "max-age=60", 61, (Validate, Reason.STALE)),
        ("9111 5.2.1.3 enough", "min-fresh=10", "max-age=60", 50, (ServeStored, Reason.HIT)),
        ("9111 5.2.1.3 too little", "min-fresh=10", "max-age=60", 51, (Validate, Reason.REQUEST_MIN_FRESH)),
        ("9111 5.2.1.2 any", "max-stale", "max-age=60", 99999, (ServeStored, Reason.STALE_MAX_STALE)),
        ("9111 5.2.1.2 enough", "max-stale=10", "max-age=60", 70, (ServeStored, Reason.STALE_MAX_STALE)),
        ("9111 5.2.1.2 too little", "max-stale=10", "max-age=60", 71, (Validate, Reason.STALE)),
        ("9111 5.2.1.2 with max-age", "max-stale=99, max-age=70", "max-age=60", 80, (Validate, Reason.REQUEST_MAX_AGE)),
        ("9111 5.2.1.2 with max-age kept", "max-stale=99, max-age=90", "max-age=60", 80,
         (ServeStored, Reason.STALE_MAX_STALE)),
        ("5861 3 inside", "", "max-age=60, stale-while-revalidate=10", 70, (ServeStored, Reason.STALE_WHILE_REVALIDATE)),
        ("5861 3 outside", "", "max-age=60, stale-while-revalidate=10", 71, (Validate, Reason.STALE)),
        ("5861 3 max-age wins", "max-age=99", "max-age=60, stale-while-revalidate=10", 65, (Validate, Reason.STALE)),
        ("5861 3 fresh", "", "max-age=60, stale-while-revalidate=10", 5, (ServeStored, Reason.HIT)),
        ("9111 5.2.1.7 hit", "only-if-cached", "max-age=60", 0, (ServeStored, Reason.HIT)),
        ("9111 5.2.1.7 stale", "only-if-cached", "max-age=60", 61, (Refuse, Reason.ONLY_IF_CACHED)),
        ("9111 5.2.1.7 max-stale", "only-if-cached, max-stale", "max-age=60", 61,
         (ServeStored, Reason.STALE_MAX_STALE)),
        ("9111 5.2.1.7 no-cache", "only-if-cached, no-cache", "max-age=60", 0, (Refuse, Reason.ONLY_IF_CACHED)),
    ],
)  # fmt: skip
def test_decision(rfc: str, asked: str, text: str, age: int, expected: tuple[type, Reason]) -> None:
    assert decision(asked, stored(f"Cache-Control: {text}{A}", age=age)) == expected


@pytest.mark.parametrize("directive", FORBID_STALE)
@pytest.mark.parametrize("asked", ["", "max-stale", "max-stale=99999"])
def test_nothing_serves_stale_what_must_not_be(directive: str, asked: str) -> None:
    """RFC 9111 §4.2.4, §5.2.2.10: s-maxage implies proxy-revalidate."""
    text = f"Cache-Control: max-age=5, stale-while-revalidate=999, stale-if-error=999, {directive}{A}"
    one = stored(text, age=100)
    assert not may_be_stale(one)
    assert decision(asked, one)[0] is Validate
    for status in (None, 500, 503):
        assert serve_on_failure(parse_request_directives(fields("")), one, NOW, status, OPTIONS) is None


@pytest.mark.parametrize(
    ("asked", "one", "has_variants", "expected"),
    [
        ("", None, False, (Forward, Reason.URI_MISS)),
        ("", None, True, (Forward, Reason.VARY_MISS)),
        ("only-if-cached", None, False, (Refuse, Reason.ONLY_IF_CACHED)),
        ("", stored("Cache-Control: max-age=5", age=9), False, (Forward, Reason.STALE)),
        ("no-cache", stored("Cache-Control: max-age=5"), False, (Forward, Reason.REQUEST_NO_CACHE)),
        ("", stored("Cache-Control: max-age=5").stale(), False, (Forward, Reason.STALE)),
        ("", stored(f"Cache-Control: max-age=5{A}").stale(), False, (Validate, Reason.STALE)),
        ("max-stale", stored(f"Cache-Control: max-age=5{A}").stale(), False, (Validate, Reason.STALE)),
    ],
    ids=[
        "miss",
        "other variant",
        "only if cached",
        "no validator",
        "no-cache",
        "purged",
        "soft",
        "soft, max-stale",
    ],
)
def test_without_a_usable_response(
    asked: str, one: StoredResponse | None, has_variants: bool, expected: tuple[type, Reason]
) -> None:
    """RFC 9111 §4."""
    assert decision(asked, one, has_variants) == expected


def test_a_response_from_the_future_is_stale() -> None:
    """The clock went back: nothing is known about the age."""
    one = stored(f"Cache-Control: max-age=600{A}", age=-3600)
    assert remaining_lifetime(one, NOW) <= 0
    assert decision("", one) == (Validate, Reason.STALE)


@pytest.mark.parametrize("asked", ["", "max-stale=60"])
def test_a_response_from_the_future_fits_no_stale_window(asked: str) -> None:
    """RFC 5861 §3: how long it has been stale is not known (serve_on_failure says the same)."""
    one = stored(f"Cache-Control: max-age=600, stale-while-revalidate=60{A}", age=-3600)
    assert decision(asked, one)[0] is Validate


def test_background_revalidation_goes_with_stale_while_revalidate_only() -> None:
    plain = parse_request_directives(fields(""))
    for age, wanted in [(0, False), (65, True)]:
        made = decide(
            plain, stored("Cache-Control: max-age=60, stale-while-revalidate=10", age=age), False, NOW
        )
        assert isinstance(made, ServeStored)
        assert (made.revalidate, made.age) == (wanted, age)


@pytest.mark.parametrize(
    ("rfc", "asked", "text", "age", "status", "reason"),
    [
        ("5861 4 unreachable", "", "max-age=60, stale-if-error=10", 70, None, Reason.STALE_IF_ERROR),
        ("5861 4 error", "", "max-age=60, stale-if-error=10", 70, 500, Reason.STALE_IF_ERROR),
        ("5861 4 too old", "", "max-age=60, stale-if-error=10", 71, 500, None),
        ("9111 4.2.4 disconnected", "", "max-age=60", 70, None, Reason.STALE_DISCONNECTED),
        ("9111 4.2.4 at most", "", "max-age=60", 60 + 7 * DAY, None, Reason.STALE_DISCONNECTED),
        ("9111 4.2.4 too old", "", "max-age=60", 61 + 7 * DAY, None, None),
        ("9111 4.2.4 an error is an answer", "", "max-age=60", 70, 503, None),
        ("9111 5.2.1.4 no-cache", "no-cache", "max-age=60, stale-if-error=99", 70, None, None),
        ("9111 5.2.1.1 max-age", "max-age=65", "max-age=60, stale-if-error=99", 70, None, None),
        (
            "9111 5.2.1.1 max-age kept",
            "max-age=75",
            "max-age=60, stale-if-error=99",
            70,
            None,
            Reason.STALE_IF_ERROR,
        ),
    ],
)
def test_on_failure(
    rfc: str, asked: str, text: str, age: int, status: int | None, reason: Reason | None
) -> None:
    directives = parse_request_directives(fields(f"Cache-Control: {asked}" if asked else ""))
    made = serve_on_failure(directives, stored(f"Cache-Control: {text}", age=age), NOW, status, OPTIONS)
    assert (None if made is None else made.reason) == reason


def test_nothing_from_the_future_or_purged_serves_on_failure() -> None:
    plain = parse_request_directives(fields(""))
    one = stored("Cache-Control: max-age=60, stale-if-error=99", age=70)
    assert serve_on_failure(plain, one.stale(), NOW, None, OPTIONS) is None
    assert serve_on_failure(plain, one, NOW - 3600, None, OPTIONS) is None
    assert serve_on_failure(plain, one, NOW, None, replace(OPTIONS, stale_disconnected_s=0)) is not None


RESPONSES = st.lists(
    st.sampled_from(
        ["max-age=60", "max-age=0", "s-maxage=9", "no-cache", "must-revalidate", "stale-while-revalidate=9"]
    )
)
REQUESTS = st.lists(
    st.sampled_from(["max-age=9", "max-age=0", "min-fresh=9", "max-stale", "max-stale=5", "no-cache"])
)


@given(RESPONSES, REQUESTS, st.integers(0, 200))
def test_what_is_served_is_fresh_or_may_be_stale(texts: list[str], asked: list[str], age: int) -> None:
    one = stored(f"Cache-Control: {', '.join(texts)}{A}", age=age)
    directives = parse_request_directives(fields(f"Cache-Control: {', '.join(asked)}"))
    made = decide(directives, one, False, NOW)
    if isinstance(made, ServeStored):
        assert not directives.no_cache
        assert not one.directives.no_cache
        assert remaining_lifetime(one, NOW) > 0 or may_be_stale(one)
        assert directives.max_age is None or made.age <= directives.max_age
        # A weaker request would have been served as well.
        assert isinstance(decide(parse_request_directives(fields("")), one, False, NOW), ServeStored) or (
            directives.max_stale is not None
        )


@given(st.integers(0, 100), st.integers(0, 100))
def test_a_hit_never_comes_back_once_stale(age: int, more: int) -> None:
    plain = parse_request_directives(fields(""))
    one = stored(f"Cache-Control: max-age=60{A}")
    if not isinstance(decide(plain, one, False, NOW + age), ServeStored):
        assert not isinstance(decide(plain, one, False, NOW + age + more), ServeStored)
