"""What an unsafe request makes invalid."""

from __future__ import annotations

import pytest

from cacheproxy.caching.invalidation import SAFE_METHODS, targets
from cacheproxy.http.message import Fields, RequestHead
from tests.caching.build import URL, request, response


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "MKCOL", "get", "M-SEARCH"])
@pytest.mark.parametrize("status", [200, 201, 204, 302, 399])
def test_unsafe_and_unknown_methods_invalidate(method: str, status: int) -> None:
    """RFC 9111 §4.4."""
    assert targets(request(method=method), response(status=status)) == (URL,)


@pytest.mark.parametrize("status", [100, 400, 404, 500, 503])
def test_an_error_invalidates_nothing(status: int) -> None:
    """RFC 9111 §4.4."""
    assert targets(request(method="POST"), response("Location: /b", status)) == ()


@pytest.mark.parametrize("method", sorted(SAFE_METHODS))
def test_safe_methods_invalidate_nothing(method: str) -> None:
    """RFC 9110 §9.2.1."""
    assert targets(request(method=method), response("Location: /b", 201)) == ()


@pytest.mark.parametrize("name", ["Location", "Content-Location", "LOCATION"])
@pytest.mark.parametrize(
    ("rfc", "value", "others"),
    [
        ("9111 4.4 path", "/b", ["http://h/b"]),
        ("9111 4.4 relative", "b?q", ["http://h/b?q"]),
        ("9111 4.4 absolute", "http://H:80/b", ["http://h/b"]),
        ("9111 4.4 fragment", "/b#f", ["http://h/b"]),
        ("9111 4.4 itself", "/a", []),
        ("9111 4.4 other host", "http://i/b", []),
        ("9111 4.4 other port", "http://h:81/b", []),
        ("9111 4.4 other scheme", "https://h/b", []),
        ("9111 4.4 network path", "//i/b", []),
        ("9111 4.4 no http", "mailto:a@h", []),
        ("9111 4.4 broken", "http://[", []),
        ("9111 4.4 userinfo", "http://u@h/b", []),
    ],
)
def test_locations_of_the_same_origin_only(name: str, rfc: str, value: str, others: list[str]) -> None:
    assert targets(request(method="POST"), response(f"{name}: {value}", 201)) == (URL, *others)


def test_both_locations_count_but_not_twice() -> None:
    answer = response("Location: /b | Content-Location: /c", 201)
    assert targets(request(method="PUT"), answer) == (URL, "http://h/b", "http://h/c")
    assert targets(request(method="PUT"), response("Location: /b | Content-Location: /b")) == (
        URL,
        "http://h/b",
    )
    assert targets(request(method="PUT"), response("Location: /b | Location: /c")) == (URL,)


def test_a_request_without_a_target_uri_invalidates_nothing() -> None:
    assert targets(RequestHead("CONNECT", "h:443", (1, 1), Fields()), response()) == ()
