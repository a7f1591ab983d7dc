"""The parse memo: what it knows is what the full parser says, whatever it has learnt before."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheproxy.caching.facts import FieldFacts, says_nothing
from cacheproxy.engine import admission
from cacheproxy.errors import ClientError
from cacheproxy.http.forwarding import end_to_end
from cacheproxy.http.framing import request_framing
from cacheproxy.http.head import HeadLimits, parse_request_head
from cacheproxy.http.message import RequestHead
from cacheproxy.server.parse_memo import BoundedMemo, LineFacts, ParseMemo
from tests.server.test_hot_equals_ordinary import requests

LIMITS = HeadLimits(target_bytes=200, field_bytes=300, head_bytes=2000, fields=6)
NAMES = ("_variants", "raw", "is_mute", "_received", "_end_to_end")


def full(data: bytes) -> RequestHead | None:
    """What the full parser makes of one whole request without a body."""
    if data.find(b"\r\n\r\n") != len(data) - 4 or len(data) - 4 > LIMITS.head_bytes:
        return None
    try:
        head = parse_request_head(data[:-4], LIMITS)
        return head if request_framing(head).is_empty else None
    except ClientError:
        return None


def learn(memo: ParseMemo, data: bytes) -> tuple[LineFacts, FieldFacts] | None:
    return memo.learn(data, data[data.find(b"\r\n") + 2 :])


def facts_of(facts: FieldFacts) -> dict[str, object]:
    return {name: getattr(facts, name) for name in FieldFacts.__slots__ if name not in NAMES}


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(
    st.lists(requests(80) | st.binary(max_size=60).map(lambda raw: raw + b"\r\n\r\n"), min_size=1, max_size=6)
)
def test_what_it_learns_is_what_the_full_parser_says(stream: list[bytes]) -> None:
    memo = ParseMemo(LIMITS, 100_000)
    # Halves of different requests too: one known line with another's known fields.
    mixed = [a.partition(b"\r\n")[0] + b"\r\n" + b.partition(b"\r\n")[2] for a in stream for b in stream]
    for data in [*stream, *stream, *mixed, *mixed]:
        learnt = learn(memo, data)
        expected = full(data)
        if learnt is not None:
            line, facts = learnt
            assert expected == line.head.with_fields(facts.received)
            assert list(facts.received.names()) == list(expected.fields.names())
            worked_out = FieldFacts(facts.raw, expected.fields)
            assert facts_of(facts) == facts_of(worked_out)
            assert facts.fields == worked_out.fields
            assert line.key == str(expected.target)
        known = memo.known_head(data)
        assert known is None or known == expected


@pytest.mark.parametrize("name", sorted(admission.JUDGED))
def test_what_is_judged_is_never_mute(name: str) -> None:
    memo = ParseMemo(HeadLimits(), 1 << 20)
    assert not says_nothing(name)
    learnt = learn(memo, b"GET http://h/a HTTP/1.1\r\nHost: h\r\n%s: 1.1 x\r\n\r\n" % name.title().encode())
    assert learnt is not None and not learnt[1].is_mute


def test_what_says_nothing_is_not_taken_apart() -> None:
    memo = ParseMemo(HeadLimits(), 1 << 20)
    block = b"Host: h\r\nUser-Agent: a\r\nX-%s: 1\r\n\r\n"
    for number in range(3000):
        learnt = learn(memo, b"GET http://h/a HTTP/1.1\r\n" + block % (b"%d" % number * 9))
        assert learnt is not None and learnt[1].is_mute
    assert learnt[1].received.lines == (("Host", "h"), ("User-Agent", "a"), ("X-" + "2999" * 9, "1"))
    assert len(memo._mute) <= 1024


@pytest.mark.parametrize(
    ("lines", "is_mute"),
    [
        (b"Proxy-Connection: Keep-Alive", True),
        (b"connection: keep-alive", True),
        (b"Connection: keep-alive\r\nProxy-Connection: keep-alive", True),
        (b"Connection: keep-alive\r\nX: y\r\nConnection: keep-alive", True),
        (b"X: y\r\nX: connection: keep-alive\r\nConnection: close", False),
        (b"Connection: keep-alive, x", False),
        (b"Connection: keep-alive\r\nConnection: x", False),
        (b"Connection:", False),
        (b"Keep-Alive: timeout=5\r\nConnection: keep-alive", False),
        (b"Connection: keep-alive\r\nCache-Control: no-cache", False),
        (b"X-Connection: keep-alive\r\nConnection: upgrade", False),
    ],
)
def test_a_connection_that_stays_says_nothing(lines: bytes, is_mute: bool) -> None:
    """RFC 9112 §9.3: it stays without saying so. Its fields are for this hop alone all the same."""
    memo = ParseMemo(HeadLimits(), 1 << 20)
    data = b"GET http://h/a HTTP/1.1\r\nHost: h\r\nUser-Agent: a\r\n" + lines + b"\r\n\r\n"
    block = data.partition(b"\r\n")[2]
    assert [memo.note_mute(block) for _ in range(2)] == [is_mute, False]
    learnt = learn(memo, data)
    assert learnt is not None and learnt[1].is_mute is is_mute
    assert end_to_end(learnt[1].received) == learnt[1].fields
    assert memo._mute.isdisjoint({b"Connection", b"connection", b"Proxy-Connection"})


def test_it_learns_ordinary_requests() -> None:
    memo = ParseMemo(HeadLimits(), 1 << 20)
    data = b"GET http://h/a HTTP/1.1\r\nHost: h\r\nCookie: a=%d\r\n\r\n"
    for number in range(20):
        learnt = learn(memo, data % number)
        assert learnt is not None and learnt[1].is_plain and learnt[1].is_simple
        assert memo.known_head(data % number) is not None
    assert len(memo.lines) == 1
    assert len(memo.blocks) == 0, "what came once is not remembered"
    learn(memo, data % 3)
    assert len(memo.blocks) == 1


def test_nothing_is_learnt_of_what_is_refused() -> None:
    memo = ParseMemo(HeadLimits(), 1 << 20)
    for raw in (
        b"GET http://h/a HTTP/1.1\r\n\r\n",
        b"GET http://h/a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
        b"GET http://h/a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n",
        b"GET http://h/a HTTP/1.0\r\n\r\n",
        b"GET http://h/a HTTP/0.9\r\nHost: h\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST http://h/a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\nGET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET http://h/a HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
    ):
        for _ in range(3):
            assert learn(memo, raw) is None
    assert len(memo.lines) == len(memo.blocks) == 0


@pytest.mark.parametrize("count", [100, 3000, 10_000])
def test_what_comes_round_and_round_is_remembered(count: int) -> None:
    """Keys that share a place in the record of what was offered push each other out for a while only."""
    memo: BoundedMemo[int] = BoundedMemo(64 * 1024 * 1024, 800, 4)
    keys = [b"GET http://h/%d" % n for n in range(count)]
    for _ in range(12):
        for key in keys:
            if memo.get(key) is None:
                memo.offer(key, 1)
    assert len(memo) > 0.97 * count


def test_a_memo_stays_within_its_limit() -> None:
    memo: BoundedMemo[int] = BoundedMemo(10_000, 100, 1)
    for number in range(1000):
        memo.put(b"%4d" % number, number)
        memo.get(b"   0")
        assert len(memo) <= 100
    assert memo.get(b"   0") == 0
    assert memo.get(b"   1") is None
