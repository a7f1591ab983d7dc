"""Random requests, cuts, purges, new versions and restarts against a model of what must hold for each.

Every delivered byte is that of the version which the answer's ETag names; a body is cut only where the origin
changed under it; and no fetch asks for bytes that were delivered before, as long as nothing took them away.
"""

from __future__ import annotations

import asyncio
import random
import re

import pytest

from cacheproxy.app import App
from cacheproxy.caching.extents import Extents, gaps, size, union
from cacheproxy.http.ranges import Slice
from tests.conftest import Connect, StartProxy
from tests.support.client import Reply
from tests.support.files import File, noise, quiet, take
from tests.support.origin import Origin

OPTIONS = (
    "cache.finish_bytes=0",
    "cache.finish_fraction=1.0",
    "cache.finish_requests=0",
    "cache.join_gap=32KiB",
    "server.drain_timeout=2s",
)
CUT = (asyncio.IncompleteReadError, ConnectionError)


class Resource:
    """A file with versions; `had` is what clients were given of each."""

    def __init__(self, number: int, length: int, is_chunked: bool) -> None:
        self.number = number
        self.length = length
        self.versions: dict[str, bytes] = {}
        self.had: dict[str, Extents] = {}
        self.file = File(b"")
        self.file.is_chunked = is_chunked
        self.change()

    def change(self) -> None:
        number = len(self.versions) + 1
        self.file.etag = f'"{number}"'
        # Some versions have another length.
        self.file.body = noise(self.length + (number % 3) * 1000, seed=self.number * 100 + number)
        self.versions[self.file.etag] = self.file.body

    @property
    def etag(self) -> str:
        assert self.file.etag is not None
        return self.file.etag

    def note(self, etag: str, start: int, end: int) -> None:
        self.had[etag] = union(self.had.get(etag, ()), (Slice(start, end),))


class Player:
    """Plays one sequence."""

    def __init__(
        self, seed: int, origin: Origin, start_proxy: StartProxy, connect: Connect, *options: str
    ) -> None:
        # Without room for everything only the bytes are checked, not where they come from.
        self.options, self.has_room = (*OPTIONS, *options), not options
        self.chance = random.Random(seed)
        self.origin, self.start_proxy, self.connect = origin, start_proxy, connect
        self.resources = [
            Resource(seed * 10 + number, self.chance.choice((900, 70_000, 700_000, 1_500_000)), number == 2)
            for number in range(3)
        ]
        for number, resource in enumerate(self.resources):
            origin.routes[f"/{number}"] = resource.file
        self.app: App
        self.fetched = 0

    async def play(self, steps: int) -> None:
        self.app = await self.start_proxy(*self.options)
        for _ in range(steps):
            resource = self.chance.choice(self.resources)
            url = self.origin.url(f"/{self.resources.index(resource)}")
            what = self.chance.choice(
                ["whole"] * 3 + ["range"] * 8 + ["reload", "abort", "abort", "broken", "broken", "several"]
                + ["together", "head", "purge", "change", "restart"]
            )  # fmt: skip
            before = len(resource.file.asked)
            had = dict(resource.had)
            await getattr(self, what)(resource, url)
            await quiet(self.app)
            for start, end in resource.file.asked[before:]:
                known = had.get(resource.etag, ())
                again = end - start - size(gaps(known, Slice(start, end)))
                assert not again or not self.has_room, (
                    f"{what}: {start}-{end} was asked for although {known} had been here"
                )

    def span(self, resource: Resource) -> tuple[int, int]:
        length = len(resource.file.body)
        one, other = self.chance.randrange(length), self.chance.randrange(length)
        return min(one, other), max(one, other) + 1

    async def whole(self, resource: Resource, url: str, *fields: str) -> None:
        self.check(resource, await (await self.connect(self.app)).get(url, *fields))

    async def range(self, resource: Resource, url: str, *fields: str) -> None:
        start, end = self.span(resource)
        text = self.chance.choice((f"{start}-{end - 1}", f"{start}-", f"-{end - start}"))
        self.check(resource, await (await self.connect(self.app)).get(url, f"Range: bytes={text}", *fields))

    async def reload(self, resource: Resource, url: str) -> None:
        await self.chance.choice((self.whole, self.range))(resource, url, "Cache-Control: no-cache")

    async def several(self, resource: Resource, url: str) -> None:
        spans = [self.span(resource) for _ in range(3)]
        text = ",".join(f"{start}-{end - 1}" for start, end in spans)
        got = await (await self.connect(self.app)).get(url, f"Range: bytes={text}")
        if not (got.field("content-type") or "").startswith("multipart"):
            self.check(resource, got)
            return
        body = resource.versions[got.field("etag") or ""]
        for found in re.finditer(rb"Content-Range: bytes (\d+)-(\d+)/(\d+)\r\n\r\n", got.body):
            start, last, complete = (int(one) for one in found.groups())
            assert complete == len(body)
            assert got.body[found.end() : found.end() + last + 1 - start] == body[start : last + 1]

    async def together(self, resource: Resource, url: str) -> None:
        ways = [self.chance.choice((self.whole, self.range, self.range)) for _ in range(4)]
        await asyncio.gather(*(way(resource, url) for way in ways))

    async def head(self, resource: Resource, url: str) -> None:
        got = await (await self.connect(self.app)).get(url, method="HEAD")
        assert got.status == 200
        assert got.field("content-length") in (None, str(len(resource.versions[got.field("etag") or ""])))

    async def abort(self, resource: Resource, url: str) -> None:
        """The client leaves; what it has taken need not come again."""
        if resource.file.is_chunked:
            return
        count = self.chance.randrange(1, resource.length + 1)
        data = await take(await self.connect(self.app), url, count)
        etag = next(tag for tag, body in reversed(resource.versions.items()) if body.startswith(data))
        resource.note(etag, 0, count)

    async def broken(self, resource: Resource, url: str) -> None:
        """The origin breaks off, perhaps several times, and perhaps with another version afterwards."""
        length = len(resource.file.body)
        resource.file.cuts = [self.chance.randrange(length) for _ in range(self.chance.randrange(1, 4))]
        changes = self.chance.random() < 0.2
        if changes:
            resource.file.on_cut = resource.change
        try:
            await self.chance.choice((self.whole, self.range))(resource, url)
        except CUT:
            # Where nothing gets lost, what is stored of an older version breaks only when that ends.
            is_old = len(resource.versions) > 1 and not self.has_room
            assert changes or is_old, "cut although the origin could have gone on"
            resource.had.clear()
        finally:
            resource.file.cuts = []
            resource.file.on_cut = None

    async def purge(self, resource: Resource, url: str) -> None:
        assert (await (await self.connect(self.app)).get(url, method="PURGE")).status in (200, 404)
        resource.had.clear()

    async def change(self, resource: Resource, url: str) -> None:
        resource.change()

    async def restart(self, resource: Resource, url: str) -> None:
        await self.app.close()
        self.app = await self.start_proxy(*self.options, directory=self.app.directory)

    def check(self, resource: Resource, got: Reply) -> None:
        """The bytes are those of the version that the answer names."""
        body = resource.versions[got.field("etag") or '"1"']
        if got.status == 416:
            # Longer than the version that is stored.
            return
        if got.status == 200:
            start, end = 0, len(body)
        else:
            assert got.status == 206
            found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", got.field("content-range") or "")
            assert found is not None
            start, end = int(found[1]), int(found[2]) + 1
            assert found[3] in ("*", str(len(body)))
        assert got.body == body[start:end]
        resource.note(got.field("etag") or "", start, end)


@pytest.mark.parametrize("seed", range(10))
async def test_random_sequences(origin: Origin, start_proxy: StartProxy, connect: Connect, seed: int) -> None:
    await Player(seed, origin, start_proxy, connect).play(45)


@pytest.mark.parametrize("option", ["cache.disk=0", "cache.disk=4MiB"])
@pytest.mark.parametrize("seed", range(100, 106))
async def test_random_sequences_without_room(
    origin: Origin, start_proxy: StartProxy, connect: Connect, seed: int, option: str
) -> None:
    await Player(seed, origin, start_proxy, connect, option).play(45)
