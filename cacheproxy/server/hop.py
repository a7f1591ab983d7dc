"""The owner's end of a request that came to another worker: an exchange like any other, counted there.

Plain ones take the direct path here too, hits in memory among them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from cacheproxy.engine.hop import HOP_FIELD, OwnersEnd
from cacheproxy.engine.streams import close_stream
from cacheproxy.errors import CacheproxyError, ClientGone
from cacheproxy.http.codings import content_codings
from cacheproxy.http.dates import format_date
from cacheproxy.http.message import ResponseHead
from cacheproxy.ports import Affinity, Answer, Candidate, Clock, Closable, Exchange
from cacheproxy.server.direct import DirectReply
from cacheproxy.server.failures import answer_to, kind_of, status_of
from cacheproxy.server.hot_path import Plain, Verdict
from cacheproxy.server.hot_ports import DirectStart, HotStore
from cacheproxy.server.outlet import Outlet
from cacheproxy.server.parse_memo import ParseMemo
from cacheproxy.server.replies import Client, Replies
from cacheproxy.server.variants import choose_variant

_FIELD = f"{HOP_FIELD}: ".encode()


class _Closing:
    """A body after which the upstream connections of its one exchange are closed."""

    def __init__(self, stream: AsyncIterator[bytes], affinity: Affinity) -> None:
        self._stream = stream
        self._affinity = affinity

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._stream)

    async def aclose(self) -> None:
        await close_stream(self._stream)
        self._affinity.close()


class HopHandler:
    """Answers exchanges on a worker's Unix socket, whose connections carry one client's request after another's."""

    def __init__(self, handle: Callable[[Exchange], Awaitable[Answer]], end: OwnersEnd, clock: Clock) -> None:
        self._handle = handle
        self._end = end
        self._clock = clock

    async def __call__(self, exchange: Exchange) -> Answer:
        """The answer for the other worker. Raises ClientGone."""
        self._end.arrived(exchange)
        # Nothing of a client's may stay with a connection that serves others next (RFC 4559).
        exchange.affinity = affinity = Affinity()
        try:
            answer = await self._handle(exchange)
        except ClientGone:
            raise
        except CacheproxyError as error:
            exchange.record.reason = kind_of(error)
            if status_of(error) in (403, 405):
                exchange.record.tag = "TCP_DENIED"
            answer = answer_to(error, exchange.head, format_date(self._clock.wall()))
        if not affinity.pinned:
            pass
        elif answer.stream is None:
            affinity.close()
        else:
            answer.stream = _Closing(answer.stream, affinity)
        return self._end.leaves(exchange, answer)


class HopAhead:
    """Implements `server.hot_path.Ahead` for another worker's requests: sees which are plain, answers none."""

    def __init__(self, memo: ParseMemo) -> None:
        self.memo = memo

    def answer(self, data: bytes, verdict: Verdict, outlet: Outlet) -> Plain | bool:
        """What the direct path needs of a request that is the hop's field and a client's own lines."""
        at = data.find(b"\r\n") + 2
        if outlet.is_paused or not data.startswith(_FIELD, at):
            return False
        end = data.find(b"\r\n", at) + 2
        memo = self.memo
        line, facts = memo.lines.get(data[:at]), memo.blocks.get(data[end:])
        is_known = line is not None and facts is not None
        if line is None or facts is None:
            learnt = memo.learn(data[:at] + data[end:], data[end:], line, facts)
            if learnt is None:
                return False
            line, facts = learnt
        is_simple = facts.is_simple and not facts.says_close and not line.is_old
        return (line, facts, is_known, False) if is_simple and HOP_FIELD not in facts.received else False


class HopReply(DirectReply):
    """The answer to another worker: with what it must know, and a copy of the head where it may keep one."""

    __slots__ = ("_end", "_own", "_store")

    def __init__(self, replies: HopReplies, to: Client, plain: Plain, data: bytes, verdict: Verdict) -> None:
        super().__init__(replies, to, plain, data, verdict)
        self._end = replies.end
        self._store = replies.store
        # Nothing of a client's may stay with a connection that serves others next (RFC 4559).
        self._own = Affinity()

    @property
    def affinity(self) -> Affinity:
        """The upstream connections that are this request's alone."""
        return self._own

    def start(self) -> bool:
        """Answer with what is stored, or begin; False where the request is for the ordinary path."""
        key = self._plain[0].key
        found = self._store.find(key)
        if not found and not self._store.is_absent(key):
            found = self._store.find_on_disk(key) or ()
        if not found:
            return super().start()
        self._to.inlet.hold()
        if self.from_store(found):
            return True
        self._to.inlet.let_go()
        # What is on disk may come by the thread.
        return any(one.body.whole() is None for one in found) and super().start()

    def from_store(self, found: Sequence[Candidate]) -> bool:
        """Answer with what is stored, and lend it."""
        line, facts, *_ = self._plain
        candidate: Candidate | None = found[0]
        if candidate is not None and (len(found) > 1 or candidate.stored.nominated):
            candidate = choose_variant(found, facts)
        if candidate is None or not facts.is_plain:
            return False
        stored = candidate.stored
        if stored.asked_for and not facts.reads(content_codings(stored.fields) or ("",)):
            return False
        body = candidate.body.at_once()
        if body is None:
            return False
        candidate = Candidate(stored, body, candidate.tier, candidate.prepared)
        done = self._store.answer(candidate, line.head.with_fields(facts.fields), self._replies.clock.wall())
        if done is None:
            return False
        answer, found_out = done
        record = self.record()
        record.reason, record.tag = found_out.reason, found_out.tag
        self._store.touch(candidate.stored)
        self.answer(answer)
        return True

    def answer(self, answer: Answer) -> None:
        """The whole answer."""
        super().answer(self._end.answered(self.record(), answer, self._plain[0].key))

    def open(self, head: ResponseHead, length: int | None) -> None:
        """The answer's head."""
        super().open(self._end.told(self.record(), head), length)

    def ordinary(self, begun: Closable | None) -> None:
        """Leave the request to the connection's task; connections of this one's own end with the fetch `begun`."""
        self._own.is_closed = True
        super().ordinary(begun)

    def _close(self) -> None:
        super()._close()
        self._own.close()


class HopReplies(Replies):
    """Begins replies to another worker's requests."""

    def __init__(
        self, start: DirectStart, store: HotStore, end: OwnersEnd, clock: Clock, write_s: float
    ) -> None:
        super().__init__(None, start, clock, write_s)
        self.store = store
        self.end = end

    def begin(self, to: Client, plain: Plain, data: bytes, verdict: Verdict) -> DirectReply | None:
        """As `DirectReplies.begin`."""
        reply = HopReply(self, to, plain, data, verdict)
        return reply if reply.start() else None
