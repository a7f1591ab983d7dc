"""What a request's fields say to the cache, worked out once: no verdict, nothing that time or rules change."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cacheproxy.caching.key import bypass_reason, is_origin_condition, is_routing_field
from cacheproxy.http.cache_control import PLAIN_REQUEST, parse_request_directives
from cacheproxy.http.codings import asks_for, upgraded_accept_encoding
from cacheproxy.http.forwarding import connection_options, end_to_end, is_hop_by_hop
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.http.vary import variant_of

# The fields by which an answer from the store differs for the same stored response.
CONDITIONS = ("if-none-match", "if-modified-since", "range", "if-range")
# Whoever sends these wants something that is decided elsewhere.
_NEVER_SHORT = frozenset({"content-length", "transfer-encoding", "expect", "upgrade", "trailer"})
_SPEAKING = _NEVER_SHORT | {*CONDITIONS, "cache-control", "pragma"}
_MAX_VARIANTS = 16

Conditions = tuple[tuple[str, ...], ...]


@lru_cache(4096)
def says_nothing(name: str) -> bool:
    """Whether a field of this lower-case name changes no fact but a variant's: it may have any value."""
    return not (name in _SPEAKING or is_hop_by_hop(name) or is_routing_field(name) or is_origin_condition(name))


class FieldFacts:
    """Facts about the fields of an HTTP/1.1 GET or HEAD without a body."""

    __slots__ = (
        "_reads",
        "_upgraded",
        "_variants",
        "asked",
        "conditions",
        "fields",
        "is_plain",
        "is_simple",
        "prepared",
        "raw",
        "received",
    )

    def __init__(self, raw: bytes, received: Fields, *, is_mute: bool = False) -> None:
        """`is_mute`: `says_nothing` holds for every field, so the facts need not be looked for."""
        self.raw = raw
        """The lines with the empty line, byte for byte: equal bytes have equal facts."""
        self.received = received
        self.fields = received
        self.is_simple = True
        """Whether the connection persists, no body follows, and the store may be asked."""
        self.asked = PLAIN_REQUEST
        self.conditions: Conditions | None = None
        self.is_plain = True
        self.prepared: Any = None
        """What the engine keeps of what these fields become on their way to an origin."""
        self._variants: dict[tuple[str, ...], tuple[str | None, ...]] | None = None
        self._upgraded: dict[tuple[str, ...], tuple[str | None, ...]] | None = None
        self._reads: dict[tuple[str, ...], bool] | None = None
        if not is_mute:
            self._look()

    def _look(self) -> None:
        self.fields = fields = end_to_end(self.received)
        self.is_simple = (
            _NEVER_SHORT.isdisjoint(self.received.names())
            and bypass_reason(fields) is None
            and connection_options(self.received).isdisjoint(("close", "upgrade"))
        )
        self.asked = parse_request_directives(fields)
        if any(name in fields for name in CONDITIONS):
            self.conditions = tuple(fields.all(name) for name in CONDITIONS)
        self.is_plain = self.conditions is None and self.asked == PLAIN_REQUEST

    def variant(self, nominated: tuple[str, ...]) -> tuple[str | None, ...]:
        """The values of the nominated fields in comparable form (RFC 9111 §4.1)."""
        known = self._variants
        if known is None:
            known = self._variants = {}
        found = known.get(nominated)
        if found is None:
            found = variant_of(nominated, self.fields)
            if len(known) < _MAX_VARIANTS:
                known[nominated] = found
        return found

    def upgraded_variant(
        self, nominated: tuple[str, ...], available: tuple[str, ...]
    ) -> tuple[str | None, ...] | None:
        """The same for the codings that are asked for in the client's stead; None where none may be."""
        known = self._upgraded
        if known is None:
            known = self._upgraded = {}
        if nominated in known:
            return known[nominated] or None
        head = RequestHead("GET", "", (1, 1), self.fields)
        value = upgraded_accept_encoding(head, available, for_lookup=True) if available else None
        found = () if value is None else variant_of(nominated, self.fields.replaced("Accept-Encoding", value))
        if len(known) < _MAX_VARIANTS:
            known[nominated] = found
        return found or None

    def reads(self, codings: tuple[str, ...]) -> bool:
        """Whether the client itself named every one of these codings."""
        known = self._reads
        if known is None:
            known = self._reads = {}
        found = known.get(codings)
        if found is None:
            found = all(asks_for(self.fields, coding) for coding in codings)
            if len(known) < _MAX_VARIANTS:
                known[codings] = found
        return found
