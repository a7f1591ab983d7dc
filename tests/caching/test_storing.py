"""What may be stored, and what of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching.entry import Timing
from cacheproxy.caching.options import CachingOptions, SetCookie
from cacheproxy.caching.reuse import remaining_lifetime
from cacheproxy.caching.storing import UNDERSTOOD_STATUSES, DoNotStore, Store, decide
from cacheproxy.http.cache_control import parse_request_directives
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.reasons import Reason
from tests.caching.build import NOW, OPTIONS, URL, at, request, response

FRESH = "Cache-Control: max-age=60"
OLD = f"Last-Modified: {at(-100_000)}"
AUTHORIZED = request("Authorization: Basic eDp5")


def judge(asked: RequestHead, answer: ResponseHead, options: CachingOptions = OPTIONS) -> Store | DoNotStore:
    directives = parse_request_directives(asked.fields)
    return decide(asked, directives, answer, Timing(NOW, NOW), options)


@pytest.mark.parametrize(
    ("rfc", "asked", "answer", "reason"),
    [
        ("9111 3 explicit", request(), response(FRESH), Reason.STORED),
        ("9111 3 Expires", request(), response(f"Expires: {at(60)}"), Reason.STORED),
        ("9111 3 heuristic", request(), response(OLD), Reason.STORED),
        ("9111 3 to validate", request(), response('ETag: "a"'), Reason.STORED),
        ("9111 3 stale with validator", request(), response('Cache-Control: max-age=0 | ETag: "a"'), Reason.STORED),
        ("9111 3 nothing to reuse", request(), response(), Reason.NOTHING_TO_REUSE),
        ("9111 3 expired, no validator", request(), response("Expires: 0"), Reason.NOTHING_TO_REUSE),
        ("9111 4.2.3 stale on arrival", request(), response(f"{FRESH} | Age: 60"), Reason.NOTHING_TO_REUSE),
        ("9111 3 status without freshness", request(), response('ETag: "a"', 302), Reason.STATUS),
        ("9111 3 error without freshness", request(), response(OLD, 500), Reason.STATUS),
        ("9111 3 error with freshness", request(), response(FRESH, 500), Reason.STORED),
        ("9111 3 unknown status with freshness", request(), response(FRESH, 499), Reason.STORED),
        ("9111 3 public counts", request(), response(f"Cache-Control: public | {OLD}", 302), Reason.STORED),
        ("9111 3 interim", request(), response(FRESH, 103), Reason.STATUS),
        ("9111 3 not modified", request(), response(FRESH, 304), Reason.STATUS),
        ("9111 3.3 part", request(), response(FRESH, 206), Reason.PARTIAL_CONTENT),
        ("9111 5.2.2.5 no-store", request(), response("Cache-Control: max-age=60, NO-STORE"), Reason.NO_STORE),
        ("9111 5.2.2.5 other line", request(), response(f"{FRESH} | cache-control: no-store"), Reason.NO_STORE),
        ("9213 2 for CDNs only", request(), response("CDN-Cache-Control: max-age=60"), Reason.NOTHING_TO_REUSE),
        ("9213 2 does not free", request(), response("CDN-Cache-Control: max-age=60 | Cache-Control: no-store"),
         Reason.NO_STORE),
        ("9111 5.2.1.5 request", request("Cache-Control: no-store"), response(FRESH), Reason.REQUEST_NO_STORE),
        ("9111 5.2.2.3 understood", request(), response("Cache-Control: max-age=60, no-store, must-understand"),
         Reason.STORED),
        ("9111 5.2.2.3 not understood", request(), response("Cache-Control: max-age=60, must-understand", 499),
         Reason.NOT_UNDERSTOOD),
        ("9111 5.2.2.3 neither", request(), response("Cache-Control: max-age=60, no-store, must-understand", 499),
         Reason.NOT_UNDERSTOOD),
        ("9111 5.2.2.3 still private", request(), response("Cache-Control: private, max-age=60, must-understand"),
         Reason.PRIVATE),
        ("9111 5.2.2.4 no-cache, validator", request(), response('Cache-Control: no-cache | ETag: "a"'), Reason.STORED),
        ("9111 5.2.2.4 no-cache alone", request(), response("Cache-Control: no-cache, max-age=60"),
         Reason.NOTHING_TO_REUSE),
        ("9111 5.2.2.7 private", request(), response("Cache-Control: private, max-age=60"), Reason.PRIVATE),
        ("9111 5.2.2.7 over public", request(), response("Cache-Control: public, Private, max-age=60"), Reason.PRIVATE),
        ("9111 5.2.2.7 field names", request(), response('Cache-Control: private="X", max-age=60'), Reason.STORED),
        ("9111 3.5 authorization", AUTHORIZED, response(FRESH), Reason.AUTHORIZATION),
        ("9111 3.5 public", AUTHORIZED, response("Cache-Control: public, max-age=60"), Reason.STORED),
        ("9111 3.5 s-maxage", AUTHORIZED, response("Cache-Control: s-maxage=60"), Reason.STORED),
        ("9111 3.5 must-revalidate", AUTHORIZED, response("Cache-Control: must-revalidate, max-age=60"), Reason.STORED),
        ("9111 3.5 not proxy-revalidate", AUTHORIZED, response("Cache-Control: proxy-revalidate, max-age=60"),
         Reason.AUTHORIZATION),
        ("9111 7.2 credentials over TLS", request("Authorization: x", url="https://h/a"),
         response("Cache-Control: public, max-age=60"), Reason.CREDENTIALS_OVER_TLS),
        ("9111 7.2 cookie over TLS", request("Cookie: a=1", url="https://h/a"), response(FRESH),
         Reason.CREDENTIALS_OVER_TLS),
        ("9111 7.3 cookie", request("Cookie: a=1"), response(FRESH), Reason.STORED),
        ("9111 4.1 star", request(), response(f"{FRESH} | Vary: *"), Reason.VARY_STAR),
        ("9111 4.1 star on another line", request(), response(f"{FRESH} | Vary: A | Vary: *"), Reason.VARY_STAR),
        ("9110 9.3.2 HEAD", request(method="HEAD"), response(FRESH), Reason.METHOD),
        ("9110 9.1 case counts", request(method="get"), response(FRESH), Reason.METHOD),
        ("9110 9.3.4 PUT", request(method="PUT"), response(f"{FRESH} | Content-Location: /a"), Reason.METHOD),
        ("9110 9.3.3 POST", request(method="POST"), response(FRESH), Reason.METHOD),
        ("9110 9.3.3 POST for GET", request(method="POST"), response(f"{FRESH} | Content-Location: /a"), Reason.STORED),
        ("9110 9.3.3 absolute", request(method="POST"), response(f"{FRESH} | Content-Location: {URL}"), Reason.STORED),
        ("9110 9.3.3 other URI", request(method="POST"), response(f"{FRESH} | Content-Location: /b"), Reason.METHOD),
        ("9110 9.3.3 other origin", request(method="POST"), response(f"{FRESH} | Content-Location: http://i/a"),
         Reason.METHOD),
        ("9110 9.3.3 no lifetime", request(method="POST"), response(f"{OLD} | Content-Location: /a"), Reason.METHOD),
        ("9110 9.3.3 no life", request(method="POST"), response('Expires: 0 | ETag: "a" | Content-Location: /a'),
         Reason.METHOD),
        ("9110 9.3.3 only 200", request(method="POST"), response(f"{FRESH} | Content-Location: /a", 404), Reason.METHOD),
    ],
)  # fmt: skip
def test_decision(rfc: str, asked: RequestHead, answer: ResponseHead, reason: Reason) -> None:
    decision = judge(asked, answer)
    assert decision.reason == reason
    assert isinstance(decision, Store) == (reason is Reason.STORED)


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_heuristic_statuses_are_stored(status: int) -> None:
    """RFC 9110 §15.1."""
    assert isinstance(judge(request(), response(OLD, status)), Store)


@pytest.mark.parametrize("status", range(200, 600))
def test_must_understand_frees_only_what_is_understood(status: int) -> None:
    """RFC 9111 §5.2.2.3."""
    decision = judge(request(), response("Cache-Control: max-age=60, no-store, must-understand", status))
    assert isinstance(decision, Store) == (status in UNDERSTOOD_STATUSES)
    assert not isinstance(judge(request(), response("Cache-Control: max-age=60, no-store", status)), Store)


@pytest.mark.parametrize(
    ("mode", "text", "reason", "kept"),
    [
        (SetCookie.STRIP, "", Reason.STORED, ()),
        (SetCookie.STRIP, ", public", Reason.STORED, ()),
        (SetCookie.REPLAY, "", Reason.STORED, ("a=1", "b=2")),
        (SetCookie.BYPASS, "", Reason.SET_COOKIE, ()),
        (SetCookie.BYPASS, ", public", Reason.STORED, ()),
        (SetCookie.BYPASS, ", s-maxage=9", Reason.STORED, ()),
    ],
)
def test_set_cookie(mode: SetCookie, text: str, reason: Reason, kept: tuple[str, ...]) -> None:
    """RFC 9111 §7.3: the operator chooses."""
    answer = response(f"{FRESH}{text} | Set-Cookie: a=1 | SET-COOKIE: b=2")
    decision = judge(request(), answer, CachingOptions(set_cookie=mode))
    assert decision.reason == reason
    if isinstance(decision, Store):
        assert decision.stored.fields.all("set-cookie") == kept


@pytest.mark.parametrize(
    ("rfc", "text", "kept"),
    [
        ("9111 3.1 end to end", "X: 1 | Age: 5", ["X", "Age"]),
        ("9111 3.1 hop by hop", "X: 1 | Transfer-Encoding: chunked | Keep-Alive: 5 | Connection: close", ["X"]),
        ("9111 3.1 nominated", "X: 1 | Y: 2 | Connection: y", ["X"]),
        ("9111 3.1 proxy", "Proxy-Authenticate: Basic | Proxy-Authentication-Info: x", []),
        ("9111 5.2.2.4 no-cache", 'X: 1 | Y: 2 | Cache-Control: no-cache="y"', ["X", "Cache-Control"]),
        ("9111 5.2.2.7 private", 'X: 1 | Y: 2 | Cache-Control: private="X, Z"', ["Y", "Cache-Control"]),
    ],
)
def test_kept_fields(rfc: str, text: str, kept: list[str]) -> None:
    decision = judge(request(), response(f'{text} | ETag: "a"'))
    assert isinstance(decision, Store)
    assert [name for name, _ in decision.stored.fields] == [*kept, "ETag"]


@pytest.mark.parametrize("name", ["Cache-Control", "Expires", "Date", "Age"])
@pytest.mark.parametrize("directive", ["no-cache", "private"])
def test_naming_a_field_as_private_never_makes_the_response_fresher(name: str, directive: str) -> None:
    """RFC 9111 §5.2.2.4, §5.2.2.7: the field is not given out; what it says about caching still holds."""
    answer = response(f'Cache-Control: max-age=100, {directive}="{name}" | Age: 200 | Date: {at(-200)} | {OLD}')
    decision = judge(request(), answer)
    if isinstance(decision, Store):
        assert decision.stored.directives.no_cache or remaining_lifetime(decision.stored, NOW) <= -100


@pytest.mark.parametrize("length", ["²", "٥", "9" * 5000, "", "-1", "5, 5"])
def test_an_odd_length_is_no_crash(length: str) -> None:
    """The framing refuses these earlier; a decision on them must still be a decision."""
    judge(request(), response(f"{FRESH} | Content-Length: {length}"))


def test_the_variant_is_what_the_request_said() -> None:
    """RFC 9111 §4.1: nominated by every line."""
    decision = judge(request("B: 1 | A: x,  y"), response(f"{FRESH} | Vary: B | Vary: a, C"))
    assert isinstance(decision, Store)
    assert (decision.stored.nominated, decision.stored.variant) == (("a", "b", "c"), ("x,y", "1", None))


MEMBERS = st.lists(
    st.sampled_from(
        ["no-store", "private", "public", "max-age=60", "s-maxage=5", "must-understand", "no-cache", "x",
         "must-revalidate", 'private="X"', "max-age=x"]
    ),
    max_size=4,
)  # fmt: skip
OTHERS = st.permutations(
    [("ETag", '"a"'), ("Vary", "X"), ("Set-Cookie", "a=1"), ("Content-Location", "/a"), ("Expires", at(60))]
)
METHODS = st.sampled_from(["GET", "POST", "HEAD"])
STATUSES = st.sampled_from([200, 206, 302, 404, 499, 500])
ASKED = st.sampled_from(["", "Authorization: x", "Cookie: a", "Cache-Control: no-store"])
MODES = st.sampled_from(SetCookie)


@given(MEMBERS, OTHERS, st.data(), METHODS, STATUSES, ASKED, MODES)
def test_order_and_case_never_change_a_decision(
    members: list[str],
    others: list[tuple[str, str]],
    data: st.DataObject,
    method: str,
    status: int,
    asked: str,
    mode: SetCookie,
) -> None:
    others = others[: data.draw(st.integers(0, len(others)))]
    lines = [("Cache-Control", ", ".join(members)), *others]
    turned = [(data.draw(st.sampled_from([name, name.upper(), name.lower()])), value) for name, value in lines]
    turned = data.draw(st.permutations(turned))
    options = CachingOptions(set_cookie=mode)
    one, other = (
        judge(request(asked, method), ResponseHead(status, "", Fields(each)), options)
        for each in (lines, turned)
    )
    assert one.reason == other.reason
    if isinstance(one, Store) and isinstance(other, Store):
        assert one.stored.lifetime == other.stored.lifetime
        assert one.stored.variant == other.stored.variant


@given(MEMBERS, METHODS, STATUSES, ASKED, MODES, st.integers(0, 4))
def test_no_store_never_makes_anything_stored(
    members: list[str], method: str, status: int, asked: str, mode: SetCookie, place: int
) -> None:
    more = [*members[:place], "no-store", *members[place:]]
    options = CachingOptions(set_cookie=mode)
    before, after = (
        judge(
            request(asked, method), response(f'Cache-Control: {", ".join(each)} | ETag: "a"', status), options
        )
        for each in (members, more)
    )
    if isinstance(before, DoNotStore):
        assert isinstance(after, DoNotStore)
    silent = request(f"{asked} | Cache-Control: no-store" if asked else "Cache-Control: no-store", method)
    assert isinstance(judge(silent, response(FRESH, status), options), DoNotStore)
