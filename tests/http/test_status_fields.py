"""Cache-Status and Proxy-Status."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.http.status_fields import cache_status, proxy_status
from cacheproxy.reasons import Reason, fwd_word

# RFC 8941 §3.3: integer, string or token.
PARAMETER = r'; [a-z-]+(=(-?[0-9]{1,15}|"([\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"|[A-Za-z*][!#$%&\'*+\-.^_`|~:/0-9A-Za-z]*))?'
ITEM = re.compile(f"cacheproxy({PARAMETER})*")
# RFC 9211 §2.2.
FWD = {"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"}


@pytest.mark.parametrize(
    ("rfc", "given_", "expected"),
    [
        ("9211 2.1", {"hit": True, "ttl": 60}, "cacheproxy; hit; ttl=60"),
        ("9211 2.4 stale", {"hit": True, "ttl": -5}, "cacheproxy; hit; ttl=-5"),
        ("9211 2.4 zero", {"hit": True, "ttl": 0}, "cacheproxy; hit; ttl=0"),
        ("9211 2.2", {"fwd": "uri-miss", "stored": True}, "cacheproxy; fwd=uri-miss; stored"),
        ("9211 2.3", {"fwd": "stale", "fwd_status": 304}, "cacheproxy; fwd=stale; fwd-status=304"),
        ("9211 2.6", {"fwd": "miss", "collapsed": True}, "cacheproxy; fwd=miss; collapsed"),
        ("9211 2.8 token", {"hit": True, "detail": "max-stale"}, "cacheproxy; hit; detail=max-stale"),
        ("9211 2.8 string", {"detail": 'a "b"'}, 'cacheproxy; detail="a \\"b\\""'),
    ],
)
def test_cache_status(rfc: str, given_: dict[str, Any], expected: str) -> None:
    assert cache_status(**given_) == expected


def test_proxy_status() -> None:
    """RFC 9209 §2."""
    assert proxy_status("dns_timeout") == "cacheproxy; error=dns_timeout"
    assert (
        proxy_status("http_protocol_error", details='say "hi"\r\n\xe9', next_hop="h:80", received_status=502)
        == 'cacheproxy; error=http_protocol_error; received-status=502; next-hop="h:80"; details="say \\"hi\\"???"'
    )


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_registered_fwd_word(reason: Reason) -> None:
    """RFC 9211 §2.2."""
    assert fwd_word(reason) in FWD


@pytest.mark.parametrize("detail", ["", "304", "-", "5xx", "!a", "a b", "\xe9", "a:b"])
def test_details_of_any_kind_are_structured(detail: str) -> None:
    """RFC 8941 §3.3.4: a token begins with a letter or `*`."""
    assert ITEM.fullmatch(cache_status(fwd="miss", detail=detail))


@given(st.text(), st.text())
def test_proxy_status_is_always_structured(details: str, next_hop: str) -> None:
    """RFC 8941 §3.3.3: no byte of an error text can break the field or end it."""
    assert ITEM.fullmatch(proxy_status("dns_error", details=details, next_hop=next_hop))
