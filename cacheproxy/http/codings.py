"""Content codings: what a client accepts, what a response carries, what we ask for (RFC 9110 §8.4, §12.5.3)."""

from __future__ import annotations

import re
from functools import lru_cache

from cacheproxy.http.cache_control import parse_request_directives
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.http.syntax import is_token, split_list

IDENTITY = "identity"
KNOWN = ("zstd", "br", "gzip", "deflate", IDENTITY)
"""The codings that this proxy knows, the one it likes best first."""

_ALIASES = {"x-gzip": "gzip", "x-compress": "compress"}
_STAR = "*"
_WEIGHT = re.compile(r"[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")
# What we would lie about, or could not answer, if the coding were changed behind the client's back.
_KEEP_OFF = frozenset({"a-im", "want-content-digest", "want-digest", "want-repr-digest"})
_RANGE = frozenset({"range", "if-range"})

# Longer than any real one: not worth reading, nor remembering in the caches below.
_MAX_LENGTH = 1024

Weights = dict[str, float]


def _parse(value: str) -> Weights | None:
    return _parse_short(value) if len(value) <= _MAX_LENGTH else None


@lru_cache(maxsize=512)
def _parse_short(value: str) -> Weights | None:
    weights: Weights = {}
    for member in split_list(value):
        name, semicolon, _ = member.partition(";")
        name = name.rstrip(" \t").lower()
        if not is_token(name):
            return None
        weight = 1.0
        if semicolon:
            match = _WEIGHT.match(member, member.index(";"))
            if match is None:
                return None
            weight = float(match.group(1))
        name = _ALIASES.get(name, name)
        if name in weights and (weights[name] > 0) != (weight > 0):
            # Accepted and refused in one breath: nobody can say which is meant.
            return None
        weights[name] = max(weight, weights.get(name, 0.0))
    return weights


def parse_accept_encoding(value: str) -> Weights | None:
    """The weights of an Accept-Encoding value by lower-case coding (`*` among them); None if malformed.

    RFC 9110 §12.4.2: weights have at most three digits. `x-gzip` counts as `gzip` (§8.4.1.3).
    """
    weights = _parse(value)
    return None if weights is None else dict(weights)


def _weight(weights: Weights, coding: str) -> float:
    weight = weights.get(coding, weights.get(_STAR))
    if weight is None:
        # RFC 9110 §12.5.3: what is not listed is not accepted, except identity.
        return 1.0 if coding == IDENTITY else 0.0
    return weight


def acceptable(fields: Fields, coding: str) -> bool:
    """Whether the request accepts `coding` (RFC 9110 §12.5.3).

    Without Accept-Encoding everything is acceptable; where it cannot be read only identity is.
    """
    value = fields.get("accept-encoding")
    return True if value is None else _accepts(value, coding)


def asks_for(fields: Fields, coding: str) -> bool:
    """Whether the client itself names `coding` (or `*`) as welcome: silence is no wish, unlike in `acceptable`."""
    value = fields.get("accept-encoding")
    return value is not None and _accepts(value, coding)


def _accepts(value: str, coding: str) -> bool:
    coding = coding.lower()
    weights = _parse(value)
    if weights is None:
        return coding == IDENTITY
    return _weight(weights, _ALIASES.get(coding, coding)) > 0


def normal_form(value: str) -> str | None:
    """An Accept-Encoding value in the one spelling of all that accept the same codings; None if malformed.

    Known codings stand in the order of KNOWN, others behind them by name; what must be said to be refused
    follows with q=0. Preferences are dropped: any accepted coding is right for the client. The result is
    itself an Accept-Encoding value of the same meaning.
    """
    return _normal_form(value) if len(value) <= _MAX_LENGTH else None


@lru_cache(maxsize=512)
def _normal_form(value: str) -> str | None:
    weights = _parse(value)
    if weights is None:
        return None
    named = [coding for coding in sorted(weights) if coding != _STAR and coding not in KNOWN]
    order = [*KNOWN, *named]
    parts = [coding for coding in order if _weight(weights, coding) > 0]
    has_star = weights.get(_STAR, 0.0) > 0
    if has_star:
        parts.append(_STAR)
    parts += [
        f"{coding};q=0"
        for coding in order
        if _weight(weights, coding) == 0 and (has_star or coding == IDENTITY)
    ]
    return ",".join(parts)


def content_codings(fields: Fields) -> tuple[str, ...] | None:
    """The codings of a response's content in the order they were applied; None if malformed.

    RFC 9110 §8.4: identity should not be there and means nothing; an empty tuple is content as it is.
    """
    value = fields.get("content-encoding")
    if value is None:
        return ()
    found: list[str] = []
    for member in split_list(value):
        name = member.lower()
        if not is_token(name):
            return None
        if name != IDENTITY:
            found.append(_ALIASES.get(name, name))
    return tuple(found)


@lru_cache(16)
def _in_order(available: tuple[str, ...]) -> str:
    return ", ".join([coding for coding in KNOWN if coding in available and coding != IDENTITY])


def upgraded_accept_encoding(
    request: RequestHead, available: tuple[str, ...], *, for_lookup: bool = False
) -> str | None:
    """What to ask the origin for in place of the client's Accept-Encoding; None: leave it as it is.

    It is the same text for every client that may be upgraded, so that all of them share one variant; what
    a client cannot read is decoded for it. None where the client forbids or would notice it: another
    method than GET and HEAD, `no-transform`, a range (its offsets count bytes of the coded form), a wish
    for digests, identity refused (we could not decode for it), a value that cannot be read.

    `for_lookup` disregards the range: what an upgraded fetch stored may answer it, if it is not coded.
    """
    ours = _in_order(available)
    if not ours or request.method not in ("GET", "HEAD"):
        return None
    fields = request.fields
    names = fields.names()
    if not _KEEP_OFF.isdisjoint(names) or (not for_lookup and not _RANGE.isdisjoint(names)):
        return None
    if "cache-control" in fields and parse_request_directives(fields).no_transform:
        return None
    own = fields.get("accept-encoding")
    if own is not None and (normal_form(own) is None or not _accepts(own, IDENTITY)):
        return None
    return ours
