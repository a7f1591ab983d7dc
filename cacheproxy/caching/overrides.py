"""What the operator decides over the origin's head, within the RFC's bounds.

RFC 9111 §4.2.4 lets "configuration in accordance with an out-of-band contract" keep a response longer, and
§5.2.1 calls a request's directives advisory. Nothing here touches whether a response may be stored at all:
no-store, private, Authorization and Vary hold as ever, and so do no-cache and the directives that demand
validation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cacheproxy.http.cache_control import RequestDirectives, ResponseDirectives
from cacheproxy.http.message import Fields

if TYPE_CHECKING:
    from cacheproxy.caching.freshness import Lifetime

# Only content itself: an error or a redirect must not be kept for the sake of the file it stands for.
_LENGTHENED_STATUSES = frozenset({200, 203, 206})


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the rules say about one response; seconds. `source` names the rules, for `explain`."""

    min_lifetime_s: float = 0.0
    max_lifetime_s: float | None = None
    ignore_reload: bool = False
    never_store: bool = False
    pin: bool = False
    lengthens_pages: bool = False
    source: str = ""


NO_OVERRIDES = Overrides()

OverridesFor = Callable[[str, Fields], Overrides]
"""From a cache key and the response's fields."""


def no_overrides(key: str, fields: Fields) -> Overrides:
    """No rules."""
    return NO_OVERRIDES


def is_page(fields: Fields) -> bool:
    """Whether the content is HTML: what portals and error pages put in the place of a file."""
    return (fields.get("content-type") or "").lower().startswith(("text/html", "application/xhtml+xml"))


def adjusted(
    lifetime: Lifetime, status: int, fields: Fields, directives: ResponseDirectives, overrides: Overrides
) -> Lifetime:
    """The lifetime under the rules. Whether the origin gave one (`is_explicit`) stays as it was.

    The minimum helps content only (200, 203, 206), no page unless the rule names its type, and nothing
    that its origin wants validated: no-cache, must-revalidate, proxy-revalidate, s-maxage.
    """
    seconds = lifetime.seconds
    if overrides.min_lifetime_s > seconds and _may_lengthen(status, fields, directives, overrides):
        seconds = overrides.min_lifetime_s
    if overrides.max_lifetime_s is not None:
        seconds = min(seconds, overrides.max_lifetime_s)
    return lifetime if seconds == lifetime.seconds else replace(lifetime, seconds=seconds)


def _may_lengthen(status: int, fields: Fields, directives: ResponseDirectives, overrides: Overrides) -> bool:
    # RFC 9111 §5.2.2.2, §5.2.2.4, §5.2.2.8, §5.2.2.10: no contract frees from these.
    wants_validation = (
        directives.no_cache
        or directives.must_revalidate
        or directives.proxy_revalidate
        or directives.s_maxage is not None
    )
    return (
        status in _LENGTHENED_STATUSES
        and not wants_validation
        and not directives.no_store
        and not directives.private
        and (overrides.lengthens_pages or not is_page(fields))
    )


def heeded(asked: RequestDirectives, overrides: Overrides) -> RequestDirectives:
    """The client's directives less what reloads consist of, where a rule says so (RFC 9111 §5.2.1).

    no-store and only-if-cached are no reloads; they always count.
    """
    if not overrides.ignore_reload or not (asked.no_cache or asked.max_age is not None):
        return asked
    return replace(asked, no_cache=False, max_age=None)
