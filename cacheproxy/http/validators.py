"""Entity tags and their comparison (RFC 9110 §8.8.3, §13.1)."""

from __future__ import annotations

import re

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def is_strong(tag: str) -> bool:
    """Whether `tag` is a well-formed strong entity tag."""
    return tag.startswith('"') and _TAG.fullmatch(tag) is not None


def is_entity_tag(tag: str) -> bool:
    """Whether `tag` follows the grammar of an entity tag."""
    return _TAG.fullmatch(tag) is not None


def _opaque(tag: str) -> str:
    return tag.removeprefix("W/")


def weak_match(one: str, other: str) -> bool:
    """Weak comparison: the opaque parts are equal (RFC 9110 §8.8.3.2)."""
    return _opaque(one) == _opaque(other)


def strong_match(one: str, other: str) -> bool:
    """Strong comparison: equal, and neither is weak."""
    return one == other and is_strong(one)


def parse_tag_list(value: str) -> list[str] | None:
    """The tags of an If-Match or If-None-Match value; None for `*`.

    Members that are not entity tags are kept as they stand: they can match only an equally odd ETag.
    """
    text = value.strip(" \t")
    if text == "*":
        return None
    tags: list[str] = []
    at = 0
    while at < len(text):
        match = _TAG.match(text, at)
        if match is not None and (match.end() == len(text) or text[match.end()] in " \t,"):
            tags.append(match.group())
            at = match.end()
        else:
            end = text.find(",", at)
            end = len(text) if end == -1 else end
            piece = text[at:end].strip(" \t")
            if piece:
                tags.append(piece)
            at = end
        while at < len(text) and text[at] in " \t,":
            at += 1
    return tags
