"""What changes on a message when it is passed on: hop-by-hop fields, Via, Max-Forwards (RFC 9110 §7.6)."""

from __future__ import annotations

from functools import lru_cache

from cacheproxy.errors import ClientError
from cacheproxy.http.message import FieldLine, Fields
from cacheproxy.http.names import Names, Pick
from cacheproxy.http.syntax import is_token, parse_digits, split_list

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)
# A sender that nominates these would remove what routes, frames or protects the message: not obeyed.
_NEVER_NOMINATED = frozenset(
    {
        "age",
        "cache-control",
        "content-length",
        "content-range",
        "content-type",
        "date",
        "expires",
        "host",
        "vary",
        "via",
    }
)


_NO_OPTIONS: frozenset[str] = frozenset()


def connection_options(fields: Fields) -> frozenset[str]:
    """The lower-case options of every Connection line (and of Proxy-Connection, its old misspelling)."""
    lines = connection_lines(fields)
    if not lines:
        return _NO_OPTIONS
    is_short = len(lines) == 1 and len(lines[0]) <= _MEMO_LENGTH
    return (_known_options if is_short else _options)(lines)


def connection_lines(fields: Fields) -> tuple[str, ...]:
    """The values of the Connection lines, and those of Proxy-Connection."""
    names = fields.named
    if not names.has_connection:
        return ()
    if names.sole_connection >= 0:
        return (fields.value_at(names.sole_connection),)
    return fields.all("connection") + fields.all("proxy-connection")


def _options(lines: tuple[str, ...]) -> frozenset[str]:
    return frozenset([member.lower() for line in lines for member in split_list(line)])


def end_to_end(fields: Fields) -> Fields:
    """The fields that go on to the next hop: neither hop-by-hop nor nominated by Connection."""
    passing = passing_on(fields.named, connection_lines(fields))
    if passing is None:
        return fields
    pick, rest = passing
    return Fields.sent(pick(fields.texts), rest)


def passing_on(names: Names, lines: tuple[str, ...]) -> tuple[Pick, Names] | None:
    """Which fields with these names go on, by the `connection_lines`, and their names; None: all."""
    # Clients and origins have few sets of names, and say few things of their connections.
    if lines in names.passing:
        return names.passing[lines]
    drop = _staying(names.lower, _options(lines))
    passing = names.without(drop) if drop else None
    if not names.is_long and sum(map(len, lines)) <= _MEMO_LENGTH:
        if len(names.passing) >= _MAX_PASSING:
            names.passing.clear()
        names.passing[lines] = passing
    return passing


_MEMO_LENGTH = 256
_known_options = lru_cache(maxsize=1024)(_options)
_MAX_PASSING = 4


def _staying(names: tuple[str, ...], options: frozenset[str]) -> frozenset[str]:
    drop = HOP_BY_HOP | (frozenset(option for option in options if is_token(option)) - _NEVER_NOMINATED)
    return frozenset(name for name in names if is_hop_by_hop(name, drop))


def is_hop_by_hop(name: str, drop: frozenset[str] = HOP_BY_HOP) -> bool:
    """Whether a field of this lower-case name stays here; `drop` adds what Connection nominates."""
    # Proxy-* is between a client and its proxy, but for Proxy-Status, which is for everybody (RFC 9209).
    # A bare Proxy field would set the proxy of CGI programs.
    return name in drop or (
        name.startswith("proxy") and (name == "proxy" or name.startswith("proxy-")) and name != "proxy-status"
    )


def outbound_request_fields(fields: Fields, authority: str, via: str, version: tuple[int, int]) -> Fields:
    """The fields as sent to the origin: Host first and from the target, ours in Via, nothing else invented."""
    lines: list[FieldLine] = [("Host", authority)]
    lines += [line for line in end_to_end(fields).lines if line[0].lower() != "host"]
    lines.append(("Via", f"{version[0]}.{version[1]} {via}"))
    return Fields(lines)


def uses_connection_auth(fields: Fields) -> bool:
    """Whether a request authenticates the connection that it is sent on (RFC 4559 §6)."""
    return any(is_connection_scheme(value) for value in fields.all("authorization"))


def is_connection_scheme(credentials: str) -> bool:
    """Whether credentials, or a challenge, are of a scheme that authenticates connections."""
    return credentials.split(" ", 1)[0].lower() in ("ntlm", "negotiate", "nego2")


def has_passed(fields: Fields, via: str) -> bool:
    """Whether a Via line says that this message went through the proxy called `via` before (a loop)."""
    for line in fields.all("via"):
        for member in split_list(line):
            words = member.split()
            if len(words) >= 2 and words[1].lower() == via.lower():
                return True
    return False


def remaining_forwards(fields: Fields) -> int | None:
    """Max-Forwards as a number; None where absent. Raises ClientError 400 where it is not one."""
    values = fields.all("max-forwards")
    if not values:
        return None
    number = parse_digits(values[0]) if len(values) == 1 else None
    if number is None:
        raise ClientError(400, "Max-Forwards is not a number (RFC 9110 section 7.6.2)", close=True)
    return number
