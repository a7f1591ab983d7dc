"""What a response's head says of its connection and to the cache, worked out once for all that say it in the same words."""

from __future__ import annotations

from cacheproxy.caching.storing import plain_refusal
from cacheproxy.http.forwarding import connection_options
from cacheproxy.http.message import ResponseHead
from cacheproxy.http.names import Names

# The fields whose values the facts depend on. What else a head has, differs from one response to the next.
_DECIDING = frozenset({"connection", "proxy-connection", "cache-control", "content-encoding", "content-type"})
_MAX_KNOWN = 2048
# What the deciding lines may take to be remembered, in characters.
_LONGEST = 512

_Words = tuple[int, tuple[int, int], Names, tuple[str, ...]]


class ResponseFacts:
    """Facts about a final response's head. Made by `facts_of`: equal words share them."""

    __slots__ = ("content_type", "is_coded", "length_at", "persists", "refusal", "status")

    def __init__(self, head: ResponseHead) -> None:
        fields = head.fields
        self.status = head.status
        has_body = head.status >= 200 and head.status not in (204, 304)
        self.length_at = fields.named.sole_length if has_body else -1
        """The place of Content-Length where it alone frames the body of a final response to a GET; else -1."""
        # RFC 9112 §9.3. Where nothing is said, an HTTP/1.1 connection stays.
        options = connection_options(fields)
        self.persists = "close" not in options and (head.version >= (1, 1) or "keep-alive" in options)
        """Whether another request may follow on its connection."""
        self.refusal = plain_refusal(head)
        """Why it is not stored, where that is plain whoever has asked; else None."""
        self.is_coded = "content-encoding" in fields
        self.content_type = fields.get("content-type") or "-"
        """As the access log says it."""


_known: dict[_Words, ResponseFacts] = {}


def facts_of(head: ResponseHead) -> ResponseFacts:
    """The facts about a head. Remembered within bounds."""
    names = head.fields.named
    words = (head.status, head.version, names, names.picking(_DECIDING)(head.fields.texts))
    known = _known.get(words)
    if known is None:
        known = ResponseFacts(head)
        if not names.is_long and sum(map(len, words[3])) <= _LONGEST:
            if len(_known) >= _MAX_KNOWN:
                _known.clear()
            _known[words] = known
    return known
