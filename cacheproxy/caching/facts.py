"""What a request's fields say to the cache, worked out once: no verdict, nothing that time or rules change."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cacheproxy.caching.key import bypass_reason, is_origin_condition, is_routing_field
from cacheproxy.http.cache_control import PLAIN_REQUEST, parse_request_directives
from cacheproxy.http.codings import asks_for, upgraded_accept_encoding
from cacheproxy.http.forwarding import connection_options, end_to_end, is_hop_by_hop
from cacheproxy.http.head import split_plain_fields
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.http.vary import variant_of

# The fields by which an answer from the store differs for the same stored response.
CONDITIONS = ("if-none-match", "if-modified-since", "range", "if-range")
# Whoever sends these wants something that is decided elsewhere.
_JUDGED = frozenset({"via", "host"})
_NEVER_SHORT = frozenset({"content-length", "transfer-encoding", "expect", "upgrade", "trailer"})
_SPEAKING = _NEVER_SHORT | _JUDGED | {*CONDITIONS, "cache-control", "pragma"}
_MAX_VARIANTS = 16

Conditions = tuple[tuple[str, ...], ...]


@lru_cache(4096)
def says_nothing(name: str) -> bool:
    """Whether a field of this lower-case name changes no fact but a variant's, and nobody judges it."""
    return not (name in _SPEAKING or is_hop_by_hop(name) or is_routing_field(name) or is_origin_condition(name))


class FieldFacts:
    """Facts about the fields of a GET or HEAD without a body."""

    __slots__ = (
        "_end_to_end",
        "_reads",
        "_received",
        "_says_keep_alive",
        "_upgraded",
        "_variants",
        "asked",
        "conditions",
        "is_common",
        "is_mute",
        "is_plain",
        "is_simple",
        "prepared",
        "prepared_old",
        "raw",
        "says_close",
    )

    def __init__(self, raw: bytes, received: Fields | None = None) -> None:
        """`received` None: all lines are well-formed, and `says_nothing` holds for every field.

        But for one good Host, and for those that say that the connection stays.
        """
        self.raw = raw
        """The lines with the empty line, byte for byte: equal bytes have equal facts."""
        self.is_mute = received is None
        """Whether nobody judges these fields, but for one good Host."""
        self._received = self._end_to_end = received
        self.is_simple = True
        """Whether no body follows, the protocol stays the same, and the store may be asked."""
        self.says_close = False
        """Whether this is to be the connection's last request."""
        self._says_keep_alive: bool | None = None
        self.asked = PLAIN_REQUEST
        self.conditions: Conditions | None = None
        self.is_plain = True
        self.is_common = True
        """Whether they are plain and simple, and the connection of an HTTP/1.1 client persists: any stored response without
        variants may be the answer.
        """
        self.prepared: Any = None
        """What the engine keeps of what these fields become on their way to an origin."""
        self.prepared_old: Any = None
        """The same of an HTTP/1.0 client's."""
        self._variants: dict[tuple[str, ...], tuple[str | None, ...]] | None = None
        self._upgraded: dict[tuple[str, ...], tuple[str | None, ...]] | None = None
        self._reads: dict[tuple[str, ...], bool] | None = None
        if received is not None:
            self._look(received)

    @property
    def received(self) -> Fields:
        """The fields as they came."""
        found = self._received
        if found is None:
            # Most often nobody asks: a hit needs to know only that they say nothing.
            found = self._received = split_plain_fields(self.raw[:-2].decode("latin-1"))
            self._end_to_end = end_to_end(found)
        return found

    @property
    def fields(self) -> Fields:
        """Those that are for whoever answers, not for the connection."""
        received = self.received
        return received if self._end_to_end is None else self._end_to_end

    def _look(self, received: Fields) -> None:
        self._end_to_end = fields = end_to_end(received)
        options = connection_options(received)
        self.says_close = "close" in options
        self.is_simple = (
            _NEVER_SHORT.isdisjoint(received.names())
            and bypass_reason(fields) is None
            and "upgrade" not in options
        )
        self.asked = parse_request_directives(fields)
        if any(name in fields for name in CONDITIONS):
            self.conditions = tuple(fields.all(name) for name in CONDITIONS)
        self.is_plain = self.conditions is None and self.asked == PLAIN_REQUEST
        self.is_common = self.is_plain and self.is_simple and not self.says_close

    @property
    def says_keep_alive(self) -> bool:
        """Whether an HTTP/1.0 client's connection persists, if nothing says `close` (RFC 9112 §9.3)."""
        if self._says_keep_alive is None:
            self._says_keep_alive = "keep-alive" in connection_options(self.received)
        return self._says_keep_alive

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
