"""Which stored response answers a request: cache key, variant, choice (RFC 9111 §2, §4, §4.1)."""

from __future__ import annotations

from collections.abc import Iterable

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.http.uri import TargetUri
from cacheproxy.http.vary import variant_of
from cacheproxy.reasons import Reason

# Fields by which origins and frameworks choose another resource or method than the key names: whoever sends
# one could fill the store with an answer that is not the URL's (web cache poisoning).
_ROUTING_FIELDS = frozenset(
    {
        "base-url",
        "forwarded",
        "front-end-https",
        "request-uri",
        "x-backend-host",
        "x-forwarded",
        "x-host",
        "x-host-override",
        "x-http-destinationurl",
        "x-http-host",
        "x-http-host-override",
        "x-http-method",
        "x-override-url",
        "x-proxy-url",
        "x-real-host",
        "x-request-uri",
        "x-script-name",
        "x-server-name",
        "x-url-scheme",
    }
)
_ROUTING_PREFIXES = ("x-forwarded-", "x-original-", "x-rewrite-", "x-envoy-original")
# Says who asks, not what for; proxies in front of us add it to every request.
_NOT_ROUTING = frozenset({"x-forwarded-for"})
_ORIGIN_CONDITIONS = frozenset({"if-match", "if-unmodified-since"})


def cache_key(target: TargetUri) -> str:
    """The cache key: the target URI, its path and query byte for byte as sent upstream."""
    return str(target)


def has_routing_field(fields: Fields) -> bool:
    """Whether the request carries a field that may choose the resource without being in the key."""
    return any(is_routing_field(name) for name in fields.names())


def is_routing_field(name: str) -> bool:
    """Whether a lower-case field name is one of those; gateways read `_` as `-`."""
    if "_" in name:
        name = name.replace("_", "-")
    if name in _ROUTING_FIELDS or name.endswith("method-override"):
        return True
    return name.startswith(_ROUTING_PREFIXES) and name not in _NOT_ROUTING


def bypass_reason(fields: Fields) -> Reason | None:
    """Why a GET or HEAD with these end-to-end fields must not touch the store; None where it may."""
    if has_routing_field(fields):
        return Reason.ROUTING_FIELD
    # RFC 9110 §13.2.1: these are for the origin to judge.
    if not _ORIGIN_CONDITIONS.isdisjoint(fields.names()):
        return Reason.PRECONDITION
    return None


def is_origin_condition(name: str) -> bool:
    """Whether a lower-case field name is a condition that only the origin judges."""
    return name in _ORIGIN_CONDITIONS


def matches(stored: StoredResponse, request: RequestHead) -> bool:
    """Whether the request's nominated fields equal those of the stored response (RFC 9111 §4.1)."""
    return not stored.nominated or variant_of(stored.nominated, request.fields) == stored.variant


def choose(request: RequestHead, stored: Iterable[StoredResponse]) -> StoredResponse | None:
    """The stored response to use: of those that match the most recent (RFC 9111 §4)."""
    chosen: StoredResponse | None = None
    for candidate in stored:
        if matches(candidate, request) and (
            chosen is None or (candidate.date_at, candidate.entry_id) > (chosen.date_at, chosen.entry_id)
        ):
            chosen = candidate
    return chosen
