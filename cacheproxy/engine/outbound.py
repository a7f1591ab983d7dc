"""What a client's fields become on the way to any origin, worked out once for equal fields."""

from __future__ import annotations

from dataclasses import dataclass

from cacheproxy.caching.facts import FieldFacts
from cacheproxy.http.codings import upgraded_accept_encoding
from cacheproxy.http.forwarding import outbound_request_fields
from cacheproxy.http.message import FieldLine, Fields, RequestHead


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


def prepare(facts: FieldFacts, codings: tuple[str, ...], via: str) -> Outbound:
    """Of the fields of a GET; the facts keep it."""
    fields = facts.fields
    value = upgraded_accept_encoding(RequestHead("GET", "*", (1, 1), fields), codings) if codings else None
    if value is not None:
        fields = fields.replaced("Accept-Encoding", value)
    tail = Fields(outbound_request_fields(fields, "", via, (1, 1)).lines[1:])
    is_plain = facts.is_plain and "authorization" not in fields and "max-forwards" not in fields
    asked_for = codings if value is not None else ()
    facts.prepared = outbound = Outbound(is_plain, asked_for, fields, tail.lines, tail.wire() + "\r\n")
    return outbound
