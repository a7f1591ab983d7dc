"""What LRU, Squid's heap LFUDA and LFUDA+ would fetch, on the same requests (savings.md §2)."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.savings.traces import Trace

WARM = 0.2
GHOSTS = 4
Key = tuple[int, int]


@dataclass
class Outcome:
    """After the first 20 % of the requests."""

    asked: int = 0
    fetched: int = 0
    misses: int = 0
    requests: int = 0

    @property
    def byte_hit_ratio(self) -> float:
        return 1 - self.fetched / self.asked if self.asked else 0.0


@dataclass
class _Scored:
    """Stored objects by score; the smallest goes first. Old heap entries are passed over."""

    capacity: int
    weigh: Callable[[int, int], float]
    refuses: bool = False
    remembers: bool = False
    used: int = 0
    age: float = 0.0
    scores: dict[Key, float] = field(default_factory=dict)
    counts: OrderedDict[Key, int] = field(default_factory=OrderedDict)
    heap: list[tuple[float, int, Key]] = field(default_factory=list)
    serial: int = 0

    def request(self, key: Key) -> bool:
        """Whether it was there; stores it otherwise."""
        count = self.counts.pop(key, 0) + 1
        self.counts[key] = count
        score = self.age + self.weigh(count, key[1])
        if key in self.scores:
            self._set(key, score)
            return True
        if key[1] <= self.capacity and self._make_room(key[1], score):
            self.used += key[1]
            self._set(key, score)
        elif not self.remembers:
            del self.counts[key]
        self._forget()
        return False

    def _set(self, key: Key, score: float) -> None:
        self.serial += 1
        self.scores[key] = score
        heapq.heappush(self.heap, (score, self.serial, key))

    def _make_room(self, size: int, score: float) -> bool:
        taken: list[tuple[float, int, Key]] = []
        free = self.capacity - self.used
        while free < size:
            lowest = heapq.heappop(self.heap)
            if self.scores.get(lowest[2]) != lowest[0]:
                continue
            if self.refuses and lowest[0] > score:
                for one in (lowest, *taken):
                    heapq.heappush(self.heap, one)
                return False
            taken.append(lowest)
            free += lowest[2][1]
        for old, _, key in taken:
            del self.scores[key]
            self.used -= key[1]
            self.age = old
            if not self.remembers:
                self.counts.pop(key, None)
        return True

    def _forget(self) -> None:
        while self.remembers and len(self.counts) > (GHOSTS + 1) * max(64, len(self.scores)):
            oldest = next(iter(self.counts))
            if oldest in self.scores:
                self.counts.move_to_end(oldest)
            else:
                del self.counts[oldest]


class _Recent:
    """LRU."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.stored: OrderedDict[Key, None] = OrderedDict()

    def request(self, key: Key) -> bool:
        if key in self.stored:
            self.stored.move_to_end(key)
            return True
        if key[1] <= self.capacity:
            while self.used + key[1] > self.capacity:
                self.used -= self.stored.popitem(last=False)[0][1]
            self.stored[key] = None
            self.used += key[1]
        return False


def _plus(count: int, size: int) -> float:
    return float(0.25 if count == 1 else count) / float(size**0.1)


def _squid(count: int, _size: int) -> float:
    return float(count)


POLICIES: dict[str, Callable[[int], _Recent | _Scored]] = {
    "LRU": _Recent,
    "LFUDA": lambda capacity: _Scored(capacity, _squid),
    "LFUDA+": lambda capacity: _Scored(capacity, _plus, refuses=True, remembers=True),
}


def simulate(trace: Trace, capacity: int, policy: str) -> Outcome:
    """The trace through a cache of this many bytes."""
    cache = POLICIES[policy](capacity)
    outcome = Outcome()
    warm = int(len(trace.requests) * WARM)
    for number, key in enumerate(trace.requests):
        hit = cache.request(key)
        if number < warm:
            continue
        outcome.requests += 1
        outcome.asked += key[1]
        if not hit:
            outcome.misses += 1
            outcome.fetched += key[1]
    return outcome
