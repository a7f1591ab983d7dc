"""Target URIs: what a request's target names, and the origin that answers for it (RFC 9110 §4, §7.1)."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple

from cacheproxy.errors import SyntaxFault
from cacheproxy.http.syntax import parse_digits

DEFAULT_PORTS = {"http": 80, "https": 443}

_AUTHORITY_END = re.compile(r"[/?]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
# reg-name, with the underscore that real host names carry; percent-encoded names are refused.
_REG_NAME = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=]+\Z")
_HOST_NAME = re.compile(r"[A-Za-z0-9\-._~]+\Z")
# RFC 3986 characters plus those that browsers send raw; no space, control, backslash, '#' or 8-bit byte.
_PATH_TEXT = r"[!$%&'()*+,\-./0-9:;=?@A-Z_a-z~\[\]{}|^`\"<>]*\Z"
_PATH = re.compile(_PATH_TEXT)
# Most targets at once: what it takes `parse_absolute` would take apart in the same way.
_PLAIN = re.compile(r"(https?)://([A-Za-z0-9.\-:]{1,300})(/" + _PATH_TEXT + ")")


class UnsupportedScheme(SyntaxFault):
    """An absolute URI that is neither http nor https."""


class Origin(NamedTuple):
    """Scheme, host (lower case, no brackets) and port: who answers (RFC 9110 §4.3.1)."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """host[:port] as it stands in a Host field; the scheme's default port is left out."""
        return _authority(self)


@lru_cache(maxsize=1024)
def _authority(origin: Origin) -> str:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return host if origin.port == DEFAULT_PORTS.get(origin.scheme) else f"{host}:{origin.port}"


class TargetUri(NamedTuple):
    """An absolute http(s) URI. `path_and_query` is byte for byte what the client sent ('/' if empty)."""

    origin: Origin
    path_and_query: str

    def __str__(self) -> str:
        return f"{self.origin.scheme}://{self.origin.authority}{self.path_and_query}"


def parse_authority(text: str, default_port: int | None) -> tuple[str, int]:
    """`host[:port]` as (lower-case host without brackets, port). Raises SyntaxFault.

    `default_port` None makes the port obligatory (CONNECT, RFC 9110 §9.3.6).
    """
    if "@" in text:
        raise SyntaxFault("user information in the target is not allowed (RFC 9110 section 4.2.4)")
    if text.startswith("["):
        literal, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and rest[0] != ":"):
            raise SyntaxFault("the IPv6 address is malformed")
        try:
            host = str(IPv6Address(literal))
        except (AddressValueError, ValueError):
            raise SyntaxFault("the IPv6 address is malformed") from None
        if "%" in literal:
            raise SyntaxFault("an IPv6 zone is not allowed in a target")
        port_text: str | None = rest[1:] if rest else None
    else:
        name, colon, after = text.partition(":")
        port_text = after if colon else None
        if not _REG_NAME.match(name) or not _HOST_NAME.match(name):
            raise SyntaxFault("the host name is not valid" if name else "the host is empty")
        host = name.lower()
        if len(host) > 255:
            raise SyntaxFault("the host name is longer than 255 characters")
    if port_text is None or (port_text == "" and default_port is not None):
        if default_port is None:
            raise SyntaxFault("a port is required")
        return host, default_port
    port = parse_digits(port_text) if len(port_text) <= 5 else None
    if port is None or not 0 < port < 65536:
        raise SyntaxFault("the port is not valid")
    return host, port


def parse_absolute(text: str) -> TargetUri:
    """An absolute-form target with scheme http or https. Raises SyntaxFault saying what is wrong."""
    plain = _PLAIN.match(text)
    if plain is not None:
        scheme, authority, path = plain.groups()
        return TargetUri(_origin(scheme, authority), path)
    scheme_match = _SCHEME.match(text)
    if scheme_match is None:
        raise SyntaxFault("not an absolute URI")
    begin = scheme_match.end()
    scheme = scheme_match.group(1).lower()
    if scheme not in DEFAULT_PORTS:
        raise UnsupportedScheme(f"scheme {scheme!r} is not supported")
    if not text.startswith("//", begin):
        raise SyntaxFault("no authority in the target")
    if "#" in text:
        raise SyntaxFault("a fragment is not allowed in a request target")
    end_match = _AUTHORITY_END.search(text, begin + 2)
    end = len(text) if end_match is None else end_match.start()
    authority = text[begin + 2 : end]
    origin = _origin(scheme, authority) if len(authority) <= 300 else _parse_origin(scheme, authority)
    path = text[end:]
    if not path.startswith("/"):
        path = "/" + path
    if not _PATH.match(path):
        raise SyntaxFault("a character in the target must be percent-encoded")
    return TargetUri(origin, path)


def _parse_origin(scheme: str, authority: str) -> Origin:
    return Origin(scheme, *parse_authority(authority, DEFAULT_PORTS[scheme]))


# Most requests of a while go to a few origins.
_origin = lru_cache(maxsize=1024)(_parse_origin)


def resolve(base: TargetUri, reference: str) -> TargetUri | None:
    """The URI that `reference` (absolute, network-path, absolute-path or relative) names from `base`.

    None where it is not an http(s) URI. Dot segments are removed (RFC 3986 §5.2); a fragment is dropped.
    """
    text = reference.strip(" \t").partition("#")[0]
    if not text:
        return base
    try:
        if _SCHEME.match(text):
            return parse_absolute(text)
        if text.startswith("//"):
            return parse_absolute(f"{base.origin.scheme}:{text}")
    except SyntaxFault:
        return None
    path, mark, query = text.partition("?")
    base_path = base.path_and_query.partition("?")[0]
    if not path:
        merged = base_path
    elif path.startswith("/"):
        merged = _remove_dots(path)
    else:
        merged = _remove_dots(base_path[: base_path.rfind("/") + 1] + path)
    whole = merged + mark + query
    return TargetUri(base.origin, whole) if _PATH.match(whole) else None


def _remove_dots(path: str) -> str:
    out: list[str] = []
    segments = path.split("/")[1:]
    for index, segment in enumerate(segments):
        is_last = index == len(segments) - 1
        if segment == "..":
            if out:
                out.pop()
            if is_last:
                out.append("")
        elif segment == ".":
            if is_last:
                out.append("")
        else:
            out.append(segment)
    return "/" + "/".join(out)
