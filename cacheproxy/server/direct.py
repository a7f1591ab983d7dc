"""The client's end of a request on the direct path: what a connection's task does, as calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from cacheproxy.caching.response_facts import ResponseFacts
from cacheproxy.errors import CacheproxyError
from cacheproxy.http.chunked import LAST_CHUNK, encode_chunk
from cacheproxy.http.message import ResponseHead
from cacheproxy.ports import Affinity, Answer, Candidate, Closable, ExchangeRecord
from cacheproxy.ports.direct import DirectExchange
from cacheproxy.reasons import Reason
from cacheproxy.server.answer_head import WireHead, framed_head
from cacheproxy.server.hot_path import CLOSE, Plain, Verdict, said_of_connection
from cacheproxy.server.replies import Client, Replies

log = logging.getLogger("cacheproxy")


class DirectReply:
    """One request of one client. `is_over` once it has its answer, or has been left to the ordinary path."""

    __slots__ = (
        "_answer",
        "_data",
        "_exchange",
        "_framed",
        "_is_ended",
        "_is_last",
        "_miss",
        "_owed",
        "_plain",
        "_record",
        "_replies",
        "_says",
        "_since",
        "_started_at",
        "_timer",
        "_to",
        "_verdict",
        "has_begun",
        "is_over",
    )

    def __init__(self, replies: Replies, to: Client, plain: Plain, data: bytes, verdict: Verdict) -> None:
        self._replies = replies
        self._to = to
        self._plain = plain
        self._data = data
        self._verdict = verdict
        self._started_at = replies.clock.wall()
        self._since = replies.clock.monotonic()
        # The whole answer, until it is sent.
        self._answer: bytes | None = None
        # What is counted once it is, in place of a record.
        self._miss: tuple[ResponseFacts, str] | None = None
        self._record: ExchangeRecord | None = None
        self._framed: WireHead | None = None
        self._exchange: DirectExchange | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_ended = False
        line, facts = plain[0], plain[1]
        # What the answer has to say of the connection.
        self._says = said_of_connection(line, facts) if line.is_old or facts.says_close else ""
        self._is_last = self._says == CLOSE
        self._owed: int | None = None
        self.has_begun = False
        """Whether something of the answer has been written."""
        self.is_over = False

    def start(self) -> bool:
        """Begin; False where the request is for the ordinary path."""
        line, facts, _, is_absent = self._plain
        to = self._to
        to.inlet.hold()
        self._exchange = self._replies.start.begin(line, facts, self.affinity, self, is_absent)
        if self._exchange is None:
            to.inlet.let_go()
        return self._exchange is not None

    # what the engine says

    @property
    def affinity(self) -> Affinity:
        """The upstream connections that are this client's alone."""
        return self._to.affinity

    @property
    def client(self) -> str:
        """The client's address."""
        return self._verdict.client

    @property
    def is_there(self) -> bool:
        """Whether there still is a client."""
        return not self.is_over

    def record(self) -> ExchangeRecord:
        """What the log and the counters will say."""
        if self._record is None:
            self._record = self._to.begin("GET", self._plain[0].key, (self._started_at, self._since, 0))
        return self._record

    def from_store(self, found: Sequence[Candidate]) -> bool:
        """Answer from what was found on disk, as for a memory hit."""
        line, facts, is_known, _ = self._plain
        elapsed_s = self._replies.clock.monotonic() - self._since
        hot = self._replies.hot
        if hot is not None and not self._to.outlet.is_paused:
            self.has_begun = bool(
                hot.answer_from(
                    found,
                    line,
                    facts,
                    self._verdict,
                    self,
                    is_known=is_known,
                    elapsed_s=elapsed_s,
                    says=self._says,
                )
            )
        return self.has_begun

    def write_hot(self, head: bytes, body: bytes) -> int:
        """Send a stored answer that the hot path will count; how many bytes it is."""
        return self._to.outlet.count_hot(self._send_soon(head + body))

    def _send_soon(self, answer: bytes) -> bytes:
        self._exchange = None
        self._is_ended = True
        self._answer = answer
        self._replies.cork.add(self)
        return answer

    def uncork(self) -> None:
        """Send the answer."""
        answer, self._answer = self._answer, None
        if answer is None or self.is_over:
            return
        outlet = self._to.outlet
        outlet.write_counted(answer)
        if self._miss is not None:
            if not outlet.is_paused:
                self._missed(outlet.count_hot(answer))
                return
            self._describe_miss()
            outlet.count(answer)
        if outlet.is_paused:
            self._watch()
        else:
            self._finish()

    def ordinary(self, begun: Closable | None) -> None:
        """Leave the request to the connection's task."""
        self.is_over = True
        sent = 0 if self._record is None else self._record.client_bytes
        self._to.left_to_task(begun, (self._started_at, self._since, sent))
        self._to.inlet.release(self._data)

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx head."""
        self.record()
        if not self._plain[0].is_old:
            self._to.send_interim(head)

    @property
    def takes_plain(self) -> bool:
        """Whether `pass_on` may end it."""
        return (
            self._record is None
            and self._replies.hot is not None
            and self._to.inlet.may_go_on
            and not self._says
        )

    def pass_on(self, answer: bytes, facts: ResponseFacts, hierarchy: str) -> None:
        """The whole answer, head and body, of a plain miss."""
        self.has_begun = self._is_ended = True
        self._miss = facts, hierarchy
        self._exchange = None
        self._answer = answer
        self._replies.cork.add(self)

    def _missed(self, count: int) -> None:
        """It is answered with so many bytes, and over."""
        miss, hot, to = self._miss, self._replies.hot, self._to
        assert miss is not None and hot is not None
        elapsed_s = self._replies.clock.monotonic() - self._since
        what = hot.missed(self._plain[0].key, *miss)
        hot.tally.count_soon((what, self._verdict.client, self._started_at + elapsed_s, count, elapsed_s))
        self._close()
        to.ended()
        to.inlet.release()

    def _describe_miss(self) -> None:
        """After all it is an exchange like others."""
        miss, self._miss = self._miss, None
        assert miss is not None
        record = self.record()
        facts, record.hierarchy = miss
        record.status, record.content_type = facts.status, facts.content_type
        record.reason, record.tag = Reason.URI_MISS, "TCP_MISS"

    def answer(self, answer: Answer) -> None:
        """The whole answer."""
        to, content = self._to, answer.content
        if answer.must_close:
            to.inlet.stop()
        keep = to.inlet.may_go_on and not self._is_last
        head = framed_head(answer.head, len(content), self._plain[0].head, may_keep_alive=keep)
        self._is_last = not head.keep_alive
        self._describe(answer.head)
        self.has_begun = True
        to.outlet.count(self._send_soon(head.data + content if head.has_body else head.data))

    def open(self, head: ResponseHead, length: int | None) -> None:
        """The answer's head."""
        keep = self._to.inlet.may_go_on and not self._is_last
        self._framed = framed = framed_head(head, length, self._plain[0].head, may_keep_alive=keep)
        self._is_last = not framed.keep_alive
        self._describe(head)
        self.has_begun = True
        self._to.outlet.write(framed.data)
        self._to.outlet.midway(framed.has_body)
        self._owed = length

    def _describe(self, head: ResponseHead) -> None:
        record = self._record or self.record()
        record.status = head.status
        record.content_type = head.fields.get("content-type") or "-"

    def piece(self, piece: bytes) -> bool:
        """A piece of body; False where the client is behind."""
        framed, outlet = self._framed, self._to.outlet
        assert framed is not None
        if self._owed is not None:
            self._owed -= len(piece)
            if self._owed <= 0:
                outlet.midway(False)
        if framed.has_body:
            outlet.write(encode_chunk(piece) if framed.chunked else piece)
        if outlet.is_paused:
            self._watch()
        return not outlet.is_paused

    def end(self) -> None:
        """The body is whole."""
        assert self._framed is not None
        if self._framed.chunked:
            self._to.outlet.write(LAST_CHUNK)
        self._when_drained()

    def break_off(self, error: CacheproxyError) -> None:
        """The body breaks off, visibly."""
        log.warning("an answer broke off after %d bytes: %s", self.record().client_bytes, error)
        self.record().is_aborted = True
        if self._framed is not None:
            self._to.outlet.break_off(self._framed)
        else:
            self._to.outlet.reset()
        self._to.inlet.stop()
        self._finish()

    # the end

    def _when_drained(self) -> None:
        self._exchange = None
        self._is_ended = True
        self._to.outlet.midway(False)
        if self._to.outlet.is_paused:
            # Until the client has caught up it gets no further answer.
            self._watch()
        else:
            self._finish()

    def _finish(self) -> None:
        self._close()
        if self._record is None:
            # The hot path counts it.
            self._to.ended()
        else:
            self._to.finish()
        if self._is_last:
            self._to.end_soon()
        else:
            self._to.inlet.release()

    def _close(self) -> None:
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # what the connection says

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._replies.write_s, self._stuck)

    def _stuck(self) -> None:
        self._timer = None
        self._to.outlet.reset()

    def resumed(self) -> None:
        """The client has caught up."""
        if self.is_over or self._answer is not None:
            # What is not sent yet looks itself, once it is.
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_ended:
            self._finish()
        elif self._exchange is not None:
            self._exchange.go_on()

    def lost(self) -> None:
        """The client has left."""
        if self._miss is not None:
            self._describe_miss()
        is_counted = self._is_ended and self._record is None
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None
        self._close()
        if is_counted:
            self._to.ended()
        else:
            self.record().is_aborted = True
            self._to.finish()


class DirectReplies(Protocol):
    """Begins replies to requests that nothing has answered yet."""

    def begin(self, to: Client, plain: Plain, data: bytes, verdict: Verdict) -> DirectReply | None:
        """The reply under way to the request `data`; None where that is for the ordinary path."""


class ClientReplies(Replies):
    """Begins replies to clients."""

    def begin(self, to: Client, plain: Plain, data: bytes, verdict: Verdict) -> DirectReply | None:
        """As `DirectReplies.begin`."""
        reply = DirectReply(self, to, plain, data, verdict)
        return reply if reply.start() else None
