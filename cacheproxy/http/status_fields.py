"""Cache-Status (RFC 9211) and Proxy-Status (RFC 9209): what the proxy says about how it answered."""

from __future__ import annotations

from functools import lru_cache

from cacheproxy.http.syntax import is_token, quote

NAME = "cacheproxy"


def _parameter(name: str, value: str | int | bool) -> str:
    if value is True:
        return f"; {name}"
    if isinstance(value, int):
        return f"; {name}={value}"
    return f"; {name}={value if is_token(value) and (value[0].isalpha() or value[0] == '*') else quote(_printable(value))}"


def _printable(text: str) -> str:
    # A structured-field string holds printable ASCII only (RFC 8941 §3.3.3).
    return "".join(char if " " <= char <= "~" else "?" for char in text)


@lru_cache(maxsize=1024)
def cache_status(
    *,
    hit: bool = False,
    fwd: str | None = None,
    fwd_status: int | None = None,
    ttl: int | None = None,
    stored: bool = False,
    collapsed: bool = False,
    detail: str | None = None,
) -> str:
    """One member of Cache-Status: `cacheproxy; hit; ttl=60` or `cacheproxy; fwd=uri-miss; stored`."""
    text = NAME
    if hit:
        text += "; hit"
    if fwd is not None:
        text += _parameter("fwd", fwd)
    if fwd_status is not None:
        text += _parameter("fwd-status", fwd_status)
    if ttl is not None:
        text += _parameter("ttl", ttl)
    if stored:
        text += "; stored"
    if collapsed:
        text += "; collapsed"
    if detail is not None:
        text += _parameter("detail", detail)
    return text


def proxy_status(error: str, *, details: str = "", next_hop: str = "", received_status: int = 0) -> str:
    """One member of Proxy-Status with an RFC 9209 error type."""
    text = NAME + _parameter("error", error)
    if received_status:
        text += _parameter("received-status", received_status)
    if next_hop:
        text += "; next-hop=" + quote(_printable(next_hop))
    if details:
        text += "; details=" + quote(_printable(details))
    return text
