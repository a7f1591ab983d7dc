"""Workloads as data: who asks for what, when, and what of it counts as asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from benchmarks.savings.answers import accepted
from benchmarks.savings.bodies import encoded
from benchmarks.savings.resources import Catalogue, Resource

Fields = tuple[tuple[str, str], ...]
Action = Callable[[Catalogue], None]


@dataclass(frozen=True)
class Ask:
    """One request of one client."""

    resource: Resource
    fields: Fields = ()
    query: str = ""
    ranges: tuple[tuple[int, int], ...] = ()
    """(first, end) pairs, the ends not included."""
    cut: int = 0
    """The client goes away after this many body bytes."""
    pause_s: float = 0.0
    """Waits this long before it asks."""

    @property
    def asked(self) -> int:
        """Body bytes that the client wants."""
        if self.cut:
            return self.cut
        if self.ranges:
            return sum(end - first for first, end in self.ranges)
        coding = accepted(dict(self.fields).get("Accept-Encoding")) if self.resource.text else ""
        return len(encoded(self.resource.body(0), coding)) if coding else self.resource.size


@dataclass(frozen=True)
class Episode:
    """Lanes run at once, the asks of a lane one after the other."""

    lanes: tuple[tuple[Ask, ...], ...]
    start_s: float = 0.0
    before: Action | None = None

    @property
    def asked(self) -> int:
        return sum(ask.asked for lane in self.lanes for ask in lane)

    def resources(self) -> set[Resource]:
        return {ask.resource for lane in self.lanes for ask in lane}


@dataclass
class Workload:
    """One line of the table. `timed` ones keep each episode's start, others run them in turn."""

    name: str
    episodes: list[Episode] = field(default_factory=list)
    timed: bool = False
    down: frozenset[int] = frozenset()
    """Numbers of the episodes during which the origin is down, in turn by 503 and by reset."""

    @property
    def asked(self) -> int:
        return sum(episode.asked for episode in self.episodes)

    def resources(self) -> set[Resource]:
        return set().union(*(episode.resources() for episode in self.episodes))


def together(asks: Iterable[Ask]) -> Episode:
    """Every ask a client of its own, all at once."""
    return Episode(tuple((ask,) for ask in asks))


def in_turn(asks: Iterable[Ask]) -> Episode:
    """One client, one ask after the other."""
    return Episode((tuple(asks),))
