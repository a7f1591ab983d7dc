"""Vary: which request fields a response depends on, and their values in a comparable form (RFC 9111 §4.1)."""

from __future__ import annotations

from cacheproxy.http.message import Fields
from cacheproxy.http.syntax import is_token, split_list

STAR = "*"

# Fields whose values are case-insensitive lists of tokens; space between members never matters (RFC 9110 §12.5).
_TOKEN_LISTS = frozenset({"accept", "accept-charset", "accept-encoding", "accept-language"})

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
    and the four negotiation fields are compared without case. Order is kept: origins may read preference
    into it.
    """
    values = fields.all(name)
    if not values:
        return None
    if name in _SINGLETONS:
        return "\n".join(values)
    members = [member for value in values for member in split_list(value)]
    text = ",".join(members)
    if name in _TOKEN_LISTS and '"' not in text:
        return "".join(text.split()).lower()
    return text


def variant_of(names: tuple[str, ...], fields: Fields) -> tuple[str | None, ...]:
    """The request's values of the nominated fields, in the order of `names`."""
    return tuple(normalise(name, fields) for name in names)
