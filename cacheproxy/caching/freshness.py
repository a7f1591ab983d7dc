"""How long a response stays fresh (RFC 9111 §4.2.1, §4.2.2), as a shared cache sees it."""

from __future__ import annotations

from dataclasses import dataclass

from cacheproxy.caching.naming import lifetime_by_name
from cacheproxy.caching.options import CachingOptions
from cacheproxy.caching.overrides import is_page
from cacheproxy.http.cache_control import ResponseDirectives
from cacheproxy.http.dates import parse_date
from cacheproxy.http.message import Fields

# RFC 9110 §15.1: statuses that are heuristically cacheable.
HEURISTIC_STATUSES = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})

# A name vouches for the file, not for what a portal or an error page puts in its place.
_NAMED_STATUSES = frozenset({200, 203, 206})


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Seconds counted from the response's generation, and whether the origin said so."""

    seconds: float
    is_explicit: bool


def freshness_lifetime(
    status: int,
    fields: Fields,
    directives: ResponseDirectives,
    date: float,
    now: float,
    options: CachingOptions,
    key: str = "",
) -> Lifetime:
    """The lifetime: s-maxage, max-age, Expires, else a heuristic; what is present but broken counts as 0.

    `key` is the cache key: the heuristic also reads the name in it.
    """
    if directives.s_maxage is not None:
        return Lifetime(max(0, directives.s_maxage), is_explicit=True)
    if directives.max_age is not None:
        return Lifetime(max(0, directives.max_age), is_explicit=True)
    expires = fields.all("expires")
    if expires:
        # RFC 9111 §5.3: an invalid date, "0" above all, means already expired; so do several lines.
        at = parse_date(expires[0], now) if len(expires) == 1 else None
        return Lifetime(0.0 if at is None else max(0.0, at - date), is_explicit=True)
    if status not in HEURISTIC_STATUSES and not directives.public:
        return Lifetime(0.0, is_explicit=False)
    guess = max(_guess_by_age(fields, date, now, options), _guess_by_name(status, fields, key, options))
    return Lifetime(guess, is_explicit=False)


def _guess_by_age(fields: Fields, date: float, now: float, options: CachingOptions) -> float:
    modified = fields.only("last-modified")
    modified_at = None if modified is None else parse_date(modified, now)
    if modified_at is None or modified_at >= date:
        return 0.0
    return min((date - modified_at) * options.heuristic_fraction, options.heuristic_max_s)


def _guess_by_name(status: int, fields: Fields, key: str, options: CachingOptions) -> float:
    # RFC 9111 §4.2.2: the heuristic is the cache's own; old caches did not guess for queries, nor do we here.
    if status not in _NAMED_STATUSES or is_page(fields):
        return 0.0
    path, mark, query = key[key.find("/", key.find("://") + 3) :].partition("?")
    return lifetime_by_name(path, query if mark else None, options.name_lifetime_s) or 0.0
