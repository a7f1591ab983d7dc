"""What the hot path calls; the app puts the engine and the counters behind it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.facts import FieldFacts
from cacheproxy.caching.response_facts import ResponseFacts
from cacheproxy.http.cache_control import RequestDirectives
from cacheproxy.http.message import RequestHead
from cacheproxy.http.uri import Origin
from cacheproxy.ports import Affinity, Answer, Candidate, ExchangeRecord
from cacheproxy.ports.direct import DirectExchange, Line, Reply

Answered = tuple[Any, str, float, int, float]
"""What `HotRecorder.prepare` or `missed` made; the client; when it ended, in epoch seconds; bytes sent; seconds it took."""


class HotRecorder(Protocol):
    """Counts hot answers exactly as `Recorder` counts exchanges, with the work done ahead."""

    def prepare(self, exchange: ExchangeRecord) -> Any:
        """What `tallied` needs of an exchange that happens again, but for client, time and bytes."""

    def missed(self, url: str, facts: ResponseFacts, hierarchy: str) -> Any:
        """The same of a plain miss, which does not."""

    def tallied(self, ended: Sequence[Answered]) -> None:
        """They happened again."""


class InForce(Protocol):
    """Where the rules in force are found."""

    @property
    def access(self) -> object:
        """The rules: whoever changes them puts another object here, and every verdict is void."""


class HotStore(Protocol):
    """The engine as the hot path sees it; nothing waits. Verdicts hold while the rules are the same object."""

    @property
    def in_force(self) -> InForce:
        """The rules, to be asked for each time."""

    @property
    def codings(self) -> tuple[str, ...]:
        """The codings that are asked for in clients' stead; holds for good."""

    def admits_client(self, client: str) -> bool:
        """Whether this client may use the proxy."""

    def admits_head(self, request: RequestHead) -> bool:
        """Whether anybody may send a request with these fields."""

    def admits_origin(self, origin: Origin) -> bool:
        """Whether requests may go to this origin."""

    def touch(self, stored: StoredResponse, uses: int = 1) -> None:
        """Note uses, for eviction."""

    @property
    def filling(self) -> Collection[str]:
        """Keys of which a newer response is being fetched, kept up to date."""

    def find(self, key: str) -> Sequence[Candidate]:
        """What is in memory of `key`; nothing while a fetch is filling a newer response."""

    def is_absent(self, key: str) -> bool:
        """Whether it is known that this worker's disk has nothing of `key`."""

    def find_on_disk(self, key: str) -> Sequence[Candidate] | None:
        """What is on disk of `key`, of which memory has nothing; None where others find that out."""

    def is_fresh(self, candidate: Candidate, asked: RequestDirectives, now: float) -> bool:
        """Whether these request directives still make it a plain hit."""

    def answer(
        self, candidate: Candidate, request: RequestHead, now: float
    ) -> tuple[Answer, ExchangeRecord] | None:
        """The ordinary answer to a plain hit, and its record; None where it cannot be had at once."""

    def plain_head(
        self, candidate: Candidate, now: float
    ) -> tuple[tuple[bytes, bytes, bytes], ExchangeRecord] | None:
        """As `answer` to a GET that says nothing, from a client of HTTP/1.1 that stays connected, with the whole body.

        The head as it is sent, cut at the two numbers that time changes. None where it is not this simple.
        """


class DirectStart(Protocol):
    """The engine's end of the direct path."""

    def begin(
        self, line: Line, facts: FieldFacts, affinity: Affinity, reply: Reply, is_absent: bool
    ) -> DirectExchange | None:
        """Take on the GET of `line`, whose fields `facts` has, and for which the hot path has found nothing.

        `is_absent`: nor is there anything to find. None where it is for the ordinary path.
        """
