"""A prebuilt answer: the ordinary answer's head, cut at the two numbers that time changes."""

from __future__ import annotations

import re
from typing import Any

from cacheproxy.caching.age import current_age
from cacheproxy.caching.entry import StoredResponse
from cacheproxy.caching.reuse import remaining_lifetime

_AGE = re.compile(rb"\r\nage: ([0-9]+)(?=\r\n)", re.IGNORECASE)
_STATUS = b"\r\nCache-Status: cacheproxy; hit; ttl="
_TTL = re.compile(rb"([0-9]+)(?=[;\r])")


class Prebuilt:
    """Valid for `begin <= now < end`; `renew` makes it valid again while the response is fresh."""

    __slots__ = (
        "_after",
        "_before",
        "_between",
        "_stored",
        "begin",
        "end",
        "has_body",
        "head",
        "note",
        "part",
        "status",
    )

    def __init__(
        self,
        head: bytes,
        has_body: bool,
        part: tuple[int, int] | None,
        stored: StoredResponse,
        status: int,
        note: Any,
    ) -> None:
        """`part` is the slice of the stored body that is sent (None: all), where it `has_body`.

        Raises ValueError where `head` has no Age of ours.
        """
        # The last one is ours, those before it the origin's.
        status_at = head.rfind(_STATUS)
        age, ttl = _AGE.search(head), _TTL.match(head, status_at + len(_STATUS)) if status_at >= 0 else None
        if age is None or ttl is None or age.end() > ttl.start():
            raise ValueError("not the head of a hit")
        self._before = head[: age.start(1)]
        self._between = head[age.end() : ttl.start(1)]
        self._after = head[ttl.end(1) :]
        self._stored = stored
        self.has_body = has_body
        self.part = part
        self.status = status
        self.note = note
        self.head = head
        self.begin = self.end = 0.0

    def renew(self, now: float) -> bool:
        """Write the numbers of `now`; False where the response is no longer fresh."""
        age = current_age(self._stored, now)
        remaining = remaining_lifetime(self._stored, now)
        if remaining <= 0:
            return False
        self.head = b"%b%d%b%d%b" % (self._before, age, self._between, remaining, self._after)
        self.begin = now
        # Until the next of the two numbers changes.
        self.end = now + min(1 - age % 1, remaining % 1)
        return True
