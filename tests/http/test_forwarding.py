"""What passes to the next hop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.errors import ClientError
from cacheproxy.http.forwarding import (
    HOP_BY_HOP,
    connection_options,
    end_to_end,
    has_passed,
    outbound_request_fields,
    remaining_forwards,
)
from cacheproxy.http.message import Fields

NAMES = st.sampled_from([*sorted(HOP_BY_HOP), "Host", "Cache-Control", "X", "Authorization"])


@pytest.mark.parametrize(
    ("rfc", "lines", "kept"),
    [
        ("9110 7.6.1 end to end", [("X", "1"), ("Cookie", "a")], ["X", "Cookie"]),
        ("9110 7.6.1 hop by hop", [(name.title(), "x") for name in sorted(HOP_BY_HOP)], []),
        ("9110 7.6.1 nominated", [("Connection", "X, close"), ("x", "1"), ("X", "2"), ("Y", "3")], ["Y"]),
        ("9110 7.6.1 two lines", [("Connection", "X"), ("connection", "Y"), ("X", "1"), ("Y", "2")], []),
        ("9110 7.6.1 any case", [("CONNECTION", "x-Y"), ("X-y", "1")], []),
        ("9112 C.2.2 old misspelling", [("Proxy-Connection", "X"), ("X", "1")], []),
        ("9110 7.6.1 framing stays", [("Connection", "Content-Length, Host"), ("Content-Length", "5"), ("Host", "h")],
         ["Content-Length", "Host"]),
        ("9110 7.6.1 caching stays", [("Connection", "Cache-Control, Date"), ("Cache-Control", "no-store"), ("Date", "x")],
         ["Cache-Control", "Date"]),
        ("9110 11.7.2 credentials", [("Proxy-Authorization", "Basic eDp5"), ("Proxy-Authenticate", "x")], []),
        ("9110 11.7.3 proxy's own", [("Proxy-Authentication-Info", "x"), ("PROXY-Foo", "x"), ("Proxy-Connection", "x")], []),
        ("CVE-2016-5385", [("Proxy", "http://evil/")], []),
        ("9209 2 for everybody", [("Proxy-Status", "x"), ("ProxyX", "y")], ["Proxy-Status", "ProxyX"]),
    ],
)  # fmt: skip
def test_end_to_end(rfc: str, lines: list[tuple[str, str]], kept: list[str]) -> None:
    assert [name for name, _ in end_to_end(Fields(lines))] == kept


def test_age_cannot_be_taken_away_by_connection() -> None:
    """RFC 9110 §7.6.1: a field for all recipients may not be nominated; without Age a response looks younger."""
    assert "age" in end_to_end(Fields([("Connection", "Age"), ("Age", "100")]))


@given(st.lists(st.tuples(NAMES, st.sampled_from(["", "X", "close, Authorization"]))))
def test_nothing_hop_by_hop_passes_and_the_rest_keeps_its_order(lines: list[tuple[str, str]]) -> None:
    fields = Fields(lines)
    kept = list(end_to_end(fields))
    assert not {name.lower() for name, _ in kept} & (HOP_BY_HOP | (connection_options(fields) - {"close"}))
    rest = iter(lines)
    assert all(line in rest for line in kept)
    assert list(end_to_end(Fields(kept))) == kept


def test_host_comes_from_the_target_and_ours_is_in_via() -> None:
    """RFC 9112 §3.2.2, RFC 9110 §7.6.3."""
    fields = Fields(
        [("X", "1"), ("HOST", "evil"), ("Via", "1.0 a"), ("host", "worse"), ("Connection", "Host, close")]
    )
    assert list(outbound_request_fields(fields, "h:81", "me", (1, 0))) == [
        ("Host", "h:81"),
        ("X", "1"),
        ("Via", "1.0 a"),
        ("Via", "1.0 me"),
    ]


@pytest.mark.parametrize(
    ("via", "passed"),
    [
        ([], False),
        (["1.1 me"], True),
        (["1.1 ME"], True),
        (["HTTP/1.1 me (comment)"], True),
        (["1.0 a, 1.1 me"], True),
        (["1.0 a", "1.1 me"], True),
        (["1.1 me2", "1.1 a.me"], False),
        (["me"], False),
        (["1.1"], False),
    ],
)
def test_loops_are_seen(via: list[str], passed: bool) -> None:
    """RFC 9110 §7.6.3."""
    assert has_passed(Fields(("Via", line) for line in via), "me") == passed


@pytest.mark.parametrize(
    ("values", "number"),
    [([], None), (["0"], 0), (["10"], 10), (["007"], 7)],
)
def test_max_forwards(values: list[str], number: int | None) -> None:
    """RFC 9110 §7.6.2."""
    assert remaining_forwards(Fields(("Max-Forwards", value) for value in values)) == number


@pytest.mark.parametrize("values", [[""], ["-1"], ["+1"], ["x"], ["1, 1"], ["1", "1"], ["²"], ["9" * 5000]])
def test_a_broken_max_forwards_is_refused(values: list[str]) -> None:
    with pytest.raises(ClientError) as caught:
        remaining_forwards(Fields(("Max-Forwards", value) for value in values))
    assert caught.value.status == 400
