"""Fields as values: order, case and number are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.http.message import Fields, RequestHead, ResponseHead

COOKIES = Fields([("Set-Cookie", "a=1"), ("X", "1"), ("set-cookie", "b=2")])
LINES = st.lists(st.tuples(st.sampled_from(["A", "a", "B", "b", "C"]), st.text("xyz, ", max_size=3)))


@pytest.mark.parametrize(
    ("name", "every", "combined", "only"),
    [
        ("set-cookie", ("a=1", "b=2"), "a=1, b=2", None),
        ("x", ("1",), "1", "1"),
        ("missing", (), None, None),
    ],
)
def test_look_up_ignores_case(
    name: str, every: tuple[str, ...], combined: str | None, only: str | None
) -> None:
    """RFC 9110 §5.1, §5.3."""
    assert (COOKIES.all(name), COOKIES.get(name), COOKIES.only(name)) == (every, combined, only)
    assert (name in COOKIES) == bool(every)


def test_changes_make_new_fields() -> None:
    assert list(COOKIES.without(["set-cookie"])) == [("X", "1")]
    assert list(COOKIES.where(lambda name, value: name == "set-cookie" and "b" in value)) == [
        ("set-cookie", "b=2")
    ]
    assert list(COOKIES.replaced("SET-COOKIE", "c=3")) == [("Set-Cookie", "c=3"), ("X", "1")]
    assert list(COOKIES.replaced("Y", "2"))[-1] == ("Y", "2")
    assert list(COOKIES.plus(("Y", "2")))[-1] == ("Y", "2")
    assert len(COOKIES.lines) == 3


def test_heads_keep_the_rest_when_fields_change() -> None:
    request = RequestHead("GET", "/", (1, 0), COOKIES)
    response = ResponseHead(404, "Gone fishing", COOKIES, (1, 0))
    assert request.with_fields(Fields()) == RequestHead("GET", "/", (1, 0), Fields())
    assert response.with_fields(Fields()) == ResponseHead(404, "Gone fishing", Fields(), (1, 0))


def test_a_response_is_written_as_1_1_with_its_bytes_unchanged() -> None:
    """RFC 9112 §2.3: our own version; RFC 9110 §5.5: 8-bit bytes pass."""
    head = ResponseHead(200, "", Fields([("X", "\xe4")]), (1, 0))
    assert head.wire() == b"HTTP/1.1 200 \r\nX: \xe4\r\n\r\n"


@given(LINES)
def test_fields_are_their_lines(lines: list[tuple[str, str]]) -> None:
    fields = Fields(lines)
    assert list(fields) == lines
    assert fields == Fields(lines)
    assert hash(fields) == hash(Fields(lines))
    assert set(fields.names()) == {name.lower() for name, _ in lines}
    assert sum(len(fields.all(name)) for name in fields.names()) == len(lines)


@given(LINES, st.sampled_from("abc"))
def test_replacing_leaves_exactly_one_line(lines: list[tuple[str, str]], name: str) -> None:
    fields = Fields(lines).replaced(name, "new")
    assert fields.only(name) == "new"
    assert fields.without([name]) == Fields(lines).without([name])
