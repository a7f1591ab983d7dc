"""What a response's head says of its connection and to the cache, worked out once for all that say it in the same words."""

from __future__ import annotations

from typing import Any

from cacheproxy.caching.storing import plain_refusal
from cacheproxy.http.forwarding import connection_options
from cacheproxy.http.message import ResponseHead
from cacheproxy.http.names import Names

# The fields whose values the facts depend on. What else a head has, differs from one response to the next.
_DECIDING = frozenset({"connection", "proxy-connection", "cache-control", "content-encoding", "content-type"})
# What the deciding lines may take to be remembered, in characters.
_LONGEST = 512
_KNOWN_BYTES = 8 * 1024 * 1024
# About what a head's facts take, with all that is derived from its names: so much, and so much for each line.
_BASE, _LINE = 1000, 450

_Words = tuple[int, tuple[int, int], Names, tuple[str, ...]]


class ResponseFacts:
    """Facts about a response's head. Made by `facts_of`: equal words share them."""

    __slots__ = ("content_type", "is_coded", "length_at", "persists", "prepared", "refusal", "status")

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
        self.prepared: Any = None
        """What the engine keeps of what such heads become on their way to a client."""


class _Memo:
    def __init__(self) -> None:
        self.known: dict[_Words, ResponseFacts] = {}
        self.bytes = 0

    def learn(self, words: _Words, head: ResponseHead) -> ResponseFacts:
        facts = ResponseFacts(head)
        names = words[2]
        if not names.is_long and sum(map(len, words[3])) <= _LONGEST:
            size = _BASE + _LINE * len(names.as_sent)
            if self.bytes + size > _KNOWN_BYTES:
                self.known.clear()
                self.bytes = 0
            self.known[words] = facts
            self.bytes += size
        return facts


_memo = _Memo()


def facts_of(head: ResponseHead) -> ResponseFacts:
    """The facts about a head. Remembered within bounds."""
    names = head.fields.named
    words = (head.status, head.version, names, names.picking(_DECIDING)(head.fields.texts))
    return _memo.known.get(words) or _memo.learn(words, head)
