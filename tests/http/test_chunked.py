"""The chunked coding: strict, and the same however the bytes are cut."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.errors import SyntaxFault
from cacheproxy.http.chunked import LAST_CHUNK, ChunkedDecoder, encode_chunk

Result = tuple[bytes, bool, bytes]

GOOD: list[tuple[str, bytes, Result]] = [
    ("7.1 empty", b"0\r\n\r\n", (b"", True, b"")),
    ("7.1 one", b"5\r\nhello\r\n0\r\n\r\n", (b"hello", True, b"")),
    ("7.1 two", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", (b"hello", True, b"")),
    (
        "7.1 hex in any case",
        b"a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n",
        (b"01234567890123456789a", True, b""),
    ),
    ("7.1 leading zeros", b"0005\r\nhello\r\n000\r\n\r\n", (b"hello", True, b"")),
    ("7.1 CRLF as data", b"2\r\n\r\n\r\n0\r\n\r\n", (b"\r\n", True, b"")),
    ("7.1 the next message stays", b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n", (b"", True, b"GET / HTTP/1.1\r\n\r\n")),
    ("7.1 unfinished", b"5\r\nhel", (b"hel", False, b"")),
    ("7.1 no last chunk", b"5\r\nhello\r\n", (b"hello", False, b"")),
    ("7.1.1 extensions", b'5;a;b=c;d="e;\\"";\t f = g\r\nhello\r\n0;x\r\n\r\n', (b"hello", True, b"")),
    ("7.1.2 trailers", b"5\r\nhello\r\n0\r\nX: y\r\nZ:\r\n\r\n", (b"hello", True, b"")),
]
BAD: list[tuple[str, bytes]] = [
    ("7.1 no size", b"\r\nhello\r\n"),
    ("7.1 plus", b"+5\r\nhello\r\n"),
    ("7.1 minus", b"-5\r\nhello\r\n"),
    ("7.1 0x", b"0x5\r\nhello\r\n"),
    ("7.1 underscore", b"5_0\r\nhello\r\n"),
    ("7.1 not hex", b"g\r\nhello\r\n"),
    ("7.1 arabic digit", b"\xd9\xa5\r\nhello\r\n"),
    ("7.1 space before", b" 5\r\nhello\r\n"),
    ("7.1 space behind", b"5 \r\nhello\r\n"),
    ("7.1 VT behind", b"5\x0b\r\nhello\r\n"),
    ("7.1 2^64+5", b"10000000000000005\r\nhello\r\n"),
    ("7.1 bare LF after the size", b"5\nhello\r\n0\r\n\r\n"),
    ("7.1 bare CR after the size", b"5\rhello\r\n"),
    ("7.1 two CRs", b"5\r\r\nhello\r\n"),
    ("7.1 bare LF after the data", b"5\r\nhello\n0\r\n\r\n"),
    ("7.1 data longer than its size", b"5\r\nhello!\r\n0\r\n\r\n"),
    ("7.1 data without an end", b"5\r\nhello0\r\n\r\n"),
    ("7.1 bare LF at the end", b"0\r\n\n"),
    ("7.1.1 LF in an extension", b"5;a\nb\r\nhello\r\n"),
    ("7.1.1 CR in an extension", b"5;a\rb\r\nhello\r\n"),
    ("7.1.1 empty extension", b"5;\r\nhello\r\n"),
    ("7.1.1 open quote", b'5;a="b\r\nhello\r\n'),
    ("7.1.1 NUL in a value", b'5;a="\0"\r\nhello\r\n'),
    ("7.1.1 value without name", b"5;=b\r\nhello\r\n"),
    ("7.1.1 extension too long", b"5;" + b"a" * 5000 + b"\r\nhello\r\n"),
    ("7.1.1 too many extensions", (b"1;" + b"a" * 2000 + b"\r\nx\r\n") * 10),
    ("7.1.1 endless size line", b"5;" + b"a" * 50_000),
    ("7.1.2 trailer without colon", b"0\r\nX\r\n\r\n"),
    ("7.1.2 space before the colon", b"0\r\nX : y\r\n\r\n"),
    ("7.1.2 folded trailer", b"0\r\nX: y\r\n z\r\n\r\n"),
    ("7.1.2 NUL in a trailer", b"0\r\nX: \0\r\n\r\n"),
    ("7.1.2 bare LF in a trailer", b"0\r\nX: y\nZ: z\r\n\r\n"),
    ("7.1.2 too many trailers", b"0\r\n" + b"X: yyyyyyyy\r\n" * 2000),
    ("7.1.2 endless trailer", b"0\r\nX: " + b"y" * 50_000),
]
FRAGMENTS = [
    b"0",
    b"1",
    b"5",
    b"\r\n",
    b"\r",
    b"\n",
    b";a",
    b"=b",
    b'="',
    b"hello",
    b"X:",
    b" ",
    b"x",
    b"\r\n\r\n",
]


def decode(pieces: Iterable[bytes]) -> Result | None:
    """Body, whether it ended, and what follows; None where the decoder refuses."""
    decoder = ChunkedDecoder()
    body = b""
    try:
        for piece in pieces:
            body += b"".join(decoder.feed(piece))
    except SyntaxFault:
        return None
    return body, decoder.finished, decoder.rest


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize(("rfc", "data", "expected"), GOOD, ids=[case[0] for case in GOOD])
def test_valid_bodies_whole_in_bytes_and_cut_anywhere(rfc: str, data: bytes, expected: Result) -> None:
    assert decode([data]) == expected
    assert decode(byte_by_byte(data)) == expected
    for cut in range(len(data) + 1):
        assert decode([data[:cut], data[cut:]]) == expected, cut


@pytest.mark.parametrize(("rfc", "data"), BAD, ids=[case[0] for case in BAD])
def test_broken_bodies_are_faults_however_they_are_cut(rfc: str, data: bytes) -> None:
    assert decode([data]) is None
    assert decode(byte_by_byte(data)) is None
    for cut in range(0, len(data) + 1, max(1, len(data) // 100)):
        assert decode([data[:cut], data[cut:]]) is None, cut


@pytest.mark.parametrize("length", range(4090, 4100))
def test_the_limit_of_a_size_line_does_not_depend_on_the_cut(length: int) -> None:
    line = b"5;" + b"a" * (length - 2) + b"\r\n"
    whole = decode([line])
    assert decode([line[:-1], line[-1:]]) == whole
    assert decode([line[:-2], line[-2:]]) == whole


def test_a_piece_that_is_all_data_is_not_copied() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"ff\r\n")
    piece = b"x" * 100
    assert decoder.feed(piece)[0] is piece


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(b"".join), st.data())
def test_any_bytes_decode_the_same_however_they_are_cut(data: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=4)))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert decode(pieces) == decode([data]) == decode(byte_by_byte(data))


@given(st.lists(st.binary(min_size=1, max_size=40)), st.binary(max_size=5))
def test_bodies_come_back(chunks: list[bytes], rest: bytes) -> None:
    coded = b"".join(map(encode_chunk, chunks)) + LAST_CHUNK + rest
    assert decode([coded]) == decode(byte_by_byte(coded)) == (b"".join(chunks), True, rest)
