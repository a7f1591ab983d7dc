"""Which of a candidate's prebuilt answers a request gets; what is not there yet is built."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from cacheproxy.caching.facts import Conditions, FieldFacts
from cacheproxy.ports import Candidate, ExchangeRecord
from cacheproxy.server.hot_ports import HotStore
from cacheproxy.server.parse_memo import LineFacts
from cacheproxy.server.prebuilt import Prebuilt, build, build_plain

_MAX_OTHERS = 4


class PreparedAnswers:
    """They are kept with the candidate."""

    def __init__(self, store: HotStore, prepare: Callable[[ExchangeRecord], Any]) -> None:
        self._store = store
        self._prepare = prepare

    def of(
        self, candidate: Candidate, line: LineFacts, facts: FieldFacts, says: str, now: float
    ) -> Prebuilt | None:
        """The answer; None where it is for the ordinary path. It may have to be renewed.

        `says` is what it has to say of the connection.
        """
        if not facts.is_plain and not self._store.is_fresh(candidate, facts.asked, now):
            return None
        if says or facts.conditions is not None or not line.is_get:
            return self._other(candidate, line, facts, says, now)
        prepared = candidate.prepared
        prebuilt: Prebuilt | None = prepared.plain
        if prebuilt is None:
            prepared.plain = prebuilt = self._build(candidate, line, facts, says, now)
        return prebuilt

    def _other(
        self, candidate: Candidate, line: LineFacts, facts: FieldFacts, says: str, now: float
    ) -> Prebuilt | None:
        """Conditions, ranges, HEAD, HTTP/1.0, and what is to be the last."""
        prepared = candidate.prepared
        others = prepared.others
        if others is None:
            others = prepared.others = {}
        key = which(line, facts.conditions, says)
        prebuilt: Prebuilt | None = others.get(key)
        if prebuilt is None:
            prebuilt = self._build(candidate, line, facts, says, now)
            if prebuilt is not None:
                if len(others) >= _MAX_OTHERS:
                    for one in others.values():
                        one.unlink()
                    others.clear()
                others[key] = prebuilt
        return prebuilt

    def _build(
        self, candidate: Candidate, line: LineFacts, facts: FieldFacts, says: str, now: float
    ) -> Prebuilt | None:
        store, prepare = self._store, self._prepare
        if line.is_get and facts.conditions is None:
            plain = build_plain(store, prepare, candidate, says, now)
            if plain is not None:
                return plain
        request = line.head.with_fields(facts.fields)
        received = line.head.with_fields(facts.received) if says else request
        return build(store, prepare, candidate, request, received, now)


def which(line: LineFacts, conditions: Conditions | None = None, says: str = "") -> Hashable:
    """Among a candidate's `others`, the answer to such requests."""
    return line.is_get, conditions, says
