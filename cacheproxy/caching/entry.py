"""StoredResponse: a response as the store keeps it, with all that later decisions need already parsed."""

from __future__ import annotations

from typing import NamedTuple

from cacheproxy.caching.age import corrected_initial_age
from cacheproxy.caching.extents import Extents
from cacheproxy.caching.freshness import Lifetime, freshness_lifetime
from cacheproxy.caching.options import CachingOptions
from cacheproxy.caching.overrides import NO_OVERRIDES, Overrides, adjusted
from cacheproxy.http.cache_control import ResponseDirectives, parse_response_directives
from cacheproxy.http.dates import parse_date
from cacheproxy.http.message import Fields, ResponseHead

# The fields before `entry_id`.
_PLACE = 11


class Timing(NamedTuple):
    """When the request left and when the response's head arrived: epoch seconds of our clock."""

    request_time: float
    response_time: float


class StoredResponse(NamedTuple):
    """A stored response's head, its place in the cache and its timing. The body is `body_id`'s."""

    key: str
    nominated: tuple[str, ...]
    variant: tuple[str | None, ...]
    status: int
    reason_phrase: str
    fields: Fields
    timing: Timing
    directives: ResponseDirectives
    lifetime: Lifetime
    corrected_initial_age: float
    date_at: float
    entry_id: int = 0
    body_id: int = 0
    length: int | None = None
    forced_stale: bool = False
    # RFC 9111 §3.3: which bytes of an incomplete response are here; None: all of them.
    held: Extents | None = None
    overrides: Overrides = NO_OVERRIDES
    # The codings that were asked for in a client's stead when this was fetched, if it came coded.
    asked_for: tuple[str, ...] = ()

    @staticmethod
    def build(
        key: str,
        nominated: tuple[str, ...],
        variant: tuple[str | None, ...],
        head: ResponseHead,
        timing: Timing,
        options: CachingOptions,
        *,
        entry_id: int = 0,
        body_id: int = 0,
        length: int | None = None,
        forced_stale: bool = False,
        held: Extents | None = None,
        asked_for: tuple[str, ...] = (),
    ) -> StoredResponse:
        """The stored response of `head`, its directives, lifetime and initial age computed once."""
        directives = parse_response_directives(head.fields)
        dates = head.fields.all("date")
        date_at = parse_date(dates[0], timing.response_time) if len(dates) == 1 else None
        overrides = options.overrides(key, head.fields)
        date: float = timing.response_time if date_at is None else date_at
        lifetime = freshness_lifetime(
            head.status, head.fields, directives, date, timing.response_time, options, key
        )
        return StoredResponse(
            key,
            nominated,
            variant,
            head.status,
            head.reason_phrase,
            head.fields,
            timing,
            directives,
            adjusted(lifetime, head.status, head.fields, directives, overrides),
            corrected_initial_age(head.fields, date, timing.request_time, timing.response_time),
            date,
            entry_id,
            body_id,
            length,
            forced_stale,
            held,
            overrides,
            asked_for,
        )

    @property
    def head(self) -> ResponseHead:
        """The stored status line and fields."""
        return ResponseHead(self.status, self.reason_phrase, self.fields)

    @property
    def etag(self) -> str | None:
        """The entity tag, None where absent or repeated."""
        return self.fields.only("etag")

    @property
    def last_modified(self) -> str | None:
        """The Last-Modified value as sent, None where absent or repeated."""
        return self.fields.only("last-modified")

    @property
    def has_validator(self) -> bool:
        """Whether a validation request can be made."""
        return self.etag is not None or self.last_modified is not None

    def with_body(
        self, entry_id: int, body_id: int, length: int | None, held: Extents | None = None
    ) -> StoredResponse:
        """The same response, its body placed."""
        # Half the time of `_replace`, and every response that is stored passes here.
        place = (entry_id, body_id, length, self.forced_stale, held)
        return StoredResponse._make((*self[:_PLACE], *place, self.overrides, self.asked_for))

    def with_codings(self, asked_for: tuple[str, ...]) -> StoredResponse:
        """The same response, fetched with these codings asked for; where it came uncoded that says nothing."""
        if not asked_for or "content-encoding" not in self.fields:
            return self
        return self._replace(asked_for=asked_for)

    def stale(self) -> StoredResponse:
        """The same response, to be validated before its next use (soft purge, RFC 9111 §4.3.5)."""
        return self._replace(forced_stale=True)
