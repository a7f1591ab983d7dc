"""The operator's exceptions for hosts and URLs."""

from __future__ import annotations

import pytest

from cacheproxy.http.uri import parse_absolute
from cacheproxy.policy.rules import Rule, Timeouts, timeouts_for

DEFAULT = Timeouts(120, 60)


@pytest.mark.parametrize(
    ("rule", "url", "applies"),
    [
        (Rule(host="h.example"), "http://h.example/", True),
        (Rule(host="H.Example"), "http://h.EXAMPLE:81/x", True),
        (Rule(host="h.example"), "http://www.h.example/", False),
        (Rule(host="*.example"), "https://h.example/", True),
        (Rule(glob="http://h/a/*"), "http://h/a/b?c", True),
        (Rule(glob="http://h/a/*"), "http://h/b", False),
        (Rule(glob="*/A*"), "http://h/a", False),
        (Rule(host="h", glob="*.iso"), "http://h/x.iso", True),
        (Rule(host="h", glob="*.iso"), "http://i/x.iso", False),
        (Rule(host="h", glob="*.iso"), "http://h/x", False),
        (Rule(), "http://h/", True),
    ],
)
def test_applies(rule: Rule, url: str, applies: bool) -> None:
    assert rule.applies(parse_absolute(url)) == applies


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], DEFAULT),
        ([Rule(host="other", first_byte_timeout_s=1)], DEFAULT),
        ([Rule(host="h", first_byte_timeout_s=1)], Timeouts(1, 60)),
        ([Rule(host="h", idle_timeout_s=0)], Timeouts(120, 0)),
        (
            [Rule(host="h", first_byte_timeout_s=1), Rule(host="*", first_byte_timeout_s=2, idle_timeout_s=3)],
            Timeouts(1, 3),
        ),
    ],
)
def test_the_first_rule_that_sets_a_timeout_wins(rules: list[Rule], expected: Timeouts) -> None:
    assert timeouts_for(parse_absolute("http://h/"), rules, DEFAULT) == expected
