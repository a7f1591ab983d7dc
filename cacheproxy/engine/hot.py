"""The engine as the hot path sees it: the ordinary decisions, taken without waiting."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from cacheproxy.caching import preconditions, reuse
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.engine.admission import admit_client, admit_head, admit_origin
from cacheproxy.engine.answers import hit_wire
from cacheproxy.engine.flights import Flights
from cacheproxy.engine.lately import Lately
from cacheproxy.engine.parts import Parts
from cacheproxy.engine.serving import Damaged, NotHere, answer_from
from cacheproxy.engine.tags import hit_tag
from cacheproxy.errors import ClientError
from cacheproxy.http.cache_control import PLAIN_REQUEST, RequestDirectives
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.http.uri import Origin
from cacheproxy.ports import Answer, Candidate, ExchangeRecord
from cacheproxy.reasons import Reason

log = logging.getLogger("cacheproxy")


class HotEngine:
    """Implements `server.hot_ports.HotStore`. Whatever it will not answer, `Engine.handle` does."""

    def __init__(self, parts: Parts, flights: Flights, keep_codings: Lately) -> None:
        self._parts = self.in_force = parts
        self.filling = flights.fillings.keys
        self._keep_codings = keep_codings
        self._in_memory = parts.store.lookup_memory
        self.is_absent = parts.store.is_absent
        # Several workers: whether this one answers for a key.
        self.owns: Callable[[str], bool] | None = None

    def admits_client(self, client: str) -> bool:
        """Whether this client may use the proxy; holds while `rules` stays."""
        try:
            admit_client(self._parts, client)
        except ClientError:
            return False
        return True

    def admits_head(self, request: RequestHead) -> bool:
        """Whether anybody may send a request with these fields; holds while `rules` stays."""
        try:
            admit_head(self._parts, request)
        except ClientError:
            return False
        return True

    def admits_origin(self, origin: Origin) -> bool:
        """Whether requests may go to this origin; holds while `rules` stays."""
        try:
            admit_origin(self._parts, origin)
        except ClientError:
            return False
        return True

    def touch(self, stored: StoredResponse, uses: int = 1) -> None:
        """Note uses, for eviction."""
        self._parts.store.touch(stored, uses)

    def find(self, key: str) -> Sequence[Candidate]:
        """The stored responses of `key` in memory; none while a fetch is filling a newer one."""
        if key in self.filling:
            return ()
        found = self._in_memory(key)
        # Some host's codings must be left alone for a while: which, is for the ordinary path.
        if not self._keep_codings.is_empty and any(candidate.stored.asked_for for candidate in found):
            return ()
        return found

    def find_on_disk(self, key: str) -> Sequence[Candidate] | None:
        """The stored responses of `key` on disk, of which memory has none; None where that is for others to find out."""
        if key in self.filling or (self.owns is not None and not self.owns(key)):
            return None
        try:
            found = self._parts.store.find_at_once(key)
        except Exception:
            # A mistake of ours costs nobody an answer: the direct path asks again.
            log.exception("on the hot path: %s", key.partition("?")[0])
            return None
        if found and not self._keep_codings.is_empty and any(candidate.stored.asked_for for candidate in found):
            return None
        return found

    @property
    def codings(self) -> tuple[str, ...]:
        """What is asked for in clients' stead."""
        return self._parts.codings

    def is_fresh(self, candidate: Candidate, asked: RequestDirectives, now: float) -> bool:
        """Whether the request is a plain hit."""
        decision = reuse.decide(asked, candidate.stored, True, now)
        return isinstance(decision, reuse.ServeStored) and decision.reason is Reason.HIT

    def answer(
        self, candidate: Candidate, request: RequestHead, now: float
    ) -> tuple[Answer, ExchangeRecord] | None:
        """The ordinary answer to a plain hit and its record, without client and times.

        None where it cannot be had at once: a body on disk, several ranges, an age that `is_fresh` denies.
        """
        stored = candidate.stored
        decision = reuse.decide(PLAIN_REQUEST, stored, True, now)
        if not isinstance(decision, reuse.ServeStored) or decision.reason is not Reason.HIT:
            return None
        needs_body = request.method != "HEAD" and not preconditions.is_not_modified(request.fields, stored, now)
        if needs_body and candidate.body.whole() is None:
            # Nothing must be begun that would wait: a read of the disk given up half-way is not undone.
            return None
        try:
            answer = at_once(answer_from(self._parts, request, candidate, decision.age, Reason.HIT))
        except (Damaged, NotHere):
            return None
        if answer is None or answer.stream is not None:
            return None
        head = answer.head
        return answer, _record(request.method, str(request.target), head.status, head.fields, candidate.tier)

    def plain_head(
        self, candidate: Candidate, now: float
    ) -> tuple[tuple[bytes, bytes, bytes], ExchangeRecord] | None:
        """As `answer` to a GET that says nothing: its head as it is sent, cut where Age and ttl stand.

        The body is the candidate's own. None where it is not this simple: `answer` may do it.
        """
        stored, content = candidate.stored, candidate.body.whole()
        if content is None or stored.held is not None:
            return None
        decision = reuse.decide(PLAIN_REQUEST, stored, True, now)
        if not isinstance(decision, reuse.ServeStored) or decision.reason is not Reason.HIT:
            return None
        pieces = hit_wire(self._parts, stored, len(content))
        if pieces is None:
            return None
        return pieces, _record("GET", stored.key, stored.status, stored.fields, candidate.tier)


def _record(method: str, url: str, status: int, fields: Fields, tier: str) -> ExchangeRecord:
    return ExchangeRecord(
        method=method,
        url=url,
        status=status,
        reason=Reason.HIT,
        tag=hit_tag(Reason.HIT, tier, status),
        content_type=fields.get("content-type") or "-",
    )


def at_once(work: Coroutine[Any, Any, Answer]) -> Answer | None:
    """The result of a coroutine that does not wait; None, and the coroutine closed, where it would."""
    try:
        work.send(None)
    except StopIteration as done:
        answer: Answer = done.value
        return answer
    work.close()
    return None
