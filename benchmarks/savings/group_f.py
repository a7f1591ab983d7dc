"""Group F, the office day: everything mixed by bytes asked (WORKLOADS.md; fixed before it was first measured)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

from benchmarks.savings import group_a as a
from benchmarks.savings import group_bc as bc
from benchmarks.savings.plan import Ask, Episode, Workload, in_turn
from benchmarks.savings.resources import Catalogue, Resource

MB = 1_000_000
DAY_S = 180.0
DAY_BYTES = 600 * MB
CLIENTS = 60
RATE = 2 * MB
"""Each origin connection's bytes per second for large files: an office's line, not loopback."""
UPDATE_SIZES = (1 * MB, 1 * MB, 2 * MB, 2 * MB, 4 * MB, 8 * MB)

# Percent of the bytes asked (the issue); web is then divided by the MB delivered in savings.md §4:
# reval 19.2, reload 4.8, vary 4.7, comp 9.0, of 37.7.
SHARES = {
    "burst": 20.0, "range": 20.0, "resume": 8.0, "plain": 8.0, "abort": 3.0, "giveup": 0.5, "sniff": 0.5,
    "web": 25.0, "oneoff": 15.0,
}  # fmt: skip
WEB = {"reval": 19.2, "reload": 4.8, "vary": 4.7, "comp": 9.0}
CONTROLS = ("max-age=86400", "max-age=86400", "no-store", "private")

Maker = Callable[[int, random.Random, float], list[Episode]]


def _spread(asks: list[Ask], draw: random.Random, day_s: float) -> list[Episode]:
    """Visits at any time of the day, each by a client of its own."""
    return [replace(in_turn([ask]), start_s=draw.uniform(0, day_s)) for ask in asks]


def _once(episode: Episode, draw: random.Random, day_s: float) -> list[Episode]:
    return [replace(episode, start_s=draw.uniform(0, day_s * 0.95))]


def _web_size(draw: random.Random) -> int:
    return max(4_000, min(1_000_000, int(draw.lognormvariate(11.0, 0.8))))


def _burst(n: int, draw: random.Random, day_s: float) -> list[Episode]:
    size = UPDATE_SIZES[n % len(UPDATE_SIZES)]
    return _once(a.burst(f"burst/{n}", size, draw, 1.0, RATE), draw, day_s)


def _plain(n: int, draw: random.Random, day_s: float) -> list[Episode]:
    file = a.large(f"plain/{n}", UPDATE_SIZES[n % len(UPDATE_SIZES)], RATE)
    return _spread(bc.visits(file, 4), draw, day_s)


def _reval(n: int, draw: random.Random, day_s: float) -> list[Episode]:
    """A third each max-age=0, no-cache, undated. One in ten of the first two changes once in the day."""
    size = _web_size(draw)
    page = bc.undated("reval", n, size) if n % 3 == 2 else bc.must_revalidate("reval", n, size)
    episodes = _spread(bc.visits(page, 8), draw, day_s)
    if page.current and draw.random() < 0.1:

        def change(catalogue: Catalogue) -> None:
            catalogue.change(page)

        episodes[draw.randrange(8)] = replace(episodes[0], start_s=draw.uniform(0, day_s), before=change)
    return episodes


def _reload(n: int, draw: random.Random, day_s: float) -> list[Episode]:
    page = bc.page(f"/reload/{n}", _web_size(draw), "max-age=86400")
    return _spread([Ask(page), *bc.visits(page, 5, bc.RELOAD)], draw, day_s)


def _oneoff(n: int, draw: random.Random, day_s: float) -> list[Episode]:
    size = max(2_000, min(4 * MB, int(draw.lognormvariate(11.0, 1.5))))
    file = Resource(f"/oneoff/{n}", size, control=CONTROLS[n % len(CONTROLS)], rate=RATE)
    return _spread([Ask(file)], draw, day_s)


MAKERS: dict[str, Maker] = {
    "burst": _burst,
    "range": lambda n, draw, day_s: _once(a.ranged(f"range/{n}", draw, 8, RATE), draw, day_s),
    "resume": lambda n, draw, day_s: _once(a.resumed(f"resume/{n}", 3.0, RATE), draw, day_s),
    "plain": _plain,
    "abort": lambda n, draw, day_s: _once(a.aborted(f"abort/{n}", 3.0, RATE), draw, day_s),
    "giveup": lambda n, draw, day_s: _once(a.abandoned(f"giveup/{n}", RATE), draw, day_s),
    "sniff": lambda n, draw, day_s: _once(a.sniffed(f"sniff/{n}", RATE), draw, day_s),
    "reval": _reval,
    "reload": _reload,
    "vary": lambda n, draw, day_s: _spread(bc.spelled("vary", n, _web_size(draw)), draw, day_s),
    "comp": lambda n, draw, day_s: _spread(bc.uncompressed("comp", n, _web_size(draw)), draw, day_s),
    "oneoff": _oneoff,
}


def percentages() -> dict[str, float]:
    """Percent of the bytes asked for each kind of MAKERS."""
    whole = sum(WEB.values())
    shares = {kind: share for kind, share in SHARES.items() if kind != "web"}
    return shares | {kind: SHARES["web"] * part / whole for kind, part in WEB.items()}


def office_day(draw: random.Random, total: int = DAY_BYTES, day_s: float = DAY_S) -> Workload:
    """The whole day: of each kind as many as come nearest to its share."""
    episodes: list[Episode] = []
    for kind, share in percentages().items():
        want, have, too_large = total * share / 100, 0, 0
        for number in itertools.count():
            more = MAKERS[kind](number, draw, day_s)
            size = sum(episode.asked for episode in more)
            if have and have + size - want > want - have:
                too_large += 1
                if too_large == len(UPDATE_SIZES):
                    break
                continue
            episodes += more
            have += size
            if have >= want:
                break
    return Workload("office-day", sorted(episodes, key=lambda one: one.start_s), timed=True)
