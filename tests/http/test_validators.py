"""Entity tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.http.validators import is_entity_tag, is_strong, parse_tag_list, strong_match, weak_match

OPAQUE = st.text("".join(map(chr, [0x21, *range(0x23, 0x7F), *range(0x80, 0x100)])), max_size=8)
TAGS = st.builds(lambda weak, text: f'{weak}"{text}"', st.sampled_from(["", "W/"]), OPAQUE)


@pytest.mark.parametrize(
    ("one", "other", "strong", "weak"),
    [
        ('W/"1"', 'W/"1"', False, True),
        ('W/"1"', 'W/"2"', False, False),
        ('W/"1"', '"1"', False, True),
        ('"1"', '"1"', True, True),
        ('"1"', '"2"', False, False),
        ('"a"', '"A"', False, False),
        ("1", "1", False, True),
        ('""', '""', True, True),
    ],
)
def test_comparison(one: str, other: str, strong: bool, weak: bool) -> None:
    """RFC 9110 §8.8.3.2."""
    for left, right in [(one, other), (other, one)]:
        assert strong_match(left, right) == strong
        assert weak_match(left, right) == weak


@pytest.mark.parametrize(
    "tag", ["", '"', "a", '"a', 'a"', '"a b"', '"a"b"', 'w/"a"', 'W/ "a"', '"\x7f"', "'a'"]
)
def test_what_is_no_entity_tag(tag: str) -> None:
    """RFC 9110 §8.8.3."""
    assert not is_entity_tag(tag)
    assert not is_strong(tag)


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("*", None),
        (" * ", None),
        ("", []),
        (", ,", []),
        ('"a"', ['"a"']),
        ('"a", W/"b" ,"c"', ['"a"', 'W/"b"', '"c"']),
        ('"a,b", "c"', ['"a,b"', '"c"']),
        ('"*"', ['"*"']),
        ('*, "a"', ["*", '"a"']),
        ("a, b", ["a", "b"]),
        ('"a"b, "c"', ['"a"b', '"c"']),
        ('"a", "open', ['"a"', '"open']),
    ],
)
def test_lists(value: str, tags: list[str] | None) -> None:
    """RFC 9110 §13.1.1, §13.1.2; what is no tag is kept as it stands."""
    assert parse_tag_list(value) == tags


@given(st.lists(TAGS))
def test_lists_come_back(tags: list[str]) -> None:
    assert parse_tag_list(", ".join(tags)) == tags


@given(TAGS, TAGS)
def test_a_strong_match_is_a_weak_one(one: str, other: str) -> None:
    assert is_strong(one) == (not one.startswith("W/"))
    assert weak_match(one, other) or not strong_match(one, other)


@given(st.text(st.characters(max_codepoint=255)) | st.text('"W/, *ab'))
def test_any_text_is_a_list(text: str) -> None:
    for tag in parse_tag_list(text) or []:
        assert tag == tag.strip(" \t") != ""
