"""Message heads: what breaks the grammar is refused, and the connection is closed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheproxy.errors import ClientError, SyntaxFault
from cacheproxy.http import head
from cacheproxy.http.head import (
    HeadLimits,
    parse_plain_fields,
    parse_request_head,
    parse_response_head,
    plain_field_names,
)
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.http.names import Names, names_of

LIMITS = HeadLimits(target_bytes=100, field_bytes=60, fields=4)
TOKENS = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8)
VALUES = st.text('\t !~azAZ09,;"\\\x80\xff', max_size=20).map(lambda text: text.strip(" \t"))


def request(line: str = "GET http://h/ HTTP/1.1", *fields: str) -> RequestHead:
    """The head of `line` with a Host and `fields`."""
    return parse_request_head("\r\n".join([line, "Host: h", *fields]).encode("latin-1"), LIMITS)


def refusal(data: bytes) -> int:
    """The status that refuses the head `data`; the connection closes with it."""
    with pytest.raises(ClientError) as caught:
        parse_request_head(data, LIMITS)
    assert caught.value.close
    return caught.value.status


def test_a_request_is_read_as_it_stands() -> None:
    head = parse_request_head(b"GET http://h:80/a?b HTTP/1.1\r\nhOST:h\r\nX: \t a \xe4\t \r\nX:", LIMITS)
    assert (head.method, head.request_target, head.version) == ("GET", "http://h:80/a?b", (1, 1))
    assert list(head.fields) == [("hOST", "h"), ("X", "a \xe4"), ("X", "")]
    assert str(head.target) == "http://h/a?b"


@pytest.mark.parametrize(
    ("rfc", "line", "status"),
    [
        ("9112 2.3 minor above ours", "GET http://h/ HTTP/1.9", (1, 1)),
        ("9112 2.3 1.0", "GET http://h/ HTTP/1.0", (1, 0)),
        ("9112 2.3 0.9", "GET http://h/ HTTP/0.9", 505),
        ("9112 2.3 2.0", "GET http://h/ HTTP/2.0", 505),
        ("9113 3.4 preface", "PRI * HTTP/2.0", 505),
        ("9112 2.3 lower case", "GET http://h/ http/1.1", 400),
        ("9112 2.3 two digits", "GET http://h/ HTTP/1.10", 400),
        ("9112 2.3 no minor", "GET http://h/ HTTP/1", 400),
        ("9112 2.3 other digits", "GET http://h/ HTTP/1.²", 400),
        ("9112 3 no version", "GET http://h/", 400),
        ("9112 3 no target", "GET HTTP/1.1", 400),
        ("9112 3 only a method", "GET", 400),
        ("9112 3 empty", "", 400),
        ("9112 3 two spaces", "GET  http://h/ HTTP/1.1", 400),
        ("9112 3 tab", "GET\thttp://h/ HTTP/1.1", 400),
        ("9112 3 space before", " GET http://h/ HTTP/1.1", 400),
        ("9112 3 space behind", "GET http://h/ HTTP/1.1 ", 400),
        ("9112 3.2 space in the target", "GET http://h/a b HTTP/1.1", 400),
        ("9112 3.2 NBSP in the target", "GET http://h/a\xa0b HTTP/1.1", 400),
        ("9112 3.2 NUL in the target", "GET http://h/\0 HTTP/1.1", 400),
        ("9112 3.1 method no token", "G(T http://h/ HTTP/1.1", 400),
        ("9112 3.1 empty method", " http://h/ HTTP/1.1", 400),
        ("TLS on the port", "\x16\x03\x01\x02", 400),
        ("9112 3.2.1 origin form", "GET /a HTTP/1.1", (1, 1)),
        ("9112 3.2.2 userinfo", "GET http://u@h/ HTTP/1.1", 400),
        ("9112 3.2.2 fragment", "GET http://h/#f HTTP/1.1", 400),
        ("9112 3.2.2 empty host", "GET http:/// HTTP/1.1", 400),
        ("9112 3.2.2 odd port", "GET http://h:65979/ HTTP/1.1", 400),
        ("9112 3.2.2 backslash", "GET http://h\\/ HTTP/1.1", 400),
        ("9112 3.2.2 no URI", "GET h/ HTTP/1.1", 400),
        ("9112 3.2.2 scheme in a host name", "GET http://scheme!/ HTTP/1.1", 400),
        ("9112 3.2.2 ftp", "GET ftp://h/ HTTP/1.1", 501),
        ("9112 3.2.2 file", "GET file:///x HTTP/1.1", 501),
        ("9112 3.2.3 CONNECT", "CONNECT h:443 HTTP/1.1", (1, 1)),
        ("9112 3.2.3 CONNECT without port", "CONNECT h HTTP/1.1", 400),
        ("9112 3.2.3 CONNECT port 0", "CONNECT h:0 HTTP/1.1", 400),
        ("9112 3.2.3 CONNECT big port", "CONNECT h:65979 HTTP/1.1", 400),
        ("9112 3.2.3 CONNECT userinfo", "CONNECT u@h:443 HTTP/1.1", 400),
        ("9112 3.2.3 CONNECT absolute", "CONNECT http://h:443/ HTTP/1.1", 400),
        ("9112 3.2.4 asterisk", "OPTIONS * HTTP/1.1", (1, 1)),
        ("9112 3.2.4 asterisk for GET", "GET * HTTP/1.1", 400),
        ("9110 4.1 target at the limit", f"GET http://h/{'a' * 91} HTTP/1.1", (1, 1)),
        ("9110 15.5.15 target too long", f"GET http://h/{'a' * 92} HTTP/1.1", 414),
    ],
)
def test_request_lines(rfc: str, line: str, status: int | tuple[int, int]) -> None:
    data = f"{line}\r\nHost: h".encode("latin-1")
    if isinstance(status, int):
        assert refusal(data) == status
    else:
        assert parse_request_head(data, LIMITS).version == status


@pytest.mark.parametrize(
    ("rfc", "field"),
    [
        ("9112 2.2 bare LF", b"X: a\nY: b"),
        ("9112 2.2 bare CR", b"X: a\rY: b"),
        ("9112 2.2 CR before CRLF", b"X: a\r"),
        ("9112 2.2 white space first", b" X: a"),
        ("9112 5.1 space before colon", b"X : a"),
        ("9112 5.1 tab before colon", b"X\t: a"),
        ("9112 5.2 obs-fold", b"X: a\r\n b"),
        ("9112 5.2 obs-fold by tab", b"X: a\r\n\tb"),
        ("9112 5 no colon", b"X"),
        ("9112 5 empty line", b""),
        ("9110 5.1 empty name", b": a"),
        ("9110 5.1 8-bit name", b"X\xe9: a"),
        ("9110 5.1 NBSP name", b"X\xa0: a"),
        ("9110 5.1 NUL in name", b"X\0: a"),
        ("9110 5.1 no token", b"X(: a"),
        ("9110 5.5 NUL", b"X: a\0b"),
        ("9110 5.5 vertical tab", b"X: \x0b5"),
        ("9110 5.5 form feed", b"X: a\x0c"),
        ("9110 5.5 DEL", b"X: a\x7f"),
        ("9110 5.5 BEL", b"X: \x07"),
        ("9110 5.5 escape", b"X: \x1b[0m"),
    ],
)
def test_bad_fields(rfc: str, field: bytes) -> None:
    assert refusal(b"GET http://h/ HTTP/1.1\r\nHost: h\r\n" + field + b"\r\nZ: z") == 400
    with pytest.raises(SyntaxFault):
        parse_response_head(b"HTTP/1.1 200 OK\r\n" + field + b"\r\nZ: z", LIMITS)


@pytest.mark.parametrize(
    ("rfc", "line", "hosts", "is_fine"),
    [
        ("9112 3.2 one", "GET http://h/ HTTP/1.1", ["h:80"], True),
        ("9112 3.2.2 differs: the target wins", "GET http://h/ HTTP/1.1", ["other"], True),
        ("9112 3.2 none in 1.0", "GET http://h/ HTTP/1.0", [], True),
        ("9112 3.2 none", "GET http://h/ HTTP/1.1", [], False),
        ("9112 3.2 two", "GET http://h/ HTTP/1.1", ["h", "h"], False),
        ("9112 3.2 two in 1.0", "GET http://h/ HTTP/1.0", ["h", "h"], False),
        ("9112 3.2 a list", "GET http://h/ HTTP/1.1", ["h, h"], False),
        ("9112 3.2 empty", "GET http://h/ HTTP/1.1", [""], False),
        ("9112 3.2 userinfo", "GET http://h/ HTTP/1.1", ["u@h"], False),
        ("9112 3.2 path", "GET http://h/ HTTP/1.1", ["h/a"], False),
        ("9112 3.2 port", "GET http://h/ HTTP/1.1", ["h:x"], False),
        ("9112 3.2 space", "GET http://h/ HTTP/1.1", ["h h"], False),
        ("9112 3.2 also without a target of ours", "OPTIONS * HTTP/1.1", [], False),
        ("9112 3.2 also for CONNECT", "CONNECT h:443 HTTP/1.1", [], False),
    ],
)
def test_host(rfc: str, line: str, hosts: list[str], is_fine: bool) -> None:
    data = "\r\n".join([line, *(f"Host: {host}" for host in hosts)]).encode()
    if is_fine:
        head = parse_request_head(data, LIMITS)
        assert str(head.target) == "http://h/"
    else:
        assert refusal(data) == 400


@pytest.mark.parametrize(
    ("text", "request_target"),
    [("http://h", "*"), ("http://h/", "http://h/"), ("http://h?q", "http://h?q")],
)
def test_options_for_the_whole_server(text: str, request_target: str) -> None:
    """RFC 9112 §3.2.4: an absolute target without path and query reaches the origin as `*`."""
    head = request(f"OPTIONS {text} HTTP/1.1")
    assert head.request_target == request_target
    assert head.target is not None


def test_too_many_or_too_long_fields_are_431() -> None:
    """RFC 6585 §5."""
    start = b"GET http://h/ HTTP/1.1\r\nHost: h"
    assert parse_request_head(start + b"\r\nX: y" * 3, LIMITS)
    assert refusal(start + b"\r\nX: y" * 4) == 431
    assert parse_request_head(start + b"\r\nX: " + b"y" * 57, LIMITS)
    assert refusal(start + b"\r\nX: " + b"y" * 58) == 431


HOSTILE = [b" " * 32_000 + b"\0", b"a" * 32_000 + b"\0", b" a" * 16_000 + b"\0"]


@pytest.mark.parametrize("value", HOSTILE, ids=["spaces", "letters", "words"])
def test_a_hostile_field_costs_linear_time(value: bytes) -> None:
    """reliability.md §7.15: 32 KiB of spaces and a NUL must not hold the loop for seconds."""
    before = time.process_time()
    with pytest.raises(ClientError):
        parse_request_head(b"GET http://h/ HTTP/1.1\r\nHost: h\r\nX:" + value, HeadLimits())
    assert time.process_time() - before < 0.5


@pytest.mark.parametrize(
    ("rfc", "line", "expected"),
    [
        ("9112 4", b"HTTP/1.1 200 OK", (200, "OK", (1, 1))),
        ("9112 4 no phrase", b"HTTP/1.1 404 ", (404, "", (1, 1))),
        ("9112 4 no space", b"HTTP/1.1 404", (404, "", (1, 1))),
        ("9112 4 8-bit phrase", b"HTTP/1.0 200 \xe4", (200, "\xe4", (1, 0))),
        ("9110 15 unknown", b"HTTP/1.1 799 Odd", (799, "Odd", (1, 1))),
        ("9112 2.3", b"HTTP/1.2 200 OK", (200, "OK", (1, 1))),
        ("9112 2.3 major", b"HTTP/2.0 200 OK", None),
        ("9112 2.3 case", b"http/1.1 200 OK", None),
        ("9112 4 ICY", b"ICY 200 OK", None),
        ("9112 4 two digits", b"HTTP/1.1 20 OK", None),
        ("9112 4 four digits", b"HTTP/1.1 2000 OK", None),
        ("9112 4 below 100", b"HTTP/1.1 099 OK", None),
        ("9112 4 signed", b"HTTP/1.1 +20 OK", None),
        ("9112 4 two spaces", b"HTTP/1.1  200 OK", None),
        ("9112 4 control in the phrase", b"HTTP/1.1 200 O\0K", None),
        ("9112 4 bare LF", b"HTTP/1.1 200 OK\nX: y", None),
        ("9112 4 empty", b"", None),
    ],
)
def test_status_lines(rfc: str, line: bytes, expected: tuple[int, str, tuple[int, int]] | None) -> None:
    if expected is None:
        with pytest.raises(SyntaxFault):
            parse_response_head(line, LIMITS)
    else:
        head = parse_response_head(line, LIMITS)
        assert (head.status, head.reason_phrase, head.version) == expected


def test_a_response_with_too_many_fields_is_a_fault() -> None:
    with pytest.raises(SyntaxFault):
        parse_response_head(b"HTTP/1.1 200 OK" + b"\r\nX: y" * 5, LIMITS)


@given(st.integers(100, 999), VALUES, st.lists(st.tuples(TOKENS, VALUES), max_size=4))
def test_responses_come_back(status: int, phrase: str, lines: list[tuple[str, str]]) -> None:
    wire = f"HTTP/1.1 {status} {phrase}" + "".join(f"\r\n{name}: {value}" for name, value in lines)
    head = parse_response_head(wire.encode("latin-1"), LIMITS)
    assert isinstance(head, ResponseHead)
    assert head.wire() == wire.encode("latin-1") + b"\r\n\r\n"


@given(
    st.binary()
    | st.lists(st.sampled_from([b"GET ", b"http://h/", b" HTTP/1.1", b"\r\n", b"\n", b"Host: h", b"a"]))
)
def test_any_bytes_are_a_request_or_a_client_error(data: bytes | list[bytes]) -> None:
    try:
        parse_request_head(data if isinstance(data, bytes) else b"".join(data), LIMITS)
    except ClientError as error:
        assert error.close


@given(st.binary().map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail) | st.binary())
def test_any_bytes_are_a_response_or_a_fault(data: bytes) -> None:
    try:
        parse_response_head(data, LIMITS)
    except SyntaxFault:
        pass


@settings(max_examples=1000, derandomize=True, deadline=None, database=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"A: b",
                b"a:b",
                b" c: d",
                b"X:",
                b":",
                b"e",
                b"\r\n",
                b"\r",
                b"\n",
                b"\t",
                b" ",
                b"\xff",
                b"\x00",
                b"\x7f",
            ]
        )
        | st.binary(max_size=3),
        max_size=12,
    ).map(b"".join)
    | st.lists(
        st.sampled_from([b"A: b", b"a-B:b", b"X:", b"Y: \xe4: c ", b" no", b"n o: x", b"A: b\rc: d"]),
        max_size=6,
    ).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
)
def test_plain_names_are_the_names_of_plain_fields(block: bytes) -> None:
    """One pass over the bytes says what the parser of whole lines says, limits included."""
    limits = HeadLimits(field_bytes=20, fields=3)
    fields = parse_plain_fields(block.decode("latin-1"), limits)
    names = plain_field_names(block + b"\r\n", limits)
    assert (names is None) == (fields is None)
    if fields is not None and names is not None:
        assert names == [name.encode() for name, _ in fields.lines]
        assert list(fields.lines) == head._field_lines(block.decode("latin-1").split("\r\n")[:-1], limits)
        assert fields == Fields(fields.lines)


@settings(max_examples=1500, derandomize=True, deadline=None, database=None)
@given(
    st.lists(st.sampled_from(["A", "b-c", "Date", "X"]), max_size=5),
    st.lists(
        st.sampled_from(
            [
                "1",
                "v w",
                "",
                " v",
                "v ",
                "v\t",
                "\tv",
                "v\x80\xff",
                "v\r",
                "v\n",
                "v\0",
                "v\x7f",
                "v\r\nA: 2",
                "long" * 9,
            ]
        ),
        min_size=6,
        max_size=6,
    ),
    st.sampled_from([": ", ": ", ": ", ":", ":  ", " : "]),
    st.sampled_from([" OK", "", " ", " Two  words", " \xe4", "\t", "\0"]),
    st.sampled_from([(), ("A",), ("a",), ("A", "b-c")]),
)
def test_a_head_alike_is_what_the_parser_says(
    names: list[str], values: list[str], colon: str, phrase: str, others: tuple[str, ...]
) -> None:
    """Whatever names are expected, the head is the same, and so is the fault."""

    def outcome(alike: Names | None) -> ResponseHead | str:
        try:
            return parse_response_head(data, LIMITS, alike)
        except SyntaxFault as fault:
            return str(fault)

    lines = [f"{name}{colon}{value}" for name, value in zip(names, values, strict=False)]
    data = "\r\n".join([f"HTTP/1.1 200{phrase}", *lines]).encode("latin-1")
    plain = outcome(None)
    assert (
        outcome(names_of(tuple(names)))
        == outcome(names_of((*others, *names[1:])))
        == outcome(names_of(others))
        == plain
    )


def test_a_head_alike_is_seen_to_be() -> None:
    data = b'HTTP/1.1 200 OK\r\nDate: now and then\r\nETag: "\xe4"'
    first = parse_response_head(data, LIMITS)
    assert head._parse_alike(data, LIMITS, first.fields.named) == first
    assert head._parse_alike(data, LIMITS, names_of(("Date", "Etag"))) is None
