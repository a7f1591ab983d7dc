"""The client's own conditions against a stored response (RFC 9110 §13, RFC 9111 §4.3.2)."""

from __future__ import annotations

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.http.dates import parse_date
from cacheproxy.http.message import Fields
from cacheproxy.http.validators import parse_tag_list, strong_match, weak_match

# RFC 9110 §15.4.5: what a 304 must repeat, and what else is about the response rather than its content.
_NOT_IN_304 = frozenset(
    {
        "content-length",
        "content-type",
        "content-encoding",
        "content-language",
        "content-range",
        "transfer-encoding",
        "accept-ranges",
        "content-disposition",
        "content-md5",
        "digest",
        "repr-digest",
        "content-digest",
    }
)


def is_not_modified(request: Fields, stored: StoredResponse, now: float) -> bool:
    """Whether the client already has what is stored: answer 304."""
    if stored.status != 200:
        return False
    if_none_match = request.get("if-none-match")
    if if_none_match is not None:
        tags = parse_tag_list(if_none_match)
        if tags is None:
            return True
        return stored.etag is not None and any(weak_match(tag, stored.etag) for tag in tags)
    since = request.only("if-modified-since")
    if since is None:
        return False
    since_at = parse_date(since, now)
    if since_at is None:
        return False
    # RFC 9111 §4.3.2: without Last-Modified the Date, else the time of receipt, stands in.
    modified = stored.last_modified
    modified_at = stored.date_at if modified is None else parse_date(modified, now)
    return modified_at is not None and modified_at <= since_at


def range_applies(request: Fields, stored: StoredResponse, now: float) -> bool:
    """Whether a Range request may be answered with parts: If-Range absent, or its validator matches strongly.

    RFC 9110 §13.1.5, §8.8.2.2: a date is strong only if at least a second older than the response's Date.
    """
    condition = request.only("if-range")
    if condition is None:
        return "if-range" not in request
    if condition.startswith(('"', "W/")):
        return stored.etag is not None and strong_match(condition, stored.etag)
    if stored.last_modified is None or condition != stored.last_modified:
        return False
    modified_at = parse_date(stored.last_modified, now)
    return modified_at is not None and stored.date_at - modified_at >= 1


def not_modified_fields(fields: Fields) -> Fields:
    """The fields of a stored response that go into a 304."""
    return fields.without(_NOT_IN_304)
