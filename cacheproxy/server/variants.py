"""Which of several variants in the store a request's fields select, by facts that are worked out already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cacheproxy.caching.facts import FieldFacts
from cacheproxy.ports import Candidate


def choose_variant(found: Sequence[Candidate], facts: FieldFacts) -> Candidate | None:
    """As `caching.key.choose`: of the variants that match, the most recent."""
    chosen: Candidate | None = None
    best: Any = None
    for candidate in found:
        stored = candidate.stored
        if not stored.nominated or facts.variant(stored.nominated) == stored.variant:
            rank = (stored.date_at, stored.entry_id)
            if chosen is None or rank > best:
                chosen, best = candidate, rank
    return chosen


def choose_upgraded(
    found: Sequence[Candidate], facts: FieldFacts, codings: tuple[str, ...]
) -> Candidate | None:
    """The one that matches once `codings` are asked for in the client's stead; None where that is not exactly one."""
    matching = [
        one
        for one in found
        if one.stored.nominated and facts.upgraded_variant(one.stored.nominated, codings) == one.stored.variant
    ]
    # Which of several is newest, and how it is coded, is for the ordinary path.
    return matching[0] if len(matching) == 1 else None
