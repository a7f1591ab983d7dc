"""Names of the body sizes that occur in target paths."""

from __future__ import annotations

from typing import Final

SIZES: Final[dict[str, int]] = {
    "1k": 1024,
    "4k": 4096,
    "16k": 16384,
    "64k": 65536,
    "256k": 262144,
    "1m": 1024 * 1024,
    "100m": 100 * 1024 * 1024,
}
