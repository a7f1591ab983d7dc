"""Small responses on their way to the disk: look-ups find them here until their rows are committed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cacheproxy.ports import Candidate
from cacheproxy.store.batch import MAX_VARIANTS


class Arriving:
    """Bounded by the writer's queue, which holds the same bytes as long; of a key as many as are stored of it."""

    def __init__(self) -> None:
        self._by_key: dict[str, tuple[Candidate, ...]] = {}

    def add(self, candidate: Candidate) -> None:
        """It is queued."""
        key = candidate.stored.key
        self._by_key[key] = (*self._by_key.get(key, ()), candidate)[-MAX_VARIANTS:]

    def settled(self, candidate: Candidate) -> None:
        """It is on disk, or has failed to get there."""
        key = candidate.stored.key
        rest = tuple(one for one in self._by_key.get(key, ()) if one is not candidate)
        if rest:
            self._by_key[key] = rest
        else:
            self._by_key.pop(key, None)

    def __iter__(self) -> Iterator[Candidate]:
        return iter([one for group in self._by_key.values() for one in group])

    def of(self, key: str) -> Sequence[Candidate]:
        """Those of a key, the oldest first; some may have been removed or given a new head since."""
        return self._by_key.get(key, ())
