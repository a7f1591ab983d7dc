"""The parse memo: equal bytes always parse the same, so what has been parsed once is looked up.

It holds facts of the grammar only, never a verdict: whether a request is allowed or answered is nothing
that its bytes decide. It learns only from whole requests without a body that the full parser accepts.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from cacheproxy.caching.facts import FieldFacts
from cacheproxy.caching.key import cache_key
from cacheproxy.errors import ClientError
from cacheproxy.http.framing import request_framing
from cacheproxy.http.head import (
    HeadLimits,
    check_host,
    parse_request_fields,
    parse_request_line,
    with_target,
)
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.http.uri import Origin

_END = b"\r\n\r\n"
# A head longer than this is unlikely to come again, and would push out many that do.
_LONGEST_BYTES = 8 * 1024
_METHODS = frozenset({"GET", "HEAD"})
_NO_FIELDS = Fields()

V = TypeVar("V")


class LineFacts:
    """A request line `GET|HEAD absolute-form HTTP/1.1`: the head without its fields, and the cache key."""

    __slots__ = ("head", "is_get", "key", "origin")

    def __init__(self, head: RequestHead) -> None:
        assert head.target is not None
        self.head = head.with_fields(_NO_FIELDS)
        self.key = cache_key(head.target)
        self.origin: Origin = head.target.origin
        self.is_get = head.method == "GET"


class BoundedMemo(Generic[V]):
    """A dict within `limit_bytes`, in two generations: what is not used while one fills up is forgotten."""

    __slots__ = ("_base", "_factor", "_limit", "_old", "_size", "young")

    def __init__(self, limit_bytes: int, base: int, factor: int) -> None:
        self.young: dict[bytes, V] = {}
        self._old: dict[bytes, V] = {}
        self._size = 0
        self._limit = limit_bytes // 2
        # What Python spends on an entry, measured roughly: `base` bytes and `factor` for each of its key's.
        self._base = base
        self._factor = factor

    def get(self, key: bytes) -> V | None:
        """The value, kept for another generation."""
        found = self.young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: bytes, value: V) -> None:
        """Remember."""
        self._size += self._base + self._factor * len(key)
        if self._size > self._limit:
            self._old, self.young = self.young, {}
            self._size = self._base + self._factor * len(key)
        self.young[key] = value

    def __len__(self) -> int:
        return len(self.young) + len(self._old)


class ParseMemo:
    """Request lines and field blocks of one process; each kind has half of `limit_bytes`."""

    def __init__(self, limits: HeadLimits, limit_bytes: int) -> None:
        self._limits = limits
        self.longest = min(_LONGEST_BYTES, limits.head_bytes)
        self.lines: BoundedMemo[LineFacts] = BoundedMemo(limit_bytes // 2, 800, 4)
        self.blocks: BoundedMemo[FieldFacts] = BoundedMemo(limit_bytes // 2, 2000, 6)
        self.lookups = 0
        self.misses = 0

    @property
    def hits(self) -> int:
        """Look-ups that found both the line and the fields."""
        return self.lookups - self.misses

    def known_head(self, data: bytes) -> RequestHead | None:
        """The head of a request in `data`, empty line included, if both its parts are known."""
        at = data.find(b"\r\n") + 2
        line = self.lines.get(data[:at])
        if line is None:
            return None
        facts = self.blocks.get(data[at:])
        return None if facts is None else line.head.with_fields(facts.received)

    def learn(self, data: bytes) -> tuple[LineFacts, FieldFacts] | None:
        """Look up, or parse and remember: exactly one whole request without a body, else None.

        The parts are parsed by the functions that `parse_request_head` is made of, in the same order.
        """
        if len(data) > self.longest or data.find(_END) != len(data) - len(_END):
            return None
        at = data.find(b"\r\n") + 2
        line, facts = self.lines.get(data[:at]), self.blocks.get(data[at:])
        if line is not None and facts is not None:
            return line, facts
        try:
            head = line.head if line is not None else self._line(data[: at - 2])
            if facts is None:
                block = data[at:-4].decode("latin-1")
                head = head.with_fields(parse_request_fields(block, self._limits))
                check_host(head)
                if not request_framing(head).is_empty:
                    return None
            if line is None:
                head = with_target(head)
                if head.method not in _METHODS or head.version != (1, 1) or head.target is None:
                    return None
        except ClientError:
            return None
        if facts is None:
            facts = FieldFacts(data[at:], head.fields)
            self.blocks.put(facts.raw, facts)
        if line is None:
            line = LineFacts(head)
            self.lines.put(data[:at], line)
        return line, facts

    def _line(self, raw: bytes) -> RequestHead:
        method, target, version = parse_request_line(raw.decode("latin-1"), self._limits)
        return RequestHead(method, target, min(version, (1, 1)), _NO_FIELDS)
