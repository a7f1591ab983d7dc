"""Entries that were removed a moment ago: a read that began before must not bring them back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

# Longer than any read statement runs.
_REMEMBERED_S = 10.0


class Removed:
    """Remembers removals until no statement that began before them can still be running."""

    def __init__(self) -> None:
        self._keys: dict[str, list[int]] = {}
        self._ids: set[int] = set()
        self._below = 0

    def has(self, key: str, entry_id: int) -> bool:
        """Whether the entry was removed lately."""
        return entry_id <= self._below or entry_id in self._ids or entry_id <= max(self._keys.get(key, (0,)))

    def add_all(self, up_to: int) -> None:
        """Everything with an id up to `up_to`, for good."""
        self._below = max(self._below, up_to)

    def add_key(self, key: str, up_to: int) -> Callable[[], None]:
        """Entries of `key` up to an id; call the result once the removal is committed."""
        self._keys.setdefault(key, []).append(up_to)

        def forget() -> None:
            bounds = self._keys[key]
            bounds.remove(up_to)
            if not bounds:
                del self._keys[key]

        return lambda: _later(forget)

    def add_ids(self, entry_ids: Iterable[int]) -> Callable[[], None]:
        """Single entries; call the result once the removal is committed."""
        gone = list(entry_ids)
        self._ids.update(gone)
        return lambda: _later(lambda: self._ids.difference_update(gone))


def _later(forget: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(_REMEMBERED_S, forget)
