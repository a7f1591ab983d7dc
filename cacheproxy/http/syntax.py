"""The grammar that fields share: tokens, quoted strings, lists, parameters, delta-seconds (RFC 9110 §5.6)."""

from __future__ import annotations

import re

from cacheproxy.errors import SyntaxFault

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_TOKEN_HERE = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_QUOTED = re.compile(r'"((?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*)"')
_DIGITS = re.compile(r"[0-9]+\Z")
FIELD_VALUE = re.compile(r"[\t \x21-\x7e\x80-\xff]*\Z")

# RFC 9111 §1.2.2: a value too large to represent is taken as this many seconds.
MAX_DELTA_SECONDS = 2**31


def is_token(text: str) -> bool:
    """Whether `text` is a token (RFC 9110 §5.6.2)."""
    return TOKEN.match(text) is not None


def split_list(value: str) -> list[str]:
    """The members of a comma-separated list; commas in quoted strings do not count (RFC 9110 §5.6.1)."""
    if '"' not in value:
        return [part for raw in value.split(",") if (part := raw.strip(" \t"))]
    members: list[str] = []
    start = at = 0
    in_quotes = False
    while at < len(value):
        char = value[at]
        if in_quotes and char == "\\":
            at += 1
        elif char == '"':
            in_quotes = not in_quotes
        elif char == "," and not in_quotes:
            members.append(value[start:at])
            start = at + 1
        at += 1
    members.append(value[start:])
    return [part for raw in members if (part := raw.strip(" \t"))]


def unquote(value: str) -> str | None:
    """The content of a quoted string, its escapes resolved; None if `value` is not one."""
    match = _QUOTED.fullmatch(value)
    if match is None:
        return None
    inner = match.group(1)
    return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL) if "\\" in inner else inner


def quote(value: str) -> str:
    """`value` as a quoted string."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_directive(member: str) -> tuple[str, str | None, bool]:
    """`name[=token|quoted]` as (lower-case name, value, was quoted).

    Raises SyntaxFault where the member follows neither form. Spaces around `=` are not allowed.
    """
    match = _TOKEN_HERE.match(member)
    if match is None:
        raise SyntaxFault(f"not a token: {member!r}")
    name = match.group().lower()
    rest = member[match.end() :]
    if not rest:
        return name, None, False
    if rest[0] != "=":
        raise SyntaxFault(f"no '=' after {name!r}")
    raw = rest[1:]
    if raw.startswith('"'):
        text = unquote(raw)
        if text is None:
            raise SyntaxFault(f"broken quoted string in {name!r}")
        return name, text, True
    if raw and not is_token(raw):
        raise SyntaxFault(f"not a token: {raw!r}")
    return name, raw, False


def parse_digits(text: str) -> int | None:
    """A run of ASCII digits as a number; None for anything else (signs, spaces, other digits)."""
    return int(text) if _DIGITS.match(text) and len(text) < 4000 else None


def parse_delta_seconds(text: str) -> int | None:
    """Delta-seconds (RFC 9111 §1.2.2), capped at 2^31; None where it is not a run of ASCII digits."""
    if not _DIGITS.match(text):
        return None
    digits = text.lstrip("0")
    return MAX_DELTA_SECONDS if len(digits) > 10 else min(int(digits or "0"), MAX_DELTA_SECONDS)
