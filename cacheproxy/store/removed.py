"""What was changed a moment ago: a read that began before must not bring the old back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from cacheproxy.caching.entry import StoredResponse

# Longer than any read statement runs.
_REMEMBERED_S = 10.0

_NONE = (0,)

Forget = Callable[[], None]
"""Call it once the change is committed."""


class Removed:
    """Remembers removals and new heads until no statement that began before them can still be running."""

    def __init__(self) -> None:
        # By key, or by (key, variant): bounds up to which entries are gone.
        self._bounds: dict[object, list[int]] = {}
        self._ids: set[int] = set()
        self._stale: set[int] = set()
        self._heads: dict[int, StoredResponse] = {}
        self._below = 0

    def has(self, key: str, entry_id: int, variant: str | None = None) -> bool:
        """Whether the entry was removed, or its variant replaced, lately."""
        if entry_id <= self._below or entry_id in self._ids:
            return True
        bounds = self._bounds
        if not bounds:
            return False
        return entry_id <= max(bounds.get(key, _NONE)) or (
            variant is not None and entry_id <= max(bounds.get((key, variant), _NONE))
        )

    def current(self, entry_id: int) -> StoredResponse | None:
        """The entry's new head where one was given lately."""
        return self._heads.get(entry_id)

    def is_stale(self, entry_id: int) -> bool:
        """Whether the entry was marked stale lately, and not validated since."""
        return entry_id in self._stale

    def add_all(self, up_to: int) -> None:
        """Everything with an id up to `up_to`, for good."""
        self._below = max(self._below, up_to)

    def add_key(self, key: str, up_to: int) -> Forget:
        """Entries of `key` up to an id."""
        return self._add_bound(key, up_to)

    def add_variant(self, key: str, variant: str, up_to: int) -> Forget:
        """Entries of one variant of `key` up to an id."""
        return self._add_bound((key, variant), up_to)

    def _add_bound(self, what: object, up_to: int) -> Forget:
        self._bounds.setdefault(what, []).append(up_to)

        def forget() -> None:
            bounds = self._bounds[what]
            bounds.remove(up_to)
            if not bounds:
                del self._bounds[what]

        return lambda: _later(forget)

    def add_ids(self, entry_ids: Iterable[int]) -> Forget:
        """Single entries."""
        gone = list(entry_ids)
        self._ids.update(gone)
        return lambda: _later(lambda: self._ids.difference_update(gone))

    def add_stale(self, entry_ids: Iterable[int]) -> Forget:
        """Entries to be validated before their next use."""
        marked = list(entry_ids)
        self._stale.update(marked)
        return lambda: _later(lambda: self._stale.difference_update(marked))

    def add_head(self, stored: StoredResponse) -> Forget:
        """A new head; it also ends an earlier mark."""
        entry_id = stored.entry_id
        self._stale.discard(entry_id)
        self._heads[entry_id] = stored

        def forget() -> None:
            if self._heads.get(entry_id) is stored:
                del self._heads[entry_id]

        return lambda: _later(forget)


def _later(forget: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(_REMEMBERED_S, forget)
