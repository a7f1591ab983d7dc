"""Heads of plain hits as bytes: the same as the ordinary head of the same answer, or none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheproxy.caching.age import current_age
from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.caching.options import CachingOptions, SetCookie
from cacheproxy.caching.reuse import remaining_lifetime
from cacheproxy.engine.answers import hit_wire, stored_fields
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.ports import Answer
from cacheproxy.reasons import Reason
from cacheproxy.server.answer_head import wire_head

NOW = 1_800_000_007.5
ASKED = RequestHead("GET", "http://h/", (1, 1), Fields())
DATE = ("Date", "Fri, 15 Jan 2027 08:00:00 GMT")
LENGTH = ("Content-Length", "5")
LINE = st.one_of(
    st.just(DATE),
    st.tuples(st.sampled_from(["Content-Length", "content-length"]), st.sampled_from(["5", "05", "6"])),
    st.sampled_from(
        [
            ("Age", "3"),
            ("Set-Cookie", "a=b"),
            ("Via", "1.0 z"),
            ("X-One", "\xe9"),
            ("Connection", "keep-alive"),
            ("Transfer-Encoding", "chunked"),
            ("Cache-Status", "other; hit; ttl=0"),
        ]
    ),
)


def parts(how: SetCookie) -> Any:
    return SimpleNamespace(via="house", caching=CachingOptions(set_cookie=how))


def stored(lines: list[tuple[str, str]], status: int = 200, rule: str = "") -> StoredResponse:
    head = ResponseHead(status, "Said So", Fields([*lines, ("Cache-Control", "max-age=600")]))
    timing = Timing(NOW - 5, NOW - 4)
    made = StoredResponse.build("http://h/", (), (), head, timing, CachingOptions(), length=5)
    return made._replace(overrides=made.overrides.__class__(source=rule))


@settings(deadline=None, derandomize=True, database=None, max_examples=400)
@given(
    st.lists(LINE, max_size=7),
    st.sampled_from([200, 204, 304, 404]),
    st.sampled_from(SetCookie),
    st.sampled_from(["", "site.org, ttl=0", 'a "b"']),
)
def test_the_bytes_are_the_ordinary_ones(
    lines: list[tuple[str, str]], status: int, how: SetCookie, rule: str
) -> None:
    one, house = stored(lines, status, rule), parts(how)
    pieces = hit_wire(house, one, 5)
    if pieces is None:
        return
    age = current_age(one, NOW)
    fields = stored_fields(house, one, age, Reason.HIT, NOW)
    answer = Answer(ResponseHead(one.status, one.reason_phrase, fields), content=b"12345", length=5)
    framed = wire_head(answer, ASKED, may_keep_alive=True)
    wire = b"%b%d%b%d%b" % (pieces[0], age, pieces[1], remaining_lifetime(one, NOW), pieces[2])
    assert (wire, framed.has_body, framed.keep_alive) == (framed.data, True, True)


@pytest.mark.parametrize(
    ("lines", "status", "is_simple"),
    [
        ([DATE, LENGTH], 200, True),
        ([DATE, LENGTH], 404, True),
        ([DATE, LENGTH, ("Set-Cookie", "a=b")], 200, True),
        # RFC 9110 §6.6.1: the Date is ours to add; RFC 9111 §5.1: there is an Age to replace.
        ([LENGTH], 200, False),
        ([DATE, LENGTH, ("Age", "3")], 200, False),
        ([DATE], 200, False),
        ([DATE, ("Content-Length", "05")], 200, False),
        ([DATE, LENGTH], 204, False),
    ],
)
def test_what_is_simple(lines: list[tuple[str, str]], status: int, is_simple: bool) -> None:
    assert (hit_wire(parts(SetCookie.STRIP), stored(lines, status), 5) is not None) == is_simple
