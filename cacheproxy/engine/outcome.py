"""What a flight is to do and how it can end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cacheproxy.errors import CacheproxyError
from cacheproxy.http.cache_control import RequestDirectives
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.ports import Candidate, UpstreamRequest, UpstreamResponse
from cacheproxy.reasons import Reason


class Closing(Protocol):
    """A stream of body that must be closed."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Itself."""

    async def __anext__(self) -> bytes:
        """The next piece."""

    async def aclose(self) -> None:
        """Leave."""


@dataclass(slots=True)
class Filling:
    """The response is being stored, or at least shared: `candidate` follows it, `reader` is the initiator's."""

    candidate: Candidate
    head: ResponseHead
    reader: Closing | None
    length: int | None
    reason: Reason
    # The body where all of it came with the head; then there is no reader.
    content: bytes | None = None

    @property
    def asked_for(self) -> tuple[str, ...]:
        """The codings that the fetch asked for in the client's stead."""
        return self.candidate.stored.asked_for


@dataclass(slots=True)
class Private:
    """For the initiator alone, straight from the origin."""

    response: UpstreamResponse
    reason: Reason
    asked_for: tuple[str, ...] = ()

    @property
    def head(self) -> ResponseHead:
        """What the origin sent."""
        return self.response.head


@dataclass(slots=True)
class Freshened:
    """The stored response still holds; `head` is the 304."""

    candidate: Candidate
    head: ResponseHead


@dataclass(slots=True)
class Restart:
    """What is stored in part cannot be completed: drop it where `discard` is set, and look again."""

    discard: bool


@dataclass(slots=True)
class Failed:
    """The origin failed before a head came."""

    error: CacheproxyError


FlightOutcome = Filling | Private | Freshened | Restart | Failed


@dataclass(slots=True)
class Plan:
    """What a flight fetches and what it needs to judge the answer."""

    request: RequestHead
    asked: RequestDirectives
    # None: not made yet.
    sent: UpstreamRequest | None
    key: str
    # The same request once more, without conditions and ranges: for the rest of a body that breaks off.
    again: Callable[[], UpstreamRequest] | None
    # The codings that it asks for although the client did not.
    asked_for: tuple[str, ...] = ()
    chosen: Candidate | None = None
    variants: Sequence[Candidate] = ()
    # Outgoing fields without our conditions, for the case that a 304 fits nothing we hold.
    unconditional: Fields | None = None
    # False where the client asked for a part.
    is_for_whole: bool = True

    @property
    def outgoing(self) -> UpstreamRequest:
        """The request as it goes to the origin."""
        if self.sent is None:
            assert self.again is not None
            self.sent = self.again()
        return self.sent


async def close_outcome(outcome: FlightOutcome) -> None:
    """Give up an outcome that the initiator will not use."""
    if isinstance(outcome, Private):
        outcome.response.close()
    elif isinstance(outcome, Filling) and outcome.reader is not None:
        await outcome.reader.aclose()


def task_name(key: str) -> str:
    """What a task for `key` is called: it shows in the log, so without the query, which may hold secrets."""
    return key.partition("?")[0]
