"""Whether a fetch that nobody reads any more is worth finishing (savings: small, mostly here, or asked for again)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AbandonOptions:
    """`finish_bytes` left at most, `finish_fraction` here at least, or `finish_requests` for it (0: never on account
    of them): then the rest is fetched.
    """

    finish_bytes: int = 1024 * 1024
    finish_fraction: float = 0.5
    finish_requests: int = 2


def worth_finishing(received: int, length: int | None, requests: int, options: AbandonOptions) -> bool:
    """Whether to fetch the rest of a body of `length` bytes (None: unknown) of which `received` are here.

    `requests` asked for it, the abandoned one among them; 0 where that one asked for a part only.
    """
    if length is None:
        return False
    left = length - received
    return (
        left <= options.finish_bytes
        or received >= length * options.finish_fraction
        or 0 < options.finish_requests <= requests
    )
