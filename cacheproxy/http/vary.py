"""Vary: which request fields a response depends on, and their values in a comparable form (RFC 9111 §4.1)."""

from __future__ import annotations

import re

from cacheproxy.http.codings import normal_form
from cacheproxy.http.message import Fields
from cacheproxy.http.syntax import is_token, split_list

STAR = "*"

# Fields whose values are lists of tokens without case (RFC 9110 §12.5.2-12.5.4, RFC 4647 §2).
_TOKEN_LISTS = frozenset({"accept-charset", "accept-encoding", "accept-language"})
_SPACE_AT_PARAMETERS = re.compile(r"[ \t]*;[ \t]*")
_BALANCED = re.compile(r'(?:[^"]|"(?:[^"\\]|\\.)*")*\Z', re.DOTALL)
_MEDIA_RANGE = re.compile(r"[^;=\"]*")
_PARAMETER_NAME = re.compile(r";[^;=\"]*(?:=|\Z|(?=;))")

# Not lists (RFC 9110 §5.5): a comma in them is a character like any other.
_SINGLETONS = frozenset({"authorization", "cookie", "from", "host", "origin", "referer", "user-agent"})


def nominated_names(fields: Fields) -> tuple[str, ...] | None:
    """Lower-case names nominated by every Vary line, sorted; None where `*` is among them."""
    names: set[str] = set()
    for line in fields.all("vary"):
        for member in split_list(line):
            if member == STAR or not is_token(member):
                # A name that cannot be read nominates something that we cannot compare.
                return None
            names.add(member.lower())
    return tuple(sorted(names))


def normalise(name: str, fields: Fields) -> str | None:
    """The value of a nominated field in comparable form; None where the request has no such field.

    Only differences without meaning are removed: several lines are joined, space around list commas goes,
    the negotiation fields are compared without case where the RFC gives case no meaning, and of
    Accept-Encoding counts only which codings it accepts. Order is kept: origins may read preference into it.
    """
    values = fields.all(name)
    if not values:
        return None
    if name in _SINGLETONS or not all(_BALANCED.match(value) for value in values if '"' in value):
        # The second: where a quoted string does not end, nobody can say what is a comma of the list.
        return "\n".join(values)
    members = [member for value in values for member in split_list(value)]
    text = ",".join(members)
    if name == "accept-encoding":
        form = normal_form(text)
        if form is not None:
            return form
    if '"' in text:
        # A quoted string is compared as it stands, and what stands beside it is not worth taking apart.
        return text
    if name in _TOKEN_LISTS:
        return _SPACE_AT_PARAMETERS.sub(";", text).lower()
    return ",".join(map(_media_range, members)) if name == "accept" else text


def _media_range(member: str) -> str:
    # RFC 9110 §8.3.1: types and parameter names have no case; a parameter's value may have.
    member = _SPACE_AT_PARAMETERS.sub(";", member)
    member = _MEDIA_RANGE.sub(lambda match: match.group().lower(), member, count=1)
    return _PARAMETER_NAME.sub(lambda match: match.group().lower(), member)


def variant_of(names: tuple[str, ...], fields: Fields) -> tuple[str | None, ...]:
    """The request's values of the nominated fields, in the order of `names`."""
    return tuple(normalise(name, fields) for name in names)
