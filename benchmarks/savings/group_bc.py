"""Groups B (web: revalidation, reloads, redirects, an origin that is down) and C (variants, names, aliases)."""

from __future__ import annotations

import random

from benchmarks.savings.group_a import RATE
from benchmarks.savings.plan import Ask, Episode, Fields, Workload, in_turn
from benchmarks.savings.resources import Resource

KB = 1000
MB = 1_000_000
PAGE = 100 * KB
RELOAD: Fields = (("Cache-Control", "no-cache"), ("Pragma", "no-cache"))

# Six that may take a coded body, two that may not: what browsers, apt, curl, wget and media players send.
SPELLINGS = (
    "gzip, deflate, br", "gzip, deflate", "gzip,deflate,br", "br, gzip",
    "gzip", "gzip;q=1.0, deflate;q=0.6, identity;q=0.3", "identity", "identity;q=1, *;q=0",
)  # fmt: skip
TAGS = (
    "", "utm_source=mail", "utm_source=feed&utm_medium=rss", "utm_campaign=winter&utm_content=b",
    "fbclid=IwAR0x", "gclid=Cj0KCQ",
)  # fmt: skip


def page(path: str, size: int, control: str, *, current: bool = False, etag: bool = True) -> Resource:
    """A page of the web."""
    return Resource(path, size, control=control, current=current, etag=etag)


def visits(resource: Resource, times: int, fields: Fields = ()) -> list[Ask]:
    """The same ask, again and again."""
    return [Ask(resource, fields) for _ in range(times)]


def must_revalidate(name: str, number: int, size: int = PAGE) -> Resource:
    """One in two is `max-age=0`, the other `no-cache`."""
    control = "no-cache" if number % 2 else "max-age=0"
    return page(f"/{name}/{number}", size, control, current=True)


def undated(name: str, number: int, size: int = PAGE) -> Resource:
    """Last-Modified only: what the cache makes of it is its heuristic."""
    return page(f"/{name}/{number}", size, "", etag=False)


def spelled(name: str, number: int, size: int = PAGE) -> list[Ask]:
    """One text, asked in eight spellings of Accept-Encoding."""
    text = Resource(f"/{name}/{number}", size, text=True)
    return [Ask(text, (("Accept-Encoding", spelling),)) for spelling in SPELLINGS]


def uncompressed(name: str, number: int, size: int = PAGE) -> list[Ask]:
    """One text, asked by tools that take no coding: twice silently, once by name."""
    text = Resource(f"/{name}/{number}", size, text=True)
    return [Ask(text), Ask(text, (("Accept-Encoding", "identity"),)), Ask(text)]


def rounds(lists: list[list[Ask]], draw: random.Random) -> list[Episode]:
    """Round after round: the n-th ask of every list, in an order of the round's own."""
    episodes = []
    for asks in zip(*lists, strict=True):
        order = list(asks)
        draw.shuffle(order)
        episodes.append(in_turn(order))
    return episodes


def _stale_if_error(draw: random.Random) -> Workload:
    pages = [page(f"/outage/{n}", PAGE, "max-age=0, stale-if-error=86400") for n in range(8)]
    episodes = rounds([visits(one, 20) for one in pages], draw)
    first = draw.randrange(2, 8)
    return Workload("stale-if-error", episodes, down=frozenset({first, first + 10}))


def _small() -> list[list[Ask]]:
    kinds = []
    for n in range(8):
        moved = (("Location", "/moved/there"),)
        kinds += [
            Resource(f"/moved/for-good-{n}", 2 * KB, "max-age=3600", fields=moved, status=301, etag=False),
            Resource(f"/moved/for-now-{n}", 2 * KB, "max-age=60", fields=moved, status=302, etag=False),
            Resource(f"/moved/gone-{n}", 2 * KB, "max-age=60", status=404, etag=False),
        ]
    return [visits(one, 8) for one in kinds]


def group_b(draw: random.Random) -> list[Workload]:
    """Five workloads: 19 MB of revalidation and heuristics, 5 MB of reloads, redirects, outages."""
    checked = [must_revalidate("reval", n) for n in range(16)]
    guessed = [undated("heuristic", n) for n in range(8)]
    reloaded = [page(f"/reload/{n}", PAGE, "max-age=86400") for n in range(8)]
    reloads = [[Ask(one), *visits(one, 5, RELOAD)] for one in reloaded]
    return [
        Workload("reval", rounds([visits(one, 8) for one in checked], draw)),
        Workload("reload", rounds(reloads, draw)),
        Workload("heuristic", rounds([visits(one, 8) for one in guessed], draw)),
        Workload("redirect-404", rounds(_small(), draw)),
        _stale_if_error(draw),
    ]


def _languages() -> list[list[Ask]]:
    spellings = ("de, en;q=0.5", "en", "fr, en;q=0.1", "de,en;q=0.5")
    one = [Resource(f"/lang/{n}", PAGE, languages=True) for n in range(4)]
    return [[Ask(text, (("Accept-Language", spelling),)) for spelling in spellings] for text in one]


def _queries() -> list[list[Ask]]:
    """Tracking parameters on one resource; beside it `id=`, which names another one."""
    marked = [Resource(f"/query/{n}", PAGE) for n in range(12)]
    numbered = [Resource(f"/query/item-{n}", 2 * KB) for n in range(4)]
    asks = [[Ask(one, query=tag) for tag in TAGS] for one in marked]
    return asks + [[Ask(one, query=f"id={n % 3}") for n in range(len(TAGS))] for one in numbered]


def group_c(draw: random.Random) -> list[Workload]:
    """Five workloads about what is, and what is not, the same thing."""
    aliases = []
    for number in range(2):
        paths = [f"/alias/mirror-{n}/{number}" for n in range(5)]
        aliases.append([Ask(Resource(p, 2_400 * KB, rate=RATE, body_name=f"alias-{number}")) for p in paths])
    spellings = [spelled("vary", n) for n in range(15)]
    for asks in spellings:
        draw.shuffle(asks)
    return [
        Workload("vary", rounds(spellings, draw)),
        Workload("comp", rounds([uncompressed("comp", n) for n in range(30)], draw)),
        Workload("lang", rounds(_languages(), draw)),
        Workload("query", rounds(_queries(), draw)),
        Workload("alias", rounds(aliases, draw)),
    ]
