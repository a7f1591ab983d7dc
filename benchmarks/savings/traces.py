"""Request traces: numpy's `.npz` files read without numpy, and an office week from a generator."""

from __future__ import annotations

import ast
import hashlib
import random
import struct
import zipfile
from array import array
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

CODES = {"<i4": "i", "<i8": "q", "<u4": "I", "<u8": "Q", "<f4": "f", "<f8": "d"}
SMALL = 1_000_000_000


@dataclass(frozen=True)
class Trace:
    """Requests in order: (object, bytes)."""

    name: str
    requests: tuple[tuple[int, int], ...]

    def footprint(self) -> int:
        """Bytes of all objects, each once."""
        return sum(size for _, size in set(self.requests))

    def asked(self) -> int:
        return sum(size for _, size in self.requests)

    def scaled(self, divisor: int) -> Trace:
        """Sizes divided; a trace with a footprint below 1 GB keeps them (WORKLOADS.md)."""
        if divisor == 1 or self.footprint() < SMALL:
            return self
        return Trace(self.name, tuple((one, max(1, size // divisor)) for one, size in self.requests))

    def sampled(self, share: float) -> Trace:
        """Only the ids whose hash falls into the share, with all their requests."""
        if share >= 1:
            return self
        chosen = {one for one in {one for one, _ in self.requests} if _hash(one) < share}
        return Trace(self.name, tuple(request for request in self.requests if request[0] in chosen))


def _hash(number: int) -> float:
    return int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:6], "big") / 2**48


def _column(data: bytes) -> Sequence[int | float]:
    """One array of the `.npy` format, version 1 or 2, one dimension."""
    if data[:6] != b"\x93NUMPY":
        raise ValueError("not an .npy file")
    size, start = (
        (struct.unpack("<H", data[8:10])[0], 10) if data[6] == 1 else (struct.unpack("<I", data[8:12])[0], 12)
    )
    header = ast.literal_eval(data[start : start + size].decode("latin-1"))
    if header["descr"] not in CODES or len(header["shape"]) != 1:
        raise ValueError(f"an array of {header['descr']} in {header['shape']} is not a column of numbers")
    column = array(CODES[header["descr"]])
    column.frombytes(data[start + size :])
    return column


def read(path: Path) -> Trace:
    """A `.npz` file with the arrays `id` and `size`. Raises ValueError."""
    try:
        with zipfile.ZipFile(path) as archive:
            ids, sizes = _column(archive.read("id.npy")), _column(archive.read("size.npy"))
    except (KeyError, zipfile.BadZipFile, SyntaxError, struct.error) as error:
        raise ValueError(f"{path}: {error}") from error
    return Trace(path.stem, tuple((int(one), int(size)) for one, size in zip(ids, sizes, strict=True)))


def office_week(requests: int = 120_000, seed: int = 11) -> Trace:
    """A made-up office: update bursts, packages by Zipf 1.0, web by Zipf 0.8, one-off media."""
    draw = random.Random(seed)
    packages = [int(min(2e7, draw.lognormvariate(12.5, 1.6))) + 500 for _ in range(4_000)]
    pages = [int(min(5e6, draw.lognormvariate(9.2, 1.4))) + 200 for _ in range(40_000)]
    package_weights = list(accumulate(1 / (n + 1) for n in range(len(packages))))
    page_weights = list(accumulate((n + 1) ** -0.8 for n in range(len(pages))))
    found: list[tuple[int, int]] = []
    pending: list[tuple[float, tuple[int, int]]] = []
    number = 1_000_000
    for tick in range(requests):
        while pending and pending[-1][0] <= tick:
            found.append(pending.pop()[1])
        kind = draw.random()
        if kind < 0.0004:  # an update: a hundred machines within an hour or so
            number += 1
            update = (number, int(draw.lognormvariate(15.0, 0.8)))
            pending += [(tick + draw.expovariate(1 / 800), update) for _ in range(100)]
            pending.sort(reverse=True)
        elif kind < 0.08:
            rank = bisect(package_weights, draw.random() * package_weights[-1])
            found.append((rank, packages[rank]))
        elif kind < 0.85:
            # Popular pages drift: what was asked yesterday is asked less today.
            rank = (bisect(page_weights, draw.random() * page_weights[-1]) + tick // 60) % len(pages)
            found.append((100_000 + rank, pages[rank]))
        else:
            number += 1
            found.append((number, int(min(2e7, draw.lognormvariate(10.5, 1.8))) + 300))
    return Trace("office-made", tuple(found[:requests]))
