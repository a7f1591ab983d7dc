"""What the disk does not have: keys that it was asked for in vain, until something is stored under them."""

from __future__ import annotations

_GENERATION = 16_384


class Absent:
    """Within bounds: two generations, of which the older is forgotten. Every look-up is told of."""

    def __init__(self) -> None:
        # Hashes, which are random from start to start: a key takes 64 bytes, however long it is.
        self._young: set[int] = set()
        self._old: set[int] = set()
        # The look-ups under way that began after the last change of their key.
        self._asking: dict[str, list[object]] = {}
        # What is on its way to the disk, which look-ups do not find yet.
        self._storing: dict[str, int] = {}

    def __contains__(self, key: str) -> bool:
        mark = hash(key)
        return mark in self._young or mark in self._old

    def ask(self, key: str) -> object:
        """A look-up begins; what `answered` must be given."""
        token = object()
        self._asking.setdefault(key, []).append(token)
        return token

    def answered(self, key: str, token: object, *, is_absent: bool) -> None:
        """It has ended; it says nothing where something was stored since it began."""
        tokens = self._asking.get(key)
        if tokens is None or token not in tokens:
            return
        tokens.remove(token)
        if not tokens:
            del self._asking[key]
        if is_absent and key not in self._storing:
            if len(self._young) >= _GENERATION:
                self._old, self._young = self._young, set()
            self._young.add(hash(key))

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
        self._asking.pop(key, None)
