"""Responses fed whole, byte by byte, and cut at every offset give the same events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.errors import SyntaxFault
from cacheproxy.upstream.response_parser import Data, End, Event, Final, Incomplete, Interim, ResponseParser

WHOLE = [
    ("length", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    (
        "chunked",
        "GET",
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;a="b"\r\nlo\r\n0\r\nT: 1\r\n\r\n',
        b"hello",
    ),
    ("head", "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b""),
    ("204", "GET", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ("304", "GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
    (
        "interim",
        "GET",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"x",
    ),
    ("no reason", "GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b""),
    ("equal lengths", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
]


def summary(events: list[Event]) -> tuple[list[int], bytes, bool]:
    statuses = [event.head.status for event in events if isinstance(event, Interim | Final)]
    body = b"".join(event.piece for event in events if isinstance(event, Data))
    return statuses, body, bool(events) and isinstance(events[-1], End)


@pytest.mark.parametrize(
    ("method", "raw", "body"), [case[1:] for case in WHOLE], ids=[case[0] for case in WHOLE]
)
def test_same_events_however_the_bytes_arrive(method: str, raw: bytes, body: bytes) -> None:
    results = []
    for size in (len(raw), 1, *range(2, len(raw))):
        parser = ResponseParser()
        parser.start(method)
        events = [event for at in range(0, len(raw), size) for event in parser.feed(raw[at : at + size])]
        results.append(summary(events))
        assert not parser.has_surplus
    assert len({repr(result) for result in results}) == 1
    assert results[0][1:] == (body, True)


@pytest.mark.parametrize(
    ("method", "raw", "body"), [case[1:] for case in WHOLE], ids=[case[0] for case in WHOLE]
)
def test_every_cut_is_incomplete(method: str, raw: bytes, body: bytes) -> None:
    for cut in range(len(raw)):
        parser = ResponseParser()
        parser.start(method)
        parser.feed(raw[:cut])
        with pytest.raises(Incomplete):
            parser.feed_eof()


@pytest.mark.parametrize("raw", [case[2] for case in WHOLE], ids=[case[0] for case in WHOLE])
def test_surplus_is_told_and_dropped(raw: bytes) -> None:
    method = "HEAD" if raw == WHOLE[2][2] else "GET"
    parser = ResponseParser()
    parser.start(method)
    events = parser.feed(raw + b"HTTP/1.1 200 OK\r\n\r\n")
    assert isinstance(events[-1], End)
    assert parser.has_surplus
    idle = ResponseParser()
    assert idle.feed(b"x") == []
    assert idle.has_surplus


def test_to_close_ends_with_the_connection() -> None:
    parser = ResponseParser()
    parser.start("GET")
    parser.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert parser.feed_eof() == [End()]


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"HTTP/1.1 20 X\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 140_000,
    ],
)
def test_faults(raw: bytes) -> None:
    parser = ResponseParser()
    parser.start("GET")
    with pytest.raises(SyntaxFault):
        parser.feed(raw)


@given(st.binary(max_size=300), st.sampled_from(["GET", "HEAD"]))
def test_any_bytes_give_events_or_a_fault(raw: bytes, method: str) -> None:
    parser = ResponseParser()
    parser.start(method)
    try:
        parser.feed(b"HTTP/1.1 200 OK\r\n" + raw)
        parser.feed_eof()
    except SyntaxFault:
        pass
