"""HTTP dates: three forms, nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.http.dates import format_date, parse_date

NOW = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
SAMPLE = 784111777
SECONDS = st.integers(min_value=0, max_value=253402300799)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", SAMPLE),
        ("Sunday, 06-Nov-94 08:49:37 GMT", SAMPLE),
        ("Sun Nov  6 08:49:37 1994", SAMPLE),
        ("sun, 06 nov 1994 08:49:37 gmt", SAMPLE),
        ("Sun, 06 Nov 1994 08:49:60 GMT", SAMPLE + 22),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
        ("Thu, 29 Feb 2024 00:00:00 GMT", 1709164800),
    ],
)
def test_the_three_forms(text: str, at: int) -> None:
    """RFC 9110 §5.6.7; case does not matter to a cache (RFC 9111 §4.2)."""
    assert parse_date(text, NOW) == at


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "784111777",
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "06 Nov 1994 08:49:37 GMT",
        "Son, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 November 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Wed, 29 Feb 2023 00:00:00 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov ١٩٩٤ 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_everything_else_is_no_date(text: str) -> None:
    """RFC 9110 §5.6.7: strict; RFC 9111 §5.3: an Expires that fails here is in the past."""
    assert parse_date(text, NOW) is None


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("Sunday, 01-Mar-26 00:00:00 GMT", 2026),
        ("Saturday, 01-Feb-76 00:00:00 GMT", 2076),
        ("Friday, 01-Jan-77 00:00:00 GMT", 1977),
        ("Friday, 01-Jan-99 00:00:00 GMT", 1999),
        ("Saturday, 01-Jan-00 00:00:00 GMT", 2000),
    ],
)
def test_two_digit_years_lie_at_most_fifty_years_ahead(text: str, year: int) -> None:
    """RFC 9110 §5.6.7."""
    at = parse_date(text, NOW)
    assert at is not None
    assert datetime.fromtimestamp(at, UTC).year == year


def test_two_digit_years_count_to_the_second() -> None:
    """RFC 9110 §5.6.7: fifty years and ten months ahead is "more than 50 years in the future"."""
    at = parse_date("Friday, 31-Dec-76 00:00:00 GMT", NOW)
    assert at is not None
    assert datetime.fromtimestamp(at, UTC).year == 1976


@given(SECONDS)
def test_dates_come_back(at: int) -> None:
    assert parse_date(format_date(at), NOW) == at


@given(SECONDS)
def test_the_asctime_form_comes_back(at: int) -> None:
    moment = datetime.fromtimestamp(at, UTC)
    text = f"{moment:%a %b} {moment.day:2} {moment:%H:%M:%S} {moment.year:04}"
    assert parse_date(text, NOW) == at


@given(st.text() | st.from_regex(r"\A[A-Z][a-z]{2}, [0-9 ]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT\Z"))
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert isinstance(parse_date(text, NOW), int | None)
