"""How old a response is (RFC 9111 §4.2.3). All values in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cacheproxy.http.message import Fields
from cacheproxy.http.syntax import parse_delta_seconds

if TYPE_CHECKING:
    from cacheproxy.caching.entry import StoredResponse

# A response "received" further ahead than this was stored under another clock.
CLOCK_TOLERANCE_S = 60.0


def age_value(fields: Fields) -> int:
    """The Age field's value; 0 where it is absent or not a number.

    RFC 9111 §5.1: of several members the first counts; a member that is no number is ignored.
    """
    values = fields.all("age")
    if not values:
        return 0
    return parse_delta_seconds(values[0].partition(",")[0].strip(" \t")) or 0


def corrected_initial_age(fields: Fields, date: float, request_time: float, response_time: float) -> float:
    """The age at `response_time`, corrected for the delay of the request."""
    apparent_age = max(0.0, response_time - date)
    corrected_age_value = age_value(fields) + max(0.0, response_time - request_time)
    return max(apparent_age, corrected_age_value)


def current_age(stored: StoredResponse, now: float) -> float:
    """The age of a stored response at `now`; never negative."""
    return stored.corrected_initial_age + max(0.0, now - stored.timing.response_time)


def is_from_future(stored: StoredResponse, now: float) -> bool:
    """Whether the clock has gone back since: no statement about the age is possible, so it is stale."""
    return stored.timing.response_time > now + CLOCK_TOLERANCE_S
