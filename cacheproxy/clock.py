"""The only source of wall-clock and monotonic time."""

from __future__ import annotations

import time


class SystemClock:
    """Time of the machine."""

    def wall(self) -> float:
        """Epoch seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()
