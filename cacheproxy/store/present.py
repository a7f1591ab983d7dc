"""Which keys the disk may have: a Bloom filter of their hashes, so that what was never stored is not looked up."""

from __future__ import annotations

from collections.abc import Iterable

# With two bits a key, one in seventy that are not there is thought to be; twice as many keys, one in twenty.
_BITS_A_KEY = 16
_FEWEST_BITS, _MOST_BITS = 1 << 20, 1 << 26
_SHIFT = 26


class Present:
    """Never forgets: what was removed stays until the next one is made. Between 128 KiB and 8 MiB."""

    def __init__(self, keys: int) -> None:
        bits = _FEWEST_BITS
        while bits < min(_MOST_BITS, keys * _BITS_A_KEY):
            bits *= 2
        self._bits = bytearray(bits // 8)
        self._mask = bits - 1
        self._left = bits // _BITS_A_KEY

    def complete(self) -> None:
        """All that is on disk has been added: however much that is, half of what has room may follow."""
        self._left = max(self._left, len(self._bits) * 8 // _BITS_A_KEY // 2)

    @property
    def is_full(self) -> bool:
        """Whether so much has been added that another should be made."""
        return self._left < 0

    def __contains__(self, hashed: int) -> bool:
        bits, mask = self._bits, self._mask
        first, second = hashed & mask, hashed >> _SHIFT & mask
        return bool(bits[first >> 3] >> (first & 7) & bits[second >> 3] >> (second & 7) & 1)

    def add(self, hashed: int) -> None:
        """A key with this `ghosts.key_hash` is there, or will be."""
        if hashed not in self:
            self._left -= 1
            bits, mask = self._bits, self._mask
            for place in (hashed & mask, hashed >> _SHIFT & mask):
                bits[place >> 3] |= 1 << (place & 7)

    def add_all(self, hashes: Iterable[int]) -> None:
        """Many at once."""
        for hashed in hashes:
            self.add(hashed)
