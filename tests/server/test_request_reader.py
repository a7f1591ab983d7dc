"""Requests off the wire: split anywhere, pipelined, refused as early as they can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.errors import ClientError
from cacheproxy.http.framing import request_framing
from cacheproxy.http.head import HeadLimits
from cacheproxy.server.request_reader import RequestReader

POST = b"POST http://h/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"PUT http://h/b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
GET = b"\r\nGET http://h/c HTTP/1.1\r\nHost: h\r\n\r\n"


def read_all(reader: RequestReader, pieces: list[bytes]) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    body = None
    for piece in pieces:
        reader.feed(piece)
        while True:
            if body is None:
                head = reader.next_head()
                if head is None:
                    break
                found.append((head.request_target, b""))
                body = reader.body(request_framing(head))
            found[-1] = (found[-1][0], found[-1][1] + body.take())
            if not body.is_complete:
                break
            body = None
    return found


def test_pipelined_requests_however_they_are_cut() -> None:
    raw = POST + CHUNKED + GET
    expected = [("http://h/a", b"hello"), ("http://h/b", b"hello"), ("http://h/c", b"")]
    for size in (1, 2, 3, 7, 50, len(raw)):
        pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
        assert read_all(RequestReader(HeadLimits()), pieces) == expected
    for cut in range(len(raw)):
        assert read_all(RequestReader(HeadLimits()), [raw[:cut], raw[cut:]]) == expected


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET /\r\n", 400),
        (b"GET http://h/ HTTP/2.0\r\n", 505),
        (b"GET http://h/ HTTP/1.1\n", 400),
        (b"GET http://h/ HTTP/1.1\r\nHost: h\n", 400),
        (b"\r\n" * 6, 400),
        (b"\nGET http://h/ HTTP/1.1\r\n\r\n", 400),
        (b" GET http://h/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://h/" + b"a" * 13_000, 414),
        (b"GET http://h/ HTTP/1.1\r\nX: " + b"a" * 66_000, 431),
    ],
)
def test_hopeless_beginnings_are_refused_before_they_end(raw: bytes, status: int) -> None:
    reader = RequestReader(HeadLimits())
    reader.feed(raw)
    with pytest.raises(ClientError) as caught:
        reader.next_head()
    assert caught.value.status == status
    assert caught.value.close


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_bytes_give_a_head_or_a_client_error(pieces: list[bytes]) -> None:
    reader = RequestReader(HeadLimits())
    try:
        for piece in pieces:
            reader.feed(piece)
            reader.next_head()
    except ClientError as error:
        assert 400 <= error.status < 600
