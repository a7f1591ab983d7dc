"""Which stored response answers a request: cache key, variant, choice (RFC 9111 §2, §4, §4.1)."""

from __future__ import annotations

from collections.abc import Iterable

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.http.uri import TargetUri
from cacheproxy.http.vary import variant_of

# Fields by which origins and frameworks choose another resource or method than the key names: whoever sends
# one could fill the store with an answer that is not the URL's (web cache poisoning).
ROUTING_FIELDS = frozenset(
    {
        "forwarded",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-forwarded-scheme",
        "x-forwarded-server",
        "x-forwarded-ssl",
        "x-forwarded-uri",
        "x-forwarded-path",
        "x-host",
        "x-http-destinationurl",
        "x-http-host-override",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-host",
        "x-original-url",
        "x-original-uri",
        "x-override-url",
        "x-proxy-url",
        "x-proxyuser-ip",
        "x-real-host",
        "x-rewrite-url",
        "x-url-scheme",
        "front-end-https",
    }
)


def cache_key(target: TargetUri) -> str:
    """The cache key: the target URI, its path and query byte for byte as sent upstream."""
    return str(target)


def has_routing_field(fields: Fields) -> bool:
    """Whether the request carries a field that may choose the resource without being in the key."""
    return not ROUTING_FIELDS.isdisjoint(fields.names())


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
