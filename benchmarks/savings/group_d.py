"""Group D, the gate: what must not be shared, and bodies that change while they are fetched."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from benchmarks.savings.checking import Check
from benchmarks.savings.plan import Ask
from benchmarks.savings.play import Bench
from benchmarks.savings.resources import Resource, entity_tag

MB = 1_000_000
RATE = 8 * MB
CLIENTS = 8
Case = Callable[[Bench, random.Random], Awaitable[None]]


async def _ask(bench: Bench, asks: list[Ask], *, at_once: bool) -> None:
    bench.origin.catalogue.add(ask.resource for ask in asks)
    if at_once:
        await asyncio.gather(*(bench.ask(ask) for ask in asks))
    else:
        for ask in asks:
            await bench.ask(ask)


async def _never_shared(bench: Bench, resource: Resource, field: str = "") -> None:
    """Every ask must reach the origin, those that come at once too."""
    asks = [Ask(resource, ((field, f"user-{n}"),) if field else ()) for n in range(CLIENTS)]
    for at_once in (False, True):
        before = bench.origin.sent.requests
        await _ask(bench, asks, at_once=at_once)
        missing = len(asks) - (bench.origin.sent.requests - before)
        bench.clients.tally.wrong += [f"{resource.path}: answered without the origin"] * max(0, missing)


async def private(bench: Bench, _: random.Random) -> None:
    """`private`, each body for one client."""
    await _never_shared(
        bench, Resource("/d-private/1", 50_000, "private, max-age=60", personal="Cookie"), "Cookie"
    )


async def no_store(bench: Bench, _: random.Random) -> None:
    """`no-store`, each body for one client."""
    await _never_shared(bench, Resource("/d-no-store/1", 50_000, "no-store", personal="Cookie"), "Cookie")


async def authorization(bench: Bench, _: random.Random) -> None:
    """Storable, but asked for with Authorization, and nothing says public."""
    file = Resource("/d-authorization/1", 50_000, "max-age=60", personal="Authorization")
    await _never_shared(bench, file, "Authorization")


async def vary_star(bench: Bench, _: random.Random) -> None:
    """`Vary: *` matches no later request."""
    await _never_shared(bench, Resource("/d-vary/1", 50_000, "max-age=60", fields=(("Vary", "*"),)))


async def set_cookie(bench: Bench, _: random.Random) -> None:
    """The body may be shared, the cookie may not."""
    file = Resource("/d-cookie/1", 50_000, "max-age=60", cookies=True)
    bench.origin.catalogue.add([file])
    tasks = [bench.clients.get(file.path, {}, Check(lambda: [file.body(0)])) for _ in range(CLIENTS)]
    replies = [await tasks[0], await tasks[1], *await asyncio.gather(*tasks[2:])]
    cookies = [reply.head.fields.get("set-cookie", "") for reply in replies if reply is not None]
    twice = sum(count - 1 for cookie, count in Counter(cookies).items() if cookie)
    bench.clients.tally.wrong += [f"{file.path}: a cookie for two"] * twice


async def ranges_after_change(bench: Bench, draw: random.Random) -> None:
    """Pieces of the old version must never be part of the new one."""
    for number, control in enumerate(("max-age=0", "no-cache", "max-age=86400")):
        file = Resource(f"/d-changed/{number}", 2 * MB, control, current=number < 2, rate=RATE)
        cuts = [(first, first + 250_000) for first in range(0, file.size, 250_000)]
        draw.shuffle(cuts)
        await _ask(bench, [Ask(file, ranges=(cut,)) for cut in cuts[:4]], at_once=True)
        bench.origin.catalogue.change(file)
        await _ask(bench, [Ask(file, ranges=(cut,)) for cut in cuts], at_once=False)
        await _ask(bench, [Ask(file), Ask(file, ranges=((0, 100), (5_000, 9_000)))], at_once=False)
        slow = asyncio.gather(*(bench.ask(Ask(file)) for _ in range(4)))
        bench.origin.catalogue.change(file)
        await asyncio.gather(slow, *(bench.ask(Ask(file, ranges=(cut,))) for cut in cuts))


async def resume_after_change(bench: Bench, _: random.Random) -> None:
    """With If-Range: the new whole. Without: any one version."""
    for number in range(4):
        file = Resource(f"/d-resumed/{number}", 2 * MB, rate=RATE)
        tag = entity_tag(file.body(0), "")
        await _ask(bench, [Ask(file, cut=1_200_000)], at_once=False)
        bench.origin.catalogue.change(file)
        condition = (("If-Range", tag),) if number % 2 else ()
        await _resume(bench, file, condition)
        await _ask(bench, [Ask(file), Ask(file)], at_once=True)


async def _resume(bench: Bench, file: Resource, condition: tuple[tuple[str, str], ...]) -> None:
    rest = (1_200_000, file.size)
    check = Check(lambda: [file.body(0), file.body(1)], (rest,))
    fields = {"Range": f"bytes={rest[0]}-", **dict(condition)}
    reply = await bench.clients.get(file.path, fields, check)
    if reply is not None and condition and reply.head.status == 206 and file.body(0) not in check.candidates:
        bench.clients.tally.wrong.append(f"{file.path}: If-Range with the old tag gave a piece of the new body")


async def broken_off(bench: Bench, _: random.Random) -> None:
    """The origin breaks off once: a visible failure or the right bytes, and right ones for who comes next."""
    for number in range(4):
        file = Resource(f"/d-dropped/{number}", 1 * MB, rate=RATE, drop_at=400_000)
        await _ask(bench, [Ask(file)] * 2, at_once=True)
        bench.clients.tally.failed.clear()
        await _ask(bench, [Ask(file), Ask(file, ranges=((300_000, 700_000),))], at_once=False)


CASES: dict[str, Case] = {
    "private": private,
    "no-store": no_store,
    "authorization": authorization,
    "vary-star": vary_star,
    "set-cookie": set_cookie,
    "ranges-after-change": ranges_after_change,
    "resume-after-change": resume_after_change,
    "broken-off": broken_off,
}
