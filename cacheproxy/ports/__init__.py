"""Protocols between the engine and its adapters, and the records that they exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from cacheproxy.caching.entry import Timing
from cacheproxy.http.framing import NO_BODY, Framing
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.http.uri import Origin
from cacheproxy.ports.storage import (
    BodySource,
    BodyWriter,
    Candidate,
    ListedEntry,
    Selector,
    Store,
    Usage,
)
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

    @property
    def is_public_peer(self) -> bool:
        """Whether it comes from an address on the internet, not from a network of ours."""

    async def read(self) -> bytes:
        """The next piece of body as it arrives; empty when it is proven whole.

        Raises UpstreamError where it is cut, malformed or stalls.
        """

    def whole(self) -> bytes | None:
        """The body, proven whole, where all of it came with the head; then the response is over. Else None."""

    def close(self) -> None:
        """Give the response up; an unread rest closes its connection."""


class Upstream(Protocol):
    """The way to the origins."""

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send the request, return with the final head. Raises UpstreamError, ClientGone."""


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
    # A fetch that was begun for this request on the direct path.
    begun: Closable | None = None


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


__all__ = [
    "Affinity",
    "Answer",
    "BodySource",
    "BodyWriter",
    "Candidate",
    "Clock",
    "Closable",
    "Exchange",
    "ExchangeRecord",
    "Interim",
    "ListedEntry",
    "Recorder",
    "RequestBody",
    "Selector",
    "Store",
    "Upstream",
    "UpstreamRequest",
    "UpstreamResponse",
    "Usage",
]
