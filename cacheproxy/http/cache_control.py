"""Cache-Control and Pragma as values (RFC 9111 §5.2, §5.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from cacheproxy.errors import SyntaxFault
from cacheproxy.http.message import Fields
from cacheproxy.http.syntax import is_token, parse_delta_seconds, parse_directive, split_list

INVALID = -1
"""A delta-seconds directive that is present but not a number: it counts as 0 (RFC 9111 §4.2.1)."""


@dataclass(frozen=True, slots=True)
class RequestDirectives:
    """What the client asks of caches (RFC 9111 §5.2.1); seconds, None where absent."""

    no_cache: bool = False
    no_store: bool = False
    no_transform: bool = False
    only_if_cached: bool = False
    max_age: int | None = None
    max_stale: int | None = None
    min_fresh: int | None = None


PLAIN_REQUEST = RequestDirectives()


@dataclass(frozen=True, slots=True)
class ResponseDirectives:
    """What the origin allows caches (RFC 9111 §5.2.2, RFC 5861, RFC 8246); seconds, None where absent."""

    no_cache: bool = False
    no_cache_fields: frozenset[str] = frozenset()
    no_store: bool = False
    private: bool = False
    private_fields: frozenset[str] = frozenset()
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    no_transform: bool = False
    immutable: bool = False
    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None


_MEMO_LENGTH = 256


def _members(lines: tuple[str, ...]) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for line in lines:
        for member in split_list(line):
            try:
                directive, argument, _ = parse_directive(member)
            except SyntaxFault:
                # A broken argument must not hide a restriction: `no-store =1` still forbids.
                word = member.partition("=")[0].strip(" \t").lower()
                if is_token(word):
                    found.append((word, ""))
                continue
            found.append((directive, argument))
    return found


def _seconds(
    arguments: dict[str, list[str | None]], name: str, strictest: Callable[[Iterable[int]], int] = min
) -> int | None:
    values = arguments.get(name)
    if values is None:
        return None
    parsed = [parse_delta_seconds(value or "") for value in values]
    if any(value is None for value in parsed):
        return INVALID
    # RFC 9111 §4.2.1: of conflicting values the most restrictive is the safe choice.
    return strictest(value for value in parsed if value is not None)


def _gather(lines: tuple[str, ...]) -> dict[str, list[str | None]]:
    arguments: dict[str, list[str | None]] = {}
    for name, argument in _members(lines):
        arguments.setdefault(name, []).append(argument)
    return arguments


def parse_request_directives(fields: Fields) -> RequestDirectives:
    """The request's directives; `Pragma: no-cache` counts only without Cache-Control (RFC 9111 §5.4)."""
    lines = fields.all("cache-control")
    if not lines:
        pragma = fields.all("pragma")
        if pragma and any(name == "no-cache" for name, _ in _members(pragma)):
            return RequestDirectives(no_cache=True)
        return PLAIN_REQUEST
    is_short = len(lines) == 1 and len(lines[0]) <= _MEMO_LENGTH
    return (_known_request if is_short else _request)(lines)


def _request(lines: tuple[str, ...]) -> RequestDirectives:
    arguments = _gather(lines)
    max_stale = None
    if "max-stale" in arguments:
        values = arguments["max-stale"]
        # RFC 9111 §5.2.1.2: without a value any staleness is acceptable.
        parsed = [2**31 if value is None else parse_delta_seconds(value) for value in values]
        max_stale = min((value for value in parsed if value is not None), default=None)
    min_fresh = _seconds(arguments, "min-fresh", max)
    max_age = _seconds(arguments, "max-age")
    return RequestDirectives(
        no_cache="no-cache" in arguments,
        no_store="no-store" in arguments,
        no_transform="no-transform" in arguments,
        only_if_cached="only-if-cached" in arguments,
        # A broken max-age asks for something that we cannot read: validate.
        max_age=0 if max_age == INVALID else max_age,
        max_stale=max_stale,
        min_fresh=None if min_fresh == INVALID else min_fresh,
    )


# Few clients' programs say it in many ways.
_known_request = lru_cache(256)(_request)


def _field_names(values: list[str | None]) -> frozenset[str] | None:
    """Field names listed in a qualified directive; None if any instance is unqualified or unreadable."""
    names: set[str] = set()
    for value in values:
        listed = [] if value is None else split_list(value)
        if not listed or not all(is_token(name) for name in listed):
            return None
        names.update(name.lower() for name in listed)
    return frozenset(names)


_NONE: frozenset[str] = frozenset()


def parse_response_directives(fields: Fields) -> ResponseDirectives:
    """The response's directives. Unknown ones are ignored (RFC 9111 §5.2.3)."""
    places = fields.named.at.get("cache-control")
    if places is None:
        return NO_DIRECTIVES
    lines = (fields.value_at(places[0]),) if len(places) == 1 else fields.all("cache-control")
    # Few values make up most responses.
    is_short = len(lines) == 1 and len(lines[0]) <= _MEMO_LENGTH
    return _response_directives_of(lines) if is_short else _response_directives(lines)


def _response_directives(lines: tuple[str, ...]) -> ResponseDirectives:
    arguments = _gather(lines)
    no_cache_fields = _field_names(arguments["no-cache"]) if "no-cache" in arguments else _NONE
    private_fields = _field_names(arguments["private"]) if "private" in arguments else _NONE
    swr = _seconds(arguments, "stale-while-revalidate")
    sie = _seconds(arguments, "stale-if-error")
    return ResponseDirectives(
        no_cache=no_cache_fields is None,
        no_cache_fields=no_cache_fields or _NONE,
        no_store="no-store" in arguments,
        private=private_fields is None,
        private_fields=private_fields or _NONE,
        public="public" in arguments,
        must_revalidate="must-revalidate" in arguments,
        proxy_revalidate="proxy-revalidate" in arguments,
        must_understand="must-understand" in arguments,
        no_transform="no-transform" in arguments,
        immutable="immutable" in arguments,
        max_age=_seconds(arguments, "max-age"),
        s_maxage=_seconds(arguments, "s-maxage"),
        stale_while_revalidate=None if swr == INVALID else swr,
        stale_if_error=None if sie == INVALID else sie,
    )


NO_DIRECTIVES = ResponseDirectives()
_response_directives_of = lru_cache(1024)(_response_directives)
