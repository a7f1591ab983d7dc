"""A prebuilt answer: the ordinary answer's head, cut at the two numbers that time changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cacheproxy.caching.age import current_age
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.facts import FieldFacts
from cacheproxy.caching.reuse import remaining_lifetime
from cacheproxy.http.message import RequestHead
from cacheproxy.http.ranges import parse_content_range
from cacheproxy.ports import Answer, BodySource, Candidate, ExchangeRecord
from cacheproxy.server.answer_head import wants_keep_alive, wire_head
from cacheproxy.server.hot_ports import HotStore

_AGE = re.compile(rb"\r\nage: ([0-9]+)(?=\r\n)", re.IGNORECASE)
_STATUS = b"\r\nCache-Status: cacheproxy; hit; ttl="
_TTL = re.compile(rb"([0-9]+)(?=[;\r])")


Pieces = tuple[bytes, bytes, bytes]
"""A head cut at the two numbers that time changes, Age and ttl."""


class Prebuilt:
    """Valid for `begin <= now < end`; `renew` makes it valid again while the response is fresh.

    Once `link`ed it is all that such a request needs: thousands of responses do not fit into a processor's cache,
    and each further object that a hit has to look at costs more than what is done with it.
    """

    __slots__ = (
        "_pieces",
        "begin",
        "body",
        "end",
        "facts",
        "has_body",
        "head",
        "is_for_all",
        "note",
        "on_disk",
        "part",
        "rules",
        "stored",
        "uses",
    )

    def __init__(
        self, pieces: Pieces, has_body: bool, part: tuple[int, int] | None, stored: StoredResponse, note: Any
    ) -> None:
        """`part` is the slice of the stored body that is sent (None: all), where it `has_body`."""
        self._pieces = pieces
        self.stored: StoredResponse | None = stored
        self.has_body = has_body
        self.part = part
        self.note = note
        self.head = b""
        self.begin = self.end = 0.0
        self.uses = 0
        """Answers that eviction does not know of yet."""
        self.facts: FieldFacts | None = None
        """The last fields it was linked for, if they came before; it answers them while `rules` are in force."""
        self.is_for_all = False
        """Whether it answers all plain fields, while linked."""
        self.rules: object = None
        self.body = b""
        """The stored body, while linked and in memory."""
        self.on_disk: BodySource | None = None
        """The same, while linked and on disk."""

    def link(
        self, facts: FieldFacts | None, rules: object, body: BodySource | None, *, is_for_all: bool
    ) -> None:
        """A GET with these fields, or with any plain ones, need not be looked up: the rules admit its origin.

        `body` None: there is none.
        """
        self.facts, self.rules, self.is_for_all = facts, rules, is_for_all
        content = b"" if body is None else body.whole()
        self.body, self.on_disk = (b"", body) if content is None else (content, None)

    def unlink(self) -> None:
        """Undo `link`: there is more than one response to choose from."""
        self.facts, self.rules, self.is_for_all = None, None, False
        self.body, self.on_disk = b"", None

    def clear(self) -> None:
        """`unlink`, and hold nothing: it is no longer stored, and request lines that are remembered still lead here."""
        self.unlink()
        self.stored = self.note = None
        self._pieces = b"", b"", b""
        self.head = b""

    def renew(self, now: float) -> bool:
        """Write the numbers of `now`; False where the response is no longer fresh, or is gone."""
        stored = self.stored
        if stored is None:
            return False
        before, between, after = self._pieces
        age = current_age(stored, now)
        remaining = remaining_lifetime(stored, now)
        if remaining <= 0:
            return False
        self.head = b"%b%d%b%d%b" % (before, age, between, remaining, after)
        self.begin = now
        # Until the next of the two numbers changes.
        self.end = now + min(1 - age % 1, remaining % 1)
        return True


def build(
    store: HotStore,
    prepare: Callable[[ExchangeRecord], Any],
    candidate: Candidate,
    request: RequestHead,
    received: RequestHead,
    now: float,
) -> Prebuilt | None:
    """The answer of `store` to a request, which was `received` with what it says of the connection.

    None where it cannot be given again.
    """
    done = store.answer(candidate, request, now)
    if done is None:
        return None
    answer, record = done
    goes_on = wants_keep_alive(received)
    head = wire_head(answer, received, may_keep_alive=goes_on)
    if head.chunked or head.keep_alive is not goes_on:
        return None
    # The body is the entry's own: a copy would be memory that nobody counts.
    part = None
    if answer.head.status == 206:
        part = _part(answer, candidate.body.whole())
        if part is None:
            return None
    elif head.has_body and answer.content is not candidate.body.whole():
        return None
    pieces = _cut(head.data)
    return pieces and Prebuilt(pieces, head.has_body, part, candidate.stored, prepare(record))


def build_plain(
    store: HotStore, prepare: Callable[[ExchangeRecord], Any], candidate: Candidate, says: str, now: float
) -> Prebuilt | None:
    """`build` for a GET that says nothing; None where `build` may still do it.

    `says` is what the answer says of the connection, if anything.
    """
    done = store.plain_head(candidate, now)
    if done is None:
        return None
    (before, between, after), record = done
    if says:
        after = b"%b\r\nConnection: %b\r\n\r\n" % (after[: -len(b"\r\n\r\n")], says.encode("ascii"))
    return Prebuilt((before, between, after), True, None, candidate.stored, prepare(record))


def _cut(head: bytes) -> Pieces | None:
    """None where it has no Age of ours."""
    # The last one is ours, those before it the origin's.
    status_at = head.rfind(_STATUS)
    age, ttl = _AGE.search(head), _TTL.match(head, status_at + len(_STATUS)) if status_at >= 0 else None
    if age is None or ttl is None or age.end() > ttl.start():
        return None
    return head[: age.start(1)], head[age.end() : ttl.start(1)], head[ttl.end(1) :]


def _part(answer: Answer, whole: bytes | None) -> tuple[int, int] | None:
    value = answer.head.fields.only("content-range")
    sent = None if value is None else parse_content_range(value)
    if sent is None or whole is None or whole[sent.start : sent.end] != answer.content:
        return None
    return sent.start, sent.end
