"""Freshness lifetimes, as a shared cache sees them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching import reuse, storing
from cacheproxy.caching.entry import Timing
from cacheproxy.caching.freshening import merge
from cacheproxy.caching.freshness import HEURISTIC_STATUSES, Lifetime, freshness_lifetime
from cacheproxy.caching.options import CachingOptions
from cacheproxy.http.cache_control import PLAIN_REQUEST, RequestDirectives, parse_response_directives
from tests.caching.build import NOW, OPTIONS, at, fields, request, response

DAY = 86400
OLD = f"Last-Modified: {at(-10 * DAY)}"


DEB = "http://deb.debian.org/debian/pool/main/h/hello/hello_2.10-3_amd64.deb"


def lifetime(text: str, status: int = 200, options: CachingOptions = OPTIONS, key: str = "") -> Lifetime:
    """The lifetime of a response generated and received at NOW."""
    found = fields(text)
    return freshness_lifetime(status, found, parse_response_directives(found), NOW, NOW, options, key)


@pytest.mark.parametrize(
    ("rfc", "text", "seconds"),
    [
        ("9111 4.2.1 max-age", "Cache-Control: max-age=60", 60),
        ("9111 4.2.1 s-maxage wins", "Cache-Control: max-age=60, s-maxage=5", 5),
        ("9111 4.2.1 s-maxage=0 wins", "Cache-Control: max-age=60, s-maxage=0", 0),
        ("9111 5.3 max-age over Expires", f"Cache-Control: max-age=60 | Expires: {at(5)}", 60),
        ("9111 4.2.1 Expires", f"Expires: {at(60)}", 60),
        ("9111 4.2.1 Expires past", f"Expires: {at(-60)}", 0),
        ("9111 4.2.1 broken max-age", f"Cache-Control: max-age=x | Expires: {at(60)}", 0),
        ("9111 4.2.1 broken s-maxage", "Cache-Control: max-age=60, s-maxage=-1", 0),
        ("9111 5.3 zero", f"Expires: 0 | {OLD}", 0),
        ("9111 5.3 minus one", "Expires: -1", 0),
        ("9111 5.3 empty", f"Expires: | {OLD}", 0),
        ("9111 5.3 epoch seconds", f"Expires: {int(NOW) + 60}", 0),
        ("9111 5.3 other zone", f"Expires: {at(60).replace('GMT', 'UTC')}", 0),
        ("9111 5.3 ISO date", "Expires: 2100-01-01T00:00:00Z", 0),
        ("9111 5.3 words", "Expires: never", 0),
        ("9111 4.2.1 two lines", f"Expires: {at(60)} | Expires: {at(60)}", 0),
        ("9111 4.2 any case", f"Expires: {at(60).lower()}", 60),
    ],
)
def test_explicit(rfc: str, text: str, seconds: float) -> None:
    assert lifetime(text) == Lifetime(seconds, is_explicit=True)


@pytest.mark.parametrize(
    ("rfc", "text", "status", "seconds"),
    [
        ("9111 4.2.2 a tenth", OLD, 200, DAY),
        ("9111 4.2.2 at most", f"Last-Modified: {at(-1000 * DAY)}", 200, 7 * DAY),
        ("9111 4.2.2 no Last-Modified", "", 200, 0),
        ("9111 4.2.2 in the future", f"Last-Modified: {at(5)}", 200, 0),
        ("9111 4.2.2 this instant", f"Last-Modified: {at(0)}", 200, 0),
        ("9111 4.2.2 broken", "Last-Modified: yesterday", 200, 0),
        ("9111 4.2.2 two lines", f"{OLD} | {OLD}", 200, 0),
        ("9110 15.1 302 is not heuristic", OLD, 302, 0),
        ("9110 15.1 500 is not heuristic", OLD, 500, 0),
        ("9111 4.2.2 public", f"{OLD} | Cache-Control: public", 302, DAY),
        ("9111 5.4 Pragma in a response", f"{OLD} | Pragma: no-cache", 200, DAY),
    ],
)
def test_guessed(rfc: str, text: str, status: int, seconds: float) -> None:
    assert lifetime(text, status) == Lifetime(seconds, is_explicit=False)


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_heuristic_statuses(status: int) -> None:
    """RFC 9110 §15.1."""
    assert lifetime(OLD, status).seconds == DAY


@pytest.mark.parametrize("status", sorted(set(range(200, 600)) - HEURISTIC_STATUSES))
def test_other_statuses_are_never_guessed(status: int) -> None:
    """RFC 9110 §15.1, RFC 9111 §4.2.2."""
    assert lifetime(OLD, status).seconds == 0


def test_the_operator_bounds_the_guess() -> None:
    options = CachingOptions(heuristic_fraction=0.5, heuristic_max_s=4 * DAY)
    assert lifetime(f"Last-Modified: {at(-2 * DAY)}", options=options).seconds == DAY
    assert lifetime(OLD, options=options).seconds == 4 * DAY


@pytest.mark.parametrize(
    ("rfc", "text", "status", "key", "seconds"),
    [
        ("9111 4.2.2 no word from the origin", "", 200, DEB, 30 * DAY),
        ("9111 4.2.2 the larger of both", OLD, 200, DEB, 30 * DAY),
        ("9111 4.2.2 a part of it", "", 206, DEB, 30 * DAY),
        ("9111 4.2.2 a type", "Content-Type: application/vnd.debian.binary-package", 200, DEB, 30 * DAY),
        ("9111 4.2.1 max-age goes first", "Cache-Control: max-age=60", 200, DEB, 60),
        ("9111 4.2.1 Expires goes first", "Expires: 0", 200, DEB, 0),
        ("9111 4.2.2 a portal's page", "Content-Type: text/html; charset=utf-8", 200, DEB, 0),
        ("9111 4.2.2 a portal's page, any case", "Content-Type: Text/HTML", 200, DEB, 0),
        ("9111 4.2.2 not there", "", 404, DEB, 0),
        ("9111 4.2.2 elsewhere", "Location: /x", 301, DEB, 0),
        ("9111 4.2.2 elsewhere for now", "Location: /x", 302, DEB, 0),
        ("9111 4.2.2 a query", "", 200, DEB + "?x", 0),
        ("9111 4.2.2 an empty query", "", 200, DEB + "?", 0),
        ("9111 4.2.2 an index", "", 200, "http://deb.debian.org/debian/dists/bookworm/InRelease", 0),
        ("9111 4.2.2 an index, by age", OLD, 200, "http://deb.debian.org/debian/dists/bookworm/InRelease", DAY),
        ("9111 4.2.2 no path", "", 200, "http://h", 0),
        ("9111 4.2.2 the host is no path", "", 200, f"http://{'ab12' * 10}.js/", 0),
    ],
)
def test_guessed_by_name(rfc: str, text: str, status: int, key: str, seconds: float) -> None:
    assert lifetime(text, status, key=key).seconds == seconds


def test_the_operator_bounds_the_guess_by_name() -> None:
    assert lifetime("", options=CachingOptions(name_lifetime_s=5), key=DEB).seconds == 5
    assert lifetime(OLD, options=CachingOptions(name_lifetime_s=5), key=DEB).seconds == DAY
    assert lifetime("", options=CachingOptions(name_lifetime_s=0), key=DEB).seconds == 0


@given(st.text(st.characters(max_codepoint=255, exclude_characters="|:")), st.integers(200, 599))
def test_no_text_gives_a_negative_lifetime(text: str, status: int) -> None:
    for name in ("Cache-Control: max-age=", "Cache-Control: s-maxage=", "Expires: ", "Last-Modified: "):
        assert lifetime(name + text, status).seconds >= 0


def test_a_file_with_nothing_but_its_name_is_stored_and_reused() -> None:
    """Issue 3.5; a client's `no-cache` still goes to the origin (RFC 9111 §5.2.1.4)."""
    asked = request(url=DEB)
    outcome = storing.decide(asked, PLAIN_REQUEST, response(), Timing(NOW, NOW), OPTIONS)
    assert isinstance(outcome, storing.Store)
    later = NOW + 29 * DAY
    assert isinstance(reuse.decide(PLAIN_REQUEST, outcome.stored, False, later), reuse.ServeStored)
    assert isinstance(reuse.decide(RequestDirectives(no_cache=True), outcome.stored, False, NOW), reuse.Forward)
    kept = outcome.stored.with_body(1, 1, 5)
    refreshed = merge(kept, response(status=304), Timing(later, later), OPTIONS)
    assert refreshed.lifetime.seconds == 30 * DAY, "freshening looks at the name again"
