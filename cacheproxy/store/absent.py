"""What the disk does not have: keys that it was asked for in vain, until something is stored under them."""

from __future__ import annotations

_GENERATION = 16_384


class Absent:
    """Within bounds: two generations, of which the older is forgotten. Every look-up is told of, and how it ended."""

    def __init__(self) -> None:
        # Hashes, which are random from start to start: a key takes 64 bytes, however long it is.
        self._young: set[int] = set()
        self._old: set[int] = set()
        # Grows with every change of a key. A look-up says nothing where its key changed since it began.
        self._changes = 0
        self._under_way = 0
        # When each key changed last, by hash, since no look-up was under way; none is known from before `_since`.
        self._changed: dict[int, int] = {}
        self._since = 0
        # What is on its way to the disk, which look-ups do not find yet.
        self._storing: dict[str, int] = {}

    def __contains__(self, key: str) -> bool:
        mark = hash(key)
        return mark in self._young or mark in self._old

    def ask(self) -> int:
        """A look-up begins; what `answered` must be given."""
        self._under_way += 1
        return self._changes

    def answered(self, key: str, began: int, *, is_absent: bool) -> None:
        """It has ended; it says nothing where something was stored since it began."""
        self._under_way -= 1
        if is_absent and key not in self._storing and began >= self._since:
            mark = hash(key)
            if self._changed.get(mark, 0) <= began:
                if len(self._young) >= _GENERATION:
                    self._old, self._young = self._young, set()
                self._young.add(mark)
        if not self._under_way and self._changed:
            self._changed.clear()

    def storing(self, key: str) -> None:
        """Something is on its way to be stored under the key; `settled` says when that has ended."""
        self._storing[key] = self._storing.get(key, 0) + 1
        self._forget(key)

    def settled(self, key: str) -> None:
        """It is stored, or has failed to be."""
        count = self._storing.pop(key, 1) - 1
        if count:
            self._storing[key] = count
        self._forget(key)

    def _forget(self, key: str) -> None:
        mark = hash(key)
        self._young.discard(mark)
        self._old.discard(mark)
        self._changes += 1
        if self._under_way:
            if len(self._changed) >= _GENERATION:
                self._changed.clear()
                self._since = self._changes
            self._changed[mark] = self._changes
