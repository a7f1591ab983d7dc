"""What the disk does not have: keys that it was asked for in vain, and those that no list of its keys has.

Both hold until something is stored under them.
"""

from __future__ import annotations

from cacheproxy.store.ghosts import key_hash
from cacheproxy.store.present import Present

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
        # All that is on disk; and the same again, as far as it has been listed.
        self._present: Present | None = None
        self._listed: Present | None = None

    def __contains__(self, key: str) -> bool:
        mark = hash(key)
        if mark in self._young or mark in self._old:
            return True
        return self._present is not None and key_hash(key) not in self._present

    @property
    def needs_list(self) -> bool:
        """Whether a list of all keys would tell more than what is known."""
        return self._present is None or self._present.is_full

    def begin_list(self, entries: int) -> Present:
        """All keys on disk, about so many `entries`, are about to be listed: add their hashes to this."""
        self._listed = listed = Present(2 * entries)
        # The list may pass their place before they get there; what is stored from now on is added as it comes.
        listed.add_all(map(key_hash, self._storing))
        return listed

    def end_list(self, listed: Present) -> None:
        """They have been, every one."""
        listed.complete()
        if self._listed is listed:
            self._present, self._listed = listed, None

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
        if self._present is not None:
            self._present.add(key_hash(key))
        if self._listed is not None:
            self._listed.add(key_hash(key))
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
