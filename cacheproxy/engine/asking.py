"""What a GET or HEAD asks of its origin: under which key, where, with which codings and conditions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cacheproxy.caching import decoding
from cacheproxy.caching.decoding import AsIs, AskAgain
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.key import choose
from cacheproxy.caching.reuse import Forward, Validate
from cacheproxy.caching.validation import CONDITIONS, conditional_fields
from cacheproxy.engine.forward import Forwarder
from cacheproxy.engine.outcome import Plan
from cacheproxy.http.cache_control import parse_request_directives
from cacheproxy.http.codings import upgraded_accept_encoding
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.policy.rules import placed
from cacheproxy.ports import Candidate, Exchange, Interim, UpstreamRequest
from cacheproxy.reasons import Reason

# Outcomes of a shared fetch may help whoever goes forward for these reasons; the others asked for an
# answer of their own.
SHAREABLE = frozenset({Reason.URI_MISS, Reason.VARY_MISS, Reason.STALE, Reason.STORE_FAILED})
OWN_CONDITIONS = frozenset({"if-none-match", "if-modified-since", "range", "if-range"})
_UNSHAREABLE = OWN_CONDITIONS - {"range"}


class Asking:
    """Lives for one exchange."""

    def __init__(self, forwarder: Forwarder, exchange: Exchange) -> None:
        self._forwarder = forwarder
        self._parts = forwarder.parts
        self._exchange = exchange
        target = exchange.head.target
        assert target is not None
        place = placed(target, self._parts.rules, self._parts.caching.drop_query)
        self.key = place.key
        self._path = place.target.path_and_query.partition("?")[0]
        self.request = exchange.head
        if place.target is not target:
            self.request = exchange.head._replace(target=place.target)
        self.directives = parse_request_directives(self.request.fields)
        self._host = place.target.origin.host
        codings = () if self._host in forwarder.keep_codings else self._parts.codings
        # The request with more codings than the client asked for; None where that is not safe.
        self.upgraded = self._upgraded(codings, for_lookup=False)
        self._for_lookup = self._upgraded(codings, for_lookup=True)

    def _upgraded(self, codings: tuple[str, ...], *, for_lookup: bool) -> RequestHead | None:
        value = upgraded_accept_encoding(self.request, codings, for_lookup=for_lookup) if codings else None
        return (
            None
            if value is None
            else self.request.with_fields(self.request.fields.replaced("Accept-Encoding", value))
        )

    def give_up_upgrade(self, *, remember: bool) -> None:
        """Ask with the client's own Accept-Encoding from now on; `remember`: so does everybody at this host."""
        self.upgraded = self._for_lookup = None
        if remember:
            self._forwarder.keep_codings.add(self._host)

    @property
    def asked_for(self) -> tuple[str, ...]:
        """The codings that the next fetch asks for in the client's stead."""
        return self._parts.codings if self.upgraded is not None else ()

    def coding(self, fields: Fields, asked_for: tuple[str, ...]) -> decoding.Decision:
        """How content with these response fields reaches the client."""
        return decoding.decide(fields, self.request.fields, asked_for, self._path)

    def choose(self, found: Sequence[Candidate]) -> StoredResponse | None:
        """The stored response to use: for the client's own words, else for those that we ask with."""
        stored = [candidate.stored for candidate in found]
        for request in (self.request, self._for_lookup):
            chosen = None if request is None else choose(request, stored)
            if chosen is None:
                continue
            if not isinstance(self.coding(chosen.fields, chosen.asked_for), AskAgain):
                return chosen
            self.give_up_upgrade(remember=False)
        return None

    # towards the origin

    def outgoing(self, request: RequestHead, on_interim: Interim | None) -> UpstreamRequest:
        """The request as the origin gets it, without conditions of ours."""
        return self._forwarder.outgoing(self._exchange, on_interim=on_interim, request=request)

    def _request_for(self, chosen: StoredResponse | None) -> RequestHead:
        if self.upgraded is None or (chosen is not None and not chosen.asked_for and _is_coded(chosen)):
            return self.request
        return self.upgraded

    def plan(
        self,
        decision: Validate | Forward,
        chosen: Candidate | None,
        found: Iterable[Candidate],
        on_interim: Interim | None,
    ) -> Plan:
        """The fetch for a decision; a validation of `chosen` where it says so."""
        validated = chosen if isinstance(decision, Validate) else None
        request = self._request_for(None if validated is None else validated.stored)
        outgoing = self.outgoing(request, on_interim)
        asked_for = self.asked_for if request is self.upgraded else ()
        plan = self._plan(request, outgoing, asked_for)
        variants = [candidate for candidate in found if candidate.stored.etag is not None]
        has_own = not OWN_CONDITIONS.isdisjoint(self.request.fields.names())
        if validated is not None or (decision.reason is Reason.VARY_MISS and variants and not has_own):
            plan.chosen, plan.variants = validated, variants
            plan.unconditional = outgoing.fields.without(OWN_CONDITIONS)
            outgoing.fields = conditional_fields(
                outgoing.fields,
                None if validated is None else validated.stored,
                [variant.stored for variant in variants],
            )
        return plan

    def gap_plan(self, stored: StoredResponse) -> Plan:
        """The fetches of what `stored` lacks: with the codings that its own fetch asked for."""
        request = self.request
        if stored.asked_for and self._for_lookup is not None:
            request = self._for_lookup
        request = request.with_fields(request.fields.without(CONDITIONS))
        outgoing = self.outgoing(request, None)
        asked_for = stored.asked_for if request is not self.request else ()
        return self._plan(request, outgoing, asked_for)

    def _plan(self, request: RequestHead, outgoing: UpstreamRequest, asked_for: tuple[str, ...]) -> Plan:
        plan = Plan(request, self.directives, outgoing, self.key, lambda: self._again(request), asked_for)
        plan.is_for_whole = "range" not in self.request.fields
        return plan

    def _again(self, request: RequestHead) -> UpstreamRequest:
        outgoing = self.outgoing(request, None)
        outgoing.fields = outgoing.fields.without(CONDITIONS)
        return outgoing

    def is_shareable(self, decision: Validate | Forward) -> bool:
        """Whether others may wait for the outcome of this fetch."""
        names = self.request.fields.names()
        target = self.request.target
        assert target is not None
        return (
            decision.reason in SHAREABLE
            and not self.directives.no_store
            and target.origin not in self._exchange.affinity.pinned
            and "authorization" not in names
            and (isinstance(decision, Validate) or _UNSHAREABLE.isdisjoint(names))
        )


def _is_coded(stored: StoredResponse) -> bool:
    return "content-encoding" in stored.fields


__all__ = ["OWN_CONDITIONS", "SHAREABLE", "AsIs", "Asking"]
