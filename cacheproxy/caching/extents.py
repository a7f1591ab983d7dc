"""Which bytes of a representation are here: sorted slices that neither overlap nor touch (RFC 9111 §3.3)."""

from __future__ import annotations

from collections.abc import Iterable

from cacheproxy.http.ranges import Slice

Extents = tuple[Slice, ...]


def union(*groups: Iterable[Slice]) -> Extents:
    """All the bytes of all groups; adjacent slices become one."""
    merged: list[Slice] = []
    for part in sorted((part for group in groups for part in group), key=lambda part: part.start):
        if part.start >= part.end:
            continue
        if merged and part.start <= merged[-1].end:
            merged[-1] = Slice(merged[-1].start, max(merged[-1].end, part.end))
        else:
            merged.append(part)
    return tuple(merged)


def gaps(held: Extents, wanted: Slice) -> Extents:
    """What of `wanted` is not held."""
    missing: list[Slice] = []
    at = wanted.start
    for part in held:
        if part.end <= at:
            continue
        if part.start >= wanted.end:
            break
        if part.start > at:
            missing.append(Slice(at, part.start))
        at = part.end
    if at < wanted.end:
        missing.append(Slice(at, wanted.end))
    return tuple(missing)


def covers(held: Extents, wanted: Slice) -> bool:
    """Whether every byte of `wanted` is held."""
    return wanted.start >= wanted.end or any(
        part.start <= wanted.start and wanted.end <= part.end for part in held
    )


def size(held: Extents) -> int:
    """How many bytes that is."""
    return sum(part.length for part in held)


def as_text(held: Extents) -> str:
    """`0-10,20-30` for bytes 0 to 9 and 20 to 29."""
    return ",".join(f"{part.start}-{part.end}" for part in held)


def from_text(text: str) -> Extents:
    """What `as_text` wrote. Raises ValueError for anything else."""
    held = []
    for piece in text.split(",") if text else ():
        start, _, end = piece.partition("-")
        held.append(Slice(int(start), int(end)))
    normal = union(held)
    if as_text(normal) != text:
        raise ValueError(f"not a list of slices: {text[:40]!r}")
    return normal
