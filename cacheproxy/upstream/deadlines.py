"""Deadlines of many waits under one timer: setting one costs an entry in a dict. They fall due up to a second late."""

from __future__ import annotations

import asyncio
from typing import Protocol

_EVERY_S = 0.5


class Watched(Protocol):
    """Something that waits."""

    def overdue(self) -> None:
        """Its deadline has passed, and is forgotten."""


class Deadlines:
    """Of one event loop. Close it at the end."""

    def __init__(self) -> None:
        self._due: dict[Watched, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        # Asking for the running loop is a system call each time (getpid, before Python 3.12).
        self._loop: asyncio.AbstractEventLoop | None = None
        # When the timer will look next: time enough for whoever looks no closer.
        self._next = 0.0

    def __len__(self) -> int:
        return len(self._due)

    def set(self, watched: Watched, seconds: float) -> None:
        """Call `watched.overdue` in `seconds`, in place of any earlier deadline of it."""
        if self._timer is None:
            self._start()
        self._due[watched] = self._next + seconds

    def _start(self) -> None:
        if self._timer is not None or self._is_closed:
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._next = self._loop.time() + _EVERY_S
        self._timer = self._loop.call_at(self._next, self._look)

    def forget(self, watched: Watched) -> None:
        """It waits no longer."""
        self._due.pop(watched, None)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for watched in [one for one, due in self._due.items() if due <= now]:
            if self._due.pop(watched, None) is not None:
                watched.overdue()
        if self._due:
            self._start()

    def close(self) -> None:
        """Nothing falls due any more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
