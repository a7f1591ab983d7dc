"""How often was asked for what is not stored: eight bytes a key in a table of fixed size, the oldest go first."""

from __future__ import annotations

import sys
from array import array
from functools import lru_cache
from hashlib import blake2b

_WAYS = 8
_SMALLEST = 4096
_LARGEST = 4 * 1024 * 1024
PART_BYTES = 256 * 1024
"""How much of `to_parts` is in a piece: a short transaction."""

_COUNT_BITS, _STAMP_BITS = 12, 20
_MOST = (1 << _COUNT_BITS) - 1
_STAMPS = (1 << _STAMP_BITS) - 1
_TAG_SHIFT = _COUNT_BITS + _STAMP_BITS


def key_hash(key: str) -> int:
    """64 signed bits of a key, the same in every process."""
    return _known_hash(key) if len(key) <= _REMEMBERED_LENGTH else _hash(key)


def _hash(key: str) -> int:
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


# One request asks several times, and what is read from disk is asked for again.
_REMEMBERED_LENGTH = 256
_known_hash = lru_cache(maxsize=4096)(_hash)


class Ghosts:
    """Counts by key hash in groups of eight places, found by their low bits.

    A place: 32 bits of the hash, when it was last seen (in steps of a sixteenth of the table), the count.
    Where a group is full the one seen longest ago goes. The table has room for four times what is stored.
    """

    def __init__(self) -> None:
        self._places = array("Q", bytes(8 * _SMALLEST))
        self._seen = 0
        self.is_changed = False

    def __len__(self) -> int:
        return sum(1 for place in self._places if place)

    @property
    def capacity(self) -> int:
        """Keys that it has room for."""
        return len(self._places)

    def add(self, hashed: int, count: int = 1) -> int:
        """Count requests for a key; how many they are now."""
        places = self._places
        tag = hashed & 0xFFFFFFFF
        first = self._group(tag, len(places))
        self._seen += 1
        self.is_changed = True
        stamp = self._stamp()
        oldest, oldest_age = first, -1
        for at in range(first, first + _WAYS):
            place = places[at]
            if not place:
                oldest, oldest_age = at, _STAMPS + 1
            elif place >> _TAG_SHIFT == tag:
                total = min(_MOST, (place & _MOST) + count)
                places[at] = tag << _TAG_SHIFT | stamp << _COUNT_BITS | total
                return total
            else:
                age = stamp - (place >> _COUNT_BITS) & _STAMPS
                if age > oldest_age:
                    oldest, oldest_age = at, age
        total = min(_MOST, count)
        places[oldest] = tag << _TAG_SHIFT | stamp << _COUNT_BITS | total
        return total

    def count(self, hashed: int) -> int:
        """Requests counted for a key; 0 where it is not remembered."""
        at = self._find(hashed)
        return 0 if at is None else self._places[at] & _MOST

    def take(self, hashed: int) -> int:
        """Like `count`, and forget it: from now on it is counted with what is stored."""
        at = self._find(hashed)
        if at is None:
            return 0
        total, self._places[at] = self._places[at] & _MOST, 0
        self.is_changed = True
        return total

    def _find(self, hashed: int) -> int | None:
        tag = hashed & 0xFFFFFFFF
        first = self._group(tag, len(self._places))
        for at in range(first, first + _WAYS):
            if self._places[at] and self._places[at] >> _TAG_SHIFT == tag:
                return at
        return None

    @staticmethod
    def _group(tag: int, size: int) -> int:
        return tag % (size // _WAYS) * _WAYS

    def _stamp(self) -> int:
        return self._seen * 16 // len(self._places) & _STAMPS

    def fit(self, stored: int) -> None:
        """Grow to four times what is stored, within 32 MiB."""
        size = len(self._places)
        if size >= min(_LARGEST, 4 * stored):
            return
        while size < min(_LARGEST, 6 * stored):
            size *= 2
        old, stamp = self._places, self._stamp()
        self._places = array("Q", bytes(8 * size))
        # Ages count in sixteenths of the table: from now on all are of the same age.
        self._seen = stamp * size // 16
        for place in old:
            if place:
                first = self._group(place >> _TAG_SHIFT, size)
                for at in range(first, first + _WAYS):
                    if not self._places[at]:
                        self._places[at] = place
                        break

    def to_parts(self) -> list[bytes]:
        """The table in pieces, to be kept over a restart."""
        self.is_changed = False
        places = self._places
        if sys.byteorder != "little":
            places = array("Q", places)
            places.byteswap()
        data = self._stamp().to_bytes(8, "little") + places.tobytes()
        return [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]

    @staticmethod
    def from_parts(parts: list[bytes]) -> Ghosts:
        """The table again; an empty one where the pieces make none."""
        ghosts = Ghosts()
        data = b"".join(parts)
        size = len(data) // 8 - 1
        if len(data) % 8 or not _SMALLEST <= size <= 2 * _LARGEST or size & (size - 1):
            return ghosts
        places = array("Q")
        places.frombytes(data[8:])
        if sys.byteorder != "little":
            places.byteswap()
        ghosts._places = places
        ghosts._seen = (int.from_bytes(data[:8], "little") & _STAMPS) * size // 16 + 1
        return ghosts
