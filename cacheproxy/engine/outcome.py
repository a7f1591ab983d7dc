"""What a flight is to do and how it can end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cacheproxy.engine.spool import SpoolReader
from cacheproxy.errors import CacheproxyError
from cacheproxy.http.cache_control import RequestDirectives
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.ports import Candidate, UpstreamRequest, UpstreamResponse
from cacheproxy.reasons import Reason


@dataclass(slots=True)
class Filling:
    """The response is being stored, or at least shared: `candidate` follows it, `reader` is the initiator's."""

    candidate: Candidate
    head: ResponseHead
    reader: SpoolReader | None
    reason: Reason


@dataclass(slots=True)
class Private:
    """For the initiator alone, straight from the origin."""

    response: UpstreamResponse
    reason: Reason


@dataclass(slots=True)
class Freshened:
    """The stored response still holds; `head` is the 304."""

    candidate: Candidate
    head: ResponseHead


@dataclass(slots=True)
class Failed:
    """The origin failed before a head came."""

    error: CacheproxyError


FlightOutcome = Filling | Private | Freshened | Failed


@dataclass(slots=True)
class Plan:
    """What a flight fetches and what it needs to judge the answer."""

    request: RequestHead
    asked: RequestDirectives
    outgoing: UpstreamRequest
    key: str
    chosen: Candidate | None = None
    variants: Sequence[Candidate] = ()
    # Outgoing fields without our conditions, for the case that a 304 fits nothing we hold.
    unconditional: Fields | None = None


async def close_outcome(outcome: FlightOutcome) -> None:
    """Give up an outcome that the initiator will not use."""
    if isinstance(outcome, Private):
        outcome.response.close()
    elif isinstance(outcome, Filling) and outcome.reader is not None:
        await outcome.reader.aclose()
