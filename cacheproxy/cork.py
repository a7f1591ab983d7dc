"""What one turn of the event loop has to send goes out together, at the beginning of the next.

A send wakes up who reads. Many in a row wake them once; one every few microseconds, each time anew.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

log = logging.getLogger("cacheproxy")


class Corked(Protocol):
    """Has something to send."""

    def uncork(self) -> None:
        """Send it now, unless that has become pointless."""


class Cork:
    """Of one event loop. Whoever is added has at most one answer, or one request's head, to send."""

    __slots__ = ("_corked", "_loop")

    def __init__(self) -> None:
        self._corked: list[Corked] = []
        # Asking for the running loop is a system call each time (getpid, before Python 3.12).
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, corked: Corked) -> None:
        """Have it `uncork` once everything that is ready has been looked at."""
        if not self._corked:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._uncork)
        self._corked.append(corked)

    def _uncork(self) -> None:
        corked, self._corked = self._corked, []
        for one in corked:
            try:
                one.uncork()
            except Exception:
                # What one does must not stop the others.
                log.exception("while sending")
