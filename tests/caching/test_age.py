"""Age: never negative, never running backwards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.caching.age import age_value, corrected_initial_age, current_age, is_from_future
from cacheproxy.caching.entry import Timing
from tests.caching.build import NOW, fields, stored

TIMES = st.floats(0, 4e9)


@pytest.mark.parametrize(
    ("rfc", "text", "age"),
    [
        ("9111 5.1 absent", "", 0),
        ("9111 5.1", "Age: 60", 60),
        ("9111 5.1 zero", "Age: 0", 0),
        ("9111 1.2.2 too large", "Age: 99999999999", 2**31),
        ("9111 5.1 negative", "Age: -7", 0),
        ("9111 5.1 signed", "Age: +7", 0),
        ("9111 5.1 fraction", "Age: 7.5", 0),
        ("9111 5.1 word", "Age: abc", 0),
        ("9111 5.1 word behind", "Age: 7a", 0),
        ("9111 5.1 quoted", 'Age: "7"', 0),
        ("9111 5.1 superscript", "Age: ²", 0),
        ("9111 5.1 parameter", "Age: 7;x", 0),
        ("9111 5.1 empty", "Age: ", 0),
        ("9111 5.1 first of a list", "Age: 7, 60", 7),
        ("9111 5.1 first of two lines", "Age: 7 | Age: 60", 7),
        ("9111 5.1 first is broken", "Age: x, 60", 0),
    ],
)
def test_age_value(rfc: str, text: str, age: int) -> None:
    assert age_value(fields(text)) == age


@pytest.mark.parametrize(
    ("rfc", "text", "date", "sent", "received", "age"),
    [
        ("9111 4.2.3 instant", "", 0, 0, 0, 0),
        ("9111 4.2.3 apparent", "", -30, 0, 0, 30),
        ("9111 4.2.3 stated", "Age: 20", 0, 0, 0, 20),
        ("9111 4.2.3 the larger", "Age: 20", -30, 0, 0, 30),
        ("9111 4.2.3 delay", "Age: 20", 0, -4, 0, 24),
        ("9111 4.2.3 Date ahead of us", "", 100, 0, 0, 0),
        ("9111 4.2.3 our clock went back meanwhile", "Age: 20", 0, 5, 0, 20),
    ],
)
def test_corrected_initial_age(rfc: str, text: str, date: int, sent: int, received: int, age: int) -> None:
    assert corrected_initial_age(fields(text), NOW + date, NOW + sent, NOW + received) == age


def test_the_clock_may_go_back_a_little() -> None:
    assert not is_from_future(stored(), NOW - 60)
    assert is_from_future(stored(), NOW - 61)


@given(st.integers(0, 2**31), TIMES, TIMES, TIMES, TIMES, TIMES)
def test_age_is_never_negative_and_grows_with_now(
    stated: int, date: float, sent: float, received: float, now: float, later: float
) -> None:
    age = corrected_initial_age(fields(f"Age: {stated}"), date, sent, received)
    one = stored()._replace(corrected_initial_age=age, timing=Timing(sent, received))
    now, later = sorted([now, later])
    assert stated <= age
    assert 0 <= current_age(one, now) <= current_age(one, later)
