"""What an unsafe request makes invalid (RFC 9111 §4.4)."""

from __future__ import annotations

from cacheproxy.caching.key import cache_key
from cacheproxy.http.message import RequestHead, ResponseHead
from cacheproxy.http.uri import resolve

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH"})


def targets(request: RequestHead, response: ResponseHead) -> tuple[str, ...]:
    """The cache keys that a non-error response to an unsafe method invalidates.

    The target itself, and Location and Content-Location where they name the same origin.
    """
    if request.method in SAFE_METHODS or request.target is None or not 200 <= response.status < 400:
        return ()
    keys = [cache_key(request.target)]
    for name in ("location", "content-location"):
        value = response.fields.only(name)
        other = None if value is None else resolve(request.target, value)
        # RFC 9111 §4.4: another origin's responses must not be invalidated by this one.
        if other is not None and other.origin == request.target.origin:
            keys.append(cache_key(other))
    return tuple(dict.fromkeys(keys))
