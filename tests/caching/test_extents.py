"""Which bytes are here: set algebra on slices against plain sets of positions."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching.extents import Extents, as_text, covers, from_text, gaps, size, union
from cacheproxy.http.ranges import Slice

SLICES = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: Slice(min(pair), max(pair)))
GROUPS = st.lists(SLICES, max_size=8)


def positions(parts: Extents | list[Slice]) -> set[int]:
    return {position for part in parts for position in range(part.start, part.end)}


@pytest.mark.parametrize(
    ("rfc", "parts", "text"),
    [
        ("9111 3.3 nothing", [], ""),
        ("9111 3.3 one", [(0, 10)], "0-10"),
        ("9111 3.4 adjacent", [(0, 10), (10, 20)], "0-20"),
        ("9111 3.4 one byte between", [(0, 10), (11, 20)], "0-10,11-20"),
        ("9111 3.4 overlapping", [(0, 12), (10, 20)], "0-20"),
        ("9111 3.4 out of order", [(30, 40), (0, 10), (10, 30)], "0-40"),
        ("9111 3.4 one inside another", [(0, 100), (10, 20)], "0-100"),
        ("9110 14.1.2 empty ones vanish", [(5, 5), (7, 9)], "7-9"),
    ],
)
def test_union(rfc: str, parts: list[tuple[int, int]], text: str) -> None:
    made = union([Slice(*part) for part in parts])
    assert as_text(made) == text
    assert from_text(text) == made


@pytest.mark.parametrize(
    ("held", "wanted", "missing"),
    [
        ("", (0, 10), "0-10"),
        ("0-10", (0, 10), ""),
        ("0-10", (5, 15), "10-15"),
        ("10-20", (5, 15), "5-10"),
        ("10-20,30-40", (0, 50), "0-10,20-30,40-50"),
        ("10-20,30-40", (12, 35), "20-30"),
        ("10-20", (20, 30), "20-30"),
        ("10-20", (0, 10), "0-10"),
        ("10-20", (5, 5), ""),
    ],
)
def test_gaps(held: str, wanted: tuple[int, int], missing: str) -> None:
    assert as_text(gaps(from_text(held), Slice(*wanted))) == missing
    assert covers(from_text(held), Slice(*wanted)) is (missing == "")


@pytest.mark.parametrize(
    "text",
    ["x", "1", "1-", "-1", "5-1", "5-5", "0-10,5-20", "0-10,10-20", "10-20,0-5", "0-1, 3-4", "0-1,", "00-1"],
)
def test_anything_else_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a list|invalid literal"):
        from_text(text)


@given(GROUPS, GROUPS)
def test_union_is_that_of_the_positions(one: list[Slice], other: list[Slice]) -> None:
    made = union(one, other)
    assert positions(made) == positions(one) | positions(other)
    assert union(made) == made == union(other, one)
    assert size(made) == len(positions(made))
    # Sorted, and neither overlapping nor touching.
    assert all(left.end < right.start for left, right in pairwise(made))
    assert from_text(as_text(made)) == made


@given(GROUPS, SLICES)
def test_gaps_are_what_is_not_held(group: list[Slice], wanted: Slice) -> None:
    held = union(group)
    missing = gaps(held, wanted)
    assert positions(missing) == positions([wanted]) - positions(held)
    assert covers(held, wanted) is (missing == ())
    assert covers(union(held, missing), wanted)


@given(st.text(max_size=30))
def test_text_of_any_kind_never_fails_otherwise(text: str) -> None:
    try:
        assert as_text(from_text(text)) == text
    except ValueError:
        pass
