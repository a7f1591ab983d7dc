"""Parts: may one be stored, may it be joined."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching.combining import (
    Differs,
    Joins,
    StorePart,
    decide_part,
    judge,
    part_fields,
    range_validator,
)
from cacheproxy.caching.entry import Timing
from cacheproxy.http.cache_control import parse_request_directives
from cacheproxy.http.message import Fields
from cacheproxy.http.ranges import Slice
from tests.caching.build import NOW, OPTIONS, at, fields, request, response, stored

OLD = f"Last-Modified: {at(-3600)}"
YOUNG = f"Last-Modified: {at(-59)}"
DATE = f"Date: {at(0)}"
TAG = 'ETag: "1"'
FRESH = "Cache-Control: max-age=60"


@pytest.mark.parametrize(
    ("rfc", "text", "status", "validator"),
    [
        ("9110 13.1.5 strong tag", TAG, 200, '"1"'),
        ("9110 13.1.5 weak tag", 'ETag: W/"1"', 200, None),
        ("9110 13.1.5 weak tag, old date", f'ETag: W/"1" | {OLD} | {DATE}', 200, None),
        ("9110 8.8.3 two tags", f'{TAG} | ETag: "2" | {OLD} | {DATE}', 200, None),
        ("9110 8.8.2.2 old date", f"{OLD} | {DATE}", 200, at(-3600)),
        ("9110 8.8.2.2 a minute", f"Last-Modified: {at(-60)} | {DATE}", 200, at(-60)),
        ("9110 8.8.2.2 less", f"{YOUNG} | {DATE}", 200, None),
        ("9110 8.8.2.2 no Date", OLD, 200, None),
        ("9110 8.8.2.2 two Dates", f"{OLD} | {DATE} | {DATE}", 200, None),
        ("9110 8.8.2.2 no date at all", f"Last-Modified: yesterday | {DATE}", 200, None),
        ("9110 8.8 nothing", DATE, 200, None),
        ("9111 3.3 only a 200", TAG, 404, None),
    ],
)
def test_range_validator(rfc: str, text: str, status: int, validator: str | None) -> None:
    assert range_validator(stored(text, status=status)) == validator


@pytest.mark.parametrize(
    ("start", "end", "value"), [(0, 1, "bytes=0-0"), (5, 10, "bytes=5-9"), (7, None, "bytes=7-")]
)
def test_part_fields(start: int, end: int | None, value: str) -> None:
    made = part_fields(fields("Accept: x"), stored(TAG), start, end)
    assert made == fields(f'Accept: x | Range: {value} | If-Range: "1"')


HELD = stored(f"{TAG} | {DATE} | {FRESH}", length=100)._replace(held=(Slice(0, 10),))
UNKNOWN = HELD._replace(length=None, held=(Slice(0, 10), Slice(50, 60)))
DATED = stored(f"{OLD} | {DATE}", length=100)._replace(held=(Slice(0, 10),))
CODED = stored(f"{TAG} | Content-Encoding: gzip", length=100)._replace(held=(Slice(0, 10),))
TO_END = "Content-Range: bytes 10-99/100"


@pytest.mark.parametrize(
    ("rfc", "text", "joins"),
    [
        ("9110 15.3.7", f"{TAG} | {TO_END}", (10, 100)),
        ("9110 15.3.7 with its length", f"{TAG} | {TO_END} | Content-Length: 90", (10, 100)),
        ("9110 14.4 unknown complete length", f"{TAG} | Content-Range: bytes 10-99/*", (10, 100)),
        ("9110 15.3.7 less than asked", f"{TAG} | Content-Range: bytes 10-19/100", (10, 20)),
        ("9110 15.3.7.3 another tag", f'ETag: "2" | {TO_END}', None),
        ("9110 15.3.7.3 the tag weak", f'ETag: W/"1" | {TO_END}', None),
        ("9110 15.3.7.3 two tags", f'{TAG} | ETag: "2" | {TO_END}', None),
        ("9110 15.3.7.3 no tag", TO_END, None),
        ("9110 14.4 other start", f"{TAG} | Content-Range: bytes 11-99/100", None),
        ("9110 14.4 earlier start", f"{TAG} | Content-Range: bytes 9-99/100", None),
        ("9110 14.4 other complete length", f"{TAG} | Content-Range: bytes 10-99/101", None),
        ("9110 14.4 beyond the end", f"{TAG} | Content-Range: bytes 10-100/*", None),
        ("9110 14.4 missing", TAG, None),
        ("9110 14.4 unsatisfied", f"{TAG} | Content-Range: bytes */100", None),
        ("9110 14.4 malformed", f"{TAG} | Content-Range: bytes 10-99", None),
        ("9110 14.4 two", f"{TAG} | {TO_END} | {TO_END}", None),
        ("9110 14.4 other unit", f"{TAG} | Content-Range: lines 10-99/100", None),
        ("9110 14.4 backwards", f"{TAG} | Content-Range: bytes 10-9/100", None),
        ("9110 8.6 length contradicts", f"{TAG} | {TO_END} | Content-Length: 89", None),
        ("9110 15.3.7.2 several parts", f"{TAG} | Content-Type: multipart/byteranges; boundary=x", None),
        ("9110 15.3.7.2 both", f"{TAG} | {TO_END} | Content-Type: Multipart/Byteranges; boundary=x", None),
        ("issue 3 coded", f"{TAG} | {TO_END} | Content-Encoding: gzip", None),
    ],
)
def test_judge(rfc: str, text: str, joins: tuple[int, int] | None) -> None:
    verdict = judge(HELD, 10, None, response(text, 206))
    assert (
        isinstance(verdict, Differs)
        if joins is None
        else verdict == Joins(Slice(*joins), None if "/*" in text else 100)
    )


def test_judge_by_date() -> None:
    """RFC 9110 §8.8.2.2: the same strong date joins, no date or a new tag does not."""
    assert isinstance(judge(DATED, 10, 100, response(f"{OLD} | {TO_END}", 206)), Joins)
    assert isinstance(judge(DATED, 10, 100, response(TO_END, 206)), Differs)
    assert isinstance(judge(DATED, 10, 100, response(f"{OLD} | {TAG} | {TO_END}", 206)), Differs)
    assert isinstance(judge(DATED, 10, 100, response(f"Last-Modified: {at(-7200)} | {TO_END}", 206)), Differs)


def test_judge_by_coding() -> None:
    """A part must be said to be of the same coding: some servers send parts uncoded under the same tag."""
    assert isinstance(
        judge(CODED, 10, 100, response(f"{TAG} | {TO_END} | Content-Encoding: x-gzip", 206)), Joins
    )
    assert isinstance(judge(CODED, 10, 100, response(f"{TAG} | {TO_END}", 206)), Differs)
    assert isinstance(judge(CODED, 10, 100, response(f"{TAG} | {TO_END} | Content-Encoding: br", 206)), Differs)


def test_judge_asked_end() -> None:
    """RFC 9110 §15.3.7: more than was asked for is not an answer."""
    assert isinstance(judge(HELD, 10, 50, response(f"{TAG} | Content-Range: bytes 10-50/100", 206)), Differs)
    assert judge(HELD, 10, 50, response(f"{TAG} | Content-Range: bytes 10-49/100", 206)) == Joins(
        Slice(10, 50), 100
    )


def test_judge_against_bytes_of_an_unknown_length() -> None:
    """What was here already cannot lie beyond the end."""
    assert isinstance(judge(UNKNOWN, 10, 50, response(f"{TAG} | Content-Range: bytes 10-49/60", 206)), Joins)
    assert isinstance(judge(UNKNOWN, 10, 50, response(f"{TAG} | Content-Range: bytes 10-49/59", 206)), Differs)


@pytest.mark.parametrize(
    ("status", "text", "is_other"),
    [
        (200, TAG, False),
        (200, 'ETag: "2"', True),
        (200, "", True),
        (416, TAG, True),
        (503, "", True),
    ],
)
def test_other_statuses(status: int, text: str, is_other: bool) -> None:
    verdict = judge(HELD, 10, None, response(text, status))
    assert isinstance(verdict, Differs)
    assert verdict.is_other is is_other


PART = f"{TAG} | {DATE} | {FRESH} | Content-Range: bytes 10-19/100 | Content-Length: 10"


def part(asked: str, text: str) -> StorePart | object:
    head = request(asked)
    return decide_part(
        head, parse_request_directives(head.fields), response(text, 206), Timing(NOW, NOW), OPTIONS
    )


@pytest.mark.parametrize(
    ("rfc", "asked", "text", "stored_part"),
    [
        ("9111 3.3", "Range: bytes=10-19", PART, (10, 20)),
        ("9111 3.3 cut short by the end", "Range: bytes=10-900", PART.replace("19/100", "19/20"), (10, 20)),
        ("9111 3.3 to the end", "Range: bytes=10-", PART.replace("19/100", "19/20"), (10, 20)),
        ("9111 3.3 suffix", "Range: bytes=-10", PART.replace("19/100", "19/20"), (10, 20)),
        ("9111 3.3 suffix longer than all", "Range: bytes=-50", f"{TAG} | {FRESH} | Content-Range: bytes 0-9/10", (0, 10)),
        ("9111 3.3 unknown length", "Range: bytes=10-19", PART.replace("/100", "/*"), (10, 20)),
        ("9111 3.3 less than asked", "Range: bytes=10-29", PART, (10, 20)),
        ("9111 3.4 weak", "Range: bytes=10-19", PART.replace('"1"', 'W/"1"'), None),
        ("9111 3.4 no validator", "Range: bytes=10-19", PART.replace("ETag", "X"), None),
        ("9110 15.3.7 not asked", "", PART, None),
        ("9110 15.3.7 other start", "Range: bytes=11-19", PART, None),
        ("9110 15.3.7 more than asked", "Range: bytes=10-18", PART, None),
        ("9110 14.1.2 suffix of the wrong place", "Range: bytes=-10", PART, None),
        ("9110 14.1.2 suffix of unknown length", "Range: bytes=-10", PART.replace("/100", "/*"), None),
        ("9110 15.3.7.2 several", "Range: bytes=10-19,30-39", PART, None),
        ("9110 14.2 not bytes", "Range: lines=10-19", PART, None),
        ("9110 8.6 length contradicts", "Range: bytes=10-19", PART.replace("Length: 10", "Length: 11"), None),
        ("9111 5.2.2.7 private", "Range: bytes=10-19", f"{PART} | Cache-Control: private", None),
        ("9111 5.2.2.5 no-store", "Range: bytes=10-19", f"{PART} | Cache-Control: no-store", None),
        ("9111 5.2.1.5 no-store", "Range: bytes=10-19 | Cache-Control: no-store", PART, None),
        ("9111 3.5 credentials", "Range: bytes=10-19 | Authorization: Basic eA==", PART, None),
        ("9111 4.1 Vary: *", "Range: bytes=10-19", f"{PART} | Vary: *", None),
    ],
)  # fmt: skip
def test_decide_part(rfc: str, asked: str, text: str, stored_part: tuple[int, int] | None) -> None:
    verdict = part(asked, text)
    if stored_part is None:
        assert not isinstance(verdict, StorePart)
        return
    assert isinstance(verdict, StorePart)
    assert verdict.part == Slice(*stored_part)
    # RFC 9111 §3.3: stored as an incomplete 200, whose length is that of the complete one.
    kept = verdict.stored
    assert kept.status == 200
    assert "content-range" not in kept.fields
    assert kept.fields.get("content-length") == (None if kept.length is None else str(kept.length))
    assert range_validator(kept) == '"1"'


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 40), st.integers(0, 30), st.integers(1, 31))
def test_what_joins_is_within_what_was_asked(
    first: int, last: int, complete: int, start: int, size: int
) -> None:
    whole = stored(TAG, length=31)._replace(held=())
    head = response(f"{TAG} | Content-Range: bytes {first}-{last}/{complete}", 206)
    verdict = judge(whole, start, start + size, head)
    if isinstance(verdict, Joins):
        assert (verdict.part.start, verdict.complete) == (start, 31)
        assert start < verdict.part.end <= min(start + size, 31)
        assert (first, last + 1) == (verdict.part.start, verdict.part.end)


@given(st.lists(st.tuples(st.sampled_from(["ETag", "Last-Modified", "Content-Range"]), st.text(max_size=12))))
def test_any_field_is_survived(lines: list[tuple[str, str]]) -> None:
    judge(HELD, 10, None, response("", 206).with_fields(Fields(lines)))
