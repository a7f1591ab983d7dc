"""What was noticed a while ago, and holds for a while."""

from __future__ import annotations

from collections.abc import Callable

from cachetools import TTLCache


class Lately:
    """Names, each for `seconds` after `add`. Every request asks, mostly while there are none: that costs nothing."""

    def __init__(self, entries: int, seconds: float, monotonic: Callable[[], float]) -> None:
        self._names: TTLCache[str, bool] = TTLCache(entries, seconds, timer=monotonic)
        self.is_empty = True

    def add(self, name: str) -> None:
        """Note it."""
        self._names[name] = True
        self.is_empty = False

    def __contains__(self, name: str) -> bool:
        if self.is_empty:
            return False
        found = name in self._names
        self.is_empty = not found and not self._names
        return found
