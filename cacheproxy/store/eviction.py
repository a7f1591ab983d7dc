"""What leaves when space is needed: LFU with dynamic aging and a mild size exponent ("LFUDA+").

score = L + w(n) * weight, with n the requests seen, w(1) = 1/4, w(n > 1) = n, weight = 1 / size^0.1, and L
the score of what was evicted last. The smallest score goes first. An untouched row's score never changes, so
the order can live in an index. (Arlitt et al. 2000 for LFUDA; measured in the savings benchmark.)
"""

from __future__ import annotations

PINNED = 1e300
"""The score of what must not be evicted."""

_FIRST_TIMER = 0.25
_SIZE_EXPONENT = 0.1


def weight(size: int) -> float:
    """How much one request is worth for something of `size` bytes."""
    return float(max(size, 1) ** -_SIZE_EXPONENT)


def score(inflation: float, requests: int, size: int) -> float:
    """The score of something just stored or used; `inflation` is L."""
    return inflation + (_FIRST_TIMER if requests <= 1 else requests) * weight(size)
