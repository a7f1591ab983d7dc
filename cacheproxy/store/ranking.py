"""Who stays: uses not yet in the file, requests for what is not stored, and whether a newcomer may come in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cacheproxy.store.eviction import score
from cacheproxy.store.ghosts import Ghosts, key_hash

MAX_TOUCHED = 50_000
_FLUSHED_AT_ONCE = 2000
# A score is written again once the requests have grown by an eighth.
_GROWTH = 8


@dataclass(slots=True)
class _Uses:
    pending: int = 0
    written: int = 1


class Touches:
    """Uses of stored responses since their score was last written; as many as `MAX_TOUCHED` are known."""

    def __init__(self) -> None:
        self._uses: dict[int, _Uses] = {}
        self._due: set[int] = set()

    def __len__(self) -> int:
        return len(self._uses)

    def add(self, entry_id: int, count: int = 1) -> None:
        """Count uses."""
        uses = self._uses.get(entry_id)
        if uses is None:
            if len(self._uses) >= MAX_TOUCHED:
                return
            uses = self._uses[entry_id] = _Uses()
        uses.pending += count
        if uses.pending * _GROWTH >= uses.written:
            self._due.add(entry_id)

    def pending(self, entry_id: int) -> int:
        """Uses that the file does not know."""
        uses = self._uses.get(entry_id)
        return 0 if uses is None else uses.pending

    def known(self, entry_id: int) -> int:
        """The request that had it stored, and the uses counted here."""
        uses = self._uses.get(entry_id)
        return 1 if uses is None else uses.written + uses.pending

    def take_due(self, *, everything: bool = False) -> list[tuple[int, int]]:
        """(entry, uses) where the score has changed enough to be written, at most a transaction's worth."""
        if everything or len(self._uses) > MAX_TOUCHED // 2:
            self._due.update(one for one, uses in self._uses.items() if uses.pending)
        chosen = [self._due.pop() for _ in range(min(len(self._due), _FLUSHED_AT_ONCE))]
        taken = self.take(chosen)
        if len(self._uses) > MAX_TOUCHED // 2 and not self._due:
            self._uses.clear()
        return taken

    def take(self, entry_ids: Iterable[int]) -> list[tuple[int, int]]:
        """(entry, uses) of these, which are written now."""
        taken = []
        for entry_id in entry_ids:
            self._due.discard(entry_id)
            uses = self._uses.get(entry_id)
            if uses is not None and uses.pending:
                taken.append((entry_id, uses.pending))
                uses.written += uses.pending
                uses.pending = 0
        return taken

    def give_back(self, taken: Iterable[tuple[int, int]]) -> None:
        """The transaction failed: these were not written."""
        for entry_id, count in taken:
            uses = self._uses.setdefault(entry_id, _Uses())
            uses.pending += count
            self._due.add(entry_id)

    def forget(self, entry_id: int) -> None:
        """It was evicted."""
        self._uses.pop(entry_id, None)
        self._due.discard(entry_id)


class Horizon:
    """What would have to go for newcomers, as of the last transaction."""

    def __init__(self) -> None:
        self._free: float = float("inf")
        self._level = 0.0
        self._victims: list[tuple[int, float]] = []

    def renew(self, free_bytes: int, level: float, victims: list[tuple[int, float]]) -> None:
        """`victims`: (bytes, score), the lowest score last; `level`: the score of what went last."""
        self._free, self._level, self._victims = free_bytes, level, victims

    def admits(self, requests: int, size: int) -> bool:
        """Whether there is room, or it would only take the place of lower scores; then it counts as here."""
        free, used = self._free, 0
        value = score(self._level, requests, size)
        while free < size and used < len(self._victims):
            used += 1
            victim_size, victim_score = self._victims[-used]
            if victim_score > value:
                return False
            free += victim_size
        if used:
            self._level = max(self._level, self._victims[-used][1])
            del self._victims[-used:]
        self._free = free - size
        return True


class Ranking:
    """The part of the eviction policy that is in memory. `inflation` is the L of the score."""

    def __init__(self, inflation: float, ghosts: Ghosts) -> None:
        self.inflation = inflation
        self.ghosts = ghosts
        self.touches = Touches()
        self.horizon = Horizon()

    def note_request(self, key: str) -> None:
        """Count a request for what is not stored."""
        self.ghosts.add(key_hash(key))

    def admits(self, key: str, size: int) -> bool:
        """Whether something new of `size` bytes is worth what it would replace."""
        return self.horizon.admits(max(1, self.ghosts.count(key_hash(key))), size)

    def requests_for(self, key: str, entry_id: int) -> int:
        """The requests for a key that are known here, whether they found something stored or not."""
        return max(self.ghosts.count(key_hash(key)), self.touches.known(entry_id))

    def requests_of(self, key: str) -> int:
        """The requests for what is being stored; from now on they are counted with it."""
        return max(1, self.ghosts.take(key_hash(key)))

    def evicted(self, entry_id: int, hashed: int, value: float, requests: int) -> None:
        """Remember what has gone, and let the others age."""
        self.inflation = max(self.inflation, value)
        self.ghosts.add(hashed, requests)
        self.touches.forget(entry_id)
