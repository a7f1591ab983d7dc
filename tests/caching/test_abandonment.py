"""Is a fetch that nobody reads any more worth its bytes."""

from __future__ import annotations

import pytest

from cacheproxy.caching.abandonment import AbandonOptions, worth_finishing

OPTIONS = AbandonOptions(finish_bytes=100, finish_fraction=0.5, finish_requests=3)


@pytest.mark.parametrize(
    ("received", "length", "requests", "is_worth"),
    [
        (0, None, 1, False),
        (10_000, None, 9, False),
        (0, 100, 1, True),
        (0, 101, 1, False),
        (499, 1000, 0, False),
        (499, 1000, 2, False),
        (499, 1000, 3, True),
        (0, 1000, 4, True),
        (500, 1000, 1, True),
        (900, 1000, 1, True),
        (0, 0, 0, True),
    ],
)
def test_worth_finishing(received: int, length: int | None, requests: int, is_worth: bool) -> None:
    assert worth_finishing(received, length, requests, OPTIONS) == is_worth


def test_requests_may_be_no_reason() -> None:
    assert not worth_finishing(10, 1000, 50, AbandonOptions(100, 0.5, finish_requests=0))
