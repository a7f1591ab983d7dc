"""The store as the engine sees it: stored responses, their bodies, and what operators choose among them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any, Protocol

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.known_bodies import BodyFacts
from cacheproxy.http.digests import Digest
from cacheproxy.http.ranges import Slice
from cacheproxy.http.syntax import is_token


class BodySource(Protocol):
    """Where a stored response's bytes are: memory, disk, or a fetch under way."""

    @property
    def available(self) -> int:
        """Bytes from 0 that can be read without waiting for an origin."""

    def read(self, part: Slice | None) -> AsyncIterator[bytes]:
        """The bytes of `part` (None: everything) in order, to be closed with `aclose()`.

        Raises StoreError where they turn out to be missing or damaged.
        """

    def whole(self) -> bytes | None:
        """All bytes at once where they are in memory."""

    def at_once(self) -> BodySource | None:
        """The same in memory: as it is, or read now; None where that would take too long or fails."""


class Prebuilt(Protocol):
    """An answer that the hot path can give again."""

    uses: int
    """Answers with it that eviction does not know of yet."""

    def unlink(self) -> None:
        """Let no request find it but through the look-up that led to it."""

    def clear(self) -> None:
        """`unlink`, and give up what it holds."""


class Prepared:
    """What the hot path keeps with a candidate in order to answer it again.

    Whoever keeps candidates says here when one is no longer all that there is of its key, or has gone.
    """

    __slots__ = ("admitted_by", "others", "plain")

    def __init__(self) -> None:
        self.admitted_by: object = None
        self.plain: Any = None
        """The answer to a GET that says nothing, of a client of HTTP/1.1 that stays connected."""
        self.others: dict[Any, Any] | None = None
        """The answers to some other requests."""

    @property
    def is_in_use(self) -> bool:
        """Whether it has answered something that eviction does not know of yet."""
        if self.plain is not None and self.plain.uses:
            return True
        return self.others is not None and any(one.uses for one in self.others.values())

    def unlink(self) -> None:
        """It is no longer the only one of its key."""
        if self.plain is not None:
            self.plain.unlink()
        if self.others is not None:
            for one in self.others.values():
                one.unlink()

    def clear(self) -> None:
        """It is no longer found under its key."""
        if self.plain is not None:
            self.plain.clear()
            self.plain = None
        if self.others is not None:
            for one in self.others.values():
                one.clear()
            self.others = None


@dataclass(slots=True, eq=False)
class Candidate:
    """A stored response with its body, as a look-up finds it."""

    stored: StoredResponse
    body: BodySource
    tier: str
    prepared: Prepared = field(default_factory=Prepared, repr=False)


class BodyWriter(Protocol):
    """The store's end of a fetch: write the body, then commit or abort. Ends without commit: nothing is kept.

    `on_progress` is called when `readable` or `is_open` changes.
    """

    on_progress: Callable[[], None]
    entry_id: int
    body_id: int

    @property
    def is_open(self) -> bool:
        """False once storing was given up (too large, disk full, locked): the fetch goes on without it."""

    @property
    def readable(self) -> int:
        """Bytes from 0 that can be read back now, and until `abort`."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes; waits while the store is behind, never raises."""

    async def read_back(self, start: int) -> bytes:
        """Bytes from `start` on, at most a row's worth; `start` is below `readable`. Raises StoreError."""

    def pin(self) -> None:
        """Keep the bytes for a reader; undo with `unpin`."""

    def unpin(self) -> None:
        """A reader has gone."""

    async def commit(self, stored: StoredResponse, whole: bytes | None) -> Candidate | None:
        """Publish the response; `whole` is its body where the spool still has it. None: not stored."""

    async def flush(self) -> int:
        """Have everything written in the store; how many bytes from the start that is, for `keep_part`."""

    def abort(self) -> None:
        """End: what was neither committed nor kept is forgotten. Nothing happens after a commit."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Which stored responses an operator means. Exactly one of the four is set."""

    urls: tuple[str, ...] = ()
    host: str | None = None
    glob: str | None = None
    everything: bool = False

    @property
    def matches(self) -> Callable[[str], bool]:
        """Whether a key is one that is meant."""
        if self.everything:
            return lambda key: True
        if self.host is not None:
            host = self.host.lower()
            return lambda key: _host_of(key) == host or _host_of(key).partition(":")[0] == host
        if self.glob is not None:
            pattern = re.compile(translate(self.glob))
            return lambda key: pattern.match(key) is not None
        return frozenset(self.urls).__contains__


def _host_of(key: str) -> str:
    scheme, _, rest = key.partition("://")
    return rest.partition("/")[0] if is_token(scheme) else ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the store holds, in bytes and stored responses."""

    memory_bytes: int = 0
    memory_entries: int = 0
    disk_bytes: int = 0
    disk_entries: int = 0
    disk_file_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ListedEntry:
    """A line of `list`: what is stored under a URL."""

    entry_id: int
    key: str
    status: int
    size: int
    stored_at: float
    hits: int
    content_type: str = ""


class Store(Protocol):
    """Stored responses. Every failure is a miss: only what the docstrings name is raised."""

    def lookup_memory(self, key: str) -> Sequence[Candidate]:
        """The stored responses of `key` that are in memory."""

    async def lookup(self, key: str) -> Sequence[Candidate]:
        """All stored responses of `key`. Raises StoreError (counted by the store already)."""

    def look_up(self, key: str, found: Callable[[Sequence[Candidate] | None], None]) -> None:
        """As `lookup`, without waiting: `found` is called later, with None where it failed."""

    def find_at_once(self, key: str) -> Sequence[Candidate] | None:
        """As `lookup` of what is not in memory, now; None where that would take too long, or fails."""

    def is_absent(self, key: str) -> bool:
        """Whether it is known that a look-up would find no more than what is in memory."""

    async def note_body(self, stored: StoredResponse, facts: BodyFacts) -> None:
        """Remember the digests of a body that is stored whole, for as long as it is stored."""

    async def bodies_with(self, digest: Digest) -> Sequence[tuple[Candidate, BodyFacts]]:
        """The bodies of which that digest was noted, under whatever key. Raises StoreError."""

    def begin(
        self, stored: StoredResponse, length: int | None, *, start: int = 0, is_part: bool = False
    ) -> BodyWriter | None:
        """Start storing a body; None where there is no room, or what would have to go is worth more.

        `is_part`: bytes from `start` on of an incomplete response (RFC 9111 §3.3), which go to the body of
        `stored` where it has one already. `length` is that of the complete body.
        """

    async def keep_part(self, stored: StoredResponse) -> Candidate | None:
        """Publish an incomplete response with what its `held` names, all flushed. None: not stored."""

    @property
    def small_bytes(self) -> int:
        """What `put` takes."""

    def put(self, stored: StoredResponse, content: bytes) -> Candidate:
        """Store a response at once whose body is here, of at most `small_bytes`."""

    def touch(self, stored: StoredResponse, uses: int = 1) -> None:
        """Note uses, for eviction."""

    def note_request(self, key: str) -> None:
        """Note a request that no stored response answers, for eviction; once for each, also who waits."""

    def requests_for(self, stored: StoredResponse) -> int:
        """The requests noted for what is under its key, before it was stored and since, as far as is known."""

    def freshen(self, candidate: Candidate, stored: StoredResponse) -> Candidate:
        """Put new fields in place of the old; the body stays."""

    def discard(self, candidate: Candidate) -> None:
        """Drop one stored response (damaged, invalid)."""

    def invalidate(self, key: str) -> None:
        """Drop what is stored under `key`, from now on also for look-ups under way."""

    async def invalidated(self) -> None:
        """Return once no other process answers with what was invalidated before, or cannot be reached."""

    async def purge(self, selector: Selector, *, dry_run: bool, soft: bool) -> int:
        """Remove what `selector` means; how many stored responses that were. Raises StoreError."""

    async def usage(self) -> Usage:
        """Sizes and counts."""
