"""What a request's fields say to the cache, worked out once: no verdict, nothing that time or rules change."""

from __future__ import annotations

from cacheproxy.caching.key import bypass_reason
from cacheproxy.http.cache_control import PLAIN_REQUEST, parse_request_directives
from cacheproxy.http.forwarding import connection_options, end_to_end
from cacheproxy.http.message import Fields
from cacheproxy.http.vary import variant_of

# The fields by which an answer from the store differs for the same stored response.
CONDITIONS = ("if-none-match", "if-modified-since", "range", "if-range")
# Whoever sends these wants something that is decided elsewhere.
_NEVER_SHORT = frozenset({"content-length", "transfer-encoding", "expect", "upgrade", "trailer"})
_MAX_VARIANTS = 16

Conditions = tuple[tuple[str, ...], ...]


class FieldFacts:
    """Facts about the fields of an HTTP/1.1 GET or HEAD without a body."""

    __slots__ = ("_variants", "asked", "conditions", "fields", "is_plain", "is_simple", "raw", "received")

    def __init__(self, raw: bytes, received: Fields) -> None:
        self.raw = raw
        """The lines with the empty line, byte for byte: equal bytes have equal facts."""
        self.received = received
        self.fields = fields = end_to_end(received)
        names = received.names()
        self.is_simple = (
            _NEVER_SHORT.isdisjoint(names)
            and bypass_reason(fields) is None
            and connection_options(received).isdisjoint({"close", "upgrade"})
        )
        """Whether the connection persists, no body follows, and the store may be asked."""
        self.asked = parse_request_directives(fields)
        self.conditions: Conditions | None = None
        if not fields.names().isdisjoint(CONDITIONS):  # type: ignore[attr-defined]
            self.conditions = tuple(fields.all(name) for name in CONDITIONS)
        self.is_plain = self.conditions is None and self.asked == PLAIN_REQUEST
        self._variants: dict[tuple[str, ...], tuple[str | None, ...]] = {}

    def variant(self, nominated: tuple[str, ...]) -> tuple[str | None, ...]:
        """The values of the nominated fields in comparable form (RFC 9111 §4.1)."""
        found = self._variants.get(nominated)
        if found is None:
            found = variant_of(nominated, self.fields)
            if len(self._variants) < _MAX_VARIANTS:
                self._variants[nominated] = found
        return found
