"""Facts about a response's head: what they say, and that heads which share them would have the same of their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching import response_facts
from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.caching.response_facts import ResponseFacts, facts_of
from cacheproxy.caching.storing import _forbidden, plain_refusal
from cacheproxy.http.cache_control import PLAIN_REQUEST
from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.reasons import Reason

from .build import NOW, OPTIONS, URL, fields, request, response


@pytest.mark.parametrize(
    ("version", "text", "persists"),
    [
        # RFC 9112 §9.3
        ((1, 1), "", True),
        ((1, 1), "Connection: close", False),
        ((1, 1), "Connection: Keep-Alive, Close", False),
        ((1, 1), "Connection: x | Proxy-Connection: close", False),
        ((1, 0), "", False),
        ((1, 0), "Connection: keep-alive", True),
        ((1, 0), "Connection: keep-alive, close", False),
    ],
)
def test_persistence(version: tuple[int, int], text: str, persists: bool) -> None:
    assert facts_of(ResponseHead(200, "", fields(text), version)).persists is persists


@pytest.mark.parametrize(
    ("status", "text", "refusal"),
    [
        # RFC 9111 §3, §5.2.2.3, §5.2.2.5
        (200, "Cache-Control: max-age=9, no-store", Reason.NO_STORE),
        (200, "Cache-Control: max-age=9 | Cache-Control: no-store", Reason.NO_STORE),
        (200, "Cache-Control: no-store, must-understand", None),
        (206, "Cache-Control: no-store", None),
        (200, "Cache-Control: private", Reason.PRIVATE),
        (200, "Cache-Control: private, no-store", Reason.NO_STORE),
        (200, 'Cache-Control: private="x-one"', None),
        (200, "Cache-Control: private, must-understand", None),
        (206, "Cache-Control: private", None),
        (200, "", None),
    ],
)
def test_what_is_plainly_refused(status: int, text: str, refusal: Reason | None) -> None:
    assert facts_of(response(text, status)).refusal is refusal


@pytest.mark.parametrize(
    ("status", "text", "place"),
    [
        # RFC 9112 §6.3
        (200, "A: b | Content-Length: 5", 1),
        (200, "Content-Length: 5 | Content-Length: 5", -1),
        (200, "Content-Length: 5 | Transfer-Encoding: chunked", -1),
        (204, "Content-Length: 5", -1),
        (304, "Content-Length: 5", -1),
        (100, "Content-Length: 5", -1),
    ],
)
def test_where_the_length_stands(status: int, text: str, place: int) -> None:
    assert facts_of(response(text, status)).length_at == place


NAMES = st.lists(
    st.sampled_from(
        [
            *(
                "Connection",
                "connection",
                "Proxy-Connection",
                "Cache-Control",
                "cache-control",
                "Content-Encoding",
            ),
            *("Content-Type", "Content-Length", "Transfer-Encoding", "Set-Cookie", "ETag", "Date", "Pragma"),
        ]
    ),
    max_size=5,
)
WORDS = st.sampled_from(
    ["", "close", "keep-alive", "no-store", "must-understand", "gzip", "text/html", "5", "7"]
)
STATUSES = st.sampled_from([100, 200, 204, 206, 304, 404])


@given(NAMES, st.data())
def test_heads_that_share_facts_would_have_the_same(names: list[str], data: st.DataObject) -> None:
    """What the facts say must depend on nothing but the words by which they are remembered."""
    for _ in range(3):
        values = [data.draw(WORDS) for _ in names]
        version = data.draw(st.sampled_from([(1, 0), (1, 1)]))
        head = ResponseHead(data.draw(STATUSES), "", Fields(zip(names, values, strict=True)), version)
        shared, fresh = facts_of(head), ResponseFacts(head)
        assert [getattr(shared, name) for name in ResponseFacts.__slots__] == [
            getattr(fresh, name) for name in ResponseFacts.__slots__
        ]
        assert facts_of(head) is shared


SAYS = st.lists(
    st.sampled_from(
        [
            "no-store",
            "private",
            'private="x"',
            "must-understand",
            "public",
            "s-maxage=9",
            "max-age=9",
            "no-cache",
        ]
    ),
    max_size=4,
)


@given(
    SAYS,
    st.sampled_from([200, 204, 206, 304, 404, 599]),
    st.sampled_from(["", "Authorization: x", "Cookie: x"]),
)
def test_a_plain_refusal_is_the_one_that_all_rules_together_come_to(
    says: list[str], status: int, asked: str
) -> None:
    head = response(f"Cache-Control: {', '.join(says)} | Content-Type: x | Vary: *", status)
    refusal = plain_refusal(head)
    stored = StoredResponse.build(URL, (), (), head, Timing(NOW, NOW), OPTIONS)
    found = _forbidden(request(asked), PLAIN_REQUEST, stored, OPTIONS)
    assert refusal is None or found is refusal


def test_they_are_remembered_within_bounds() -> None:
    memo, most = response_facts._memo, 0
    for number in range(2000):
        lines = [f"Content-Type: text/{number}", *(f"X-{line}: 1" for line in range(number % 50))]
        facts_of(response(" | ".join(lines)))
        most = max(most, sum(len(words[2].as_sent) for words in memo.known))
    assert 0 < most * response_facts._LINE <= response_facts._KNOWN_BYTES
    assert memo.bytes <= response_facts._KNOWN_BYTES


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"Cache-Control: {'x' * 600}", id="long words"),
        pytest.param(" | ".join(f"X-{number}: 1" for number in range(100)), id="many lines"),
        pytest.param(f"X-{'x' * 2000}: 1", id="long names"),
    ],
)
def test_long_heads_are_not_remembered(text: str) -> None:
    assert facts_of(response(text)) is not facts_of(response(text))
