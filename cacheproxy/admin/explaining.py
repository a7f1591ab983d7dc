"""What would happen to a plain GET of a URL now, and why: the proxy's own decisions, taken without acting."""

from __future__ import annotations

from collections.abc import Sequence

from cacheproxy.caching import extents, reuse
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.key import choose
from cacheproxy.caching.reuse import ServeStored, Validate
from cacheproxy.http.cache_control import PLAIN_REQUEST
from cacheproxy.http.codings import upgraded_accept_encoding
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.http.uri import TargetUri
from cacheproxy.ports import Candidate
from cacheproxy.reasons import Reason

_WHY = {
    Reason.HIT: "it is stored and fresh",
    Reason.STALE_WHILE_REVALIDATE: "it is stored; stale, but its stale-while-revalidate lets it be served meanwhile",
    Reason.STALE: "it is stored, but its freshness lifetime has passed",
    Reason.NO_CACHE: "it is stored, but the origin wants it validated each time (no-cache)",
    Reason.URI_MISS: "nothing is stored for this URL",
    Reason.VARY_MISS: "what is stored is for requests with other fields (Vary)",
}


def explain(
    target: TargetUri, key: str, candidates: Sequence[Candidate], codings: tuple[str, ...], now: float
) -> dict[str, object]:
    """The decision for `GET target` without any other field."""
    request = RequestHead("GET", str(target), (1, 1), Fields(), target)
    stored = [candidate.stored for candidate in candidates]
    chosen = choose(request, stored)
    upgraded = upgraded_accept_encoding(request, codings) if codings else None
    if chosen is None and upgraded is not None:
        chosen = choose(request.with_fields(Fields([("Accept-Encoding", upgraded)])), stored)
    decision = reuse.decide(PLAIN_REQUEST, chosen, bool(stored), now)
    steps = [f"the cache key is {key}"] if key != str(target) else []
    if isinstance(decision, ServeStored):
        action = "answered from the store"
    elif isinstance(decision, Validate):
        action = "validated with its origin"
    else:
        action = "fetched from its origin"
    if chosen is not None:
        steps += _about(chosen)
    elif upgraded is not None:
        steps.append(
            f"the origin would be asked for {upgraded}, and the answer decoded for clients that cannot"
        )
    return {
        "url": str(target),
        "key": key,
        "action": action,
        "reason": str(decision.reason),
        "why": _WHY.get(decision.reason, str(decision.reason)),
        "stored_responses": len(stored),
        "rules": "" if chosen is None else chosen.overrides.source,
        "details": steps,
    }


def _about(stored: StoredResponse) -> list[str]:
    lifetime = stored.lifetime
    origin = "from the origin" if lifetime.is_explicit else "guessed: the origin says nothing"
    found = [f"its freshness lifetime is {lifetime.seconds:.0f} s ({origin})"]
    if stored.overrides.source:
        found.append(f"rules that apply: {stored.overrides.source}")
    if stored.forced_stale:
        found.append("it was marked stale, by a soft purge or by its origin")
    if stored.held is not None:
        of = "" if stored.length is None else f" of {stored.length}"
        found.append(f"{extents.size(stored.held)}{of} bytes of it are here; only the rest would be fetched")
    if not stored.has_validator:
        found.append("it has no validator: once stale it is fetched again")
    return found
