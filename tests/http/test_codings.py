"""Content codings: what is accepted, what is carried, what we may ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.http.codings import (
    KNOWN,
    acceptable,
    asks_for,
    content_codings,
    normal_form,
    parse_accept_encoding,
    upgraded_accept_encoding,
)
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.http.uri import parse_absolute

ALL = ("zstd", "br", "gzip")


def fields(text: str) -> Fields:
    """Field lines from `Name: value | Name: value`."""
    return Fields(
        (name, value.strip(" "))
        for name, _, value in (line.partition(":") for line in text.split(" | ") if line)
    )


@pytest.mark.parametrize(
    ("rfc", "value", "weights"),
    [
        ("9110 12.5.3", "gzip", {"gzip": 1.0}),
        ("9110 12.5.3 list", "gzip, br", {"gzip": 1.0, "br": 1.0}),
        ("9110 12.5.3 empty", "", {}),
        ("9110 5.6.1 empty members", ", gzip,,", {"gzip": 1.0}),
        ("9110 12.4.2 weights", "gzip;q=0.5, br;q=1.000", {"gzip": 0.5, "br": 1.0}),
        ("9110 12.4.2 weight space", "gzip ;\tq=0.", {"gzip": 0.0}),
        ("9110 12.4.2 weight case", "gzip;Q=0.25", {"gzip": 0.25}),
        ("9110 12.5.3 star", "*;q=0", {"*": 0.0}),
        ("9110 8.4.1 case", "GZip", {"gzip": 1.0}),
        ("9110 8.4.1.3 alias", "x-gzip;q=0.5", {"gzip": 0.5}),
        ("9110 8.4.1.1 alias", "x-compress", {"compress": 1.0}),
        ("9110 12.5.3 twice", "gzip;q=0.5, gzip", {"gzip": 1.0}),
        ("9110 12.5.3 accepted and refused", "gzip;q=0, gzip", None),
        ("9110 8.4.1.3 refused by its alias", "gzip, x-gzip;q=0", None),
        ("9110 12.4.2 above one", "gzip;q=1.5", None),
        ("9110 12.4.2 four digits", "gzip;q=0.1234", None),
        ("9110 12.4.2 no number", "gzip;q=", None),
        ("9110 12.4.2 negative", "gzip;q=-0", None),
        ("9110 12.4.2 another parameter", "gzip;level=9", None),
        ("9110 12.4.2 two parameters", "gzip;q=1;q=0", None),
        ("9110 5.6.2 no token", "gz ip", None),
        ("9110 5.6.2 quoted", '"gzip"', None),
        ("9110 12.5.3 weight alone", ";q=1", None),
        ("9110 2.3 too long to be meant", "gzip," * 300, None),
    ],
)
def test_parse(rfc: str, value: str, weights: dict[str, float] | None) -> None:
    assert parse_accept_encoding(value) == weights


@pytest.mark.parametrize(
    ("rfc", "text", "coding", "expected"),
    [
        ("9110 12.5.3 rule 1: no field", "", "br", True),
        ("9110 12.5.3 no field, identity", "", "identity", True),
        ("9110 12.5.3 empty field", "Accept-Encoding:", "gzip", False),
        ("9110 12.5.3 empty field, identity", "Accept-Encoding:", "identity", True),
        ("9110 12.5.3 rule 2", "Accept-Encoding: gzip", "identity", True),
        ("9110 12.5.3 identity refused", "Accept-Encoding: gzip, identity;q=0", "identity", False),
        ("9110 12.5.3 star refused", "Accept-Encoding: gzip, *;q=0", "identity", False),
        ("9110 12.5.3 identity before star", "Accept-Encoding: identity, *;q=0", "identity", True),
        ("9110 12.5.3 rule 3: listed", "Accept-Encoding: gzip;q=0.001", "gzip", True),
        ("9110 12.5.3 rule 3: q=0", "Accept-Encoding: gzip;q=0.000", "gzip", False),
        ("9110 12.5.3 star", "Accept-Encoding: *", "zstd", True),
        ("9110 12.5.3 named before star", "Accept-Encoding: *, br;q=0", "br", False),
        ("9110 5.3 two lines", "Accept-Encoding: gzip | Accept-Encoding: br", "br", True),
        ("9110 8.4.1.3 alias", "Accept-Encoding: x-gzip", "gzip", True),
        ("9110 8.4.1.3 alias asked", "Accept-Encoding: gzip", "X-GZip", True),
        ("9110 12.5.3 unreadable", "Accept-Encoding: gzip;q=x", "gzip", False),
        ("9110 12.5.3 unreadable, identity", "Accept-Encoding: gzip;q=x", "identity", True),
    ],
)
def test_acceptable(rfc: str, text: str, coding: str, expected: bool) -> None:
    assert acceptable(fields(text), coding) == expected
    assert asks_for(fields(text), coding) == (expected and bool(text))


@pytest.mark.parametrize(
    ("rfc", "value", "form"),
    [
        ("9110 12.5.3", "gzip", "gzip,identity"),
        ("9110 12.5.3 empty", "", "identity"),
        ("9110 12.5.3 identity", "identity", "identity"),
        ("9110 12.5.3 nothing but identity", "identity;q=1, *;q=0", "identity"),
        ("9110 12.5.3 order, weights, case", "GZIP;q=0.1,\tbr", "br,gzip,identity"),
        ("9110 8.4.1.3 alias", "x-gzip", "gzip,identity"),
        ("9110 12.5.3 refused", "br;q=0, gzip", "gzip,identity"),
        ("9110 12.5.3 a browser's", "gzip, deflate, br, zstd", "zstd,br,gzip,deflate,identity"),
        ("9110 12.5.3 identity refused", "gzip, identity;q=0", "gzip,identity;q=0"),
        ("9110 12.5.3 identity refused by star", "gzip, *;q=0", "gzip,identity;q=0"),
        ("9110 12.5.3 all refused", "*;q=0", "identity;q=0"),
        ("9110 12.5.3 star", "*", "zstd,br,gzip,deflate,identity,*"),
        ("9110 12.5.3 star but", "*, br;q=0, x;q=0", "zstd,gzip,deflate,identity,*,br;q=0,x;q=0"),
        ("9842 6 others stay", "gzip, dcz, dcb", "gzip,identity,dcb,dcz"),
        ("9110 12.5.3 others refused", "gzip, dcz;q=0", "gzip,identity"),
        ("9110 12.5.3 malformed", "gzip;q=2", None),
    ],
)
def test_normal_form(rfc: str, value: str, form: str | None) -> None:
    assert normal_form(value) == form


CODINGS = st.sampled_from([*KNOWN, "x-gzip", "X-GZIP", "*", "dcb", "compress"])
MEMBERS = st.tuples(CODINGS, st.sampled_from(["", ";q=0", ";q=0.3", " ; q=1", ";q=0.000"])).map("".join)
VALUES = st.lists(MEMBERS, max_size=5).map(", ".join)


@given(VALUES, st.sampled_from([*KNOWN, "dcb", "compress", "never-heard-of"]))
def test_the_normal_form_accepts_what_the_value_accepts(value: str, coding: str) -> None:
    form = normal_form(value)
    if form is None:
        return
    assert normal_form(form) == form
    assert acceptable(Fields([("A", "1"), ("Accept-Encoding", form)]), coding) == acceptable(
        Fields([("Accept-Encoding", value)]), coding
    )


@given(VALUES, VALUES)
def test_equal_forms_accept_the_same(one: str, other: str) -> None:
    probes = [*KNOWN, "dcb", "compress", "never-heard-of"]
    left, right = (
        [acceptable(Fields([("Accept-Encoding", value)]), coding) for coding in probes]
        for value in (one, other)
    )
    if normal_form(one) is not None and normal_form(other) is not None:
        assert (normal_form(one) == normal_form(other)) == (left == right)


@given(st.text(max_size=40) | st.text('gziпbr*;q=01.,"\t ', max_size=40))
def test_any_text_has_a_form_or_none(text: str) -> None:
    form = normal_form(text)
    assert form is None or normal_form(form) == form
    content_codings(Fields([("Content-Encoding", text)]))


@pytest.mark.parametrize(
    ("rfc", "text", "codings"),
    [
        ("9110 8.4 none", "", ()),
        ("9110 8.4", "Content-Encoding: gzip", ("gzip",)),
        ("9110 8.4.1.3 alias", "Content-Encoding: X-GZip", ("gzip",)),
        ("9110 8.4 in the order applied", "Content-Encoding: gzip, br", ("gzip", "br")),
        ("9110 8.4 lines", "Content-Encoding: gzip | Content-Encoding: br", ("gzip", "br")),
        ("9110 8.4 identity means nothing", "Content-Encoding: identity", ()),
        ("9110 8.4 empty", "Content-Encoding:", ()),
        ("9110 8.4 unknown", "Content-Encoding: aes128gcm", ("aes128gcm",)),
        ("9110 8.4.1 not a token", "Content-Encoding: gzip;q=1", None),
    ],
)
def test_content_codings(rfc: str, text: str, codings: tuple[str, ...] | None) -> None:
    assert content_codings(fields(text)) == codings


def asked(text: str, method: str = "GET") -> RequestHead:
    """A request with these fields."""
    return RequestHead(method, "http://h/", (1, 1), fields(text), parse_absolute("http://h/"))


OURS = "zstd, br, gzip"


@pytest.mark.parametrize(
    ("rfc", "text", "expected"),
    [
        ("issue 3.4 silent client", "Accept: */*", OURS),
        ("issue 3.4 identity", "Accept-Encoding: identity", OURS),
        ("issue 3.4 empty", "Accept-Encoding:", OURS),
        ("issue 3.4 some of it", "Accept-Encoding: gzip, deflate", OURS),
        ("issue 3.4 more than it", "Accept-Encoding: gzip, deflate, br, zstd", OURS),
        ("issue 3.4 refuses br, we decode", "Accept-Encoding: gzip, br;q=0", OURS),
        ("issue 3.4 a star but identity", "Accept-Encoding: identity;q=1, *;q=0", OURS),
        ("issue 3.4 the same already, so known as asked for", "Accept-Encoding: br, gzip;q=0.9, zstd", OURS),
        ("9110 12.5.3 identity refused", "Accept-Encoding: gzip, identity;q=0", None),
        ("9110 12.5.3 all refused", "Accept-Encoding: *;q=0", None),
        ("9110 12.5.3 malformed", "Accept-Encoding: gzip;q=9", None),
        ("9111 5.2.1.6 no-transform", "Cache-Control: no-transform", None),
        ("9111 5.2.1.6 among others", "Cache-Control: max-age=0, No-Transform", None),
        ("9111 5.2.1.4 no-cache does not matter", "Cache-Control: no-cache", OURS),
        ("9110 14.2 range", "Range: bytes=0-1", None),
        ("9110 13.1.5 If-Range", 'If-Range: "x"', None),
        ("9530 4 wants a digest", "Want-Repr-Digest: sha-256=1", None),
        ("9530 4 wants a digest", "Want-Content-Digest: sha-256=1", None),
        ("3230 4.3.1 wants a digest", "Want-Digest: sha-256", None),
        ("3229 10.5.3 delta", "A-IM: vcdiff", None),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_upgrade(rfc: str, text: str, expected: str | None, method: str) -> None:
    assert upgraded_accept_encoding(asked(text, method), ALL) == expected


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "QUERY", "get"])
def test_other_methods_are_left_alone(method: str) -> None:
    assert upgraded_accept_encoding(asked("", method), ALL) is None


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        ((), None),
        (("identity",), None),
        (("gzip",), "gzip"),
        (("gzip", "br", "zstd"), "zstd, br, gzip"),
        (("compress", "br"), "br"),
    ],
)
def test_only_what_we_can_decode_is_asked_for(available: tuple[str, ...], expected: str | None) -> None:
    assert upgraded_accept_encoding(asked(""), available) == expected


def test_a_range_may_be_looked_up_among_what_an_upgrade_stored() -> None:
    request = asked('Range: bytes=0-1 | If-Range: "x"')
    assert upgraded_accept_encoding(request, ALL, for_lookup=True) == OURS
    assert upgraded_accept_encoding(asked("Cache-Control: no-transform"), ALL, for_lookup=True) is None


@given(VALUES)
def test_upgrading_twice_is_once(value: str) -> None:
    first = upgraded_accept_encoding(asked(f"Accept-Encoding: {value}"), ALL)
    assert first is None or upgraded_accept_encoding(asked(f"Accept-Encoding: {first}"), ALL) == first
