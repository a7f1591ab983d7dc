"""What the disk does not have: keys that it was asked for in vain, until something is stored under them."""

from __future__ import annotations

_GENERATION = 16_384


class Absent:
    """Within bounds: two generations, of which the older is forgotten. A look-up is told of with `ask` and `answered`."""

    def __init__(self) -> None:
        # Hashes, which are random from start to start: a key takes 64 bytes, however long it is.
        self._young: set[int] = set()
        self._old: set[int] = set()
        self._asking: set[str] = set()

    def __contains__(self, key: str) -> bool:
        mark = hash(key)
        return mark in self._young or mark in self._old

    def ask(self, key: str) -> None:
        """A look-up begins."""
        self._asking.add(key)

    def answered(self, key: str, *, is_absent: bool) -> None:
        """It has ended; it says nothing where something was stored meanwhile."""
        if key not in self._asking:
            return
        self._asking.discard(key)
        if is_absent:
            if len(self._young) >= _GENERATION:
                self._old, self._young = self._young, set()
            self._young.add(hash(key))

    def stored(self, key: str) -> None:
        """Something is stored under the key, or will be in a moment."""
        mark = hash(key)
        self._young.discard(mark)
        self._old.discard(mark)
        self._asking.discard(key)
