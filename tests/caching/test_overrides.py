"""The operator's word over the origin's head: how far it reaches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching import reuse, storing
from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.caching.options import CachingOptions
from cacheproxy.caching.overrides import NO_OVERRIDES, Overrides, heeded
from cacheproxy.http.cache_control import PLAIN_REQUEST, RequestDirectives, parse_request_directives
from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.reasons import Reason
from tests.caching.build import NOW, at, request, response, stored

HOUR = Overrides(min_lifetime_s=3600)
MINUTE = Overrides(max_lifetime_s=60)
RELOAD = Overrides(ignore_reload=True)


def under(overrides: Overrides) -> CachingOptions:
    """Options whose rules say the same of every response."""
    return CachingOptions(overrides=lambda key, fields: overrides)


def kept(text: str, overrides: Overrides, status: int = 200) -> StoredResponse:
    """A response stored under the rules."""
    return stored(text, status=status, options=under(overrides))


@pytest.mark.parametrize(
    ("rfc", "text", "status", "overrides", "seconds"),
    [
        ("9111 4.2.4 contract", "Cache-Control: max-age=5", 200, HOUR, 3600),
        ("9111 4.2.4 contract, Expires", "Expires: 0", 200, HOUR, 3600),
        ("9111 4.2.2 nothing said", "", 200, HOUR, 3600),
        ("9111 4.2.2 a guess", f"Last-Modified: {at(-100)}", 200, HOUR, 3600),
        ("9111 4.2.1 longer already", "Cache-Control: max-age=9999", 200, HOUR, 9999),
        ("9111 4.2.4 a part", "", 206, HOUR, 3600),
        ("9111 5.2.2.2 must-revalidate", "Cache-Control: max-age=5, must-revalidate", 200, HOUR, 5),
        ("9111 5.2.2.8 proxy-revalidate", "Cache-Control: max-age=5, proxy-revalidate", 200, HOUR, 5),
        ("9111 5.2.2.10 s-maxage", "Cache-Control: s-maxage=5", 200, HOUR, 5),
        ("9111 5.2.2.4 no-cache", "Cache-Control: no-cache, max-age=5", 200, HOUR, 5),
        ("9111 5.2.2.5 no-store", "Cache-Control: no-store, max-age=5", 200, HOUR, 5),
        ("9111 5.2.2.7 private", "Cache-Control: private, max-age=5", 200, HOUR, 5),
        ("not there", "", 404, HOUR, 0),
        ("elsewhere", "Location: /x", 301, HOUR, 0),
        ("failed", "Cache-Control: max-age=5", 503, HOUR, 5),
        ("a portal's page", "Content-Type: text/HTML; charset=x", 200, HOUR, 0),
        ("a page that is meant", "Content-Type: text/html", 200, Overrides(9, lengthens_pages=True), 9),
        ("9111 4.2.1 shorter", "Cache-Control: max-age=99", 200, MINUTE, 60),
        ("9111 4.2.1 s-maxage, shorter", "Cache-Control: s-maxage=99", 200, MINUTE, 60),
        ("9111 4.2.1 short already", "Cache-Control: max-age=9", 200, MINUTE, 9),
        ("9111 4.2.2 a guess, shorter", f"Last-Modified: {at(-86400)}", 404, MINUTE, 60),
        ("9111 4.2.1 never", "Cache-Control: max-age=99", 200, Overrides(max_lifetime_s=0), 0),
        ("both", "", 200, Overrides(min_lifetime_s=50, max_lifetime_s=60), 50),
        ("no rule", "Cache-Control: max-age=99", 200, NO_OVERRIDES, 99),
    ],
)
def test_lifetimes(rfc: str, text: str, status: int, overrides: Overrides, seconds: float) -> None:
    one = kept(text, overrides, status)
    assert one.lifetime.seconds == seconds
    assert one.lifetime.is_explicit == stored(text, status=status).lifetime.is_explicit


EVERYTHING = Overrides(min_lifetime_s=10**9, ignore_reload=True, pin=True, lengthens_pages=True)


@pytest.mark.parametrize(
    ("rfc", "asked", "answer", "reason"),
    [
        ("9111 5.2.2.5", "", "Cache-Control: no-store", Reason.NO_STORE),
        ("9111 5.2.2.7", "", "Cache-Control: private", Reason.PRIVATE),
        ("9111 5.2.1.5", "Cache-Control: no-store", "", Reason.REQUEST_NO_STORE),
        ("9111 3.5", "Authorization: Basic eDp5", "", Reason.AUTHORIZATION),
        ("9111 4.1", "", "Vary: *", Reason.VARY_STAR),
        ("9111 3.3", "", "", Reason.STORED),
    ],
)
def test_no_rule_makes_storable_what_is_not(rfc: str, asked: str, answer: str, reason: Reason) -> None:
    one = request(asked)
    directives = parse_request_directives(one.fields)
    verdict = storing.decide(one, directives, response(answer), Timing(NOW, NOW), under(EVERYTHING))
    assert verdict.reason is reason


@pytest.mark.parametrize("status", [302, 307, 404, 410, 500, 503])
def test_errors_and_redirects_stay_what_they_are(status: int) -> None:
    verdict = storing.decide(
        request(), PLAIN_REQUEST, response("", status), Timing(NOW, NOW), under(EVERYTHING)
    )
    assert isinstance(verdict, storing.DoNotStore)


def test_never_store() -> None:
    options = under(Overrides(never_store=True))
    answer = response("Cache-Control: public, max-age=9")
    verdict = storing.decide(request(), PLAIN_REQUEST, answer, Timing(NOW, NOW), options)
    assert verdict == storing.DoNotStore(Reason.RULE)


def test_the_key_may_be_another_than_the_targets() -> None:
    answer = response("Cache-Control: max-age=9")
    asked = request(url="http://h/a?P1=1")
    verdict = storing.decide(asked, PLAIN_REQUEST, answer, Timing(NOW, NOW), CachingOptions(), "http://h/a")
    assert isinstance(verdict, storing.Store)
    assert verdict.stored.key == "http://h/a"


@pytest.mark.parametrize(
    ("rfc", "asked", "kind", "reason"),
    [
        ("9111 5.2.1 reload", "Cache-Control: no-cache", reuse.ServeStored, Reason.HIT),
        ("9111 5.4 reload", "Pragma: no-cache", reuse.ServeStored, Reason.HIT),
        ("9111 5.2.1.1 reload", "Cache-Control: max-age=0", reuse.ServeStored, Reason.HIT),
        ("9111 5.2.1.3 no reload", "Cache-Control: min-fresh=99", reuse.Validate, Reason.REQUEST_MIN_FRESH),
    ],
)
def test_ignore_reload(rfc: str, asked: str, kind: type, reason: Reason) -> None:
    one = kept('Cache-Control: max-age=9 | ETag: "x"', RELOAD)
    decision = reuse.decide(parse_request_directives(request(asked).fields), one, False, NOW)
    assert (type(decision), decision.reason) == (kind, reason)


def test_ignoring_reloads_makes_nothing_fresh() -> None:
    stale = kept('Cache-Control: max-age=0 | ETag: "x"', RELOAD)
    assert isinstance(reuse.decide(RequestDirectives(no_cache=True), stale, False, NOW + 1), reuse.Validate)
    unsure = kept('Cache-Control: no-cache | ETag: "x"', RELOAD)
    decision = reuse.decide(RequestDirectives(no_cache=True), unsure, False, NOW)
    assert (type(decision), decision.reason) == (reuse.Validate, Reason.NO_CACHE)


def test_what_is_no_reload_is_heeded() -> None:
    asked = RequestDirectives(no_cache=True, no_store=True, only_if_cached=True, max_age=0, min_fresh=3)
    assert heeded(asked, RELOAD) == RequestDirectives(no_store=True, only_if_cached=True, min_fresh=3)
    assert heeded(asked, NO_OVERRIDES) is asked


LINES = st.lists(
    st.sampled_from(["no-store", "private", "no-cache", "must-revalidate", "max-age=5", "s-maxage=5", "public"])
).map(", ".join)


@given(LINES, st.sampled_from([200, 206, 301, 404, 500]), st.integers(0, 99), st.none() | st.integers(0, 99))
def test_rules_decide_nothing_but_the_lifetime(line: str, status: int, low: int, high: int | None) -> None:
    head = ResponseHead(status, "", Fields([("Cache-Control", line), ("ETag", '"x"')]))
    overrides = Overrides(min_lifetime_s=low, max_lifetime_s=high)
    plain, ruled = (
        storing.decide(request(), PLAIN_REQUEST, head, Timing(NOW, NOW), options)
        for options in (CachingOptions(), under(overrides))
    )
    assert plain.reason == ruled.reason
