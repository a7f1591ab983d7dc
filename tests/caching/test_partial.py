"""Which bytes answer a Range request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching.partial import NotSatisfiable, Parts, Whole, multipart_pieces, plan
from cacheproxy.http.ranges import Slice
from tests.caching.build import fields


def parts(*pairs: tuple[int, int]) -> Parts:
    return Parts(tuple(Slice(*pair) for pair in pairs))


@pytest.mark.parametrize(
    ("rfc", "asked", "length", "expected"),
    [
        ("9110 14.2 absent", "", 10, Whole()),
        ("9110 14.2 one", "Range: bytes=0-4", 10, parts((0, 5))),
        ("9110 14.2 all", "Range: bytes=0-", 10, parts((0, 10))),
        ("9110 14.2 past the end", "Range: bytes=5-99", 10, parts((5, 10))),
        ("9110 14.1.2 suffix", "Range: bytes=-3", 10, parts((7, 10))),
        ("9110 14.1.2 long suffix", "Range: bytes=-99", 10, parts((0, 10))),
        ("9110 15.5.17 behind", "Range: bytes=10-", 10, NotSatisfiable()),
        ("9110 15.5.17 suffix of nothing", "Range: bytes=-0", 10, NotSatisfiable()),
        ("9110 15.5.17 empty body", "Range: bytes=0-", 0, NotSatisfiable()),
        ("9110 14.1.2 suffix of an empty body", "Range: bytes=-5", 0, Whole()),
        ("9110 14.2 two, order kept", "Range: bytes=8-9,0-1", 10, parts((8, 10), (0, 2))),
        ("9110 14.2 one of two", "Range: bytes=0-1,50-", 10, parts((0, 2))),
        ("9110 14.2 more than the whole", "Range: bytes=0-,0-", 10, Whole()),
        ("9110 14.2 other unit", "Range: lines=0-1", 10, Whole()),
        ("9110 14.2 broken", "Range: bytes=5-1", 10, Whole()),
        ("9110 14.2 two lines", "Range: bytes=0-1 | Range: bytes=2-3", 10, Whole()),
        ("CVE-2011-3192", "Range: bytes=" + ",".join(f"{at}-{at}" for at in range(801)), 10_000, Whole()),
    ],
)
def test_plan(rfc: str, asked: str, length: int, expected: object) -> None:
    assert plan(fields(asked), length) == expected


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=20), st.integers(0, 50))
def test_parts_lie_inside_and_never_cost_more_than_the_whole(pairs: list[tuple[int, int]], length: int) -> None:
    """CVE-2011-3192: bytes out stay within the object."""
    made = plan(fields("Range: bytes=" + ",".join(f"{min(pair)}-{max(pair)}" for pair in pairs)), length)
    if isinstance(made, Parts):
        assert made.slices
        assert sum(part.length for part in made.slices) <= length
        assert all(0 <= part.start < part.end <= length for part in made.slices)


@pytest.mark.parametrize("content_type", [None, "text/plain"])
def test_a_multipart_body_is_as_long_as_it_says(content_type: str | None) -> None:
    """RFC 9110 §14.6."""
    body = b"0123456789"
    slices = (Slice(0, 2), Slice(7, 10))
    heads, end, total = multipart_pieces(slices, 10, content_type, "XX")
    whole = b"".join(head + body[part.start : part.end] for head, part in zip(heads, slices, strict=True)) + end
    kind = b"" if content_type is None else b"Content-Type: text/plain\r\n"
    assert whole == (
        b"--XX\r\n" + kind + b"Content-Range: bytes 0-1/10\r\n\r\n01"
        b"\r\n--XX\r\n" + kind + b"Content-Range: bytes 7-9/10\r\n\r\n789"
        b"\r\n--XX--\r\n"
    )
    assert total == len(whole)
