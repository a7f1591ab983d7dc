"""Which requests take the direct path: plain GETs that this worker, or another over a hop, answers without a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cacheproxy.caching.facts import FieldFacts
from cacheproxy.engine.direct import DirectExchange, DirectParts
from cacheproxy.engine.direct_hop import DirectHop, DirectHops
from cacheproxy.engine.direct_validation import DirectValidation, validated
from cacheproxy.engine.flights import Flights
from cacheproxy.engine.forward import Forwarder
from cacheproxy.engine.outbound import Outbound, Route, prepare
from cacheproxy.ports import Affinity, Candidate
from cacheproxy.ports.direct import DirectUpstream, Line, Reply


class DirectPath(DirectParts):
    """One for all connections. Who fetches what this worker does not own (`owns`) is asked through `hops`."""

    def __init__(
        self,
        forwarder: Forwarder,
        flights: Flights,
        upstream: DirectUpstream,
        owns: Callable[[str], bool] | None = None,
        hops: DirectHops | None = None,
    ) -> None:
        super().__init__(forwarder, flights, upstream)
        self._owns = owns
        self._hops = hops

    def begin(
        self, line: Line, facts: FieldFacts, affinity: Affinity, reply: Reply, is_absent: bool
    ) -> DirectExchange | DirectHop | None:
        """Take on a GET that is plain by `facts`, which has its fields, and for which the hot path has found nothing fresh.

        `is_absent`: nor is there anything to find, as far as this worker owns it. None where it is for the ordinary path.
        """
        parts, key, is_old = self.parts, line.key, line.is_old
        known = facts.prepared_old if is_old else facts.prepared
        outbound: Outbound = known or prepare(facts, parts.codings, parts.via, line.head.version)
        route: Route | None = line.route
        if route is None or route.rules is not parts.rules:
            target = line.head.target
            assert target is not None
            line.route = route = Route(target, key, parts)
        if not route.is_plain or not outbound.is_simple or affinity.pinned:
            return None
        keep_codings = self.forwarder.keep_codings
        # Where some host's codings are left alone, the hot path has not found what it could have.
        if not (is_absent and keep_codings.is_empty) and (found := parts.store.lookup_memory(key)):
            begun = self._validate(line, facts, outbound, affinity, reply, found)
            if begun is not None or all(one.body.whole() is not None for one in found):
                return begun
        if not outbound.is_plain:
            return None
        if self._owns is not None and not self._owns(key):
            # The other worker gets the client's own lines: they must say nothing of the connection.
            is_for_hop = not is_old and not facts.says_close and outbound.is_shareable
            hops = self._hops if is_for_hop else None
            return None if hops is None else hops.begin(line.head, key, facts, reply)
        if key in self._filling:
            return None
        if not keep_codings.is_empty and (route.host in keep_codings or parts.store.lookup_memory(key)):
            return None
        exchange = DirectExchange(self, line, facts, outbound, affinity, reply)
        if not (is_absent or parts.store.is_absent(key)):
            parts.store.look_up(key, exchange.found)
        elif not exchange.go_forward():
            return None
        return exchange

    def _validate(
        self,
        line: Line,
        facts: FieldFacts,
        outbound: Outbound,
        affinity: Affinity,
        reply: Reply,
        found: Sequence[Candidate],
    ) -> DirectValidation | None:
        """Ask whether what is stored still holds; None where that is not what to do, or not this simple."""
        key = line.key
        if len(found) != 1 or key in self._filling or not (self._owns is None or self._owns(key)):
            return None
        keep_codings = self.forwarder.keep_codings
        if not keep_codings.is_empty and line.route.host in keep_codings:
            return None
        decision = validated(self, facts, found[0])
        if decision is None:
            return None
        exchange = DirectValidation(self, line, facts, outbound, affinity, reply)
        return exchange if exchange.validate(found[0], decision) else None
