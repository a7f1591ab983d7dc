"""The user's own benchmark: one workload three times through our proxy, no peer (`scripts/bench --quick`)."""

from __future__ import annotations

import random

from benchmarks.savings.group_a import large
from benchmarks.savings.group_bc import must_revalidate, undated
from benchmarks.savings.plan import Ask, Workload, together
from benchmarks.savings.play import Figure
from benchmarks.savings.proxies import Ours
from benchmarks.savings.resources import Resource
from benchmarks.savings.runs import bench

MB = 1_000_000
CLIENTS = 8
PASSES = 3
BROWSER = "gzip, deflate, br"


def workload() -> Workload:
    """About 1,700 requests for 190 MB: packages, pages, texts, media that may not be stored; some ask at once."""
    draw = random.Random(5)
    packages = [large(f"package/{n}", draw.choice((1, 1, 2, 4)) * MB, 20 * MB) for n in range(20)]
    pages = [must_revalidate("page", n, 40_000) for n in range(60)] + [
        undated("old", n, 40_000) for n in range(60)
    ]
    texts = [Resource(f"/text/{n}", 60_000, text=True) for n in range(60)]
    media = [Resource(f"/media/{n}", 500_000, "no-store") for n in range(10)]
    asks = [Ask(one) for one in packages + media for _ in range(3)]
    asks += [Ask(one) for one in pages for _ in range(8)]
    asks += [Ask(one, (("Accept-Encoding", BROWSER),)) for one in texts for _ in range(10)]
    draw.shuffle(asks)
    return Workload("user", [together(asks[n : n + CLIENTS]) for n in range(0, len(asks), CLIENTS)])


async def run() -> int:
    """Prints a line for each pass; 1 when a body was wrong or a reply failed."""
    plan = workload()
    print("pass  requests  delivered     origin      saved  hit ratio  byte hit ratio  wrong  failed")
    bad = 0
    async with bench(Ours) as stage:
        for number in range(1, PASSES + 1):
            one = await stage.measured(Figure("user", f"pass {number}", "ours", 1), lambda: stage.play(plan))
            hits = 1 - (one.origin_requests - one.not_modified) / one.requests
            byte_hits = 1 - one.origin_body_bytes / one.delivered
            saved = one.delivered - one.origin_bytes
            megabytes = [f"{count / 1e6:>8.1f} MB" for count in (one.delivered, one.origin_bytes, saved)]
            print(
                f"{number:>4}  {one.requests:>8}{''.join(megabytes)}"
                f"{hits:>11.1%}{byte_hits:>16.1%}{one.wrong:>7}{one.failed:>8}",
                flush=True,
            )
            bad += one.wrong + one.failed
    print(
        "\nA hit is an answer whose body did not come from the origin: from the cache, or validated with a 304."
    )
    print("Saved are the bytes delivered to clients minus every byte that the origin sent, heads included.")
    return int(bad > 0)
