"""Connections after their last answer: closed at once they would reset it away (RFC 9112 §9.6)."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Protocol

LINGER_BYTES = 1024 * 1024
LINGER_S = 2.0


class Closing(Hashable, Protocol):
    """Has ended its own side."""

    def force_close(self) -> None:
        """Close."""


class Lingering:
    """Of one event loop: each is closed after `LINGER_S` seconds, unless the client was quicker."""

    def __init__(self) -> None:
        # By when; in order.
        self._until: dict[Closing, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._until)

    def add(self, closing: Closing, loop: asyncio.AbstractEventLoop) -> None:
        """Close it in a while."""
        if closing in self._until:
            return
        self._until[closing] = due = loop.time() + LINGER_S
        if self._timer is None:
            self._timer = loop.call_at(due, self._due, loop)

    def discard(self, closing: Closing) -> None:
        """It is closed."""
        self._until.pop(closing, None)

    def _due(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._until:
            closing, due = next(iter(self._until.items()))
            if due > now:
                self._timer = loop.call_at(due, self._due, loop)
                return
            del self._until[closing]
            closing.force_close()
