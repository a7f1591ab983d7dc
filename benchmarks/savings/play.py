"""Plays a workload through one proxy, and measures what it cost the origin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field

from benchmarks.savings.bodies import Body
from benchmarks.savings.checking import Check
from benchmarks.savings.client import Clients, Tally
from benchmarks.savings.origin import Origin, Sent
from benchmarks.savings.plan import Ask, Episode, Workload
from benchmarks.savings.proxies import NotStarted, Proxy

NO_CODING = {"identity", "*", ""}


@dataclass
class Figure:
    """One workload through one proxy with one seed."""

    group: str
    workload: str
    proxy: str
    seed: int
    requests: int = 0
    delivered: int = 0
    origin_bytes: int = 0
    origin_body_bytes: int = 0
    origin_requests: int = 0
    not_modified: int = 0
    failed: int = 0
    wrong: int = 0
    memory_hits: int = 0
    disk_written: int = 0
    store_bytes: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    extra: dict[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, object]:
        return asdict(self)


class Bench:
    """An origin, the clients and a running proxy."""

    def __init__(self, proxy: Proxy, origin: Origin) -> None:
        self.proxy = proxy
        self.origin = origin
        self.clients = Clients(proxy.port, origin.port)

    async def measured(self, figure: Figure, work: Callable[[], Awaitable[None]]) -> Figure:
        """Runs `work` (a coroutine function) and fills in the figure with what came and went."""
        before, tags, written = self.origin.sent.copy(), self.proxy.log_tags(), self.proxy.written_bytes()
        self.clients.tally = Tally()
        await work()
        await self.origin.idle()
        if not self.proxy.alive():
            raise NotStarted(f"{self.proxy.name} ended during {figure.workload}")
        after = self.proxy.log_tags()
        _fill(figure, self.origin.sent.since(before), self.clients.tally)
        figure.memory_hits = sum((after - tags)[tag] for tag in after if "MEM_HIT" in tag)
        figure.disk_written = self.proxy.written_bytes() - written
        figure.store_bytes = await self.proxy.store_bytes()
        return figure

    async def play(self, workload: Workload) -> None:
        """Every episode, at its time or one after the other."""
        self.origin.catalogue.add(workload.resources())
        if workload.timed:
            async with asyncio.TaskGroup() as group:
                for episode in workload.episodes:
                    group.create_task(self._episode(episode, episode.start_s))
            return
        outages = 0
        for number, episode in enumerate(workload.episodes):
            if number in workload.down:
                self.origin.down = "reset" if outages % 2 else "503"
                outages += 1
            await self._episode(episode, 0.0)
            self.origin.down = ""

    async def _episode(self, episode: Episode, start_s: float) -> None:
        await asyncio.sleep(start_s)
        if episode.before is not None:
            episode.before(self.origin.catalogue)
        async with asyncio.TaskGroup() as group:
            for lane in episode.lanes:
                group.create_task(self._lane(lane))

    async def _lane(self, lane: tuple[Ask, ...]) -> None:
        for ask in lane:
            if ask.pause_s:
                await asyncio.sleep(ask.pause_s)
            await self.ask(ask)

    async def ask(self, ask: Ask) -> None:
        """One request; every version that its client may see is a right answer."""
        fields = dict(ask.fields)
        catalogue = self.origin.catalogue
        oldest = catalogue.version(ask.resource) if ask.resource.current else 0
        if ask.ranges:
            fields["Range"] = "bytes=" + ",".join(f"{first}-{end - 1}" for first, end in ask.ranges)
        lower = {name.lower(): value for name, value in fields.items()}
        variant = ask.resource.variant(ask.query, lower)

        def bodies() -> list[Body]:
            newest = catalogue.version(ask.resource)
            return [ask.resource.body(version, variant) for version in range(oldest, newest + 1)]

        check = Check(bodies, ask.ranges, codings_of(lower))
        target = ask.resource.path + (f"?{ask.query}" if ask.query else "")
        reply = await self.clients.get(target, fields, check, ask.cut)
        if reply is not None and reply.head.status not in _expected(ask):
            self.clients.tally.wrong.append(f"{target}: status {reply.head.status}")


def codings_of(fields: dict[str, str]) -> frozenset[str]:
    """The codings that a request's Accept-Encoding names with a weight above 0."""
    found = set()
    for item in fields.get("accept-encoding", "").lower().split(","):
        coding, _, weight = item.partition(";")
        if coding.strip() not in NO_CODING and weight.replace(" ", "") != "q=0":
            found.add(coding.strip())
    return frozenset(found)


def _expected(ask: Ask) -> set[int]:
    if ask.resource.status != 200:
        return {ask.resource.status}
    # A failure is counted as one where it is seen; it is not a wrong body.
    return {200, 500, 502, 503, 504} | ({206} if ask.ranges else set())


def _fill(figure: Figure, sent: Sent, tally: Tally) -> None:
    figure.requests = tally.requests
    figure.delivered = tally.delivered
    figure.origin_bytes = sent.bytes
    figure.origin_body_bytes = sent.body_bytes
    figure.origin_requests = sent.requests
    figure.not_modified = sent.not_modified
    figure.failed = len(tally.failed)
    figure.wrong = len(tally.wrong)
    figure.by_kind = dict(sent.by_label)
    figure.problems = (tally.wrong + tally.failed)[:20]


def restart(figure: Figure, sent: Sent, delivered_before: int) -> None:
    """Counts only what came after a warm-up."""
    figure.delivered -= delivered_before
    figure.origin_bytes, figure.origin_body_bytes = sent.bytes, sent.body_bytes
    figure.origin_requests, figure.not_modified = sent.requests, sent.not_modified
    figure.by_kind = {}
