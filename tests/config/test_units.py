"""Sizes and durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (1024, 1024),
        ("1024", 1024),
        ("1024B", 1024),
        ("1KiB", 1024),
        ("1kib", 1024),
        ("1K", 1024),
        ("1kB", 1000),
        ("10GiB", 10 * 2**30),
        ("10G", 10 * 2**30),
        ("500MB", 500_000_000),
        ("1.5MiB", 3 * 2**19),
        (" 2 TiB ", 2 * 2**40),
    ],
)
def test_sizes(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value",
    ["", "x", "-1", -1, True, None, 1.5, "1.5.2K", "1 XiB", "1e3", "0x10", "1_000", "٥", "KiB", "1KB/s"],
)
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        (1.5, 1.5),
        ("30", 30),
        ("30s", 30),
        ("250ms", 0.25),
        ("10m", 600),
        ("1.5h", 5400),
        ("7d", 604800),
        ("1w", 604800),
        (" 5 m ", 300),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value", ["", "x", "-1", -1, True, None, "1.5", "1y", "10M", "1h30m", "1e3s", "٥s", "²", float("nan")]
)
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1.5KiB"), (2**40, "1TiB"), (2**50, "1024TiB")],
)
def test_sizes_as_text(count: int, text: str) -> None:
    assert format_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.25, "250ms"), (90, "90s"), (600, "10m"), (604800, "1w"), (1.5, "1.5s")]
)
def test_durations_as_text(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 2**50), st.sampled_from([1, 2**10, 2**20, 2**30]))
def test_whole_sizes_come_back(number: int, unit: int) -> None:
    text = format_size(number * unit)
    assert "." in text or parse_size(text) == number * unit


@given(st.integers(0, 10**9))
def test_durations_come_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 10**6))
def test_milliseconds_come_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(st.text() | st.text("0123456789.KMGTiBmshdw "))
def test_any_text_is_a_value_or_an_error(text: str) -> None:
    for parse in (parse_size, parse_duration):
        try:
            assert parse(text) >= 0
        except ValueError:
            pass
