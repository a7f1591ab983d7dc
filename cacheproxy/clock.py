"""The only source of wall-clock and monotonic time."""

from __future__ import annotations

import time


class SystemClock:
    """Time of the machine: `wall()` in epoch seconds, `monotonic()` in seconds that never go back."""

    # The functions themselves: every exchange asks several times.
    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
