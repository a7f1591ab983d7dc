"""Heads of answers: what the proxy adds to a response that it passes on or serves from the store."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.options import SetCookie
from cacheproxy.caching.response_facts import ResponseFacts
from cacheproxy.caching.reuse import remaining_lifetime
from cacheproxy.caching.storing import COOKIE_FIELDS
from cacheproxy.engine.parts import Parts
from cacheproxy.http.dates import format_date
from cacheproxy.http.forwarding import connection_lines, passing_on
from cacheproxy.http.message import FieldLine, Fields, ResponseHead
from cacheproxy.http.names import Names, Pick
from cacheproxy.http.status_fields import cache_status
from cacheproxy.reasons import Reason, fwd_word

# Reasons that say why a stored response was used although it is stale.
_STALE_USES = frozenset(
    {Reason.STALE_WHILE_REVALIDATE, Reason.STALE_MAX_STALE, Reason.STALE_IF_ERROR, Reason.STALE_DISCONNECTED}
)


def forwarded_head(
    parts: Parts, head: ResponseHead, reason: Reason, stored: Reason | None, *, collapsed: bool = False
) -> ResponseHead:
    """The head of a response passed on from upstream. `stored` is the storing decision's reason."""
    fields = head.fields
    names, lines = fields.named, connection_lines(fields)
    is_short = not names.is_long and (not lines or (len(lines) == 1 and len(lines[0]) <= _SHORT))
    added = (_known_added if is_short else _added)(
        names, lines, parts.via, head.version, head.status, reason, stored, collapsed
    )
    staying = fields.texts if added.pick is None else added.pick(fields.texts)
    if added.lacks_date:
        # RFC 9110 §6.6.1: a recipient with a clock adds the Date that the origin left out.
        staying = (*staying, f"Date: {format_date(parts.clock.wall())}")
    return ResponseHead(head.status, head.reason_phrase, Fields.sent(staying + added.texts, added.names))


class _Added(NamedTuple):
    """What the proxy makes of the fields of all responses alike: those that `pick` takes (None: all), and `texts`."""

    pick: Pick | None
    lacks_date: bool
    texts: tuple[str, ...]
    names: Names


class _Refused(NamedTuple):
    """`added` to responses with the same facts, by the proxy called `via`; None: it is not this simple."""

    via: str
    added: _Added | None
    tail: str


def refused_wire(via: str, head: ResponseHead, facts: ResponseFacts, length: int) -> bytes | None:
    """`forwarded_head`, as bytes, of a response that `facts` keep out of the store, with a body of `length` bytes.

    For a client of HTTP/1.1 that stays connected. None where it is not this simple.
    """
    known: _Refused | None = facts.prepared
    if known is None or known.via != via:
        facts.prepared = known = _refused(via, head, facts)
    added, fields = known.added, head.fields
    # What leaves here is our own count: it is the origin's only where that is written the same.
    if added is None or fields.value_at(facts.length_at) != str(length):
        return None
    lines = "\r\n".join(fields.texts if added.pick is None else added.pick(fields.texts))
    return f"HTTP/1.1 {head.status} {head.reason_phrase}\r\n{lines}{known.tail}".encode("latin-1")


def _refused(via: str, head: ResponseHead, facts: ResponseFacts) -> _Refused:
    lines = connection_lines(head.fields)
    added = _added(
        head.fields.named, lines, via, head.version, head.status, Reason.URI_MISS, facts.refusal, False
    )
    is_simple = (
        facts.length_at >= 0
        and added.names.sole_length >= 0
        and not added.names.has_connection
        and not added.lacks_date
    )
    return _Refused(via, added if is_simple else None, "\r\n".join(("", *added.texts, "", "")))


def _added(
    names: Names,
    connection: tuple[str, ...],
    via: str,
    version: tuple[int, int],
    status: int,
    reason: Reason,
    stored: Reason | None,
    collapsed: bool,
) -> _Added:
    word = fwd_word(reason)
    detail = None if stored in (None, Reason.STORED) else str(stored)
    if detail is None and str(reason) != word:
        detail = str(reason)
    is_stored = stored is Reason.STORED
    said = cache_status(fwd=word, fwd_status=status, stored=is_stored, collapsed=collapsed, detail=detail)
    passing = passing_on(names, connection)
    pick, staying = (None, names) if passing is None else passing
    lacks_date = "date" not in staying.at
    more = ("Date",) if lacks_date else ()
    texts = (f"Via: {_via(via, version)}", f"Cache-Status: {said}")
    return _Added(pick, lacks_date, texts, staying.plus((*more, "Via", "Cache-Status")))


_SHORT = 256
# Each keeps two sets of names.
_known_added = lru_cache(256)(_added)


def stored_fields(
    parts: Parts, stored: StoredResponse, age: float, reason: Reason, now: float, *, collapsed: bool = False
) -> Fields:
    """The fields of a stored response as they go to a client: Age, Via, Cache-Status, never others' cookies."""
    fields = stored.fields
    if parts.caching.set_cookie is not SetCookie.REPLAY and not COOKIE_FIELDS.isdisjoint(fields.names()):
        fields = fields.without(COOKIE_FIELDS)
    names = fields.names()
    extra: list[FieldLine] = []
    if "age" in names:
        fields = fields.replaced("Age", str(int(age)))
    else:
        extra.append(("Age", str(int(age))))
    if "date" not in names:
        extra.append(("Date", format_date(stored.timing.response_time)))
    extra.append(("Via", _via(parts.via, stored.head.version)))
    ttl = int(remaining_lifetime(stored, now))
    if reason is Reason.PARTIAL_HIT:
        # RFC 9211 §2.2: a stored response was selected, but the bytes asked for had to be completed.
        status = cache_status(fwd="partial", fwd_status=206, stored=True, ttl=ttl, collapsed=collapsed)
    elif reason is Reason.REVALIDATED:
        status = cache_status(hit=True, ttl=ttl, fwd="stale", fwd_status=304, detail=str(reason))
    else:
        detail = str(reason) if reason in _STALE_USES else None
        if detail is None and stored.overrides.source:
            detail = f"rule: {stored.overrides.source}"
        status = cache_status(hit=True, ttl=ttl, collapsed=collapsed, detail=detail)
    extra.append(("Cache-Status", status))
    return fields.plus(*extra)


class _Sent(NamedTuple):
    """Of stored fields with the same names: those that go to clients (None: all), and where their Content-Length is.

    It is -1 where more than the usual is to be done.
    """

    pick: Pick | None
    length_at: int


def hit_wire(parts: Parts, stored: StoredResponse, length: int) -> tuple[bytes, bytes, bytes] | None:
    """The head of a plain hit whose body has `length` bytes, for a client of HTTP/1.1 that stays connected.

    `stored_fields` as bytes, without the two numbers that time changes: it is cut where Age and ttl stand. None where
    it is not this simple.
    """
    fields, names = stored.fields, stored.fields.named
    is_replayed = parts.caching.set_cookie is SetCookie.REPLAY
    sent = (_sent if names.is_long else _known_sent)(names, is_replayed)
    if sent.length_at < 0 or stored.status in (204, 304):
        return None
    texts = fields.texts if sent.pick is None else sent.pick(fields.texts)
    # What leaves here is our own count: it is the origin's only where that is written the same.
    if texts[sent.length_at][len("content-length: ") :] != str(length):
        return None
    between, after = _around_ttl(parts.via, stored.overrides.source)
    lines = "\r\n".join(texts)
    before = f"HTTP/1.1 {stored.status} {stored.reason_phrase}\r\n{lines}\r\nAge: ".encode("latin-1")
    return before, between, after


def _sent(names: Names, is_replayed: bool) -> _Sent:
    pick = None
    if not is_replayed and not COOKIE_FIELDS.isdisjoint(names.at):
        pick, names = names.without(COOKIE_FIELDS)
    is_usual = "date" in names.at and "age" not in names.at and not names.has_connection
    return _Sent(pick, names.sole_length if is_usual else -1)


_known_sent = lru_cache(256)(_sent)


@lru_cache(64)
def _around_ttl(via: str, rule: str) -> tuple[bytes, bytes]:
    status = cache_status(hit=True, ttl=0, detail=f"rule: {rule}" if rule else None)
    before, after = status.split("ttl=0", 1)
    said = f"\r\nVia: {_via(via, (1, 1))}\r\nCache-Status: {before}ttl="
    return said.encode("latin-1"), f"{after}\r\n\r\n".encode("latin-1")


def _via(via: str, version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]} {via}"


def own_cookies(head: ResponseHead) -> Fields | None:
    """Cookies that the origin has just set, for the client whose request it answered."""
    if COOKIE_FIELDS.isdisjoint(head.fields.names()):
        return None
    return head.fields.where(lambda name, _: name in COOKIE_FIELDS)
