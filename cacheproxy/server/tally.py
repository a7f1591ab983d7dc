"""What the hot path has answered, until it is counted, logged and noted as used: together that costs half."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from cacheproxy.caching.entry import StoredResponse
from cacheproxy.server.hot_ports import Answered
from cacheproxy.server.prebuilt import Prebuilt

_COUNT_S = 0.01
# Uses are noted in so many times `_COUNT_S`: what is used again in the meantime costs nothing more.
_NOTED_IN = 64
_NOTED_AT_LEAST = 8
_MAX_UNSETTLED = 4096


class Tally:
    """`tallied` counts and logs what was answered; `touch` notes so many uses of a stored response."""

    def __init__(
        self,
        tallied: Callable[[Sequence[Answered]], None],
        touch: Callable[[StoredResponse, int], None],
    ) -> None:
        self._tallied = tallied
        self._touch = touch
        self._loop = asyncio.get_running_loop()
        # What was answered with, once each.
        self._used: deque[tuple[Prebuilt, StoredResponse]] = deque()
        self.ended: list[Answered] = []
        """What was answered. Whoever appends sees to it that the timer runs."""
        self.is_timed = False

    def add(self, prebuilt: Prebuilt, stored: StoredResponse | None, answered: Answered) -> None:
        """An answer was given, with `stored`."""
        # As `count_soon`: this is called for every hit on disk.
        if not self.is_timed:
            self.start_timer()
        elif len(self.ended) >= _MAX_UNSETTLED:
            self.count()
        self.ended.append(answered)
        if prebuilt.uses:
            prebuilt.uses += 1
        elif prebuilt.stored is not None:
            self.note_soon(prebuilt)
        elif stored is not None:
            # It has been cleared meanwhile.
            self._touch(stored, 1)

    def count_soon(self, answered: Answered) -> None:
        """An answer was given: what of it is counted and logged."""
        if not self.is_timed:
            self.start_timer()
        elif len(self.ended) >= _MAX_UNSETTLED:
            self.count()
        self.ended.append(answered)

    def start_timer(self) -> None:
        """Count soon."""
        self.is_timed = True
        self._loop.call_later(_COUNT_S, self._due)

    def _due(self) -> None:
        self.is_timed = False
        self.count()
        # All of a second's at once would hold everybody up.
        self._note_uses(len(self._used) // _NOTED_IN + _NOTED_AT_LEAST)
        if self._used:
            self.start_timer()

    def count(self) -> None:
        """Count and log what was answered since."""
        if self.ended:
            ended, self.ended = self.ended, []
            self._tallied(ended)

    def note_soon(self, prebuilt: Prebuilt) -> None:
        """It has answered for the first time since its uses were noted."""
        prebuilt.uses = 1
        if prebuilt.stored is not None:
            self._used.append((prebuilt, prebuilt.stored))
            if len(self._used) > _MAX_UNSETTLED:
                self._note_uses(1)

    def _note_uses(self, count: int) -> None:
        for _ in range(min(count, len(self._used))):
            prebuilt, stored = self._used.popleft()
            uses, prebuilt.uses = prebuilt.uses, 0
            self._touch(stored, uses)

    def settle(self) -> None:
        """Count, log and note as used, now, what was answered since."""
        self.count()
        self._note_uses(len(self._used))
