"""The hot path: plain hits answered inside `data_received`, without a task, from prebuilt bytes.

It answers only what is plain: one whole request at a clean message boundary whose parse is known, for a
fresh response in memory. For everything else it returns False, having changed nothing, and the ordinary
path does it. `tests/server/test_hot_equals_ordinary.py` proves that the bytes are the same.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, Literal, Protocol

from cacheproxy.caching.facts import FieldFacts
from cacheproxy.cork import Cork
from cacheproxy.http.codings import content_codings
from cacheproxy.ports import BodySource, Candidate, Clock
from cacheproxy.server.hot_ports import HotRecorder, HotStore
from cacheproxy.server.outlet import WRITE_BUFFER_BYTES, Outlet
from cacheproxy.server.parse_memo import LineFacts, ParseMemo
from cacheproxy.server.prebuilt import Prebuilt
from cacheproxy.server.prepared import PreparedAnswers, which
from cacheproxy.server.tally import Tally
from cacheproxy.server.variants import choose_upgraded, choose_variant

log = logging.getLogger("cacheproxy")

CLOSE, _KEEP_ALIVE = "close", "keep-alive"

Plain = tuple[LineFacts, FieldFacts, bool, bool]
"""Of a request that the hot path would answer if it could: line, fields, whether both came before, and whether it is
known that nothing is stored.
"""


LAST: Final = "last"
"""Answered, and the connection ends with this answer."""


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

    def answer(self, data: bytes, verdict: Verdict, outlet: Outlet) -> Plain | bool | Literal["last"]:
        """True, `LAST`: answered. False: for the task. Else what the direct path needs to know of the request, which is allowed."""


class HotPath:
    """One for all connections."""

    def __init__(self, store: HotStore, memo: ParseMemo, clock: Clock, recorder: HotRecorder) -> None:
        self.memo = memo
        self._lines = memo.lines
        self._blocks = memo.blocks
        self._store = store
        self._find = store.find
        self._is_absent = store.is_absent
        self._in_force = store.in_force
        self._filling = store.filling
        self._wall = clock.wall
        self._answers = PreparedAnswers(store, recorder.prepare)
        self.missed = recorder.missed
        self.tally = Tally(recorder.tallied, store.touch)
        self._cork = Cork()

    def answer(self, data: bytes, verdict: Verdict, outlet: Outlet) -> Plain | bool | Literal["last"]:
        """Answer the one request that `data` is. False: it is for the ordinary path.

        What is plain, but not in memory, is given back for the direct path.
        """
        memo = self.memo
        if outlet.is_paused or outlet.unsent or len(data) > memo.longest:
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
                    is_same = ready.is_for_all and ready.on_disk is None and memo.note_mute(block)
                elif (ready.is_for_all and facts.is_common) or ready.facts is facts:
                    is_same = verdict.facts is facts or facts.is_mute
                else:
                    is_same = False
                if is_same:
                    if ready.on_disk is not None and facts is not None:
                        return self._answer_from_disk(ready, line, facts, verdict, outlet, now)
                    if facts is None:
                        memo.misses += 1
                        count = outlet.write_soon(ready.head, ready.body, self._cork)
                    else:
                        count = outlet.write_hot(ready.head, ready.body)
                    # As `Tally.add`, but for its limit: there is at most one a connection and turn, and few turns.
                    tally = self.tally
                    if not tally.is_timed:
                        tally.start_timer()
                    tally.ended.append((ready.note, verdict.client, now, count, 0.0))
                    if ready.uses:
                        ready.uses += 1
                    else:
                        tally.note_soon(ready)
                    return True
        is_known = line is not None and facts is not None
        if line is None or facts is None:
            memo.misses += 1
            learnt = memo.learn(data, block, line, facts)
            if learnt is None:
                return False
            line, facts = learnt
        return self._answer(line, facts, verdict, outlet, is_known=is_known) if facts.is_simple else False

    def _answer(
        self, line: LineFacts, facts: FieldFacts, verdict: Verdict, outlet: Outlet, *, is_known: bool
    ) -> Plain | bool | Literal["last"]:
        """As `answer`, from memory or disk."""
        says = said_of_connection(line, facts) if line.is_old or facts.says_close else ""
        found = in_memory = self._find(line.key)
        if not found:
            if not self._admits_miss(line, facts, verdict):
                return False
            on_disk = () if self._is_absent(line.key) else self._store.find_on_disk(line.key)
            if not on_disk:
                return line, facts, is_known, on_disk is not None
            found = on_disk
        done = self.answer_from(found, line, facts, verdict, outlet, is_known=is_known, says=says)
        if not done:
            is_direct = done is None or self._may_be_validated(found, line, facts, verdict)
            return (line, facts, is_known, False) if is_direct else False
        if says == CLOSE:
            return LAST
        if len(found) == 1 and facts.is_plain and line.is_get:
            self._link(line, facts if is_known else None, found[0], says, is_from_memory=bool(in_memory))
        return True

    def _answer_from_disk(
        self,
        ready: Prebuilt,
        line: LineFacts,
        facts: FieldFacts,
        verdict: Verdict,
        outlet: Outlet,
        since: float,
    ) -> Plain | bool:
        """As `answer`, with what has been answered before, but for its body, which is on disk."""
        # It may come into memory now, and this is cleared.
        head, note, stored = ready.head, ready.note, ready.stored
        assert ready.on_disk is not None
        body = _at_once(ready.on_disk)
        if body is None or (content := body.whole()) is None:
            return line, facts, True, False
        now = self._wall()
        count = outlet.write_soon(head, content, self._cork)
        elapsed_s = now - since if now > since else 0.0
        self.tally.add(ready, stored, (note, verdict.client, now, count, elapsed_s))
        return True

    def _link(
        self,
        line: LineFacts,
        facts: FieldFacts | None,
        candidate: Candidate,
        says: str,
        *,
        is_from_memory: bool,
    ) -> None:
        stored, prepared = candidate.stored, candidate.prepared
        if candidate.tier == "disk" or not is_from_memory:
            kept = self._find(line.key)
            if len(kept) != 1 or kept[0].prepared is not prepared:
                # It has just come into memory with its body, or nothing of it has: nobody would cut the link.
                return
            candidate = kept[0]
        is_for_all = not stored.nominated and not says
        ready = prepared.plain if not says else (prepared.others or {}).get(which(line, says=says))
        # Only what holds for as long as the answer: nothing that time or another host's codings change.
        if ready is not None and not stored.asked_for and (facts is not None or is_for_all):
            line.ready = ready
            body = candidate.body if ready.has_body else None
            ready.link(facts, prepared.admitted_by, body, is_for_all=is_for_all)

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
        says: str = "",
    ) -> bool | None:
        """Answer from one of the stored responses `found`, or return False; None where its body has to be waited for.

        `says` is what the answer has to say of the connection.
        """
        candidate = found[0]
        stored = candidate.stored
        if len(found) != 1 or (stored.nominated and facts.variant(stored.nominated) != stored.variant):
            chosen = choose_variant(found, facts) or choose_upgraded(found, facts, self._store.codings)
            if chosen is None:
                return False
            candidate = chosen
            stored = candidate.stored
        if stored.lifetime.seconds <= 0:
            # Never fresh: no answer has to be prepared to see that.
            return False
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
        prebuilt = self._answers.of(candidate, line, facts, says, now)
        if (
            candidate.tier == "disk"
            and candidate.body.whole() is None
            and self._needs_body(prebuilt, candidate, facts, now)
        ):
            body_now = _at_once(candidate.body)
            if body_now is None:
                return None
            candidate = Candidate(stored, body_now, candidate.tier, prepared)
            # Again: with its body it may have come into memory, apart from this.
            prebuilt = self._answers.of(candidate, line, facts, says, now)
            elapsed_s = max(self._wall() - now, 0.0)
        if prebuilt is None or not (prebuilt.begin <= now < prebuilt.end or prebuilt.renew(now)):
            return False
        body = candidate.body.whole() if prebuilt.has_body else b""
        if body is None:
            return False
        if prebuilt.part is not None:
            body = body[prebuilt.part[0] : prebuilt.part[1]]
        if says == CLOSE and len(body) > WRITE_BUFFER_BYTES:
            # Who does not read it is for somebody who waits.
            return False
        head, outlet = prebuilt.head, to if says != CLOSE and isinstance(to, Outlet) else None
        count = to.write_hot(head, body) if outlet is None else outlet.write_soon(head, body, self._cork)
        self.tally.add(prebuilt, stored, (prebuilt.note, verdict.client, now, count, elapsed_s))
        return True

    def _may_be_validated(
        self, found: Sequence[Candidate], line: LineFacts, facts: FieldFacts, verdict: Verdict
    ) -> bool:
        """Whether the direct path can ask the origin about it."""
        is_simple = len(found) == 1 and not found[0].stored.nominated and facts.conditions is None
        return is_simple and line.is_get and self._admits_miss(line, facts, verdict)

    def _admits_miss(self, line: LineFacts, facts: FieldFacts, verdict: Verdict) -> bool:
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

    def _needs_body(
        self, prebuilt: Prebuilt | None, candidate: Candidate, facts: FieldFacts, now: float
    ) -> bool:
        if prebuilt is None:
            return self._store.is_fresh(candidate, facts.asked, now)
        return prebuilt.has_body and (prebuilt.begin <= now < prebuilt.end or prebuilt.renew(now))


def said_of_connection(line: LineFacts, facts: FieldFacts) -> str:
    """What the answer to a request has to say of the connection, if anything (RFC 9112 §9.3)."""
    if facts.says_close:
        return CLOSE
    if line.is_old:
        return _KEEP_ALIVE if facts.says_keep_alive else CLOSE
    return ""


def _at_once(body: BodySource) -> BodySource | None:
    try:
        return body.at_once()
    except Exception:
        # A mistake of ours costs nobody an answer: the direct path asks again.
        log.exception("on the hot path")
        return None
