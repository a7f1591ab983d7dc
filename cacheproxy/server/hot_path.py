"""The hot path: plain hits answered inside `data_received`, without a task, from prebuilt bytes.

It answers only what is plain: one whole request at a clean message boundary whose parse is known, for a
fresh response in memory. For everything else it returns False, having changed nothing, and the ordinary
path does it. `tests/server/test_hot_equals_ordinary.py` proves that the bytes are the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.facts import FieldFacts
from cacheproxy.http.codings import content_codings
from cacheproxy.http.ranges import parse_content_range
from cacheproxy.ports import Answer, Candidate, Clock
from cacheproxy.server.answer_head import wire_head
from cacheproxy.server.hot_ports import HotRecorder, HotStore, Repetition
from cacheproxy.server.outlet import Outlet
from cacheproxy.server.parse_memo import LineFacts, ParseMemo
from cacheproxy.server.prebuilt import Prebuilt

_MAX_OTHERS = 4
_COUNT_S = 0.01
# Uses are noted in so many times `_COUNT_S`: what is used again in the meantime costs nothing more.
_NOTED_IN = 64
_NOTED_AT_LEAST = 8
_MAX_UNSETTLED = 4096

Plain = tuple[LineFacts, FieldFacts, bool]
"""Of a request that the hot path would answer if it were in memory: line, fields, whether both came before."""


class Verdict:
    """What a connection knows about itself: the last fields that were admitted, and under which rules."""

    __slots__ = ("client", "facts", "rules")

    def __init__(self, client: str) -> None:
        self.client = client
        self.facts: FieldFacts | None = None
        self.rules: object = None


class HotWriter(Protocol):
    """Takes an answer that the hot path counts: a connection's outlet, or a direct reply, which sends it soon."""

    def write_hot(self, head: bytes, body: bytes) -> int:
        """Write it; how many bytes it is."""


class Ahead(Protocol):
    """Looks at what comes at a clean message boundary, ahead of the connection's task."""

    memo: ParseMemo

    def answer(self, data: bytes, verdict: Verdict, outlet: Outlet) -> Plain | bool:
        """True: answered. False: for the task. Else what the direct path needs to know of the request."""

    def admits(self, line: LineFacts, facts: FieldFacts, verdict: Verdict) -> bool:
        """Whether a request that was not answered is allowed."""


class HotPath:
    """One for all connections."""

    def __init__(self, store: HotStore, memo: ParseMemo, clock: Clock, recorder: HotRecorder) -> None:
        self.memo = memo
        self._lines = memo.lines
        self._blocks = memo.blocks
        self._store = store
        self._find = store.find
        self._in_force = store.in_force
        self._filling = store.filling
        self._touch = store.touch
        self._wall = clock.wall
        self._repeated = recorder.repeated
        self._prepare = recorder.prepare
        # What was answered, to be counted and logged: together that costs half.
        self._ended: list[Repetition] = []
        # What was answered with, once each, to be noted as used.
        self._used: deque[tuple[Prebuilt, StoredResponse]] = deque()
        self._is_timed = False
        self._loop = asyncio.get_running_loop()

    def answer(self, data: bytes, verdict: Verdict, outlet: Outlet) -> Plain | bool:
        """Answer the one request that `data` is. False: it is for the ordinary path.

        What is plain, but not in memory, is given back for the direct path.
        """
        memo = self.memo
        if outlet.is_paused or len(data) > memo.longest:
            return False
        memo.lookups += 1
        at = data.find(b"\r\n") + 2
        block = data[at:]
        line = self._lines.young.get(data[:at]) or self._lines.get(data[:at])
        facts = self._blocks.young.get(block) or (self._blocks.get(block) if self._blocks.old else None)
        # This has been answered, and nothing has changed since, neither the response nor the rules.
        if (
            line is not None
            and (ready := line.ready) is not None
            and ready.rules is verdict.rules is self._in_force.access
            and not (self._filling and line.key in self._filling)
        ):
            now = self._wall()
            if ready.begin <= now < ready.end or ready.renew(now):
                if facts is None:
                    is_same = ready.is_for_all and memo.note_mute(block)
                elif (ready.is_for_all and facts.is_common) or ready.facts is facts:
                    is_same = verdict.facts is facts or facts.is_mute
                else:
                    is_same = False
                if is_same:
                    count = outlet.write_hot(ready.head, ready.body)
                    # Of a turn of the loop there is at most one a connection, and the timer is due a few turns later.
                    if not self._is_timed:
                        self._start_timer()
                    self._ended.append((ready.note, verdict.client, now, count, 0.0))
                    if ready.uses:
                        ready.uses += 1
                    else:
                        self._note_soon(ready)
                    if facts is None:
                        memo.misses += 1
                    return True
        is_known = line is not None and facts is not None
        if line is None or facts is None:
            memo.misses += 1
            learnt = memo.learn(data, block, line, facts)
            if learnt is None:
                return False
            line, facts = learnt
        if not facts.is_simple:
            return False
        found = self._find(line.key)
        if not found:
            return line, facts, is_known
        if not self.answer_from(found, line, facts, verdict, outlet, is_known=is_known):
            return False
        if len(found) == 1 and facts.is_plain and line.is_get:
            self._link(line, facts if is_known else None, found[0])
        return True

    def _link(self, line: LineFacts, facts: FieldFacts | None, candidate: Candidate) -> None:
        stored, prepared = candidate.stored, candidate.prepared
        # Only what holds for as long as the answer: nothing that time or another host's codings change.
        if not stored.asked_for and not (facts is None and stored.nominated):
            line.ready = ready = prepared.plain
            body = candidate.body.whole() if ready.has_body else b""
            ready.link(facts, prepared.admitted_by, body or b"", is_for_all=not stored.nominated)

    def answer_from(
        self,
        found: Sequence[Candidate],
        line: LineFacts,
        facts: FieldFacts,
        verdict: Verdict,
        to: HotWriter,
        *,
        is_known: bool,
        elapsed_s: float = 0.0,
    ) -> bool:
        """Answer from one of the stored responses `found`, or return False."""
        candidate = found[0]
        stored = candidate.stored
        if len(found) != 1 or (stored.nominated and facts.variant(stored.nominated) != stored.variant):
            chosen = choose_variant(found, facts) or self._choose_upgraded(found, facts)
            if chosen is None:
                return False
            candidate = chosen
            stored = candidate.stored
        if stored.asked_for and not facts.reads(content_codings(stored.fields) or ("",)):
            return False
        now = self._wall()
        rules = self._in_force.access
        if (verdict.rules is not rules or verdict.facts is not facts) and not self._admits(
            line, facts, verdict, is_known=is_known
        ):
            return False
        prepared = candidate.prepared
        if prepared.admitted_by is not rules:
            if not self._store.admits_origin(line.origin):
                return False
            prepared.admitted_by = rules
        if facts.is_plain and line.is_get:
            prebuilt: Prebuilt | None = prepared.plain
            if prebuilt is None:
                prepared.plain = prebuilt = self._build(candidate, line, facts, now)
        else:
            prebuilt = self._other(candidate, line, facts, now)
        if prebuilt is None or not (prebuilt.begin <= now < prebuilt.end or prebuilt.renew(now)):
            return False
        body = candidate.body.whole() if prebuilt.has_body else b""
        if body is None:
            return False
        if prebuilt.part is not None:
            body = body[prebuilt.part[0] : prebuilt.part[1]]
        count = to.write_hot(prebuilt.head, body)
        if not self._is_timed:
            self._start_timer()
        elif len(self._ended) >= _MAX_UNSETTLED:
            self.count()
        self._ended.append((prebuilt.note, verdict.client, now, count, elapsed_s))
        if prebuilt.uses:
            prebuilt.uses += 1
        else:
            self._note_soon(prebuilt)
        return True

    def _start_timer(self) -> None:
        self._is_timed = True
        self._loop.call_later(_COUNT_S, self._due)

    def _due(self) -> None:
        self._is_timed = False
        self.count()
        # All of a second's at once would hold everybody up.
        self._note_uses(len(self._used) // _NOTED_IN + _NOTED_AT_LEAST)
        if self._used:
            self._start_timer()

    def count(self) -> None:
        """Count and log what was answered since."""
        if self._ended:
            ended, self._ended = self._ended, []
            self._repeated(ended)

    def _note_soon(self, prebuilt: Prebuilt) -> None:
        prebuilt.uses = 1
        if prebuilt.stored is not None:
            self._used.append((prebuilt, prebuilt.stored))
            if len(self._used) > _MAX_UNSETTLED:
                self._note_uses(1)

    def _note_uses(self, count: int) -> None:
        for _ in range(min(count, len(self._used))):
            prebuilt, stored = self._used.popleft()
            uses, prebuilt.uses = prebuilt.uses, 0
            self._touch(stored, uses)

    def settle(self) -> None:
        """Count, log and note as used, now, what was answered since."""
        self.count()
        self._note_uses(len(self._used))

    def admits(self, line: LineFacts, facts: FieldFacts, verdict: Verdict) -> bool:
        """Whether a request that no stored response answers is allowed."""
        rules = self._in_force.access
        if (verdict.rules is not rules or verdict.facts is not facts) and not self._admits(
            line, facts, verdict, is_known=facts.raw in self.memo.blocks.young
        ):
            return False
        if line.admitted_by is not rules and self._store.admits_origin(line.origin):
            line.admitted_by = rules
        return line.admitted_by is rules

    def _admits(self, line: LineFacts, facts: FieldFacts, verdict: Verdict, *, is_known: bool) -> bool:
        rules = self._in_force.access
        if verdict.rules is not rules:
            if not self._store.admits_client(verdict.client):
                return False
            verdict.rules, verdict.facts = rules, None
        if verdict.facts is not facts:
            if not facts.is_mute and not self._store.admits_head(line.head.with_fields(facts.received)):
                return False
            # An idle connection must not hold fields that will never come again.
            verdict.facts = facts if is_known else None
        return True

    def _choose_upgraded(self, found: Sequence[Candidate], facts: FieldFacts) -> Candidate | None:
        codings = self._store.codings
        matching = [
            one
            for one in found
            if one.stored.nominated
            and facts.upgraded_variant(one.stored.nominated, codings) == one.stored.variant
        ]
        # Which of several is newest, and how it is coded, is for the ordinary path.
        return matching[0] if len(matching) == 1 else None

    def _other(self, candidate: Candidate, line: LineFacts, facts: FieldFacts, now: float) -> Prebuilt | None:
        """Directives, conditions, ranges, HEAD."""
        if not self._store.is_fresh(candidate, facts.asked, now):
            return None
        prepared = candidate.prepared
        if facts.conditions is None and line.is_get:
            if prepared.plain is None:
                prepared.plain = self._build(candidate, line, facts, now)
            plain: Prebuilt | None = prepared.plain
            return plain
        others = prepared.others
        if others is None:
            others = prepared.others = {}
        which = (line.is_get, facts.conditions)
        prebuilt: Prebuilt | None = others.get(which)
        if prebuilt is None:
            prebuilt = self._build(candidate, line, facts, now)
            if prebuilt is not None:
                if len(others) >= _MAX_OTHERS:
                    others.clear()
                others[which] = prebuilt
        return prebuilt

    def _build(self, candidate: Candidate, line: LineFacts, facts: FieldFacts, now: float) -> Prebuilt | None:
        request = line.head.with_fields(facts.fields)
        done = self._store.answer(candidate, request, now)
        if done is None:
            return None
        answer, record = done
        head = wire_head(answer, request, may_keep_alive=True)
        if not head.keep_alive or head.chunked:
            return None
        # The body is the entry's own: a copy would be memory that nobody counts.
        part = None
        if answer.head.status == 206:
            part = _part(answer, candidate.body.whole())
            if part is None:
                return None
        elif head.has_body and answer.content is not candidate.body.whole():
            return None
        try:
            return Prebuilt(head.data, head.has_body, part, candidate.stored, self._prepare(record))
        except ValueError:
            return None


def _part(answer: Answer, whole: bytes | None) -> tuple[int, int] | None:
    value = answer.head.fields.only("content-range")
    sent = None if value is None else parse_content_range(value)
    if sent is None or whole is None or whole[sent.start : sent.end] != answer.content:
        return None
    return sent.start, sent.end


def choose_variant(found: Sequence[Candidate], facts: FieldFacts) -> Candidate | None:
    """As `caching.key.choose`: of the variants that match, the most recent."""
    chosen: Candidate | None = None
    best: Any = None
    for candidate in found:
        stored = candidate.stored
        if not stored.nominated or facts.variant(stored.nominated) == stored.variant:
            rank = (stored.date_at, stored.entry_id)
            if chosen is None or rank > best:
                chosen, best = candidate, rank
    return chosen
