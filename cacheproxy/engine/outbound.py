"""What a client's fields become on the way to any origin, worked out once for equal fields."""

from __future__ import annotations

from dataclasses import dataclass

from cacheproxy.caching.facts import FieldFacts
from cacheproxy.engine.hop import HOP_FIELD
from cacheproxy.http.codings import upgraded_accept_encoding
from cacheproxy.http.forwarding import outbound_request_fields
from cacheproxy.http.message import FieldLine, Fields, RequestHead
from cacheproxy.http.uri import TargetUri
from cacheproxy.policy.rules import Timeouts
from cacheproxy.ports import Affinity, UpstreamRequest

# What a client says in the field of our hops between workers is not for their eyes.
_NEVER_PLAIN = frozenset({"authorization", "max-forwards", HOP_FIELD})


@dataclass(frozen=True, slots=True)
class Outbound:
    """The fields as the cache sees them, with the codings `asked_for` in the client's stead; `lines` and `wire` are
    what goes out but for Host. `is_plain`: nothing in them needs the ordinary path.
    """

    is_plain: bool
    asked_for: tuple[str, ...]
    fields: Fields
    lines: tuple[FieldLine, ...]
    wire: str

    def to(self, target: TargetUri, limits: Timeouts, affinity: Affinity) -> tuple[UpstreamRequest, bytes]:
        """A GET of `target` with these fields, and its head as it is sent."""
        authority = target.origin.authority
        request = UpstreamRequest(
            target.origin,
            "GET",
            target.path_and_query,
            Fields((("Host", authority), *self.lines)),
            limits.first_byte_s,
            limits.idle_s,
            affinity=affinity,
        )
        wire = f"GET {target.path_and_query} HTTP/1.1\r\nHost: {authority}\r\n{self.wire}"
        return request, wire.encode("latin-1")


def prepare(facts: FieldFacts, codings: tuple[str, ...], via: str) -> Outbound:
    """Of the fields of a GET; the facts keep it."""
    fields = facts.fields
    value = upgraded_accept_encoding(RequestHead("GET", "*", (1, 1), fields), codings) if codings else None
    if value is not None:
        fields = fields.replaced("Accept-Encoding", value)
    tail = Fields(outbound_request_fields(fields, "", via, (1, 1)).lines[1:])
    is_plain = facts.is_plain and _NEVER_PLAIN.isdisjoint(facts.received.names())
    asked_for = codings if value is not None else ()
    facts.prepared = outbound = Outbound(is_plain, asked_for, fields, tail.lines, tail.wire() + "\r\n")
    return outbound
