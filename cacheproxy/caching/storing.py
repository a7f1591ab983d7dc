"""May a response be stored, and which of its fields are kept (RFC 9111 §3)."""

from __future__ import annotations

from dataclasses import dataclass

from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.caching.freshness import HEURISTIC_STATUSES
from cacheproxy.caching.key import cache_key
from cacheproxy.caching.options import CachingOptions, SetCookie
from cacheproxy.http.cache_control import RequestDirectives, ResponseDirectives, parse_response_directives
from cacheproxy.http.forwarding import end_to_end
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.http.uri import resolve
from cacheproxy.http.vary import nominated_names, variant_of
from cacheproxy.reasons import Reason

# RFC 9111 §5.2.2.3: statuses whose caching requirements are implemented here.
UNDERSTOOD_STATUSES = frozenset(
    {
        200,
        203,
        204,
        300,
        301,
        302,
        303,
        307,
        308,
        400,
        403,
        404,
        405,
        410,
        414,
        421,
        451,
        500,
        501,
        502,
        503,
        504,
    }
)
# What says how long and for whom a response may be kept: without them it would look fresher than it is.
_ALWAYS_KEPT = frozenset({"age", "cache-control", "date", "expires", "vary"})
# Besides those, what a stored response's lifetime and overrides are worked out from.
_SAYS_HOW_LONG = frozenset({"last-modified", "pragma", "content-type", "etag"})
COOKIE_FIELDS = frozenset({"set-cookie", "set-cookie2"})


@dataclass(frozen=True, slots=True)
class Store:
    """Store this; the body is still to come."""

    stored: StoredResponse
    reason: Reason = Reason.STORED


@dataclass(frozen=True, slots=True)
class DoNotStore:
    """Pass on only, for this reason."""

    reason: Reason


def kept_fields(fields: Fields, directives: ResponseDirectives, options: CachingOptions) -> Fields:
    """The fields that are stored: end-to-end ones, less those that later readers may not see.

    RFC 9111 §5.2.2.4, §5.2.2.7: fields named by `no-cache` and `private` are not reused. Set-Cookie is
    kept only where the operator wants it replayed.
    """
    kept = end_to_end(fields)
    drop = (directives.no_cache_fields | directives.private_fields) - _ALWAYS_KEPT
    if options.set_cookie is not SetCookie.REPLAY:
        drop |= COOKIE_FIELDS
    return kept if drop.isdisjoint(kept.names()) else kept.without(drop)


def decide(
    request: RequestHead,
    asked: RequestDirectives,
    response: ResponseHead,
    timing: Timing,
    options: CachingOptions,
    key: str | None = None,
) -> Store | DoNotStore:
    """Whether the response to `request` may be stored, and as what. `request.target` must be set.

    `key` where it is not simply the target's (`naming.place`).
    """
    assert request.target is not None
    early = Reason.REQUEST_NO_STORE if asked.no_store else plain_refusal(response)
    if early is not None:
        return DoNotStore(early)
    nominated = nominated_names(response.fields)
    stored = StoredResponse.build(
        cache_key(request.target) if key is None else key,
        nominated or (),
        variant_of(nominated or (), request.fields),
        response,
        timing,
        options,
    )
    reason = _forbidden(request, asked, stored, options)
    if reason is None and nominated is None:
        reason = Reason.VARY_STAR
    if reason is not None:
        return DoNotStore(reason)
    kept = kept_fields(response.fields, stored.directives, options)
    if kept is not response.fields:
        if _SAYS_HOW_LONG.isdisjoint(response.fields.names() - kept.names()):
            stored = stored._replace(fields=kept)
        else:
            stored = StoredResponse.build(
                stored.key, stored.nominated, stored.variant, response.with_fields(kept), timing, options
            )
    return _worth_storing(stored)


def plain_refusal(response: ResponseHead) -> Reason | None:
    """Why a response is not stored whoever has asked, where it says so itself: then no rule is looked for.

    Without one, `_forbidden` would come to the same.
    """
    directives = parse_response_directives(response.fields)
    if directives.must_understand or response.status in (206, 304):
        return None
    if directives.no_store:
        return Reason.NO_STORE
    return Reason.PRIVATE if directives.private else None


def _forbidden(
    request: RequestHead, asked: RequestDirectives, stored: StoredResponse, options: CachingOptions
) -> Reason | None:
    directives = stored.directives
    status = stored.status
    if asked.no_store:
        return Reason.REQUEST_NO_STORE
    if stored.overrides.never_store:
        return Reason.RULE
    if status == 206:
        return Reason.PARTIAL_CONTENT
    if status < 200 or status == 304:
        return Reason.STATUS
    if directives.must_understand:
        # RFC 9111 §5.2.2.3: it overrides no-store, but only for a status whose rules we implement.
        if status not in UNDERSTOOD_STATUSES:
            return Reason.NOT_UNDERSTOOD
    elif directives.no_store:
        return Reason.NO_STORE
    if directives.private:
        return Reason.PRIVATE
    shared_on_purpose = directives.public or directives.s_maxage is not None
    if "authorization" in request.fields and not (shared_on_purpose or directives.must_revalidate):
        return Reason.AUTHORIZATION
    assert request.target is not None
    if request.target.origin.scheme == "https" and (
        "authorization" in request.fields or "cookie" in request.fields
    ):
        return Reason.CREDENTIALS_OVER_TLS
    if (
        options.set_cookie is SetCookie.BYPASS
        and not COOKIE_FIELDS.isdisjoint(stored.fields.names())
        and not shared_on_purpose
    ):
        return Reason.SET_COOKIE
    if request.method != "GET" and not _answers_get(request, stored):
        return Reason.METHOD
    if not stored.lifetime.is_explicit and status not in HEURISTIC_STATUSES and not directives.public:
        return Reason.STATUS
    return None


def _answers_get(request: RequestHead, stored: StoredResponse) -> bool:
    # RFC 9110 §9.3.3: a POST response with explicit freshness and a Content-Location equal to the target
    # is what a GET would have returned.
    location = stored.fields.only("content-location")
    if request.method != "POST" or location is None or not stored.lifetime.is_explicit:
        return False
    assert request.target is not None
    return (
        stored.status == 200
        and stored.lifetime.seconds > 0
        and resolve(request.target, location) == request.target
    )


def _worth_storing(stored: StoredResponse) -> Store | DoNotStore:
    is_reusable = stored.lifetime.seconds > stored.corrected_initial_age and not stored.directives.no_cache
    return Store(stored) if is_reusable or stored.has_validator else DoNotStore(Reason.NOTHING_TO_REUSE)
