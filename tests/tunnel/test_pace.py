"""When a direction is fast: measured over whole windows, and only for as long as it is."""

from __future__ import annotations

import pytest

from cacheproxy.tunnel.pace import FAST, WINDOW_BYTES, Pace

WINDOW_S = WINDOW_BYTES / FAST


@pytest.mark.parametrize(
    ("windows", "is_fast"),
    [
        # seconds that each window took
        ([], False),
        ([0.9 * WINDOW_S], True),
        ([1.1 * WINDOW_S], False),
        ([0.9 * WINDOW_S, 1.1 * WINDOW_S], False),
        ([1.1 * WINDOW_S, 0.9 * WINDOW_S], True),
        ([0.0], True),
        ([0.5 * WINDOW_S, 60.0], False),
    ],
)
def test_the_last_window_decides(windows: list[float], is_fast: bool) -> None:
    moved, now = 300_000, 50.0
    pace = Pace(moved, now)
    for seconds in windows:
        moved, now = moved + WINDOW_BYTES, now + seconds
        pace.note(moved, now)
    assert pace.is_fast is is_fast


def test_less_than_a_window_decides_nothing() -> None:
    pace = Pace(0, 0.0)
    pace.note(WINDOW_BYTES - 1, 1e-9)
    assert not pace.is_fast
    pace.note(WINDOW_BYTES, 0.5 * WINDOW_S)
    assert pace.is_fast
    pace.note(2 * WINDOW_BYTES - 1, 60.0)
    assert pace.is_fast
