"""The parse memo: equal bytes always parse the same, so what has been parsed once is looked up.

It holds facts of the grammar only, never a verdict: whether a request is allowed or answered is nothing
that its bytes decide. It learns only from whole requests without a body that the full parser accepts.
"""

from __future__ import annotations

from array import array
from typing import Any, Generic, TypeVar

from cacheproxy.caching.facts import FieldFacts, says_nothing
from cacheproxy.caching.key import cache_key
from cacheproxy.errors import ClientError, SyntaxFault
from cacheproxy.http.framing import request_framing
from cacheproxy.http.head import (
    LINE_NAMES,
    HeadLimits,
    check_host_value,
    parse_request_line,
    plain_field_names,
    split_plain_fields,
    with_target,
)
from cacheproxy.http.message import Fields, RequestHead
from cacheproxy.http.uri import Origin, parse_absolute
from cacheproxy.server.prebuilt import Prebuilt

_END = b"\r\n\r\n"
_NAMES = LINE_NAMES.findall
# A head longer than this is unlikely to come again, and would push out many that do.
_LONGEST_BYTES = 8 * 1024
_METHODS = frozenset({"GET", "HEAD"})
_NO_FIELDS = Fields()
_VERSION = " HTTP/1.1"
_BARE = RequestHead("GET", "*", (1, 1), _NO_FIELDS)

_WAYS = 4
_LAST_GROUP = 4095
_HOST = (b"Host", b"host")
_STAYING = {name: b"\r\n%b: keep-alive\r\n" % name for name in (b"connection", b"proxy-connection")}
_MAX_MUTE = 1024
_LONGEST_MUTE = 64

V = TypeVar("V")


class LineFacts:
    """A request line `GET|HEAD absolute-form HTTP/1.1|1.0`: its head, which has no fields, and the cache key."""

    __slots__ = ("admitted_by", "head", "is_get", "is_old", "key", "origin", "ready", "route")

    def __init__(self, head: RequestHead) -> None:
        assert head.target is not None
        self.head = head
        self.key = cache_key(head.target)
        self.origin: Origin = head.target.origin
        self.is_get = head.method == "GET"
        self.is_old = head.version < (1, 1)
        """Whether it is of HTTP/1.0: the connection persists only if the fields say so."""
        self.admitted_by: object = None
        """The rules that let requests go to this origin."""
        self.ready: Prebuilt | None = None
        """The last answer of the hot path, which knows whether it still is one."""
        self.route: Any = None
        """What the engine keeps of where such requests go."""


class BoundedMemo(Generic[V]):
    """A dict within `limit_bytes`, in two generations: what is not used while one fills up is forgotten."""

    __slots__ = ("_base", "_factor", "_limit", "_seen", "_size", "_turn", "old", "young")

    def __init__(self, limit_bytes: int, base: int, factor: int) -> None:
        self.young: dict[bytes, V] = {}
        self.old: dict[bytes, V] = {}
        # Hashes, each in the group that its low bits say: one line of the processor's cache is all that an offer touches.
        self._seen = array("q", bytes(8 * _WAYS * (_LAST_GROUP + 1)))
        self._turn = 0
        self._size = 0
        self._limit = limit_bytes // 2
        # What Python spends on an entry, measured roughly: `base` bytes and `factor` for each of its key's.
        self._base = base
        self._factor = factor

    def get(self, key: bytes) -> V | None:
        """The value, kept for another generation."""
        found = self.young.get(key)
        if found is None:
            found = self.old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: bytes, value: V) -> None:
        """Remember."""
        self._size += self._base + self._factor * len(key)
        if self._size > self._limit:
            self.old, self.young = self.young, {}
            self._size = self._base + self._factor * len(key)
        self.young[key] = value

    def offer(self, key: bytes, value: V) -> None:
        """Remember at the second offer: what comes once only must not push out what comes again."""
        if self.has_seen(key):
            self.put(key, value)

    def has_seen(self, key: bytes) -> bool:
        """Whether this was asked, or something offered, for the same key a while ago."""
        mark, seen = hash(key), self._seen
        first = (mark & _LAST_GROUP) * _WAYS
        if mark in seen[first : first + _WAYS]:
            return True
        # Whose turn it is has nothing to do with the key: those that come round and round do not always hit each other.
        self._turn = turn = (self._turn + 1) % _WAYS
        seen[first + turn] = mark
        return False

    def __len__(self) -> int:
        return len(self.young) + len(self.old)


class ParseMemo:
    """Request lines and field blocks of one process; together within `limit_bytes`."""

    def __init__(self, limits: HeadLimits, limit_bytes: int) -> None:
        self._limits = limits
        self.longest = min(_LONGEST_BYTES, limits.head_bytes)
        self.lines: BoundedMemo[LineFacts] = BoundedMemo(limit_bytes // 2, 800, 4)
        self.blocks: BoundedMemo[FieldFacts] = BoundedMemo(limit_bytes // 2, 2000, 6)
        self._mute: set[bytes] = set()
        # First lines whose Host is good.
        self._hosts: set[bytes] = set()
        self._last: tuple[bytes, LineFacts, FieldFacts] | None = None
        self.lookups = 0
        self.misses = 0

    @property
    def hits(self) -> int:
        """Look-ups that found both the line and the fields."""
        return self.lookups - self.misses

    def known_head(self, data: bytes) -> RequestHead | None:
        """The head of a request in `data`, empty line included, if both its parts are known."""
        if self._last is not None and data == self._last[0]:
            # What the hot path has just parsed and would not answer.
            return self._last[1].head.with_fields(self._last[2].received)
        at = data.find(b"\r\n") + 2
        line, facts = self.lines.get(data[:at]), self.blocks.get(data[at:])
        return None if line is None or facts is None else line.head.with_fields(facts.received)

    def note_mute(self, block: bytes) -> bool:
        """Note that a request came with the fields of `block`, for `learn` to remember them when they come again.

        Whether it was for the first time, they say nothing, and they end the request. Nobody who sends new fields
        each time should notice: this takes no more steps than the names need.
        """
        names = _NAMES(block)
        count = len(names)
        if (
            not 0 < count <= self._limits.fields
            or block.count(b"\n") != count + 1
            or not block.endswith(_END)
            or len(block) > self._limits.field_bytes
        ):
            return False
        is_known_host = block[: block.index(b"\r")] in self._hosts
        del names[0]
        try:
            if not (is_known_host and self._mute.issuperset(names)) and not self._is_mute(block):
                return False
        except ClientError:
            return False
        return not self.blocks.has_seen(block)

    def learn(
        self,
        data: bytes,
        block: bytes,
        line: LineFacts | None = None,
        facts: FieldFacts | None = None,
    ) -> tuple[LineFacts, FieldFacts] | None:
        """Parse and remember what is not known yet: exactly one whole request without a body, else None.

        `block` is what follows the first line of `data`.
        """
        if not self._is_whole(data):
            return None
        first = data[: len(data) - len(block)]
        try:
            new_line = self._parse_line(first[:-2]) if line is None else line
            new_facts = self._parse_block(block) if facts is None else facts
        except ClientError:
            return None
        if new_line is None or new_facts is None:
            return None
        # Only now: neither half is remembered of a request that is refused for the other.
        if line is None:
            self.lines.offer(first, new_line)
        if facts is None:
            self.blocks.offer(block, new_facts)
        self._last = data, new_line, new_facts
        return new_line, new_facts

    def _is_whole(self, data: bytes) -> bool:
        return data.find(_END) == len(data) - len(_END) and len(data) <= self.longest

    def _parse_line(self, raw: bytes) -> LineFacts | None:
        line = raw.decode("latin-1")
        if line.startswith("GET http") and line.endswith(_VERSION) and len(raw) <= self._limits.target_bytes:
            # As below; that the target has no white space is for its own parser to see.
            text = line[len("GET ") : -len(_VERSION)]
            try:
                return LineFacts(RequestHead("GET", text, (1, 1), _NO_FIELDS, parse_absolute(text)))
            except SyntaxFault:
                return None
        method, target, version = parse_request_line(line, self._limits)
        head = with_target(RequestHead(method, target, min(version, (1, 1)), _NO_FIELDS))
        if method not in _METHODS or head.version < (1, 0) or head.target is None:
            return None
        return LineFacts(head)

    def _parse_block(self, raw: bytes) -> FieldFacts | None:
        if self._is_mute(raw):
            return FieldFacts(raw)
        if plain_field_names(raw, self._limits) is None:
            return None
        fields = split_plain_fields(raw[:-2].decode("latin-1"))
        hosts = fields.all("host")
        if len(hosts) != 1:
            return None
        check_host_value(hosts[0])
        if not request_framing(_BARE.with_fields(fields)).is_empty:
            return None
        return FieldFacts(raw, fields)

    def _is_mute(self, block: bytes) -> bool:
        """Whether these are good lines, a Host first, of which none says anything. Raises ClientError."""
        names = plain_field_names(block, self._limits)
        if names is None or names[0] not in _HOST:
            return False
        del names[0]
        if not self._mute.issuperset(names) and not self._are_mute(names, block):
            return False
        host = block[: block.index(b"\r")]
        if host not in self._hosts:
            check_host_value(host[len("host:") :].decode("latin-1").strip(" \t"))
            if len(self._hosts) >= _MAX_MUTE:
                self._hosts.clear()
            if len(host) <= _LONGEST_MUTE:
                self._hosts.add(host)
        return True

    def _are_mute(self, names: list[bytes], block: bytes) -> bool:
        """Whether none of these fields says anything; names that do not are remembered as they are sent."""
        names = [name for name in names if name not in self._mute]
        speaking = [name for name in names if not says_nothing(name.decode("latin-1").lower())]
        if speaking:
            # Nearly every client of a proxy says that it will stay, which it does anyhow.
            lines = block.lower()
            staying = sum([lines.count(line) for line in _STAYING.values()])
            if staying != len(speaking) or not {name.lower() for name in speaking} <= _STAYING.keys():
                return False
        if len(self._mute) + len(names) > _MAX_MUTE:
            self._mute.clear()
        self._mute.update(name for name in names if len(name) <= _LONGEST_MUTE and name not in speaking)
        return True
