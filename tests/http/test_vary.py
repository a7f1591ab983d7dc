"""Vary: what counts as the same request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.http.message import Fields
from cacheproxy.http.vary import nominated_names, normalise, variant_of


@pytest.mark.parametrize(
    ("rfc", "lines", "names"),
    [
        ("9110 12.5.5 none", [], ()),
        ("9110 12.5.5", ["Accept"], ("accept",)),
        ("9110 12.5.5 list", ["Foo, BAR,, foo"], ("bar", "foo")),
        ("9110 12.5.5 lines", ["B", "a"], ("a", "b")),
        ("9110 12.5.5 empty", [""], ()),
        ("9111 4.1 star", ["*"], None),
        ("9111 4.1 star among others", ["Foo, *"], None),
        ("9111 4.1 star on another line", ["Foo", "*"], None),
        ("9111 4.1 unreadable name", ["Foo, b(r"], None),
    ],
)
def test_nominated_names(rfc: str, lines: list[str], names: tuple[str, ...] | None) -> None:
    assert nominated_names(Fields(("Vary", line) for line in lines)) == names


@pytest.mark.parametrize(
    ("rfc", "name", "one", "other", "is_same"),
    [
        ("9111 4.1 equal", "foo", ["1"], ["1"], True),
        ("9111 4.1 differs", "foo", ["1"], ["2"], False),
        ("9111 4.1 absent in both", "foo", [], [], True),
        ("9111 4.1 absent in one", "foo", [], ["1"], False),
        ("9111 4.1 empty is not absent", "foo", [], [""], False),
        ("9111 4.1 lines combined", "foo", ["1", "2"], ["1, 2"], True),
        ("9111 4.1 order counts", "foo", ["1, 2"], ["2, 1"], False),
        ("9111 4.1 case counts", "foo", ["a"], ["A"], False),
        ("9111 4.1 space at commas", "accept-encoding", ["gzip,br"], ["gzip , br"], True),
        ("9110 12.5.3 case", "accept-encoding", ["GZIP"], ["gzip"], True),
        ("9110 12.5.4 order is priority", "accept-language", ["en, de"], ["de, en"], False),
        ("9110 12.5.4 weights", "accept-language", ["en;q=0.5, de"], ["en, de"], False),
        ("9110 12.5.4 space at weights", "accept-language", ["en; q=0.5"], ["en;q=0.5"], True),
        ("9110 5.6.4 case in quotes", "accept", ['x/y;p="A"'], ['x/y;p="a"'], False),
        ("9110 5.6.4 space in quotes", "accept", ['x/y;p="a b"'], ['x/y;p="ab"'], False),
        ("9110 5.6.4 comma in quotes", "foo", ['"a, b"'], ['"a,b"'], False),
        ("9110 12.5.3 order and weights", "accept-encoding", ["br;q=0.1, gzip"], ["gzip, br"], True),
        ("9110 12.5.3 refused is not listed", "accept-encoding", ["gzip, br;q=0"], ["gzip"], True),
        ("9110 8.4.1.3 alias", "accept-encoding", ["x-gzip"], ["gzip"], True),
        ("9110 12.5.3 lines", "accept-encoding", ["gzip", "br"], ["br, gzip"], True),
        ("9110 12.5.3 another coding", "accept-encoding", ["gzip, br"], ["gzip"], False),
        ("9110 12.5.3 an unknown coding", "accept-encoding", ["gzip, dcb"], ["gzip"], False),
        ("9110 12.5.3 identity refused", "accept-encoding", ["gzip, identity;q=0"], ["gzip"], False),
        ("9110 12.5.3 star", "accept-encoding", ["gzip, *"], ["gzip"], False),
        ("9110 12.5.3 empty is identity", "accept-encoding", [""], ["identity"], True),
        ("9110 12.5.3 silence accepts all", "accept-encoding", [], ["identity"], False),
        ("9110 12.5.3 malformed, exact", "accept-encoding", ["gzip;q=7"], ["gzip"], False),
        ("9110 12.5.3 malformed, equal", "accept-encoding", ["gzip; q=7"], ["GZIP;q=7"], True),
        ("9110 12.5.4 case", "accept-language", ["en-US"], ["EN-us"], True),
        ("9110 12.5.4 space within", "accept-language", ["en us"], ["enus"], False),
        ("9110 12.5.4 weight spelt otherwise", "accept-language", ["en;q=0.50"], ["en;q=0.5"], False),
        ("9110 12.5.2 case", "accept-charset", ["UTF-8"], ["utf-8"], True),
        ("9110 12.5.1 case", "accept", ["Text/HTML;Q=0.5"], ["text/html;q=0.5"], True),
        ("9110 12.5.1 space", "accept", ["text/html ; level=1"], ["text/html;level=1"], True),
        ("9110 12.5.1 order", "accept", ["a/b, c/d"], ["c/d, a/b"], False),
        ("9110 8.3.1 parameter names", "accept", ["a/b;Version=1"], ["a/b;version=1"], True),
        ("9110 8.3.1 parameter values", "accept", ["a/b;version=A"], ["a/b;version=a"], False),
        ("9110 8.3.1 the second parameter", "accept", ["a/b;v=A;W=B"], ["a/b;v=A;w=B"], True),
        ("9110 5.6.4 a quoted value", "accept", ['a/b;p="X"'], ['A/B;p="X"'], False),
        ("9111 4.1 space within", "foo", ["a b"], ["ab"], False),
        ("9111 4.1 space at semicolons", "foo", ["a; b"], ["a;b"], False),
        ("9110 5.6.4 a quote without end", "foo", ['"', '"'], ['","'], False),
        ("6265 4.2.1 a cookie is no list", "cookie", ["a=1,,2"], ["a=1,2"], False),
        ("9110 10.1.5 a product is no list", "user-agent", ["X (a, b)"], ["X (a,b)"], False),
    ],
)
def test_same_request(rfc: str, name: str, one: list[str], other: list[str], is_same: bool) -> None:
    left, right = (Fields((name, line) for line in lines) for lines in (one, other))
    assert (variant_of((name,), left) == variant_of((name,), right)) == is_same


@given(
    st.lists(st.text('aB ,;=q0*\t"', max_size=8).map(str.strip), max_size=3),
    st.sampled_from(["foo", "accept", "accept-encoding", "accept-language"]),
)
def test_normalising_twice_is_once(lines: list[str], name: str) -> None:
    once = normalise(name, Fields((name, line) for line in lines))
    assert once is None or normalise(name, Fields((name, line) for line in once.split("\n"))) == once


@given(st.permutations([("Vary", "a, b"), ("vary", "C"), ("X", "*")]))
def test_order_and_case_of_the_lines_do_not_matter(lines: list[tuple[str, str]]) -> None:
    assert nominated_names(Fields(lines)) == ("a", "b", "c")
