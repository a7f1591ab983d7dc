"""Target URIs: strict, and byte for byte where they name a resource."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.errors import SyntaxFault
from cacheproxy.http.uri import Origin, TargetUri, parse_absolute, parse_authority, resolve

TEXT = st.text(st.characters(max_codepoint=255)) | st.text("htp:/@[]?#a1.\\%")
HOSTS = st.from_regex(r"\A[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?\Z") | st.ip_addresses(v=6).map(str)
PATHS = st.from_regex(r"\A/[A-Za-z0-9%/?.;=&_~+-]{0,20}\Z")


@pytest.mark.parametrize(
    ("rfc", "text", "origin", "path"),
    [
        ("9110 4.2.1", "http://example.com", ("http", "example.com", 80), "/"),
        ("9110 4.2.1", "HTTP://EXAMPLE.com:80/A", ("http", "example.com", 80), "/A"),
        ("9110 4.2.1", "http://example.com:/", ("http", "example.com", 80), "/"),
        ("9110 4.2.2", "https://h:8443/", ("https", "h", 8443), "/"),
        ("9110 4.2.3", "http://h?q=/x", ("http", "h", 80), "/?q=/x"),
        ("3986 6.2.2", "http://h/%7e/../a//b?%2F", ("http", "h", 80), "/%7e/../a//b?%2F"),
        ("3986 3.2.2", "http://[::1]:8080/", ("http", "::1", 8080), "/"),
        ("3986 3.2.2", "http://[0:0:0:0:0:0:0:1]/", ("http", "::1", 80), "/"),
        ("9110 7.1", "http://a_b.example/", ("http", "a_b.example", 80), "/"),
        ("9110 4.2.1", "http://h:00080/", ("http", "h", 80), "/"),
        ("3986 3.3", "http://h/a@b:c", ("http", "h", 80), "/a@b:c"),
    ],
)
def test_absolute_form(rfc: str, text: str, origin: tuple[str, str, int], path: str) -> None:
    assert parse_absolute(text) == TargetUri(Origin(*origin), path)


@pytest.mark.parametrize(
    ("rfc", "text"),
    [
        ("9110 4.2.4 userinfo", "http://user@h/"),
        ("9110 4.2.4 password", "http://u:p@h/"),
        ("9110 4.2.4 empty userinfo", "http://@h/"),
        ("9110 4.2.5 fragment", "http://h/#f"),
        ("9110 4.2.5 fragment in host", "http://h#f"),
        ("9110 4.2.1 empty host", "http:///a"),
        ("9110 4.2.1 only port", "http://:80/"),
        ("9110 4.2.1 no authority", "http:/a"),
        ("9110 4.2.1 no slashes", "http:h"),
        ("9110 4.2.1 query for host", "http://?q"),
        ("3986 3.2.3 port 0", "http://h:0/"),
        ("3986 3.2.3 port 65536", "http://h:65536/"),
        ("3986 3.2.3 huge port", "http://h:" + "1" * 5000),
        ("3986 3.2.3 signed port", "http://h:+80/"),
        ("3986 3.2.3 word for port", "http://h:http/"),
        ("3986 3.2.3 two ports", "http://h:80:80/"),
        ("3986 3.2.3 superscript port", "http://h:8²/"),
        ("3986 3.1 ftp", "ftp://h/"),
        ("3986 3.1 ws", "ws://h/"),
        ("3986 3.1 file", "file:///etc/passwd"),
        ("3986 3.1 urn", "urn:a:b"),
        ("3986 3.1 cache_object", "cache_object://h/"),
        ("3986 3.1 no scheme", "//h/"),
        ("3986 3.1 no scheme, path", "/a"),
        ("3986 3.1 empty", ""),
        ("3986 3.1 space before", " http://h/"),
        ("3986 3.2.2 backslash host", "http://h\\@evil/"),
        ("3986 3.2.2 backslash path", "http://h/a\\b"),
        ("3986 3.2.2 escaped host", "http://%68/"),
        ("3986 3.2.2 8-bit host", "http://h\xe9/"),
        ("3986 3.2.2 space", "http://a b/"),
        ("3986 3.2.2 open bracket", "http://[::1/"),
        ("3986 3.2.2 after bracket", "http://[::1]x/"),
        ("3986 3.2.2 empty brackets", "http://[]/"),
        ("3986 3.2.2 IPv4 in brackets", "http://[127.0.0.1]/"),
        ("6874 zone", "http://[fe80::1%eth0]/"),
        ("3986 3.2.2 naked IPv6", "http://::1/"),
        ("3986 2 NUL", "http://h/\0"),
        ("3986 2 tab", "http://h/\t"),
        ("3986 2 newline", "http://h/a\r\nX: y"),
        ("3986 2 8-bit", "http://h/\xe9"),
        ("1035 2.3.4 long name", f"http://{'a' * 256}/"),
    ],
)
def test_anything_else_is_a_fault(rfc: str, text: str) -> None:
    with pytest.raises(SyntaxFault):
        parse_absolute(text)


@pytest.mark.parametrize(
    "text", ["h", "h:", "h:0", "", ":443", "[::1]", "u@h:443", "h:443/", "h:443?", "http://h:443"]
)
def test_connect_needs_host_and_port(text: str) -> None:
    """RFC 9110 §9.3.6."""
    with pytest.raises(SyntaxFault):
        parse_authority(text, None)


@pytest.mark.parametrize(
    ("origin", "authority"),
    [
        (Origin("http", "h", 80), "h"),
        (Origin("https", "h", 443), "h"),
        (Origin("https", "h", 80), "h:80"),
        (Origin("http", "::1", 80), "[::1]"),
        (Origin("http", "::1", 81), "[::1]:81"),
    ],
)
def test_authority(origin: Origin, authority: str) -> None:
    """RFC 9110 §7.2."""
    assert origin.authority == authority


BASE = parse_absolute("http://h/b/c/d;p?q")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("", "http://h/b/c/d;p?q"),
        ("#f", "http://h/b/c/d;p?q"),
        ("g", "http://h/b/c/g"),
        ("./g", "http://h/b/c/g"),
        ("g/", "http://h/b/c/g/"),
        ("/g", "http://h/g"),
        ("//g", "http://g/"),
        ("?y", "http://h/b/c/d;p?y"),
        ("g?y#s", "http://h/b/c/g?y"),
        (";x", "http://h/b/c/;x"),
        (".", "http://h/b/c/"),
        ("..", "http://h/b/"),
        ("../../../g", "http://h/g"),
        ("/./g/../x", "http://h/x"),
        ("g;x=1/../y", "http://h/b/c/y"),
        (" /g ", "http://h/g"),
        ("https://h:443/x", "https://h/x"),
        ("ftp://h/x", None),
        ("http://u@h/x", None),
        ("//", None),
        ("/a b", None),
    ],
)
def test_references_resolve(reference: str, expected: str | None) -> None:
    """RFC 3986 §5.4."""
    resolved = resolve(BASE, reference)
    assert (None if resolved is None else str(resolved)) == expected


@given(st.sampled_from(["http", "https"]), HOSTS, st.integers(1, 65535), PATHS)
def test_targets_come_back(scheme: str, host: str, port: int, path: str) -> None:
    target = TargetUri(Origin(scheme, host, port), path)
    assert parse_absolute(str(target)) == target


@given(TEXT)
def test_any_text_is_a_target_or_a_fault(text: str) -> None:
    try:
        target = parse_absolute(text)
    except SyntaxFault:
        return
    assert parse_absolute(str(target)) == target


@given(TEXT)
def test_any_authority_is_read_or_a_fault(text: str) -> None:
    try:
        _, port = parse_authority(text, 80)
    except SyntaxFault:
        return
    assert 0 < port < 65536


@given(TEXT)
def test_any_reference_resolves_to_a_valid_target_or_none(text: str) -> None:
    target = resolve(BASE, text)
    assert target is None or parse_absolute(str(target)) == target
