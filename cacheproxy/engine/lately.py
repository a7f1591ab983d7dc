"""What was noticed a while ago, and holds for a while."""

from __future__ import annotations

from collections.abc import Callable


class Lately:
    """Names, each for `seconds` after `add`, at most so many `entries`: the first to be forgotten goes first.

    Every request asks, so that it is a look into a dict, and mostly not even that.
    """

    def __init__(self, entries: int, seconds: float, monotonic: Callable[[], float]) -> None:
        self._entries = entries
        self._seconds = seconds
        self._monotonic = monotonic
        # When each is forgotten; in this order.
        self._until: dict[str, float] = {}
        self._next = 0.0
        self.is_empty = True

    def add(self, name: str) -> None:
        """Note it."""
        self._until.pop(name, None)
        while len(self._until) >= self._entries:
            del self._until[next(iter(self._until))]
        self._until[name] = self._monotonic() + self._seconds
        self._look()

    def __contains__(self, name: str) -> bool:
        if self.is_empty:
            return False
        if (now := self._monotonic()) >= self._next:
            while self._until and self._until[first := next(iter(self._until))] <= now:
                del self._until[first]
            self._look()
        return name in self._until

    def _look(self) -> None:
        self.is_empty = not self._until
        if not self.is_empty:
            self._next = self._until[next(iter(self._until))]
