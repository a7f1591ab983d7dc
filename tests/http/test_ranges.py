"""Byte ranges."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.http.ranges import (
    MAX_RANGES,
    ByteSpec,
    ContentRange,
    Slice,
    format_content_range,
    parse_content_range,
    parse_range,
    parse_unsatisfied,
    satisfiable,
)

SPECS = st.one_of(
    st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda pair: ByteSpec(min(pair), max(pair))),
    st.builds(ByteSpec, st.integers(0, 50), st.none()),
    st.builds(ByteSpec, st.none(), st.integers(0, 50)),
)


def text_of(spec: ByteSpec) -> str:
    return f"{'' if spec.first is None else spec.first}-{'' if spec.last is None else spec.last}"


@pytest.mark.parametrize(
    ("rfc", "value", "expected"),
    [
        ("9110 14.1.2", "bytes=0-499", [(0, 499)]),
        ("9110 14.1.2", "bytes=500-", [(500, None)]),
        ("9110 14.1.2", "bytes=-500", [(None, 500)]),
        ("9110 14.1.2", "bytes=0-0,-1", [(0, 0), (None, 1)]),
        ("9110 14.1.2", "bytes= 0-0 , ,\t2-2", [(0, 0), (2, 2)]),
        ("9110 14.1 any case", "Bytes=0-0", [(0, 0)]),
        ("9110 14.2 other unit", "lines=0-1", None),
        ("9110 14.1.1 last before first", "bytes=5-4", None),
        ("9110 14.1.1 one bad spoils all", "bytes=0-0,5-4", None),
        ("9110 14.1.1", "bytes", None),
        ("9110 14.1.1", "bytes=", None),
        ("9110 14.1.1", "bytes=-", None),
        ("9110 14.1.1", "bytes=--1", None),
        ("9110 14.1.1", "bytes=1", None),
        ("9110 14.1.1", "bytes=a-b", None),
        ("9110 14.1.1", "bytes=+1-2", None),
        ("9110 14.1.1", "bytes=0x1-2", None),
        ("9110 14.1.1", "bytes=1 - 2", None),
        ("9110 14.1.1 arabic", "bytes=٠-٥", None),
        ("9110 14.1.1 superscript", "bytes=0-²", None),
        ("9110 14.1.1 overflow", "bytes=0-" + "9" * 50, None),
        ("9110 14.2 as many as allowed", "bytes=" + ",".join(["0-0"] * MAX_RANGES), [(0, 0)] * MAX_RANGES),
        ("9110 14.2 too many", "bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)), None),
    ],
)
def test_range(rfc: str, value: str, expected: list[tuple[int | None, int | None]] | None) -> None:
    assert parse_range(value) == (None if expected is None else [ByteSpec(*pair) for pair in expected])


@pytest.mark.parametrize(
    ("value", "length", "expected"),
    [
        ("bytes=0-4", 10, [(0, 5)]),
        ("bytes=5-99", 10, [(5, 10)]),
        ("bytes=9-", 10, [(9, 10)]),
        ("bytes=10-", 10, []),
        ("bytes=-3", 10, [(7, 10)]),
        ("bytes=-99", 10, [(0, 10)]),
        ("bytes=-0", 10, []),
        ("bytes=0-", 0, []),
        ("bytes=5-6,0-0,99-", 10, [(5, 7), (0, 1)]),
    ],
)
def test_satisfiable(value: str, length: int, expected: list[tuple[int, int]]) -> None:
    """RFC 9110 §14.1.2."""
    specs = parse_range(value)
    assert specs is not None
    assert satisfiable(specs, length) == [Slice(*pair) for pair in expected]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes 0-4/10", ContentRange(0, 5, 10)),
        ("BYTES 9-9/10", ContentRange(9, 10, 10)),
        ("bytes 0-4/*", ContentRange(0, 5, None)),
        ("bytes 4-9/9", None),
        ("bytes 5-4/10", None),
        ("bytes */10", None),
        ("bytes 0-4", None),
        ("bytes=0-4/10", None),
        ("bytes  0-4/10", None),
        ("bytes 0-4/+10", None),
        ("bytes 0-٤/10", None),
        ("lines 0-4/10", None),
        ("bytes 0-4/10, bytes 5-9/10", None),
        ("bytes 0-" + "9" * 30 + "/*", None),
    ],
)
def test_content_range(value: str, expected: ContentRange | None) -> None:
    """RFC 9110 §14.4."""
    assert parse_content_range(value) == expected


@pytest.mark.parametrize(("value", "length"), [("bytes */10", 10), ("bytes */*", None), ("bytes 0-1/10", None)])
def test_unsatisfied(value: str, length: int | None) -> None:
    """RFC 9110 §14.4, §15.5.17."""
    assert parse_unsatisfied(value) == length


@given(st.lists(SPECS, min_size=1, max_size=MAX_RANGES))
def test_ranges_come_back(specs: list[ByteSpec]) -> None:
    assert parse_range("bytes=" + ",".join(map(text_of, specs))) == specs


@given(st.lists(SPECS, max_size=MAX_RANGES), st.integers(0, 60))
def test_slices_lie_inside_and_say_what_was_asked(specs: list[ByteSpec], length: int) -> None:
    body = list(range(length))
    for part in satisfiable(specs, length):
        assert 0 <= part.start < part.end <= length
        assert part.length == len(body[part.start : part.end])


@given(st.integers(1, 100), st.lists(st.integers(1, 99), max_size=10, unique=True))
def test_adjacent_slices_add_up_to_the_body(length: int, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < length), length]
    specs = [ByteSpec(start, end - 1) for start, end in pairwise(edges)]
    body = bytes(range(length))
    assert b"".join(body[part.start : part.end] for part in satisfiable(specs, length)) == body


@given(st.integers(0, 2**60), st.integers(1, 2**60), st.integers(0, 2**60))
def test_content_ranges_come_back(start: int, size: int, behind: int) -> None:
    length = start + size + behind
    text = format_content_range(Slice(start, start + size), length)
    assert parse_content_range(text) == ContentRange(start, start + size, length)


@given(st.text() | st.text("bytes= 0123456789-/*,"))
def test_any_text_is_read_or_ignored(text: str) -> None:
    for value in (text, "bytes=" + text, "bytes " + text):
        specs = parse_range(value)
        assert specs is None or 0 < len(specs) <= MAX_RANGES
        found = parse_content_range(value)
        assert found is None or 0 <= found.start < found.end
        parse_unsatisfied(value)
