"""Small responses on their way to the disk: look-ups find them here until their rows are committed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cacheproxy.ports import Candidate
from cacheproxy.store.batch import MAX_VARIANTS

# About what an entry takes beside its body.
_OVERHEAD_BYTES = 1024


class Arriving:
    """At most `limit_bytes`, and of a key as many as are stored of it: what has no room is not found for a moment."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._by_key: dict[str, tuple[Candidate, ...]] = {}

    def add(self, candidate: Candidate) -> None:
        """It is queued."""
        size = _size(candidate)
        if self._bytes + size > self._limit_bytes:
            return
        self._bytes += size
        key = candidate.stored.key
        group = (*self._by_key.get(key, ()), candidate)
        if len(group) > MAX_VARIANTS:
            self._bytes -= _size(group[0])
            group = group[1:]
        self._by_key[key] = group

    def settled(self, candidate: Candidate) -> None:
        """It is on disk, or has failed to get there."""
        key = candidate.stored.key
        group = self._by_key.get(key, ())
        rest = tuple([one for one in group if one is not candidate])
        if len(rest) < len(group):
            self._bytes -= _size(candidate)
        if rest:
            self._by_key[key] = rest
        else:
            self._by_key.pop(key, None)

    def __iter__(self) -> Iterator[Candidate]:
        return iter([one for group in self._by_key.values() for one in group])

    def of(self, key: str) -> Sequence[Candidate]:
        """Those of a key, the oldest first; some may have been removed or given a new head since."""
        return self._by_key.get(key, ())


def _size(candidate: Candidate) -> int:
    return candidate.body.available + _OVERHEAD_BYTES
