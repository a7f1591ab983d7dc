"""The client's end of a direct exchange whose client has left, while others wait for what it asked for."""

from __future__ import annotations

from collections.abc import Sequence

from cacheproxy.caching.response_facts import ResponseFacts
from cacheproxy.engine.flight import Begun, Flight
from cacheproxy.engine.flights import Flights
from cacheproxy.errors import CacheproxyError
from cacheproxy.http.message import ResponseHead
from cacheproxy.ports import Answer, Candidate, Closable, ExchangeRecord


class Nobody:
    """Implements `ports.direct.Reply`: whoever waits is told through the flight."""

    client = "-"
    is_there = False
    takes_plain = False
    has_begun = False

    def __init__(self, flights: Flights, flight: Flight) -> None:
        self._flights = flights
        flight.has_initiator = False

    def record(self) -> ExchangeRecord:
        """It is logged already."""
        return ExchangeRecord()

    def from_store(self, found: Sequence[Candidate]) -> bool:
        """Nobody to answer."""
        return True

    def ordinary(self, begun: Closable | None) -> None:
        """Go on for those who wait."""
        if isinstance(begun, Begun):
            self._flights.carry_on(begun)

    def interim(self, head: ResponseHead) -> None:
        """Nobody to tell."""

    def pass_on(self, answer: bytes, facts: ResponseFacts, hierarchy: str) -> None:
        """Nobody to tell."""

    def answer(self, answer: Answer) -> None:
        """It is stored."""

    def open(self, head: ResponseHead, length: int | None) -> None:
        """Nobody to tell."""

    def piece(self, piece: bytes) -> bool:
        """Nobody to give it to."""
        return True

    def end(self) -> None:
        """Nobody to tell."""

    def break_off(self, error: CacheproxyError) -> None:
        """Nobody to tell."""
