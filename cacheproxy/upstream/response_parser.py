"""Responses from bytes, without I/O: interim heads, the final head, pieces of body, the proven end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cacheproxy.caching.response_facts import ResponseFacts, facts_of
from cacheproxy.errors import SyntaxFault
from cacheproxy.http.chunked import ChunkedDecoder
from cacheproxy.http.framing import Framing, response_framing
from cacheproxy.http.head import HeadLimits, parse_response_head
from cacheproxy.http.message import ResponseHead
from cacheproxy.http.names import Names

RESPONSE_LIMITS = HeadLimits(field_bytes=32 * 1024, head_bytes=128 * 1024, fields=256)
MAX_INTERIM = 10


@dataclass(slots=True)
class Interim:
    """A 1xx head."""

    head: ResponseHead


@dataclass(slots=True)
class Final:
    """The final head, what it says, and how its body is framed."""

    head: ResponseHead
    facts: ResponseFacts
    framing: Framing


@dataclass(slots=True)
class Data:
    """A piece of body."""

    piece: bytes


@dataclass(slots=True)
class End:
    """The body is whole."""


Event = Interim | Final | Data | End
_END = End()


class Whole(NamedTuple):
    """All of a response at once; `framing` None: Content-Length says exactly as much as its content has."""

    head: ResponseHead
    facts: ResponseFacts
    content: bytes
    framing: Framing | None = None

    def events(self) -> list[Event]:
        """The same as events."""
        final = Final(self.head, self.facts, self.framing or Framing(len(self.content)))
        return [final, Data(self.content), _END] if self.content else [final, _END]


class Incomplete(SyntaxFault):
    """The connection ended before the message did."""


class ResponseParser:
    """One response at a time; `start()` before each. Raises SyntaxFault, after which it is of no more use."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._method = ""
        self._framing: Framing | None = None
        self._left = 0
        self._chunks: ChunkedDecoder | None = None
        self._interim = 0
        self._scanned = 0
        # The names of the last head that came at once.
        self._names: Names | None = None
        self.is_idle = True
        self.has_surplus = False

    def start(self, method: str) -> None:
        """Expect the response to a request of `method`."""
        self._method = method
        self._framing = None
        self._chunks = None
        self._interim = 0
        self._scanned = 0
        self.is_idle = False

    @property
    def has_begun(self) -> bool:
        """Whether any byte of the current response has arrived."""
        return self._framing is not None or bool(self._buffer) or self._interim > 0

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Bytes after the end set `has_surplus` and are dropped."""
        found = self.take(data)
        return found.events() if isinstance(found, Whole) else found

    def take(self, data: bytes) -> Whole | list[Event]:
        """The same; `Whole` where a response comes from its first byte to its last in `data`, as most do."""
        if self.is_idle:
            self.has_surplus = self.has_surplus or bool(data)
            return []
        if self._framing is not None:
            return self._body(data)
        events: list[Event] = []
        if not self._buffer and (end := data.find(b"\r\n\r\n")) != -1 and end <= RESPONSE_LIMITS.head_bytes:
            # The usual case: the head is here at once, and nothing needs to be kept.
            head = parse_response_head(data[:end], RESPONSE_LIMITS, self._names)
            names = head.fields.named
            self._names = None if names.is_long else names
            data = data[end + 4 :]
            facts = facts_of(head)
            if (
                facts.length_at >= 0
                and head.fields.value_at(facts.length_at) == str(len(data))
                and self._method == "GET"
            ):
                # And so is the body, to the last byte.
                self.is_idle, self.has_surplus = True, False
                return Whole(head, facts, data)
            event = self._judge(head, facts)
            if isinstance(event, Final):
                rest = self._after_head(event, data)
                if rest and rest[-1] is _END:
                    content = b"".join([one.piece for one in rest if isinstance(one, Data)])
                    return Whole(head, facts, content, event.framing)
                return [event, *rest]
            events.append(event)
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
            if end == -1:
                self._check_unfinished_head()
                return events
            if end > RESPONSE_LIMITS.head_bytes:
                raise SyntaxFault(f"the head is longer than {RESPONSE_LIMITS.head_bytes} bytes")
            raw = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            self._scanned = 0
            head = parse_response_head(raw, RESPONSE_LIMITS)
            event = self._judge(head, facts_of(head))
            events.append(event)
            if isinstance(event, Final):
                break
        left = bytes(self._buffer)
        self._buffer.clear()
        return events + self._after_head(event, left)

    def _after_head(self, event: Final, left: bytes) -> list[Event]:
        if event.framing.is_empty:
            events: list[Event] = []
            self._finish(left, events)
            return events
        return self._body(left) if left else []

    def _check_unfinished_head(self) -> None:
        size = len(self._buffer)
        self._scanned = size
        if size > RESPONSE_LIMITS.head_bytes:
            raise SyntaxFault(f"the head is longer than {RESPONSE_LIMITS.head_bytes} bytes")
        # Garbage must not be waited for: what does not begin like a response is refused at once.
        start = bytes(self._buffer[:5])
        if not b"HTTP/".startswith(start):
            raise SyntaxFault(f"not an HTTP response: {bytes(self._buffer[:40])!r}")
        if b"\n\n" in self._buffer:
            raise SyntaxFault("the head's lines do not end in CRLF")

    def _judge(self, head: ResponseHead, facts: ResponseFacts) -> Interim | Final:
        if head.status < 200:
            self._interim += 1
            if head.status == 101:
                raise SyntaxFault("101 Switching Protocols, which nobody asked for")
            if self._interim > MAX_INTERIM:
                raise SyntaxFault(f"more than {MAX_INTERIM} interim responses")
            return Interim(head)
        framing = response_framing(head.status, self._method, head.fields, head.version)
        self._framing = framing
        self._left = framing.length or 0
        if framing.chunked:
            self._chunks = ChunkedDecoder()
        return Final(head, facts, framing)

    def _body(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        framing = self._framing
        assert framing is not None
        if self._chunks is not None:
            events += [Data(piece) for piece in self._chunks.feed(data) if piece]
            if self._chunks.finished:
                self._finish(self._chunks.rest, events)
        elif framing.length is None:
            events.append(Data(data))
        else:
            piece = data if len(data) <= self._left else data[: self._left]
            self._left -= len(piece)
            if piece:
                events.append(Data(piece))
            if not self._left:
                self._finish(data[len(piece) :], events)
        return events

    def _finish(self, rest: bytes, events: list[Event]) -> None:
        self.has_surplus = bool(rest)
        self.is_idle = True
        events.append(_END)

    def feed_eof(self) -> list[Event]:
        """The connection has ended: the end of the body if that frames it, else Incomplete."""
        if self.is_idle:
            return []
        if self._framing is not None and self._framing.length is None and self._chunks is None:
            self.is_idle = True
            return [_END]
        if self._framing is None:
            raise Incomplete("the connection was closed before the response's head was complete")
        raise Incomplete("the connection was closed before the response's body was complete")
