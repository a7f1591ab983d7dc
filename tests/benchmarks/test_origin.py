"""The origin counts exactly what arrives, and its answers are those of RFC 9110."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.savings.answers import accepted, answer, ranges_of
from benchmarks.savings.bodies import CODINGS, decoded, encoded
from benchmarks.savings.checking import Check, Head
from benchmarks.savings.origin import Origin
from benchmarks.savings.resources import Resource, entity_tag

FILE = Resource("/file/1", 150_000, fields=(("X-More", "1"),))
TEXT = Resource("/text/1", 40_000, text=True)
NOW, EPOCH = 1_800_000_000.0, 1_790_000_000.0


async def received(origin: Origin, *heads: str) -> bytes:
    """Everything that comes for some requests on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
    writer.write("".join(heads).encode())
    writer.write_eof()
    data = await reader.read()
    writer.close()
    return data


def get(path: str, *fields: str) -> str:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: o", *fields]) + "\r\n\r\n"


async def test_counts_every_byte_of_heads_and_bodies() -> None:
    async with Origin() as origin:
        origin.catalogue.add([FILE, TEXT])
        data = await received(
            origin,
            get(FILE.path),
            get(FILE.path, "Range: bytes=10-19"),
            get(FILE.path, "Range: bytes=0-9, 100-109"),
            get(FILE.path, f"If-None-Match: {entity_tag(FILE.body(0), '')}"),
            get(TEXT.path, "Accept-Encoding: gzip"),
            get("/nothing"),
            get("/t/7/1234"),
        )
        assert origin.sent.bytes == len(data)
        assert origin.sent.requests == 7
        assert origin.sent.not_modified == 1
        assert sum(origin.sent.by_label.values()) == len(data)
        # 150,000 whole, 10 of a range, a multipart with 20 and its frame, nothing for 304 and 404.
        assert data.count(b"HTTP/1.1 ") == 7
        assert origin.sent.body_bytes == len(data) - _heads(data)


def _heads(data: bytes) -> int:
    """Bytes of the status lines and fields."""
    found = 0
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        found += len(head) + 4
        length = Head.parse(head).fields.get("content-length", "0")
        data = data[int(length) :]
    return found


async def test_counts_nothing_that_was_not_sent_when_the_peer_leaves() -> None:
    async with Origin() as origin:
        origin.catalogue.add([large := Resource("/file/2", 8_000_000, rate=50_000_000)])
        reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
        writer.write(get(large.path).encode())
        await reader.readexactly(100_000)
        writer.transport.abort()
        await origin.idle(quiet_s=0.05)
        assert 100_000 <= origin.sent.bytes < 8_000_000


async def test_an_origin_that_is_down_says_so_or_nothing() -> None:
    async with Origin() as origin:
        origin.catalogue.add([FILE])
        origin.down = "503"
        assert (await received(origin, get(FILE.path))).startswith(b"HTTP/1.1 503 ")
        origin.down = "reset"
        assert await received(origin, get(FILE.path)) == b""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        ("", ""),
        ("identity", ""),
        ("identity;q=1, *;q=0", ""),
        ("gzip", "gzip"),
        ("gzip;q=0", ""),
        ("gzip, deflate, br", CODINGS[0]),
        ("GZIP ;q=0.5", "gzip"),
        ("*", CODINGS[0]),
    ],
)
def test_chooses_a_coding_that_is_allowed(value: str | None, expected: str) -> None:
    assert accepted(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-9", [(0, 10)]),
        ("bytes=90-", [(90, 100)]),
        ("bytes=-10", [(90, 100)]),
        ("bytes=0-0, 50-500", [(0, 1), (50, 100)]),
        ("bytes=100-", []),
        ("bytes=-", None),
        ("items=0-9", None),
    ],
)
def test_reads_ranges(value: str, expected: list[tuple[int, int]] | None) -> None:
    assert ranges_of(value, 100) == expected


def test_if_range_with_another_tag_gives_the_whole() -> None:
    fields = {"range": "bytes=0-9", "if-range": '"other"'}
    assert answer(FILE, 0, "", fields, NOW, EPOCH).status == 200
    fields["if-range"] = entity_tag(FILE.body(0), "")
    assert answer(FILE, 0, "", fields, NOW, EPOCH).status == 206


def test_every_version_variant_and_coding_has_bytes_of_its_own() -> None:
    assert FILE.body(0).read(0, 100) != FILE.body(1).read(0, 100)
    assert FILE.body(0).read(65_000, 66_000) == FILE.body(0).read(0, 150_000)[65_000:66_000]
    assert FILE.variant("utm_source=a&id=1", {}) == FILE.variant("id=1&gclid=x", {}) != FILE.variant("id=2", {})
    assert len({entity_tag(TEXT.body(0), coding) for coding in ("", *CODINGS)}) == 1 + len(CODINGS)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_coded_answer_decodes_to_the_plain_body(coding: str) -> None:
    reply = answer(TEXT, 0, "", {"accept-encoding": coding}, NOW, EPOCH)
    assert ("Content-Encoding", coding) in reply.fields
    check = Check(lambda: [TEXT.body(0)], codings=frozenset({coding}))
    check.begin(Head(200, {"content-encoding": coding}))
    check.feed(encoded(TEXT.body(0), coding))
    assert check.finish() == ""
    assert decoded(b"not that", coding) is None


def test_the_check_sees_wrong_bytes_a_splice_and_a_short_body() -> None:
    old, new = FILE.body(0), FILE.body(1)
    spliced = Check(lambda: [old, new])
    spliced.begin(Head(200, {}))
    spliced.feed(old.read(0, 1000))
    spliced.feed(new.read(1000, 150_000))
    assert "wrong bytes" in spliced.finish()
    short = Check(lambda: [old])
    short.begin(Head(200, {}))
    short.feed(old.read(0, 1000))
    assert "as if whole" in short.finish()
    coded = Check(lambda: [old])
    coded.begin(Head(200, {"content-encoding": "gzip"}))
    assert "does not take" in coded.problem
