"""Range, Content-Range: byte ranges as values (RFC 9110 §14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SPEC = re.compile(r"([0-9]*)-([0-9]*)\Z")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)\Z", re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes \*/([0-9]{1,19})\Z", re.IGNORECASE)

MAX_RANGES = 16
"""More ranges than this in one request are answered with the whole body (CVE-2011-3192)."""


@dataclass(frozen=True, slots=True)
class ByteSpec:
    """One range as asked: `first` None is a suffix of `last` bytes; `last` None runs to the end."""

    first: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes `start` (included) to `end` (excluded) of a representation."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Bytes in the slice."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class ContentRange:
    """`bytes first-last/complete`; `complete` None where the sender did not know it."""

    start: int
    end: int
    complete: int | None


def parse_range(value: str) -> list[ByteSpec] | None:
    """The byte ranges asked for; None where the field is to be ignored (other unit, bad syntax, too many)."""
    unit, equals, text = value.partition("=")
    if not equals or unit.strip(" \t").lower() != "bytes":
        return None
    specs: list[ByteSpec] = []
    for member in text.split(","):
        raw = member.strip(" \t")
        if not raw:
            continue
        match = _SPEC.match(raw)
        if match is None or len(raw) > 40:
            return None
        first, last = match.groups()
        if first:
            if last and int(last) < int(first):
                return None
            specs.append(ByteSpec(int(first), int(last) if last else None))
        elif last:
            specs.append(ByteSpec(None, int(last)))
        else:
            return None
        if len(specs) > MAX_RANGES:
            return None
    return specs or None


def satisfiable(specs: list[ByteSpec], length: int) -> list[Slice]:
    """The slices of a body of `length` bytes that `specs` name, in their order; empty means 416."""
    slices: list[Slice] = []
    for spec in specs:
        if spec.first is None:
            size = min(spec.last or 0, length)
            if size:
                slices.append(Slice(length - size, length))
        elif spec.first < length:
            last = length - 1 if spec.last is None else min(spec.last, length - 1)
            slices.append(Slice(spec.first, last + 1))
    return slices


def parse_content_range(value: str) -> ContentRange | None:
    """The range that a 206 carries; None where it is malformed or contradicts itself."""
    match = _CONTENT_RANGE.match(value.strip(" \t"))
    if match is None:
        return None
    start, end = int(match.group(1)), int(match.group(2)) + 1
    complete = None if match.group(3) == "*" else int(match.group(3))
    if end <= start or (complete is not None and end > complete):
        return None
    return ContentRange(start, end, complete)


def parse_unsatisfied(value: str) -> int | None:
    """The complete length that a 416 states (`bytes */N`), else None."""
    match = _UNSATISFIED.match(value.strip(" \t"))
    return int(match.group(1)) if match else None


def format_content_range(part: Slice, length: int) -> str:
    """`bytes first-last/length` of a slice."""
    return f"bytes {part.start}-{part.end - 1}/{length}"
