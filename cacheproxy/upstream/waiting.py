"""Who waits for a connection while as many are open as may be: the first who came is the first to be served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from cacheproxy.http.uri import Origin
from cacheproxy.upstream.connection import OriginConnection


class Waiter(Protocol):
    """Waits for a place for a new connection; if it `may_reuse` one, also for one that others no longer need."""

    may_reuse: bool

    def given(self, connection: OriginConnection | None) -> bool:
        """Here is one; with None, there may be a place for a new one. False: it is not wanted any more."""


class WaitingTask:
    """A task that waits for `told`."""

    def __init__(self, *, may_reuse: bool) -> None:
        self.may_reuse = may_reuse
        self.told: asyncio.Future[OriginConnection | None] = asyncio.get_running_loop().create_future()

    def given(self, connection: OriginConnection | None) -> bool:
        """As `Waiter.given`."""
        if self.told.done():
            return False
        self.told.set_result(connection)
        return True


class Waiting:
    """All who wait, by origin."""

    def __init__(self) -> None:
        self._queues: dict[Origin, deque[Waiter]] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __contains__(self, origin: Origin) -> bool:
        return origin in self._queues

    def add(self, origin: Origin, waiter: Waiter) -> None:
        """Behind all others."""
        self._queues.setdefault(origin, deque()).append(waiter)

    def add_again(self, origin: Origin, waiter: Waiter) -> None:
        """In front of them: it was told in vain."""
        self._queues.setdefault(origin, deque()).appendleft(waiter)

    def leave(self, origin: Origin, waiter: Waiter) -> None:
        """Wait no longer."""
        queue = self._queues.get(origin)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            self._forget(origin, queue)

    def _forget(self, origin: Origin, queue: deque[Waiter]) -> None:
        if not queue:
            del self._queues[origin]

    def hand_over(self, connection: OriginConnection) -> bool:
        """Give an idle connection to the first in line; False where there is none, or where it wants a new one."""
        origin = connection.origin
        while (queue := self._queues.get(origin)) and queue[0].may_reuse:
            waiter = queue.popleft()
            self._forget(origin, queue)
            if waiter.given(connection):
                return True
        return False

    def tell_next(self, origin: Origin, has_room: Callable[[Origin], bool]) -> None:
        """There is a place, for `origin` first of all; under the limit for all origins, for any that `has_room`."""
        for one in [origin, *self._queues]:
            while (queue := self._queues.get(one)) and has_room(one):
                waiter = queue.popleft()
                self._forget(one, queue)
                if waiter.given(None):
                    return

    def origins(self) -> list[Origin]:
        """Those that somebody waits for."""
        return list(self._queues)
