"""The field of a hop between workers: what the client's connection knows goes to the owner in it, what the owner's
exchange found out comes back.

It is read only from Unix sockets, which only processes of this proxy can open.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.http.uri import TargetUri
from cacheproxy.ports import Answer, Exchange, ExchangeRecord, Store
from cacheproxy.reasons import Reason

HOP_FIELD = "cacheproxy-hop"


class SharedStore(Store, Protocol):
    """A store that lends copies, and keeps those of other workers' responses."""

    drops: int

    def lend(self, key: str, content: bytes) -> tuple[int, bytes] | None:
        """(entry id, head) of the response under `key` with that very body."""

    def keep_copy(self, key: str, entry_id: int, head: bytes, content: bytes, options: Any, drops: int) -> None:
        """Keep what was lent."""


@lru_cache(1024)
def question(client: str, version: tuple[int, int]) -> str:
    """The field's value on the way to the owner."""
    return _text({"client": client, "version": version})


class Told:
    """What an owner says of its exchange."""

    __slots__ = ("_known",)

    def __init__(self, head: ResponseHead) -> None:
        # The owner's own line is the only one: it removes any that an origin sent.
        values = head.fields.all(HOP_FIELD)
        self._known: dict[str, Any] = _read(values[0]) if len(values) == 1 else {}

    @property
    def must_close(self) -> bool:
        """Whether the client's connection cannot go on after the answer."""
        return self._known.get("close") is True

    @property
    def lent(self) -> tuple[int, bytes] | None:
        """The entry's id and its head, where the answer may be kept as a copy."""
        found = self._known.get("lent")
        return None if found is None else (found[0], base64.b64decode(found[1]))

    def fill(self, record: ExchangeRecord) -> None:
        """What the log and the counters of the client's worker will say."""
        known = self._known
        if "reason" in known:
            record.reason = Reason(known["reason"])
            record.tag, record.hierarchy = known["tag"], known["hierarchy"]
            record.was_collapsed = known["collapsed"]


class OwnersEnd:
    """The owner's end of a hop: takes the client's address out of the request, puts what happened into the answer."""

    def __init__(self, key_of: Callable[[TargetUri], str], store: SharedStore) -> None:
        self._key_of = key_of
        self._store = store

    def arrived(self, exchange: Exchange) -> None:
        """Make the exchange what it was for the client's worker."""
        (value,) = exchange.head.fields.all(HOP_FIELD)
        known = _read(value)
        fields = exchange.head.fields.without((HOP_FIELD,))
        major, minor = known["version"]
        exchange.head = exchange.head._replace(fields=fields, version=(major, minor))
        exchange.client = exchange.record.client = str(known["client"])

    def leaves(self, exchange: Exchange, answer: Answer) -> Answer:
        """The answer with what the client's worker must know."""
        target = exchange.head.target
        is_hit = exchange.record.reason is Reason.HIT and exchange.head.method == "GET" and target is not None
        return self.answered(exchange.record, answer, self._key_of(target) if is_hit and target else None)

    def answered(self, record: ExchangeRecord, answer: Answer, key: str | None) -> Answer:
        """The same; `key`: of the stored response, if a GET was answered with one."""
        more: dict[str, Any] = {}
        if answer.must_close:
            more["close"] = True
        if (
            key is not None
            and answer.stream is None
            and answer.head.status == 200
            and record.reason is Reason.HIT
        ):
            lent = self._store.lend(key, answer.content)
            if lent is not None:
                more["lent"] = [lent[0], base64.b64encode(lent[1]).decode("ascii")]
        answer.head = self.told(record, answer.head, **more)
        answer.must_close = False
        return answer

    @staticmethod
    def told(record: ExchangeRecord, head: ResponseHead, **more: Any) -> ResponseHead:
        """A head with what is known of its exchange now, and `more`."""
        value = _known(str(record.reason), record.tag, record.hierarchy, record.was_collapsed)
        if more:
            value = f"{value[:-1]},{_text(more)[1:]}"
        fields: Fields = head.fields
        if HOP_FIELD in fields:
            fields = fields.without((HOP_FIELD,))
        return head.with_fields(fields.plus((HOP_FIELD, value)))


@lru_cache(1024)
def _known(reason: str, tag: str, hierarchy: str, collapsed: bool) -> str:
    return _text({"reason": reason, "tag": tag, "hierarchy": hierarchy, "collapsed": collapsed})


def _text(known: dict[str, Any]) -> str:
    return json.dumps(known, separators=(",", ":"))


_LONGEST_KNOWN = 256


def _read(value: str) -> dict[str, Any]:
    # Few are short, and most are among them.
    return _read_short(value) if len(value) <= _LONGEST_KNOWN else _parse(value)


def _parse(value: str) -> dict[str, Any]:
    found = json.loads(value)
    return found if isinstance(found, dict) else {}


_read_short = lru_cache(1024)(_parse)
