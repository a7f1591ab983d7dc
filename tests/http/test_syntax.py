"""The shared grammar: lists, quoted strings, directives, numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.errors import SyntaxFault
from cacheproxy.http.syntax import (
    MAX_DELTA_SECONDS,
    is_token,
    parse_delta_seconds,
    parse_digits,
    parse_directive,
    quote,
    split_list,
    unquote,
)

LATIN_1 = st.text(st.characters(max_codepoint=255))
FIELD_CHARACTERS = st.text("\t" + "".join(map(chr, [*range(0x20, 0x7F), *range(0x80, 0x100)])))
TOKENS = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1)
NOT_NUMBERS = ["", "+5", "-0", "-5", "0x5", "5_0", "5.0", " 5", "5 ", "5,5", "\x0b5", "5\xa0", "٥", "²", "1e3"]


@pytest.mark.parametrize(
    ("value", "members"),
    [
        ("", []),
        (" , ,, ", []),
        ("a,b , c", ["a", "b", "c"]),
        ('a="x,y", b', ['a="x,y"', "b"]),
        (r'a="x\",y", b', [r'a="x\",y"', "b"]),
        ('a="open, b', ['a="open, b']),
        ("a\tb,\tc", ["a\tb", "c"]),
    ],
)
def test_lists_split_at_commas_outside_quotes(value: str, members: list[str]) -> None:
    """RFC 9110 §5.6.1."""
    assert split_list(value) == members


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("No-Store", ("no-store", None, False)),
        ("max-age=60", ("max-age", "60", False)),
        ("max-age=", ("max-age", "", False)),
        ('private="a, b"', ("private", "a, b", True)),
        (r'x="a\"b"', ("x", 'a"b', True)),
        ('x=""', ("x", "", True)),
    ],
)
def test_directives(member: str, expected: tuple[str, str | None, bool]) -> None:
    """RFC 9111 §5.2."""
    assert parse_directive(member) == expected


@pytest.mark.parametrize("member", ["", "=1", "no-store =1", "a= 1", 'a="open', 'a="x"y', "a=b c", "é", "a=é"])
def test_broken_directives_are_faults(member: str) -> None:
    """RFC 9111 §5.2: neither form of the grammar."""
    with pytest.raises(SyntaxFault):
        parse_directive(member)


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_only_runs_of_ascii_digits_are_numbers(text: str) -> None:
    """RFC 9110 §8.6, RFC 9111 §1.2.2."""
    assert parse_digits(text) is None
    assert parse_delta_seconds(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("007", 7),
        ("2147483647", 2**31 - 1),
        ("2147483648", 2**31),
        ("99999999999", MAX_DELTA_SECONDS),
        ("9" * 10_000, MAX_DELTA_SECONDS),
        ("0" * 10_000 + "5", 5),
    ],
)
def test_delta_seconds_are_capped(text: str, seconds: int) -> None:
    """RFC 9111 §1.2.2: too large counts as 2^31."""
    assert parse_delta_seconds(text) == seconds


def test_huge_digit_runs_are_no_number_and_no_crash() -> None:
    """Python refuses to convert more than 4300 digits."""
    assert parse_digits("1" * 5000) is None


@given(st.integers(min_value=0, max_value=MAX_DELTA_SECONDS))
def test_numbers_come_back(number: int) -> None:
    assert parse_digits(str(number)) == parse_delta_seconds(str(number)) == number


@given(FIELD_CHARACTERS)
def test_quoted_strings_come_back(text: str) -> None:
    assert unquote(quote(text)) == text


@given(st.lists(TOKENS | FIELD_CHARACTERS.map(quote)))
def test_lists_come_back(members: list[str]) -> None:
    assert split_list(", ".join(members)) == members


@given(LATIN_1)
def test_any_text_is_a_directive_or_a_fault(text: str) -> None:
    try:
        name, _, _ = parse_directive(text)
    except SyntaxFault:
        return
    assert is_token(name)
    assert name == name.lower()


@given(LATIN_1)
def test_any_text_is_quoted_or_not(text: str) -> None:
    assert unquote(text) is None or text.startswith('"')
