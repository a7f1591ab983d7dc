"""What an unsafe request makes invalid (RFC 9111 §4.4)."""

from __future__ import annotations

from collections.abc import Callable

from cacheproxy.caching.key import cache_key
from cacheproxy.http.message import RequestHead, ResponseHead
from cacheproxy.http.uri import TargetUri, resolve

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH"})


def targets(
    request: RequestHead, response: ResponseHead, key_of: Callable[[TargetUri], str] = cache_key
) -> tuple[str, ...]:
    """The cache keys that a non-error response to an unsafe method invalidates.

    The target itself, and Location and Content-Location where they name the same origin. `key_of` gives
    the key under which a GET of a URI would be stored.
    """
    if request.method in SAFE_METHODS or request.target is None or not 200 <= response.status < 400:
        return ()
    keys = [key_of(request.target)]
    for name in ("location", "content-location"):
        value = response.fields.only(name)
        other = None if value is None else resolve(request.target, value)
        # RFC 9111 §4.4: another origin's responses must not be invalidated by this one.
        if other is not None and other.origin == request.target.origin:
            keys.append(key_of(other))
    return tuple(dict.fromkeys(keys))
