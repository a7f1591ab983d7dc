"""Counters of what happened; `snapshot` is what `stats --json` shows. Never raises, never waits."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from cacheproxy.caching.response_facts import ResponseFacts
from cacheproxy.ports import ExchangeRecord, Usage
from cacheproxy.reasons import Reason

_HITS = frozenset(
    {
        Reason.HIT,
        Reason.STALE_WHILE_REVALIDATE,
        Reason.STALE_MAX_STALE,
        Reason.STALE_IF_ERROR,
        Reason.STALE_DISCONNECTED,
    }
)


_STATUS_CLASSES = ("none", *(f"{first}xx" for first in range(1, 10)))


class TallyLog(Protocol):
    """An access log that takes lines prepared ahead."""

    def prepare(self, exchange: ExchangeRecord | Missed) -> tuple[str, str]:
        """The parts of a line that stay the same."""

    def repeat(self, ended: Sequence[tuple[Repeated | Missed, str, float, int, float]]) -> None:
        """Add their lines: (what, client, at, bytes, seconds) each."""


@dataclass(slots=True)
class Repeated:
    """An exchange that happens again and again: what it counts as (reason, status), the two parts of its line.

    What is the same for many is one object for all of them: it stays in the processor's cache.
    """

    kind: tuple[str, str]
    before: str
    after: str


class Missed:
    """A plain miss, counted together with others: as much of an `ExchangeRecord` as its line needs, made for one."""

    __slots__ = ("after", "before", "content_type", "hierarchy", "kind", "status", "url")
    method = "GET"
    user = "-"
    tag = "TCP_MISS"
    is_aborted = False

    def __init__(self, url: str, facts: ResponseFacts, hierarchy: str) -> None:
        self.url = url
        self.status = status = facts.status
        self.content_type = facts.content_type
        self.hierarchy = hierarchy
        self.kind = _MISS_KINDS[status // 100]
        # As in `Repeated`, once the line is written.
        self.before = self.after = ""


@dataclass(slots=True)
class Counters:
    """Since the start. `origin_bytes` is all that came from origins, heads and aborted bodies included."""

    on_finished: Callable[[ExchangeRecord], None] | None = None
    log: TallyLog | None = None
    # Has those counted that happened before: the log keeps its order.
    catch_up: Callable[[], None] | None = None
    hot_answers: int = 0
    requests: int = 0
    hits: int = 0
    misses: int = 0
    revalidated: int = 0
    collapsed: int = 0
    errors: int = 0
    tunnels: int = 0
    aborted: int = 0
    client_bytes: int = 0
    origin_bytes: int = 0
    tunnel_bytes: int = 0
    store_failures: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)

    def origin_received(self, count: int) -> None:
        """Bytes came from an origin."""
        self.origin_bytes += count

    def client_sent(self, count: int) -> None:
        """Bytes went to a client."""
        self.client_bytes += count

    def tunnelled(self, up: int, down: int) -> None:
        """Bytes went through a tunnel."""
        self.tunnel_bytes += up + down

    def store_failed(self, what: str) -> None:
        """The store failed once."""
        self.store_failures += 1

    def finished(self, exchange: ExchangeRecord) -> None:
        """Sort an exchange into exactly one of tunnels, hits, revalidated, collapsed, errors, misses."""
        if self.catch_up is not None:
            self.catch_up()
        reason = exchange.reason
        word, status = _kind(reason, exchange.status // 100)
        self.reasons[word] += 1
        self.statuses[status] += 1
        if exchange.is_aborted:
            self.aborted += 1
        if exchange.tag == "TCP_TUNNEL" and exchange.status == 200:
            self.tunnels += 1
        else:
            self.requests += 1
            if reason is Reason.URI_MISS:
                self.misses += 1
            elif reason in _HITS:
                self.hits += 1
            elif reason is Reason.REVALIDATED:
                self.revalidated += 1
            elif reason is Reason.COLLAPSED:
                self.collapsed += 1
            elif "_" in reason or reason is Reason.ONLY_IF_CACHED:
                # The words of RFC 9209, and only those, are written with an underscore.
                self.errors += 1
            else:
                self.misses += 1
        if self.on_finished is not None:
            self.on_finished(exchange)

    def prepare(self, exchange: ExchangeRecord) -> Repeated:
        """A plain hit as `tallied` counts it."""
        before, after = ("", "") if self.log is None else self.log.prepare(exchange)
        return Repeated(_kind(exchange.reason, exchange.status // 100), sys.intern(before), after)

    missed = Missed
    """A plain miss as `tallied` counts it: the class itself, for each call more counts here."""

    def tallied(self, ended: Sequence[tuple[Repeated | Missed, str, float, int, float]]) -> None:
        """What `client_sent` and `finished` do, for plain hits and misses: (what, client, at, bytes, seconds)."""
        self.requests += len(ended)
        self.client_bytes += sum([one[3] for one in ended])
        misses = 0
        for (reason, status), times in Counter([one[0].kind for one in ended]).items():
            self.reasons[reason] += times
            self.statuses[status] += times
            if reason == Reason.URI_MISS:
                misses += times
        hits = len(ended) - misses
        self.hot_answers += hits
        self.hits += hits
        self.misses += misses
        if self.log is not None:
            if misses:
                prepare = self.log.prepare
                for one in ended:
                    what = one[0]
                    if isinstance(what, Missed):
                        what.before, what.after = prepare(what)
            self.log.repeat(ended)

    def snapshot(self, usage: Usage, uptime_s: float) -> dict[str, object]:
        """Everything as plain values; ratios are None while there is nothing to divide by."""
        saved = self.client_bytes - self.origin_bytes
        good = self.hits + self.revalidated + self.collapsed
        return {
            "requests": self.requests,
            "hits": self.hits,
            "misses": self.misses,
            "revalidated": self.revalidated,
            "collapsed": self.collapsed,
            "errors": self.errors,
            "aborted": self.aborted,
            "request_hit_ratio": good / self.requests if self.requests else None,
            "byte_hit_ratio": saved / self.client_bytes if self.client_bytes else None,
            "client_bytes": self.client_bytes,
            "origin_bytes": self.origin_bytes,
            "saved_bytes": saved,
            "tunnels": self.tunnels,
            "tunnel_bytes": self.tunnel_bytes,
            "memory_bytes": usage.memory_bytes,
            "memory_entries": usage.memory_entries,
            "disk_bytes": usage.disk_bytes,
            "disk_entries": usage.disk_entries,
            "disk_file_bytes": usage.disk_file_bytes,
            "hot_answers": self.hot_answers,
            "store_failures": self.store_failures,
            "reasons": dict(self.reasons),
            "statuses": dict(self.statuses),
            "uptime_s": round(uptime_s, 3),
        }


@cache
def _kind(reason: Reason, first: int) -> tuple[str, str]:
    return str(reason), _STATUS_CLASSES[first]


_MISS_KINDS = [_kind(Reason.URI_MISS, first) for first in range(len(_STATUS_CLASSES))]
