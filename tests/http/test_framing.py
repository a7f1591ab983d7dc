"""Where a body ends: anything ambiguous is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.errors import ClientError, SyntaxFault
from cacheproxy.http.framing import CHUNKED, NO_BODY, TO_CLOSE, Framing, request_framing, response_framing
from cacheproxy.http.message import Fields, RequestHead

ODD_LENGTHS = {
    "plus": "+5",
    "minus zero": "-0",
    "negative": "-5",
    "hex": "0x5",
    "underscore": "5_0",
    "arabic digits": "٥",
    "arabic digits as bytes": "\xd9\xa5",
    "superscript two": "²",
    "empty": "",
    "VT before": "\x0b5",
    "NBSP behind": "5\xa0",
    "NEL behind": "5\x85",
    "space inside": "5 0",
    "list": "5, 6",
    "fraction": "5.0",
    "2^64+5": str(2**64 + 5),
    "2^63": str(2**63),
    "5000 digits": "9" * 5000,
}


def length(*values: str) -> list[tuple[str, str]]:
    return [("Content-Length", value) for value in values]


def coding(*values: str) -> list[tuple[str, str]]:
    return [("Transfer-Encoding", value) for value in values]


def framing_of(lines: list[tuple[str, str]], version: tuple[int, int] = (1, 1)) -> Framing | int:
    """The framing of a request with `lines`, or the status that refuses it and closes."""
    try:
        return request_framing(RequestHead("POST", "/", version, Fields(lines)))
    except ClientError as error:
        assert error.close
        return error.status


@pytest.mark.parametrize(
    ("rfc", "lines", "expected"),
    [
        ("9112 6.3 neither", [], NO_BODY),
        ("9112 6.3 zero", length("0"), NO_BODY),
        ("9112 6.3 length", length("5"), Framing(length=5)),
        ("9110 8.6 leading zeros", length("0005"), Framing(length=5)),
        ("9112 7.1 chunked", coding("chunked"), CHUNKED),
        ("9112 7 any case", coding("CHUNKED"), CHUNKED),
        ("9112 6.3 CL and TE", length("5") + coding("chunked"), 400),
        ("9112 6.3 TE and CL", coding("chunked") + length("5"), 400),
        ("9112 6.3 CL 0 and TE", length("0") + coding("chunked"), 400),
        ("9112 6.3 CL and TE identity", length("5") + coding("identity"), 400),
        ("9112 6.3 two lengths", length("5", "6"), 400),
        ("9112 6.3 equal lengths twice", length("5", "5"), 400),
        ("9112 6.3 equal lengths in a list", length("5, 5"), 400),
        ("9112 6.1 TE twice", coding("chunked", "chunked"), 400),
        ("9112 6.1 TE on two lines", coding("gzip", "chunked"), 400),
        ("9112 6.1 chunked twice", coding("chunked, chunked"), 400),
        ("9112 6.1 chunked not last", coding("chunked, gzip"), 400),
        ("9112 6.1 chunked, identity", coding("chunked, identity"), 400),
        ("9112 6.1 empty", coding(""), 400),
        ("9112 6.1 trailing comma", coding("chunked,"), 400),
        ("9112 6.1 leading comma", coding(",chunked"), 400),
        ("9112 6.1 gzip first", coding("gzip, chunked"), 501),
        ("9112 6.1 unknown", coding("xchunked"), 501),
        ("9112 6.1 identity", coding("identity"), 501),
        ("9112 6.1 quoted", coding('"chunked"'), 501),
        ("9112 6.1 parameter", coding("chunked;q=1"), 501),
        ("9112 6.1 VT padded", coding("\x0bchunked"), 501),
        ("9112 6.1 NBSP padded", coding("chunked\xa0"), 501),
    ],
)
def test_requests(rfc: str, lines: list[tuple[str, str]], expected: Framing | int) -> None:
    made = framing_of(lines)
    assert made == expected
    assert isinstance(made, int) or made.is_empty == (made == NO_BODY)


def test_a_coding_in_1_0_is_refused() -> None:
    """RFC 9112 §6.1."""
    assert framing_of(coding("chunked"), (1, 0)) == 400
    with pytest.raises(SyntaxFault):
        response_framing(200, "GET", Fields(coding("chunked")), (1, 0))


@pytest.mark.parametrize("value", ODD_LENGTHS.values(), ids=ODD_LENGTHS)
def test_odd_lengths_are_refused(value: str) -> None:
    """RFC 9110 §8.6."""
    assert framing_of(length(value)) == 400
    for method, status in [("GET", 200), ("HEAD", 200), ("GET", 304)]:
        with pytest.raises(SyntaxFault):
            response_framing(status, method, Fields(length(value)), (1, 1))


@pytest.mark.parametrize(
    ("rfc", "method", "status", "lines", "expected"),
    [
        ("9112 6.3.1 HEAD", "HEAD", 200, length("5"), NO_BODY),
        ("9112 6.3.1 HEAD chunked", "HEAD", 200, coding("chunked"), NO_BODY),
        ("9112 6.3.1 204", "GET", 204, length("5"), NO_BODY),
        ("9112 6.3.1 304", "GET", 304, length("5"), NO_BODY),
        ("9112 6.3.4 chunked", "GET", 200, coding("Chunked"), CHUNKED),
        ("9112 6.3.6 length", "GET", 200, length("5"), Framing(length=5)),
        ("9112 6.3.6 empty", "GET", 200, length("0"), NO_BODY),
        ("9112 6.3.8 to the end", "GET", 200, [], TO_CLOSE),
        ("9110 8.6 equal lengths", "GET", 200, length("5", "5"), Framing(length=5)),
        ("9110 8.6 equal in a list", "GET", 200, length("5, 5"), Framing(length=5)),
        ("9112 6.3.5 differing lengths", "GET", 200, length("5", "6"), None),
        ("9112 6.3.5 differing spelling", "GET", 200, length("5", "05"), None),
        ("9112 6.3.3 both", "GET", 200, length("5") + coding("chunked"), None),
        ("9112 6.3.4 unknown coding", "GET", 200, coding("gzip"), None),
        ("9112 6.3.4 gzip, chunked", "GET", 200, coding("gzip, chunked"), None),
        ("9112 6.3.4 chunked twice", "GET", 200, coding("chunked", "chunked"), None),
        ("9112 6.3.4 empty", "GET", 200, coding(""), None),
    ],
)
def test_responses(
    rfc: str, method: str, status: int, lines: list[tuple[str, str]], expected: Framing | None
) -> None:
    if expected is None:
        with pytest.raises(SyntaxFault):
            response_framing(status, method, Fields(lines), (1, 1))
    else:
        assert response_framing(status, method, Fields(lines), (1, 1)) == expected


@given(st.integers(0, 2**62))
def test_lengths_come_back(number: int) -> None:
    assert framing_of(length(str(number))) == Framing(length=number)


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=5), max_size=2), st.booleans())
def test_any_text_is_a_framing_or_refused(values: list[str], is_coding: bool) -> None:
    lines = coding(*values) if is_coding else length(*values)
    assert framing_of(lines) in (400, 501) or isinstance(framing_of(lines), Framing)
    try:
        response_framing(200, "GET", Fields(lines), (1, 1))
    except SyntaxFault:
        pass
