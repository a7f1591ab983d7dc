"""Is a fetch that nobody reads any more worth its bytes."""

from __future__ import annotations

import pytest

from cacheproxy.caching.abandonment import AbandonOptions, worth_finishing

OPTIONS = AbandonOptions(finish_bytes=100, finish_fraction=0.5)


@pytest.mark.parametrize(
    ("received", "length", "is_worth"),
    [
        (0, None, False),
        (10_000, None, False),
        (0, 100, True),
        (0, 101, False),
        (499, 1000, False),
        (500, 1000, True),
        (900, 1000, True),
        (0, 0, True),
    ],
)
def test_worth_finishing(received: int, length: int | None, is_worth: bool) -> None:
    assert worth_finishing(received, length, OPTIONS) == is_worth
