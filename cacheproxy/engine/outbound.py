"""What a client's request becomes on the way to its origin, worked out once for equal fields, and for equal targets."""

from __future__ import annotations

from dataclasses import dataclass

from cacheproxy.caching.facts import FieldFacts
from cacheproxy.engine.hop import HOP_FIELD
from cacheproxy.engine.parts import Parts
from cacheproxy.http.codings import upgraded_accept_encoding
from cacheproxy.http.forwarding import outbound_request_fields, uses_connection_auth
from cacheproxy.http.message import FieldLine, Fields, RequestHead
from cacheproxy.http.uri import TargetUri
from cacheproxy.policy.rules import placed, timeouts_for
from cacheproxy.ports import Affinity, UpstreamRequest

# What a client says in the field of our hops between workers is not for their eyes.
_NEVER_PLAIN = frozenset({"max-forwards", HOP_FIELD})


@dataclass(frozen=True, slots=True)
class Outbound:
    """The fields as the cache sees them, with the codings `asked_for` in the client's stead; `lines` and `wire` are
    what goes out but for Host. `is_simple`: nothing in them needs the ordinary path, `is_plain`: nor do they ask the
    cache for anything. `is_shareable`: others may wait for what comes of them.
    """

    is_simple: bool
    is_plain: bool
    is_shareable: bool
    asked_for: tuple[str, ...]
    fields: Fields
    lines: tuple[FieldLine, ...]
    wire: bytes


class Route:
    """Where the GETs of one target go while `rules` are in force, worked out once."""

    __slots__ = ("_start", "_target", "hierarchy", "host", "is_plain", "limits", "origin", "rules")

    def __init__(self, target: TargetUri, key: str, parts: Parts) -> None:
        authority = target.origin.authority
        self.rules = parts.rules
        self.origin = target.origin
        self.host = target.origin.host
        self.hierarchy = f"HIER_DIRECT/{self.host}"
        """As the access log says it."""
        place = placed(target, parts.rules, parts.caching.drop_query)
        self.is_plain = target.origin.scheme == "http" and place.target is target and place.key == key
        """Whether nothing in them needs the ordinary path."""
        self.limits = timeouts_for(target, parts.rules, parts.timeouts)
        self._target = target
        self._start = f"GET {target.path_and_query} HTTP/1.1\r\nHost: {authority}\r\n".encode("latin-1")

    def wire(self, outbound: Outbound) -> bytes:
        """The head of a GET with these fields."""
        return self._start + outbound.wire

    def conditional_wire(self, outbound: Outbound, conditions: Fields) -> bytes:
        """The same with conditions of ours."""
        wire = self.wire(outbound)
        return b"%b%b\r\n" % (wire[: -len(b"\r\n")], conditions.wire().encode("latin-1"))

    def request(self, outbound: Outbound, affinity: Affinity) -> UpstreamRequest:
        """The same as a value."""
        target, limits = self._target, self.limits
        fields = Fields((("Host", target.origin.authority), *outbound.lines))
        return UpstreamRequest(
            target.origin,
            "GET",
            target.path_and_query,
            fields,
            limits.first_byte_s,
            limits.idle_s,
            affinity=affinity,
        )


def prepare(facts: FieldFacts, codings: tuple[str, ...], via: str, version: tuple[int, int]) -> Outbound:
    """Of the fields of a GET of this HTTP version; the facts keep it."""
    fields = facts.fields
    value = upgraded_accept_encoding(RequestHead("GET", "*", (1, 1), fields), codings) if codings else None
    if value is not None:
        fields = fields.replaced("Accept-Encoding", value)
    tail = Fields(outbound_request_fields(fields, "", via, version).lines[1:])
    is_simple = (
        facts.conditions is None
        and _NEVER_PLAIN.isdisjoint(facts.received.names())
        and not uses_connection_auth(fields)
    )
    wire = f"{tail.wire()}\r\n".encode("latin-1")
    is_shareable = "authorization" not in fields
    asked_for = codings if value is not None else ()
    is_plain = is_simple and facts.is_plain
    outbound = Outbound(is_simple, is_plain, is_shareable, asked_for, fields, tail.lines, wire)
    if version >= (1, 1):
        facts.prepared = outbound
    else:
        facts.prepared_old = outbound
    return outbound
