"""The few knobs that caching decisions read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cacheproxy.caching.naming import TRACKING
from cacheproxy.caching.overrides import OverridesFor, no_overrides


class SetCookie(StrEnum):
    """What becomes of a response with Set-Cookie (RFC 9111 §7.3 allows all three)."""

    STRIP = "strip"
    REPLAY = "replay"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class CachingOptions:
    """Durations in seconds, sizes in bytes."""

    set_cookie: SetCookie = SetCookie.STRIP
    heuristic_fraction: float = 0.1
    heuristic_max_s: float = 7 * 86400.0
    name_lifetime_s: float = 30 * 86400.0
    """For files whose name says that they never change, where the origin says nothing; 0 turns it off."""
    drop_query: tuple[str, ...] = TRACKING
    overrides: OverridesFor = no_overrides
    stale_disconnected_s: float = 7 * 86400.0
