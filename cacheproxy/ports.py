"""Protocols between the engine and its adapters, and the records that they exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cacheproxy.caching.entry import StoredResponse, Timing
from cacheproxy.http.framing import NO_BODY, Framing
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.http.ranges import Slice
from cacheproxy.http.uri import Origin
from cacheproxy.reasons import Reason


class Clock(Protocol):
    """Time as an argument's source."""

    def wall(self) -> float:
        """Epoch seconds."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


class RequestBody(Protocol):
    """A client's request body, read once, with back-pressure."""

    async def read(self) -> bytes:
        """The next piece; empty at its end. Raises ClientGone where it never comes."""


class Closable(Protocol):
    """Something that a client connection owns and closes with itself."""

    def close(self) -> None:
        """Close now; may be called twice."""


class Affinity:
    """Upstream connections that belong to one client connection (NTLM, Negotiate: RFC 4559).

    Whoever owns the client connection closes it.
    """

    __slots__ = ("is_closed", "pinned")

    def __init__(self) -> None:
        self.pinned: dict[Origin, Closable] = {}
        self.is_closed = False

    def close(self) -> None:
        """Close every pinned upstream connection."""
        self.is_closed = True
        pinned, self.pinned = self.pinned, {}
        for connection in pinned.values():
            connection.close()


Interim = Callable[[ResponseHead], None]


@dataclass(slots=True)
class UpstreamRequest:
    """A request as it goes to the origin: its fields are final."""

    origin: Origin
    method: str
    request_target: str
    fields: Fields
    first_byte_s: float
    idle_s: float
    framing: Framing = NO_BODY
    body: RequestBody | None = None
    on_interim: Interim | None = None
    affinity: Affinity | None = None


class UpstreamResponse(Protocol):
    """A response whose head has arrived. Read to the end or close it."""

    @property
    def head(self) -> ResponseHead:
        """Status and fields as received."""

    @property
    def timing(self) -> Timing:
        """When the request left, when the head came."""

    @property
    def length(self) -> int | None:
        """Bytes of body that are announced; None where unknown, or where there can be no body."""

    @property
    def is_close_delimited(self) -> bool:
        """Whether only the connection's end frames the body."""

    @property
    def is_private_connection(self) -> bool:
        """Whether it came over a connection that one client authenticated (NTLM, Negotiate)."""

    async def read(self) -> bytes:
        """The next piece of body as it arrives; empty when it is proven whole.

        Raises UpstreamError where it is cut, malformed or stalls.
        """

    def close(self) -> None:
        """Give the response up; an unread rest closes its connection."""


class Upstream(Protocol):
    """The way to the origins."""

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send the request, return with the final head. Raises UpstreamError, ClientGone."""


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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored response with its body, as a look-up finds it."""

    stored: StoredResponse
    body: BodySource
    tier: str


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

    def begin(
        self, stored: StoredResponse, length: int | None, *, start: int = 0, is_part: bool = False
    ) -> BodyWriter | None:
        """Start storing a body; None where there is no room, or what would have to go is worth more.

        `is_part`: bytes from `start` on of an incomplete response (RFC 9111 §3.3), which go to the body of
        `stored` where it has one already. `length` is that of the complete body.
        """

    async def keep_part(self, stored: StoredResponse) -> Candidate | None:
        """Publish an incomplete response with what its `held` names, all flushed. None: not stored."""

    def touch(self, candidate: Candidate) -> None:
        """Note a use, for eviction."""

    def note_request(self, key: str) -> None:
        """Note a request that no stored response answers, for eviction; once for each, also who waits."""

    async def freshen(self, candidate: Candidate, stored: StoredResponse) -> Candidate:
        """Put new fields in place of the old; the body stays."""

    def discard(self, candidate: Candidate) -> None:
        """Drop one stored response (damaged, invalid)."""

    def invalidate(self, key: str) -> None:
        """Drop what is stored under `key`, from now on also for look-ups under way."""

    async def purge(self, selector: Selector, *, dry_run: bool, soft: bool) -> int:
        """Remove what `selector` means; how many stored responses that were. Raises StoreError."""

    async def usage(self) -> Usage:
        """Sizes and counts."""


class Recorder(Protocol):
    """Counters. Never raises, never waits."""

    def origin_received(self, count: int) -> None:
        """Bytes came from an origin."""

    def client_sent(self, count: int) -> None:
        """Bytes went to a client (not in tunnels)."""

    def tunnelled(self, up: int, down: int) -> None:
        """Bytes went through a tunnel."""

    def store_failed(self, what: str) -> None:
        """The store failed once."""

    def finished(self, exchange: ExchangeRecord) -> None:
        """An exchange ended."""


@dataclass(slots=True)
class ExchangeRecord:
    """One line of the access log, one step of the counters; filled while the exchange goes on."""

    client: str = "-"
    method: str = "-"
    url: str = "-"
    user: str = "-"
    status: int = 0
    reason: Reason = Reason.URI_MISS
    tag: str = "TCP_MISS"
    hierarchy: str = "HIER_NONE/-"
    content_type: str = "-"
    started_at: float = 0.0
    elapsed_s: float = 0.0
    client_bytes: int = 0
    is_aborted: bool = False
    was_collapsed: bool = False


@dataclass(slots=True)
class Exchange:
    """One request with all that is known about where it came from."""

    head: RequestHead
    framing: Framing
    body: RequestBody | None
    client: str
    affinity: Affinity
    record: ExchangeRecord
    on_interim: Interim | None = None


@dataclass(slots=True)
class Answer:
    """A response for the client: exactly one of `content` and `stream` holds its body.

    `stream` yields pieces as they come and is closed by whoever sends it; it raises UpstreamError,
    StoreError or ClientGone where the body breaks off: then the client must see that it is not whole.
    `length` is the body's length where it is known.
    """

    head: ResponseHead
    content: bytes = b""
    stream: AsyncIterator[bytes] | None = None
    length: int | None = None
    must_close: bool = False
    extra: Fields = field(default_factory=Fields)
