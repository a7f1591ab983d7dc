"""Bodies on their way: fetches feed assemblies, readers follow, the store keeps what has arrived."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import KeysView

from cacheproxy.caching import combining, storing
from cacheproxy.caching.abandonment import worth_finishing
from cacheproxy.caching.combining import StorePart
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.extents import covers
from cacheproxy.caching.freshening import Update, may_update, merge
from cacheproxy.caching.storing import Store
from cacheproxy.engine.assembled import AssembledBody, AssemblyReader, as_candidate
from cacheproxy.engine.assembly import Assembly, FetchPart, Part, union
from cacheproxy.engine.known_bodies import KnownBodies, is_wrong
from cacheproxy.engine.outcome import Failed, Filling, FlightOutcome, Plan, Private, Restart, task_name
from cacheproxy.engine.parts import Parts
from cacheproxy.engine.spool import Spool
from cacheproxy.errors import CacheproxyError, ClientGone, UpstreamError
from cacheproxy.http.digests import Verifier
from cacheproxy.http.ranges import Slice
from cacheproxy.ports import BodyWriter, Candidate, UpstreamResponse
from cacheproxy.reasons import Reason
from cacheproxy.tasks import TaskGroup

log = logging.getLogger("cacheproxy")

_KEEP_S = 10.0


def _terminated(host: str, why: str) -> UpstreamError:
    return UpstreamError(Reason.CONNECTION_TERMINATED, host, why, before_head=False)


class Fillings:
    """All assemblies to which fetches add at the moment, by key."""

    def __init__(self, parts: Parts, tasks: TaskGroup) -> None:
        self._parts = parts
        self._tasks = tasks
        # What has arrived is put away even where the fetch is cancelled, and cancelled again.
        self._keeping = TaskGroup("keep")
        self._assemblies: dict[str, list[Assembly]] = {}
        self.known = KnownBodies(parts)

    @property
    def keys(self) -> KeysView[str]:
        """Keys with something under way, kept up to date."""
        return self._assemblies.keys()

    def candidates(self, key: str) -> list[Candidate]:
        """Responses of `key` under way that whoever comes now can have from any byte on."""
        found = self._assemblies.get(key)
        return [as_candidate(one) for one in found if one.can_serve()] if found else []

    def assembly_of(self, candidate: Candidate) -> Assembly:
        """The assembly of an incomplete stored response: the one under way, or a new one."""
        stored = candidate.stored
        for assembly in self._assemblies.get(stored.key, ()):
            if stored.entry_id and assembly.stored.entry_id == stored.entry_id:
                return assembly
        return Assembly(stored.key, stored, candidate.body, self._parts.join_gap_bytes, self._lost)

    def _lost(self, assembly: Assembly) -> None:
        """Its stored bytes cannot be read: nobody begins with them, nothing is added."""
        self._withdraw(assembly)
        if assembly.stored.entry_id:
            body = AssembledBody(assembly, None)
            self._parts.store.discard(Candidate(assembly.stored, body, "disk"))

    def _withdraw(self, assembly: Assembly) -> None:
        assembly.is_doomed = True
        group = self._assemblies.get(assembly.key)
        if group is not None and assembly in group:
            group.remove(assembly)
            if not group:
                del self._assemblies[assembly.key]

    async def close(self) -> None:
        """Wait until what has arrived is stored."""
        await self._keeping.close(_KEEP_S)

    def invalidate(self, key: str) -> int:
        """What is under way for `key` is neither shared any further nor stored; how many are thus not stored."""
        doomed = self._assemblies.pop(key, [])
        for assembly in doomed:
            if assembly.held:
                # The store has it already.
                assembly.is_doomed = True
            else:
                # It may be on its way to the disk, where nobody finds it yet.
                self._lost(assembly)
        return sum(1 for one in doomed if one.stored.entry_id and not one.held)

    def _register(self, assembly: Assembly) -> None:
        if not assembly.is_doomed:
            group = self._assemblies.setdefault(assembly.key, [])
            if assembly not in group:
                group.append(assembly)

    def _end(self, assembly: Assembly, part: Part) -> None:
        if part in assembly.parts:
            assembly.parts.remove(part)
        group = self._assemblies.get(assembly.key)
        if group is not None and assembly in group and not assembly.is_running:
            group.remove(assembly)
            if not group:
                del self._assemblies[assembly.key]

    def fetcher(self, plan: Plan) -> FetchPart | None:
        """Fetches gaps with the request of `plan`; None where it must not be repeated."""
        if plan.again is None:
            return None

        def fetch(assembly: Assembly, start: int, end: int | None) -> Part:
            return self.fetch_part(assembly, start, end, plan)

        return fetch

    # a response whose head has come

    def whole(self, plan: Plan, response: UpstreamResponse, stored: StoredResponse) -> Filling | None:
        """Have a small response stored at once whose body came with its head; None where it did not."""
        length = response.length
        if length is None or length > self._parts.store.small_bytes or (content := response.whole()) is None:
            return None
        # Whoever comes later may not read what was asked for in this client's stead.
        return self.known.put(plan, response, stored.with_codings(plan.asked_for), content)

    def start(
        self,
        plan: Plan,
        response: UpstreamResponse,
        verdict: Store | StorePart,
        *,
        has_reader: bool = True,
        is_doomed: bool = False,
    ) -> Filling:
        """Have a response stored and shared; `has_reader`: the one who asked reads it."""
        options = self._parts
        stored = verdict.stored.with_codings(plan.asked_for)
        is_part = isinstance(verdict, StorePart)
        start, end, complete = 0, response.length, response.length
        if isinstance(verdict, StorePart):
            start, end, complete = verdict.part.start, verdict.part.end, stored.length
        elif not is_doomed and (whole := self.whole(plan, response, stored)):
            return whole
        # A body that ends with its connection may have been cut by a dying origin: shared, but not kept.
        is_kept = not is_doomed and not response.is_close_delimited
        writer = options.store.begin(stored, complete, start=start, is_part=is_part) if is_kept else None
        place = (writer.entry_id, writer.body_id) if writer is not None else (0, 0)
        stored = stored.with_body(*place, complete)
        assembly = Assembly(plan.key, stored, None, options.join_gap_bytes, self._lost)
        assembly.is_doomed = is_doomed
        part = self._part(plan, assembly, start, end, keep_bytes=0 if is_part else options.keep_bytes)
        part.spool.begin(writer, None if end is None else end - start)
        part.judged.set_result(None)
        facts = self.known.facts(plan, response)
        if facts.digests and not is_part:
            part.promised = facts, Verifier(facts.digests)
        reader = AssemblyReader(assembly, start, end, self.fetcher(plan)) if has_reader else None
        part.task = self._tasks.spawn(task_name(plan.key), self._fill(assembly, part, response, writer))
        reason = Reason.STORED if writer is not None else Reason.TOO_LARGE
        if response.is_close_delimited:
            reason = Reason.UNDELIMITED
        return Filling(as_candidate(assembly), response.head, reader, response.length, reason)

    def _part(self, plan: Plan, assembly: Assembly, start: int, end: int | None, *, keep_bytes: int) -> Part:
        length = None if end is None else end - start
        part: Part
        spool = Spool(None, length, keep_bytes, self._parts.spools, lambda: self._unread(assembly, part))
        part = Part(start, end, spool, plan)
        assembly.parts.append(part)
        self._register(assembly)
        return part

    async def _fill(
        self, assembly: Assembly, part: Part, response: UpstreamResponse, writer: BodyWriter | None
    ) -> None:
        spool = part.spool
        host = assembly.host
        try:
            left = None if part.end is None else part.end - part.start
            while piece := await response.read():
                if left is not None:
                    left -= len(piece)
                    if left < 0:
                        raise UpstreamError(
                            Reason.HTTP_RESPONSE_BODY_SIZE, host, "more bytes than announced", before_head=False
                        )
                if part.promised is not None:
                    part.promised[1].update(piece)
                await spool.append(piece)
            if left:
                raise UpstreamError(
                    Reason.HTTP_RESPONSE_INCOMPLETE, host, "fewer bytes than announced", before_head=False
                )
            spool.finish()
        except (UpstreamError, ClientGone) as error:
            spool.fail(error)
        finally:
            if not spool.is_finished:
                spool.fail(_terminated(host, "the fetch was given up"))
            response.close()
            name = task_name(assembly.key)
            await asyncio.shield(self._keeping.spawn(name, self._settle(assembly, part, writer)))

    async def _settle(self, assembly: Assembly, part: Part, writer: BodyWriter | None) -> None:
        """The end of a fetch, however it came: keep what has arrived."""
        try:
            if writer is not None and not assembly.is_doomed:
                async with assembly.keeping:
                    await self._keep(assembly, part, writer)
        finally:
            if writer is not None:
                writer.abort()
            self._end(assembly, part)
            part.spool.close()

    async def _keep(self, assembly: Assembly, part: Part, writer: BodyWriter) -> None:
        spool, stored = part.spool, assembly.stored
        if assembly.is_doomed or assembly.is_committed:
            return
        is_whole = spool.is_finished and part.start == 0 and part.end in (None, stored.length)
        if is_whole and part.promised is not None and is_wrong(assembly.key, part.promised[1]):
            return
        if is_whole and not assembly.held:
            assembly.is_committed = True
            candidate = await writer.commit(stored, spool.whole())
            if part.promised is not None and candidate is not None:
                await self.known.add(*part.promised, candidate)
            return
        if not spool.received or not (is_whole or assembly.is_resumable):
            return
        if is_whole:
            # Parts of it were published already, under the same entry.
            assembly.stored = stored._replace(length=spool.received)
        count = await writer.flush()
        if not count or assembly.is_doomed:
            return
        held = union(assembly, Slice(part.start, part.start + count))
        stored = assembly.stored
        is_complete = stored.length is not None and covers(held, Slice(0, stored.length))
        candidate = await self._parts.store.keep_part(stored._replace(held=None if is_complete else held))
        if candidate is None or (is_complete and not await self.known.has_its_digests(candidate)):
            return
        assembly.held, assembly.body, assembly.is_committed = held, candidate.body, is_complete

    def _unread(self, assembly: Assembly, part: Part) -> None:
        spool = part.spool
        if part.task is None or spool.is_finished or spool.has_failed:
            return
        # What is not stored is of no use to anybody later.
        is_kept = spool.is_kept and not assembly.is_doomed
        requests = part.requests(self._parts.store, assembly.stored)
        if not is_kept or not worth_finishing(spool.received, spool.length, requests, self._parts.abandon):
            part.task.cancel()

    # gaps

    def fetch_part(self, assembly: Assembly, start: int, end: int | None, plan: Plan) -> Part:
        """Fetch bytes `start` to `end` of what `assembly` holds the rest of."""
        part = self._part(plan, assembly, start, end, keep_bytes=0)
        part.task = self._tasks.spawn(task_name(plan.key), self._run_part(assembly, part, plan))
        return part

    async def _run_part(self, assembly: Assembly, part: Part, plan: Plan) -> None:
        response: UpstreamResponse | None = None
        outcome: FlightOutcome | None = None
        try:
            assert plan.again is not None
            request = plan.again()
            request.fields = combining.part_fields(request.fields, assembly.stored, part.start, part.end)
            response = await self._parts.upstream.fetch(request)
            verdict = combining.judge(assembly.stored, part.start, part.end, response.head)
            if isinstance(verdict, combining.Joins):
                writer = self._join(assembly, part, plan, response, verdict)
                filling, response = response, None
                part.judged.set_result(None)
                await self._fill(assembly, part, filling, writer)
                return
            log.info("%s: a part does not join what is stored: %s", task_name(plan.key), verdict.why)
            self._end(assembly, part)
            if response.head.status in (200, 206, 416):
                # What is there cannot be completed any more: nobody may try again and again.
                assembly.is_obsolete = True
                if verdict.is_other:
                    self._lost(assembly)
                self._withdraw(assembly)
            outcome = self._instead(plan, part, response)
            if not isinstance(outcome, Restart):
                response = None
        except CacheproxyError as error:
            outcome = Failed(error)
        finally:
            given_up = _terminated(assembly.host, "the origin has another version of what was begun")
            if not part.judged.done():
                part.judged.set_result(Failed(given_up) if outcome is None else outcome)
            part.spool.fail(outcome.error if isinstance(outcome, Failed) else given_up)
            self._end(assembly, part)
            part.spool.close()
            if response is not None:
                response.close()

    def _join(
        self,
        assembly: Assembly,
        part: Part,
        plan: Plan,
        response: UpstreamResponse,
        verdict: combining.Joins,
    ) -> BodyWriter | None:
        part.end = verdict.part.end
        update = may_update(plan.request, response.head, is_private_connection=response.is_private_connection)
        stored = assembly.stored
        if update is Update.APPLY:
            # RFC 9111 §3.4: the fields of the newest part hold for all.
            stored = merge(stored, response.head, response.timing, self._parts.caching)
        elif update is Update.DROP:
            self._parts.store.invalidate(assembly.key)
            self.invalidate(assembly.key)
        if stored.length is None and verdict.complete is not None:
            stored = stored._replace(length=verdict.complete)
        part.is_shared = update is Update.APPLY and not response.is_private_connection
        writer = None
        if part.is_shared and not assembly.is_doomed:
            writer = self._parts.store.begin(stored, stored.length, start=part.start, is_part=True)
            if writer is not None and not stored.entry_id:
                stored = stored.with_body(writer.entry_id, writer.body_id, stored.length)
        assembly.stored = stored
        part.spool.begin(writer, part.end - part.start)
        return writer

    def _instead(self, plan: Plan, part: Part, response: UpstreamResponse) -> FlightOutcome:
        """What a response that does not join becomes; it counts only for somebody who has sent no head yet."""
        if not part.is_awaited:
            return Restart(discard=False)
        if response.head.status in (206, 416):
            return Restart(discard=True)
        verdict = storing.decide(
            plan.request, plan.asked, response.head, response.timing, self._parts.caching, plan.key
        )
        if isinstance(verdict, Store) and not response.is_private_connection:
            return self.start(plan, response, verdict)
        reason = Reason.AUTHORIZATION if isinstance(verdict, Store) else verdict.reason
        return Private(response, reason, plan.asked_for)
