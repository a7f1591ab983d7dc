"""What `explain` says is what the engine would do."""

from __future__ import annotations

import pytest

from cacheproxy.admin.explaining import explain
from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.caching.options import CachingOptions
from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.http.uri import parse_absolute
from cacheproxy.policy.rules import Rule, overrides_from
from cacheproxy.ports import Candidate

NOW = 1_800_000_000.0
URL = "http://h/pool/main/a/a_1_amd64.deb"


class Body:
    """Nobody reads it."""

    available = 0

    def whole(self) -> bytes:
        return b""

    def read(self, part: object) -> None:  # type: ignore[override]
        raise AssertionError


def stored(*fields: tuple[str, str], options: CachingOptions, age: float = 0) -> Candidate:
    head = ResponseHead(200, "OK", Fields(fields))
    at = NOW - age
    response = StoredResponse.build(URL, (), (), head, Timing(at, at), options)
    return Candidate(response, Body(), "memory")  # type: ignore[arg-type]


PLAIN = CachingOptions()
RULED = CachingOptions(overrides=overrides_from([Rule(host="h", min_lifetime_s=99.0)]))


@pytest.mark.parametrize(
    ("candidates", "action", "reason", "says"),
    [
        ([], "fetched from its origin", "uri-miss", "zstd"),
        ([stored(("Cache-Control", "max-age=60"), options=PLAIN)], "answered from the store", "hit", "60 s"),
        (
            [stored(("Cache-Control", "max-age=60"), ("ETag", '"1"'), options=PLAIN, age=90)],
            "validated with its origin",
            "stale",
            "from the origin",
        ),
        (
            [stored(("Cache-Control", "max-age=60"), options=PLAIN, age=90)],
            "fetched from its origin",
            "stale",
            "no validator",
        ),
        ([stored(("Server", "x"), options=RULED)], "answered from the store", "hit", "rules that apply: h"),
    ],
)
def test_the_decision_and_why(candidates: list[Candidate], action: str, reason: str, says: str) -> None:
    found = explain(parse_absolute(URL), URL, candidates, ("zstd", "br"), NOW)
    assert (found["action"], found["reason"]) == (action, reason)
    assert says in " ".join(found["details"])  # type: ignore[arg-type]


def test_a_key_without_tracking_is_shown() -> None:
    found = explain(parse_absolute("http://h/a?utm_source=x"), "http://h/a", [], (), NOW)
    assert found["details"] == ["the cache key is http://h/a"]
