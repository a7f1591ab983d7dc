"""The validation request, and what its answer means."""

from __future__ import annotations

import pytest

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.validation import (
    Freshen,
    Outcome,
    PassOn,
    Refetch,
    Replace,
    ServerFailure,
    conditional_fields,
    judge,
)
from tests.caching.build import at, fields, response, stored

T1, T2 = at(-100), at(-200)
A = stored('ETag: "a"')
B = stored('ETag: "b"')
WEAK = stored('ETag: W/"a"')
DATED = stored(f"Last-Modified: {T1}")
BOTH = stored(f'ETag: "a" | Last-Modified: {T1}')
BARE = stored("Cache-Control: max-age=60")


@pytest.mark.parametrize(
    ("rfc", "asked", "chosen", "variants", "conditions"),
    [
        ("9111 4.3.1 tag", "X: 1", A, [], 'X: 1 | If-None-Match: "a"'),
        ("9111 4.3.1 date", "", DATED, [], f"If-Modified-Since: {T1}"),
        ("9111 4.3.1 both", "", BOTH, [], f'If-None-Match: "a" | If-Modified-Since: {T1}'),
        ("9111 4.3.1 neither", "", BARE, [], ""),
        ("9111 4.3.1 every variant", "", A, [A, B, WEAK, DATED], 'If-None-Match: "a", "b", W/"a"'),
        ("9111 4.3.1 none chosen", "", None, [A, B, DATED], 'If-None-Match: "a", "b"'),
        ("9111 4.3.1 the client's as well", 'If-None-Match: "c", "a"', A, [], 'If-None-Match: "a", "c"'),
        ("9111 4.3.1 the client's star", "If-None-Match: *", A, [], 'If-None-Match: "a"'),
        ("9111 4.3.1 other conditions go", f'Range: bytes=0-1 | If-Range: "c" | If-Modified-Since: {T2} | If-Match: *', A, [],
         'If-None-Match: "a"'),
    ],
)  # fmt: skip
def test_conditions(
    rfc: str, asked: str, chosen: StoredResponse | None, variants: list[StoredResponse], conditions: str
) -> None:
    assert conditional_fields(fields(asked), chosen, variants) == fields(conditions)


def test_at_most_sixteen_tags_and_the_chosen_one_among_them() -> None:
    many = [stored(f'ETag: "{number}"') for number in range(40)]
    sent = conditional_fields(fields(""), A, many).only("if-none-match")
    assert sent is not None
    assert sent.split(", ")[:2] == ['"a"', '"0"']
    assert len(sent.split(", ")) == 16


@pytest.mark.parametrize(
    ("rfc", "answer", "chosen", "variants", "client", "outcome"),
    [
        ("9111 4.3.4 strong", 'ETag: "a"', A, [A], "", Freshen(A)),
        ("9111 4.3.4 strong, other variant", 'ETag: "b"', A, [A, B], "", Freshen(B)),
        ("9111 4.3.4 strong, none chosen", 'ETag: "b"', None, [A, B], "", Freshen(B)),
        ("9111 4.3.4 strong, foreign", 'ETag: "x"', A, [A, B], "", Refetch()),
        ("9111 4.3.4 strong, the client's", 'ETag: "x"', A, [A], 'If-None-Match: "x"', PassOn()),
        ("9111 4.3.4 strong, both have it", 'ETag: "a"', A, [A], 'If-None-Match: "a"', Freshen(A)),
        ("9111 4.3.4 strong never freshens weak", 'ETag: "a"', WEAK, [WEAK], "", Refetch()),
        ("9111 4.3.4 weak", 'ETag: W/"a"', WEAK, [WEAK], "", Freshen(WEAK)),
        ("9111 4.3.4 weak freshens strong", 'ETag: W/"a"', A, [A], "", Freshen(A)),
        ("9111 4.3.4 weak, foreign", 'ETag: W/"x"', A, [A], "", Refetch()),
        ("9111 4.3.4 date", f"Last-Modified: {T1}", DATED, [DATED], "", Freshen(DATED)),
        ("9111 4.3.4 other date", f"Last-Modified: {T2}", DATED, [DATED], "", Refetch()),
        ("9111 4.3.4 tag and date", f'ETag: "a" | Last-Modified: {T1}', BOTH, [BOTH], "", Freshen(BOTH)),
        ("9111 4.3.4 date for both", f"Last-Modified: {T1}", BOTH, [BOTH], "", Freshen(BOTH)),
        ("9111 4.3.4 other date for both", f"Last-Modified: {T2}", BOTH, [BOTH], "", Refetch()),
        (
            "9111 4.3.4 new tag, same date",
            f'ETag: "n" | Last-Modified: {T1}',
            DATED,
            [DATED],
            "",
            Freshen(DATED),
        ),
        ("9111 4.3.4 new tag, other date", f'ETag: "n" | Last-Modified: {T2}', DATED, [DATED], "", Refetch()),
        ("9111 4.3.4 new strong tag alone", 'ETag: "n"', DATED, [DATED], "", Refetch()),
        ("9111 4.3.4 no validator, one asked about", "", A, [A], "", Freshen(A)),
        ("9111 4.3.4 no validator, date", "", DATED, [DATED], "", Freshen(DATED)),
        ("9111 4.3.4 no validator, several", "", A, [A, B], "", Refetch()),
        ("9111 4.3.4 no validator, only variant", "", None, [B], "", Freshen(B)),
        ("9111 4.3.4 no validator, which variant", "", None, [A, B], "", Refetch()),
        ("9111 4.3.4 no validator, the client's own", "", A, [A], 'If-None-Match: "x"', Refetch()),
        ("9111 4.3.4 no validator, the client's equal", "", A, [A], 'If-None-Match: W/"a"', Freshen(A)),
        ("9111 4.3.4 no validator, client's variant", "", None, [B], 'If-None-Match: "x"', Refetch()),
        ("9111 4.3.4 nothing stored", "", None, [], "", Refetch()),
    ],
)
def test_not_modified(
    rfc: str,
    answer: str,
    chosen: StoredResponse | None,
    variants: list[StoredResponse],
    client: str,
    outcome: Outcome,
) -> None:
    made = judge(response(answer, 304), chosen, variants, fields(client))
    assert made == outcome
    if isinstance(outcome, Freshen) and isinstance(made, Freshen):
        assert made.stored is outcome.stored


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, Replace()) for status in (200, 206, 301, 404, 410, 412, 416, 501, 505)),
        *((status, ServerFailure()) for status in (500, 502, 503, 504)),
    ],
)
def test_other_answers(status: int, outcome: Outcome) -> None:
    """RFC 9111 §4.3.3, RFC 5861 §4."""
    assert judge(response('ETag: "a"', status), A, [A], fields("")) == outcome
