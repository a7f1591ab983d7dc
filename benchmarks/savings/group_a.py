"""Group A, updates: large files that many clients fetch at once, in pieces, and not to the end."""

from __future__ import annotations

import random

from benchmarks.savings.plan import Ask, Episode, Workload, in_turn, together
from benchmarks.savings.resources import Resource

MB = 1_000_000
KIB64 = 65_536
RATE = 8 * MB


def large(name: str, size: int, rate: int = RATE) -> Resource:
    """A package or update: fresh for a day, with a strong validator."""
    return Resource(f"/{name}", size, rate=rate)


def burst(name: str, size: int, draw: random.Random, spread_s: float, rate: int = RATE) -> Episode:
    """16 clients fetch one cold file within `spread_s`."""
    file = large(name, size, rate)
    return together(Ask(file, pause_s=draw.uniform(0, spread_s)) for _ in range(16))


def ranged(name: str, draw: random.Random, clients: int, rate: int = RATE) -> Episode:
    """Each client fetches 2 MB in 8 ranges of 250 KB or more, overlapping, in an order of its own."""
    file = large(name, 2 * MB, rate)
    lanes = []
    for _ in range(clients):
        cuts = [(first, first + 250_000) for first in range(0, 2 * MB, 250_000)]
        cuts = [(max(0, first - draw.choice((0, 0, 10_000, 40_000))), end) for first, end in cuts]
        draw.shuffle(cuts)
        lanes.append(tuple(Ask(file, ranges=(cut,)) for cut in cuts))
    return Episode(tuple(lanes))


def resumed(name: str, pause_s: float, rate: int = RATE) -> Episode:
    """A download breaks off at 60 % and is resumed; then four clients fetch the whole."""
    file = large(name, 2 * MB, rate)
    cut = file.size * 6 // 10
    rest = Ask(file, ranges=((cut, file.size),), pause_s=pause_s)
    return in_turn([Ask(file, cut=cut), rest, *(Ask(file, pause_s=pause_s) for _ in range(4))])


def aborted(name: str, pause_s: float, rate: int = RATE) -> Episode:
    """Three clients leave at 25 %, then four fetch the whole."""
    file = large(name, 2 * MB, rate)
    cuts = [Ask(file, cut=file.size // 4, pause_s=pause_s) for _ in range(3)]
    return in_turn([*cuts, *(Ask(file, pause_s=pause_s) for _ in range(4))])


def sniffed(name: str, rate: int = RATE) -> Episode:
    """Three clients look at the first 64 KiB of 8 MB."""
    file = large(name, 8 * MB, rate)
    return in_turn(Ask(file, ranges=((0, KIB64),)) for _ in range(3))


def abandoned(name: str, rate: int = RATE) -> Episode:
    """A client leaves 4 MB at 10 %; nobody asks again."""
    file = large(name, 4 * MB, rate)
    return in_turn([Ask(file, cut=file.size // 10)])


def group_a(draw: random.Random) -> list[Workload]:
    """The six workloads of group A."""
    sizes = [1 * MB, 1 * MB, 1 * MB, 2 * MB, 4 * MB, 8 * MB]
    draw.shuffle(sizes)
    return [
        Workload("burst", [burst(f"burst/{n}", size, draw, 0.05) for n, size in enumerate(sizes)]),
        Workload("range", [ranged(f"range/{n}", draw, 16) for n in range(3)]),
        Workload("resume", [resumed(f"resume/{n}", 0.2) for n in range(4)]),
        Workload("abort", [aborted(f"abort/{n}", 0.2) for n in range(4)]),
        Workload("sniff", [sniffed(f"sniff/{n}") for n in range(8)]),
        Workload("giveup", [abandoned(f"giveup/{n}") for n in range(8)]),
    ]
