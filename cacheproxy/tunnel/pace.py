"""Whether a direction that moves much is fast enough for copies to be worth it."""

from __future__ import annotations

# Over so many bytes a rate is measured.
WINDOW_BYTES = 8 * 1024 * 1024
# Bytes a second. Slower than this, the network sets the pace.
FAST = 1e9


class Pace:
    """Of one direction from its first splice on.

    Splicing takes less of our time than copying, but more of the ends': all three touch the same pages, and each waits
    for the others' processors. Where the ends are what is busy, as on this machine, copies are faster by a sixth.
    """

    __slots__ = ("_moved", "_since", "is_fast")

    def __init__(self, moved: int, now: float) -> None:
        """`moved` bytes so far; `now` in seconds."""
        self.is_fast = False
        """Whether the last window was."""
        self._moved = moved
        self._since = now

    def note(self, moved: int, now: float) -> None:
        """So many bytes have moved by now."""
        size = moved - self._moved
        if size >= WINDOW_BYTES:
            self.is_fast = size > FAST * (now - self._since)
            self._moved, self._since = moved, now
