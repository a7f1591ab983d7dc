"""Sizes (`10GiB`), durations (`10m`) and their canonical spelling."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(i?)B?\Z", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)\Z", re.ASCII)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def parse_size(value: object) -> int:
    """Bytes of `10GiB`, `500MB` (powers of 1000 without the i), `1024`. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a size such as 256MiB or 10GiB")
    number, prefix, binary = match.groups()
    # A bare prefix (10G) means powers of 1024, as with most tools.
    base = 1000 if prefix and not binary and match.group().rstrip().upper().endswith("B") else 1024
    return int(float(number) * base ** _POWERS[prefix.upper()])


def parse_duration(value: object) -> float:
    """Seconds of `10m`, `1.5h`, `250ms`, `30`. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return float(value.strip())
    match = _DURATION.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration such as 30s, 10m or 2h")
    return float(match.group(1)) * _SECONDS[match.group(2)]


def format_size(count: float) -> str:
    """The shortest exact spelling in powers of 1024, else one decimal."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f}{unit}" if count == int(count) else f"{count:.1f}{unit}"
        count /= 1024
    return f"{count:.0f}TiB" if count == int(count) else f"{count:.1f}TiB"


def format_duration(seconds: float) -> str:
    """The largest unit that divides it, e.g. `10m`."""
    for unit in ("w", "d", "h", "m"):
        size = _SECONDS[unit]
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds * 1000:.15g}ms" if 0 < seconds < 1 else f"{seconds:.15g}s"
