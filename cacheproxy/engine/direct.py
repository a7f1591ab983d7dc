"""The direct path: a plain GET that memory does not answer, from the look-up to the last byte without a task.

It takes what needs no waiting but for the disk and an idle connection to the origin: hits on disk, responses for
one client alone, and small ones that are stored as they arrive. Everything else it leaves to the ordinary path,
with the fetch it has begun, if any. The decisions are the ordinary path's own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cacheproxy.caching.facts import FieldFacts
from cacheproxy.caching.storing import Store
from cacheproxy.engine.answers import forwarded_head, refused_wire
from cacheproxy.engine.flight import Begun, Flight, Waited
from cacheproxy.engine.flights import Flights
from cacheproxy.engine.forward import Forwarder
from cacheproxy.engine.nobody import Nobody
from cacheproxy.engine.outbound import Outbound
from cacheproxy.engine.outcome import Failed, FlightOutcome, Plan, Private, Restart, task_name
from cacheproxy.errors import CacheproxyError, StaleConnection
from cacheproxy.http.codings import content_codings
from cacheproxy.http.message import ResponseHead
from cacheproxy.ports import Affinity, Answer, Candidate, Closable, UpstreamRequest
from cacheproxy.ports.direct import DirectUpstream, FollowedResponse, Line, Reply
from cacheproxy.reasons import Reason

log = logging.getLogger("cacheproxy")

_FAULT = "on the direct path: %s"


class DirectParts:
    """What all exchanges of the direct path share."""

    def __init__(self, forwarder: Forwarder, flights: Flights, upstream: DirectUpstream) -> None:
        self.parts = forwarder.parts
        self.forwarder = forwarder
        self.flights = flights
        self.upstream = upstream
        self._filling = flights.fillings.keys

    def is_free(self, key: str) -> bool:
        """Whether nothing of `key` is in memory, or arriving."""
        return key not in self._filling and not self.parts.store.lookup_memory(key)


class DirectExchange:
    """One request. Its `reply` is told exactly one end, unless `close` comes first."""

    __slots__ = (
        "_affinity",
        "_awaited",
        "_error",
        "_facts",
        "_flight",
        "_is_closed",
        "_is_noted",
        "_key",
        "_line",
        "_outbound",
        "_path",
        "_pending",
        "_reply",
        "_response",
    )

    def __init__(
        self,
        path: DirectParts,
        line: Line,
        facts: FieldFacts,
        outbound: Outbound,
        affinity: Affinity,
        reply: Reply,
    ) -> None:
        self._path = path
        self._affinity = affinity
        self._line = line
        self._key = line.key
        self._facts = facts
        self._outbound = outbound
        self._reply = reply
        self._pending: Closable | None = None
        self._response: FollowedResponse | None = None
        self._flight: Flight | None = None
        # Somebody else's, of the same key.
        self._awaited: Flight | None = None
        # What that came to, where it failed.
        self._error: CacheproxyError | None = None
        self._is_closed = False
        self._is_noted = False

    # the store

    def found(self, candidates: Sequence[Candidate] | None) -> None:
        """What the disk has; None where it could not be asked."""
        if self._is_closed:
            return
        try:
            if candidates and self._key not in self._path.flights.fillings.keys:
                done = self._reply.from_store(candidates)
            else:
                done = candidates is not None and self._path.is_free(self._key) and self.go_forward()
        except Exception:
            log.exception(_FAULT, task_name(self._key))
            self._fault()
        else:
            if not done:
                self._leave()

    # somebody else's fetch

    def go_forward(self) -> bool:
        """Nothing is stored: wait for whoever asks the origin already, or ask; False where that has to wait."""
        flight = self._path.flights.pending(self._key)
        if flight is None:
            return self._fetch()
        self._note()
        self._awaited = flight
        flight.tell(self._told)
        return True

    def _note(self) -> None:
        if not self._is_noted:
            self._is_noted = True
            self._path.parts.store.note_request(self._key)

    def _told(self, outcome: FlightOutcome) -> None:
        if self._awaited is None:
            return
        self._awaited = None
        self._error = outcome.error if isinstance(outcome, Failed) else None
        path, key = self._path, self._key
        try:
            is_done = (
                isinstance(outcome, Private)
                and path.flights.pending(key) is None
                and path.is_free(key)
                and path.parts.store.is_absent(key)
                and self._fetch()
            )
        except Exception:
            log.exception(_FAULT, task_name(key))
            self._fault()
            return
        if not is_done:
            self._leave()

    def _leave(self) -> None:
        """To the ordinary path, which begins anew, but for what has been noted."""
        self._reply.ordinary(Waited(self._error) if self._is_noted else None)

    # the origin

    def _fetch(self) -> bool:
        outbound = self._outbound
        return self._ask(self._line.route.wire(outbound), shareable=outbound.is_shareable)

    def _ask(self, wire: bytes, *, shareable: bool) -> bool:
        path, route = self._path, self._line.route
        self._pending = path.upstream.begin(route.origin, route.limits, wire, self, self._affinity)
        if self._pending is None:
            return False
        self._flight = path.flights.announce(self._key, shareable=shareable)
        return True

    def interim(self, head: ResponseHead) -> None:
        """A 1xx head goes on to the client."""
        self._reply.interim(head)

    def responded(self, response: FollowedResponse) -> None:
        """The final head is here."""
        self._pending = None
        try:
            self._judge(response)
        except Exception:
            log.exception(_FAULT, task_name(self._key))
            response.close()
            self._fault()

    def _fault(self) -> None:
        """A mistake of ours: the ordinary path answers, if nothing has been said yet, and says so if it is one there too."""
        flight = self._flight
        self._give_up()
        if flight is not None:
            self._path.flights.settle(flight, Restart(discard=False))
        if self._reply.has_begun:
            self._reply.break_off(CacheproxyError("internal"))
        else:
            self._leave()

    def _judge(self, response: FollowedResponse) -> None:
        path, outbound, flight = self._path, self._outbound, self._flight
        assert flight is not None
        facts = response.facts
        is_coded = facts.is_coded and bool(outbound.asked_for) and not self._is_read(response.head)
        if facts.refusal is not None and not is_coded and not response.is_private_connection:
            # The commonest end, before anything is worked out.
            self._pass_on(response, facts.refusal)
            return
        self._note()
        request = self._line.head.with_fields(outbound.fields)
        plan = Plan(request, self._facts.asked, None, self._key, self._again, outbound.asked_for)
        verdict = path.flights.storing(plan, response)
        if is_coded:
            # It may have to be undone for this client.
            self._reply.ordinary(Begun(path.flights, flight, plan, response, verdict))
        elif isinstance(verdict, Private):
            self._pass_on(response, verdict.reason, verdict.asked_for)
        elif (
            isinstance(verdict, Store)
            and not flight.is_doomed
            and (filling := path.flights.fillings.whole(plan, response, verdict.stored))
        ):
            path.flights.settle(flight, filling)
            self._describe()
            self._reply.answer(path.forwarder.filling_answer(filling, Reason.URI_MISS))
        else:
            self._reply.ordinary(Begun(path.flights, flight, plan, response, verdict))

    def _is_read(self, head: ResponseHead) -> bool:
        """Whether the client reads the codings, which were asked for in its stead as well."""
        codings = content_codings(head.fields)
        return codings is not None and self._facts.reads(codings)

    def _again(self) -> UpstreamRequest:
        request: UpstreamRequest = self._line.route.request(self._outbound, self._affinity)
        return request

    def _describe(self) -> None:
        record = self._reply.record()
        record.reason, record.tag = Reason.URI_MISS, "TCP_MISS"
        record.hierarchy = self._line.route.hierarchy

    def _pass_on(self, response: FollowedResponse, reason: Reason, asked_for: tuple[str, ...] = ()) -> None:
        path, flight, reply = self._path, self._flight, self._reply
        assert flight is not None
        if flight.waiters:
            path.flights.settle(flight, Private(response, reason, asked_for), self._key)
        else:
            path.flights.forget(flight)
        if not reply.is_there:
            # Whoever waited asks for himself.
            response.close()
            return
        head, facts = response.head, response.facts
        content = response.whole()
        if content is not None and reason is facts.refusal and reply.takes_plain:
            wire = refused_wire(path.parts.via, head, facts, len(content))
            if wire is not None:
                reply.pass_on(wire + content, facts, self._line.route.hierarchy)
                return
        self._describe()
        head = forwarded_head(path.parts, head, Reason.URI_MISS, reason)
        if content is not None:
            reply.answer(Answer(head, content=content))
            return
        self._response = response
        reply.open(head, response.length)
        response.follow(self)

    # the body, for one client alone

    def body(self, piece: bytes) -> None:
        """A piece."""
        if not self._reply.piece(piece) and self._response is not None:
            self._response.hold()

    def ended(self) -> None:
        """The body is whole."""
        self._response = None
        self._reply.end()

    def failed(self, error: CacheproxyError) -> None:
        """The origin has failed."""
        self._pending = None
        if self._response is not None:
            self._response = None
            self._reply.break_off(error)
            return
        if self._is_closed:
            return
        flight = self._flight
        assert flight is not None
        if isinstance(error, StaleConnection):
            # RFC 9112 §9.3.1: it was closed before we asked; the ordinary path asks once more.
            self._path.flights.settle(flight, Restart(discard=False))
            self._leave()
        else:
            self._note()
            self._reply.ordinary(Begun(self._path.flights, flight, error=error))

    # the client

    def go_on(self) -> None:
        """The client can take more."""
        if self._response is not None:
            self._response.go_on()

    def close(self) -> None:
        """The client has left."""
        flight, is_awaited = self._flight, self._pending is not None
        if self._awaited is not None:
            self._awaited.leave(self._told)
            self._awaited = None
            self._describe()
        if flight is not None:
            self._describe()
        if is_awaited and flight is not None and flight.waiters:
            # A fetch belongs to all who wait for it.
            self._reply = Nobody(self._path.flights, flight)
            return
        self._is_closed = True
        self._give_up()
        if is_awaited and flight is not None:
            self._path.flights.settle(flight, Restart(discard=False))

    def _give_up(self) -> None:
        if self._pending is not None:
            self._pending.close()
        if self._response is not None:
            self._response.close()
        self._pending = self._response = None
