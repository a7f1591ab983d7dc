"""Heads of plain misses as bytes: the same as the ordinary head of the same answer, or none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheproxy.caching.response_facts import facts_of
from cacheproxy.engine.answers import forwarded_head, refused_wire
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.reasons import Reason
from cacheproxy.server.answer_head import framed_head

PARTS: Any = SimpleNamespace(via="house", clock=SimpleNamespace(wall=lambda: 1e9))
ASKED = RequestHead("GET", "http://h/", (1, 1), Fields())
DATE = ("Date", "Sat, 28 Nov 2026 16:00:00 GMT")
LINE = st.one_of(
    st.just(DATE),
    st.tuples(st.sampled_from(["Content-Length", "content-length"]), st.sampled_from(["5", "05", "6"])),
    st.tuples(
        st.sampled_from(["Connection", "Proxy-Connection"]),
        st.sampled_from(["keep-alive", "close", "x-one", "content-length", "date, x-one"]),
    ),
    st.sampled_from([("X-One", "1"), ("Keep-Alive", "5"), ("Transfer-Encoding", "chunked"), ("Via", "1.0 z")]),
    st.tuples(st.just("Cache-Control"), st.sampled_from(["no-store", "no-store, max-age=5"])),
)


@settings(deadline=None, derandomize=True, database=None, max_examples=400)
@given(st.lists(LINE, max_size=7), st.sampled_from([200, 204, 304, 404]), st.sampled_from([(1, 0), (1, 1)]))
def test_the_bytes_are_the_ordinary_ones(
    lines: list[tuple[str, str]], status: int, version: tuple[int, int]
) -> None:
    head = ResponseHead(status, "Said So", Fields([*lines, ("Cache-Control", "no-store")]), version)
    facts = facts_of(head)
    for _ in range(2):
        wire = refused_wire("house", head, facts, 5)
        if wire is not None:
            forwarded = forwarded_head(PARTS, head, Reason.URI_MISS, facts.refusal)
            framed = framed_head(forwarded, 5, ASKED, may_keep_alive=True)
            assert (wire, framed.has_body, framed.keep_alive) == (framed.data, True, True)


@pytest.mark.parametrize(
    ("lines", "is_simple"),
    [
        ([DATE, ("Content-Length", "5")], True),
        ([DATE, ("Connection", "keep-alive"), ("Content-Length", "5")], True),
        # RFC 9110 §6.6.1: the Date is ours to add; RFC 9112 §6.2: a length that we would write otherwise.
        ([("Content-Length", "5")], False),
        ([DATE, ("Content-Length", "05")], False),
        ([DATE], False),
    ],
)
def test_what_is_simple(lines: list[tuple[str, str]], is_simple: bool) -> None:
    head = ResponseHead(200, "OK", Fields([*lines, ("Cache-Control", "no-store")]))
    assert (refused_wire("house", head, facts_of(head), 5) is not None) == is_simple


def test_two_proxies_in_one_process_each_say_their_own_name() -> None:
    head = ResponseHead(200, "OK", Fields([DATE, ("Content-Length", "5"), ("Cache-Control", "no-store")]))
    for via in ("one", "two", "one"):
        wire = refused_wire(via, head, facts_of(head), 5)
        assert wire is not None and f"Via: 1.1 {via}\r\n".encode() in wire
