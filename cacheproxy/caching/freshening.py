"""New fields for a stored response from a 304 or a HEAD (RFC 9111 §3.2, §4.3.4, §4.3.5)."""

from __future__ import annotations

from enum import Enum

from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.caching.options import CachingOptions
from cacheproxy.caching.storing import kept_fields
from cacheproxy.http.cache_control import parse_response_directives
from cacheproxy.http.message import RequestHead, ResponseHead
from cacheproxy.http.validators import weak_match
from cacheproxy.http.vary import nominated_names

# RFC 9111 §3.2: Content-Length never; the others describe how the stored body is coded or cut.
_NEVER_UPDATED = frozenset({"content-length", "content-encoding", "content-range", "transfer-encoding", "vary"})
_ALWAYS_REPLACED = frozenset({"age", "date"})


def merge(
    stored: StoredResponse, answer: ResponseHead, timing: Timing, options: CachingOptions
) -> StoredResponse:
    """The stored response with the fields of `answer` in place of its own."""
    fresh = kept_fields(answer.fields, parse_response_directives(answer.fields), options).without(
        _NEVER_UPDATED
    )
    merged = stored.fields.without(_ALWAYS_REPLACED | fresh.names()).joined(fresh)
    merged = kept_fields(merged, parse_response_directives(merged), options)
    head = ResponseHead(stored.status, stored.reason_phrase, merged)
    return StoredResponse.build(
        stored.key,
        stored.nominated,
        stored.variant,
        head,
        timing,
        options,
        entry_id=stored.entry_id,
        body_id=stored.body_id,
        length=stored.length,
        held=stored.held,
        asked_for=stored.asked_for,
    )


class Update(Enum):
    """What an answer's fields may do to the shared copy."""

    APPLY = "apply"
    FOR_CLIENT_ONLY = "for this client only"
    DROP = "the origin no longer allows sharing"


def may_update(request: RequestHead, answer: ResponseHead, *, is_private_connection: bool) -> Update:
    """Whether the fields of a 304 or HEAD may enter the shared copy; the rules of storing hold for them too.

    RFC 9111 §3.2, §3.5, §5.2.2: `private`, `no-store` and `Vary: *` end the sharing; what was said to one
    authenticated user stays with that user unless the answer is marked for sharing.
    """
    directives = parse_response_directives(answer.fields)
    if directives.no_store or directives.private or nominated_names(answer.fields) is None:
        return Update.DROP
    is_authenticated = is_private_connection or "authorization" in request.fields
    if is_authenticated and not (
        directives.public or directives.must_revalidate or directives.s_maxage is not None
    ):
        return Update.FOR_CLIENT_ONLY
    return Update.APPLY


def head_confirms(stored: StoredResponse, answer: ResponseHead) -> bool:
    """Whether a 200 to HEAD describes the stored GET response (RFC 9111 §4.3.5).

    Each validator and the length that it carries must equal the stored one; else the stored one is invalid.
    """
    fields = answer.fields
    etag = fields.only("etag")
    if etag is not None and (stored.etag is None or not weak_match(etag, stored.etag)):
        return False
    modified = fields.only("last-modified")
    if modified is not None and modified != stored.last_modified:
        return False
    length = fields.only("content-length")
    return length is None or stored.length is None or length == str(stored.length)
