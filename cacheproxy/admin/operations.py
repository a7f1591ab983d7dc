"""What an operator can ask of a running proxy, as plain values."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Protocol

from cacheproxy.admin.explaining import explain
from cacheproxy.caching import extents
from cacheproxy.caching.age import current_age
from cacheproxy.caching.reuse import remaining_lifetime
from cacheproxy.errors import SyntaxFault
from cacheproxy.http.uri import TargetUri, parse_absolute
from cacheproxy.ports import Candidate, Clock, ListedEntry, Selector, Store


class ListableStore(Store, Protocol):
    """A store that can be listed."""

    def entries(self, glob: str | None) -> AsyncIterator[ListedEntry]:
        """What is stored."""


@dataclass(slots=True)
class Operations:
    """Put together by the app."""

    store: ListableStore
    purge: Callable[[Selector, bool, bool], Awaitable[int]]
    snapshot: Callable[[], Awaitable[dict[str, object]]]
    stop: Callable[[], None]
    clock: Clock
    # The key under which a GET of a target is stored: less what only tracks or signs.
    key_of: Callable[[TargetUri], str]
    codings: tuple[str, ...] = ()

    async def list_entries(self, glob: str | None) -> AsyncIterator[dict[str, object]]:
        """Stored responses, oldest first. Raises StoreError."""
        async for entry in self.store.entries(glob):
            yield asdict(entry)

    def key(self, url: str) -> str:
        """The cache key of a URL as an operator types it; a missing scheme means http. Raises SyntaxFault."""
        return self.key_of(_target(url))

    async def explain(self, url: str) -> dict[str, object]:
        """What would happen to a GET of a URL now, and why. Raises SyntaxFault, StoreError."""
        target = _target(url)
        key = self.key_of(target)
        return explain(target, key, await self.store.lookup(key), self.codings, self.clock.wall())

    async def show(self, url: str) -> list[dict[str, object]]:
        """Every stored response of a URL with its freshness. Raises SyntaxFault, StoreError."""
        key = self.key(url)
        now = self.clock.wall()
        return [_describe(candidate, now) for candidate in await self.store.lookup(key)]


def _target(url: str) -> TargetUri:
    text = url.partition("#")[0]
    if "://" not in text:
        text = "http://" + text
    try:
        return parse_absolute(text)
    except SyntaxFault as fault:
        raise SyntaxFault(f"{url!r} is not a URL: {fault}") from None


def _describe(candidate: Candidate, now: float) -> dict[str, object]:
    stored = candidate.stored
    remaining = remaining_lifetime(stored, now)
    return {
        "url": stored.key,
        "status": stored.status,
        "tier": candidate.tier,
        "bytes": stored.length,
        "stored_bytes": stored.length if stored.held is None else extents.size(stored.held),
        "stored_at": stored.timing.response_time,
        "age_s": int(current_age(stored, now)),
        "lifetime_s": int(stored.lifetime.seconds),
        "lifetime_is": "explicit" if stored.lifetime.is_explicit else "heuristic",
        "ttl_s": int(remaining),
        "is_fresh": remaining > 0 and not stored.directives.no_cache,
        "validator": stored.etag or stored.last_modified,
        "vary": dict(zip(stored.nominated, stored.variant, strict=True)),
        "fields": [list(line) for line in stored.fields],
    }
