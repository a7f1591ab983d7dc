"""May a stored response be used without asking the origin (RFC 9111 §4, §4.2.4, §5.2.1)."""

from __future__ import annotations

from dataclasses import dataclass

from cacheproxy.caching.age import current_age, is_from_future
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.options import CachingOptions
from cacheproxy.caching.overrides import heeded
from cacheproxy.http.cache_control import RequestDirectives
from cacheproxy.http.digests import digest_from_name
from cacheproxy.reasons import Reason


@dataclass(frozen=True, slots=True)
class ServeStored:
    """Answer from the store; `revalidate` asks for a validation in the background as well."""

    stored: StoredResponse
    age: float
    reason: Reason
    revalidate: bool = False


@dataclass(frozen=True, slots=True)
class Validate:
    """Ask the origin whether the stored response still holds."""

    stored: StoredResponse
    reason: Reason


@dataclass(frozen=True, slots=True)
class Forward:
    """Fetch; `stored` may still serve where the origin fails."""

    reason: Reason
    stored: StoredResponse | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """504: only-if-cached, and nothing may be served (RFC 9111 §5.2.1.7)."""

    reason: Reason = Reason.ONLY_IF_CACHED


Decision = ServeStored | Validate | Forward | Refuse


def may_be_stale(stored: StoredResponse) -> bool:
    """Whether no directive forbids serving it stale (RFC 9111 §4.2.4; s-maxage implies proxy-revalidate)."""
    directives = stored.directives
    return not (
        directives.must_revalidate
        or directives.proxy_revalidate
        or directives.no_cache
        or directives.s_maxage is not None
        or stored.forced_stale
    )


def remaining_lifetime(stored: StoredResponse, now: float) -> float:
    """Seconds until the response gets stale; negative by how long it has been."""
    if stored.forced_stale or is_from_future(stored, now):
        return min(0.0, stored.lifetime.seconds - current_age(stored, now))
    return stored.lifetime.seconds - current_age(stored, now)


def decide(asked: RequestDirectives, stored: StoredResponse | None, has_variants: bool, now: float) -> Decision:
    """What to do for a request whose chosen stored response is `stored`.

    `has_variants` tells a vary-miss (other variants are stored) from a uri-miss.
    """
    if stored is None:
        decision: Decision = Forward(Reason.VARY_MISS if has_variants else Reason.URI_MISS)
    else:
        decision = _decide(asked, stored, now)
    if asked.only_if_cached and not isinstance(decision, ServeStored):
        return Refuse()
    return decision


def _decide(asked: RequestDirectives, stored: StoredResponse, now: float) -> Decision:
    asked = heeded(asked, stored.overrides)
    age = current_age(stored, now)
    remaining = remaining_lifetime(stored, now)
    reason = _must_validate(asked, stored, age, remaining)
    if reason is None:
        if remaining > 0:
            return ServeStored(stored, age, Reason.HIT)
        if may_be_stale(stored) and not is_from_future(stored, now):
            if asked.max_stale is not None and -remaining <= asked.max_stale:
                return ServeStored(stored, age, Reason.STALE_MAX_STALE)
            window = stored.directives.stale_while_revalidate
            if (
                window is not None
                and -remaining <= window
                and asked.max_age is None
                and asked.min_fresh is None
            ):
                return ServeStored(stored, age, Reason.STALE_WHILE_REVALIDATE, revalidate=True)
        reason = Reason.STALE
    return Validate(stored, reason) if stored.has_validator else Forward(reason, stored)


def is_hashed(stored: StoredResponse) -> bool:
    """Whether the URL names the hash of the content (`by-hash/SHA256/…`), which is checked when it is stored."""
    path = "/" + stored.key.partition("://")[2].partition("/")[2].partition("?")[0]
    is_coded = "content-encoding" in stored.fields
    return stored.status == 200 and not is_coded and digest_from_name(path) is not None


def _must_validate(
    asked: RequestDirectives, stored: StoredResponse, age: float, remaining: float
) -> Reason | None:
    if asked.no_cache:
        return Reason.REQUEST_NO_CACHE
    if stored.directives.no_cache:
        return Reason.NO_CACHE
    # max-age=0 asks for a validation even of what arrived this instant.
    # What its name's hash was checked against cannot have changed: RFC 9111 §5.2.1 lets a cache know better.
    if asked.max_age is not None and (age > asked.max_age or asked.max_age == 0) and not is_hashed(stored):
        return Reason.REQUEST_MAX_AGE
    if asked.min_fresh is not None and remaining < asked.min_fresh:
        return Reason.REQUEST_MIN_FRESH
    return None


def serve_on_failure(
    asked: RequestDirectives,
    stored: StoredResponse,
    now: float,
    status: int | None,
    options: CachingOptions,
) -> ServeStored | None:
    """The stored response in place of a failure; None where the client must see it.

    `status` None: the origin could not be reached (RFC 9111 §4.2.4); else its 5xx (RFC 5861 §4).
    """
    asked = heeded(asked, stored.overrides)
    if not may_be_stale(stored) or asked.no_cache or is_from_future(stored, now):
        return None
    age = current_age(stored, now)
    if asked.max_age is not None and age > asked.max_age:
        return None
    staleness = -remaining_lifetime(stored, now)
    window = stored.directives.stale_if_error
    if window is not None and staleness <= window:
        return ServeStored(stored, age, Reason.STALE_IF_ERROR)
    if status is None and staleness <= options.stale_disconnected_s:
        return ServeStored(stored, age, Reason.STALE_DISCONNECTED)
    return None
