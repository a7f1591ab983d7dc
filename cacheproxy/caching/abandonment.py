"""Whether a fetch that nobody reads any more is worth finishing (savings: small or mostly here)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AbandonOptions:
    """`finish_bytes` left at most, or `finish_fraction` here at least: then the rest is fetched."""

    finish_bytes: int = 1024 * 1024
    finish_fraction: float = 0.5


def worth_finishing(received: int, length: int | None, options: AbandonOptions) -> bool:
    """Whether to fetch the rest of a body of `length` bytes (None: unknown) of which `received` are here."""
    if length is None:
        return False
    left = length - received
    return left <= options.finish_bytes or received >= length * options.finish_fraction
