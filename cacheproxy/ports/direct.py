"""The direct path's protocols: requests answered as their bytes arrive, each step a call, without a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from cacheproxy.caching.response_facts import ResponseFacts
from cacheproxy.errors import CacheproxyError
from cacheproxy.http.message import RequestHead, ResponseHead
from cacheproxy.http.uri import Origin
from cacheproxy.policy.rules import Timeouts
from cacheproxy.ports import Affinity, Answer, Closable, ExchangeRecord, UpstreamResponse
from cacheproxy.ports.storage import Candidate


class Line(Protocol):
    """A request line that may come again: `head` is all of the request but its fields."""

    head: RequestHead
    key: str
    is_old: bool
    """Whether it is of HTTP/1.0."""
    route: Any
    """What the engine keeps of where such requests go."""


class BodySink(Protocol):
    """Hears of a body."""

    def body(self, piece: bytes) -> None:
        """The next piece."""

    def ended(self) -> None:
        """The body is whole."""

    def failed(self, error: CacheproxyError) -> None:
        """The fetch has failed, before the head or in the middle of the body; nothing more comes."""


class FollowedResponse(UpstreamResponse, Protocol):
    """A response whose body may be given instead of asked for."""

    facts: ResponseFacts
    """What its head says."""

    def follow(self, sink: BodySink) -> None:
        """Give the body to `sink` as it comes, in place of `read`."""

    def hold(self) -> None:
        """Give nothing for now."""

    def go_on(self) -> None:
        """Give again."""


class ResponseSink(BodySink, Protocol):
    """Hears of a response."""

    def interim(self, head: ResponseHead) -> None:
        """A 1xx head."""

    def responded(self, response: FollowedResponse) -> None:
        """The final head is here; the response is the sink's from now on."""


class DirectUpstream(Protocol):
    """The way to the origins for a GET that waits for nothing."""

    def begin(
        self, origin: Origin, limits: Timeouts, head: bytes, sink: ResponseSink, affinity: Affinity | None
    ) -> Closable | None:
        """Send `head` on an idle connection to `origin`, soon; None where a new one has to be made."""


class Reply(Protocol):
    """The client's end of a request on the direct path. Exactly one of `from_store`, `ordinary`, `pass_on`,
    `answer`, `end` and `break_off` ends it.
    """

    @property
    def client(self) -> str:
        """The client's address."""

    @property
    def is_there(self) -> bool:
        """Whether there still is a client."""

    @property
    def has_begun(self) -> bool:
        """Whether something of the answer has been written."""

    def record(self) -> ExchangeRecord:
        """What the log and the counters will say; the exchange counts from now on."""

    def from_store(self, found: Sequence[Candidate]) -> bool:
        """Answer as for a memory hit from what was `found` on disk; False, and nothing done, where that is not all."""

    def ordinary(self, begun: Closable | None) -> None:
        """Leave the request to the ordinary path, which goes on with the fetch `begun`, or closes it."""

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx head."""

    @property
    def takes_plain(self) -> bool:
        """Whether `pass_on` may end it: a client of HTTP/1.1 that stays connected, and has been told nothing."""

    def pass_on(self, answer: bytes, facts: ResponseFacts, hierarchy: str) -> None:
        """The whole answer, head and body, of a plain miss, while `takes_plain` holds.

        `hierarchy` is the log's word for who was asked.
        """

    def answer(self, answer: Answer) -> None:
        """The whole answer."""

    def open(self, head: ResponseHead, length: int | None) -> None:
        """The answer's head; its body of `length` bytes (None: unknown) follows."""

    def piece(self, piece: bytes) -> bool:
        """A piece of body; False: hold back until `DirectExchange.go_on`."""

    def end(self) -> None:
        """The body is whole."""

    def break_off(self, error: CacheproxyError) -> None:
        """The body breaks off, visibly."""


class DirectExchange(Closable, Protocol):
    """A request under way on the direct path; `close` when the client has left."""

    def go_on(self) -> None:
        """The client can take more."""
