"""Relays bytes between the two ends of a tunnel: half-close kept, idle limit, counts.

Raw sockets on purpose: asyncio's transports close both directions at a client's end-of-file. And callbacks on purpose:
a tunnel is one task that sleeps until its end, no matter how many pieces it moves. Where an end is TLS its socket
carries something else than the tunnel's bytes: then both ends are transports.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cacheproxy.tunnel.direction import Direction, Ended, Shared
from cacheproxy.tunnel.transports import End, TransportDirection

# Where one side is broken, what it had sent may be on its way to the other; that one may stall for so long.
_LAST_WORDS_S = 10.0


@dataclass(slots=True)
class RelayCount:
    """Bytes taken by the destination's socket (`up`) and by the client's (`down`). Known when the relay ends.

    Of transports: bytes given to them.
    """

    up: int = 0
    down: int = 0


async def relay(
    client: socket.socket,
    destination: socket.socket,
    early: bytes,
    idle_s: float,
    count: RelayCount,
    shared: Shared,
) -> None:
    """Relay until both directions have ended, one side is broken, or nothing moves for `idle_s` seconds.

    `early` is what the client sent behind its CONNECT. Both sockets are non-blocking; the caller closes them.
    """
    shared.pipes.enter()
    try:
        await _Tunnel(
            lambda on_end: Direction(client, destination, shared, on_end),
            lambda on_end: Direction(destination, client, shared, on_end),
            idle_s,
        ).run(early, count)
    finally:
        shared.pipes.leave()


async def relay_transports(
    client: End, destination: End, early: bytes, idle_s: float, count: RelayCount
) -> None:
    """The same between two transports, which the caller closes."""
    await _Tunnel(
        lambda on_end: TransportDirection(client, destination, on_end),
        lambda on_end: TransportDirection(destination, client, on_end),
        idle_s,
    ).run(early, count)


class _Direction(Protocol):
    """One way of a tunnel."""

    moved: int
    moved_at: float

    def start(self, early: bytes) -> None: ...

    def stop(self) -> None: ...

    def half_close(self) -> None: ...


_OnEnd = Callable[[_Direction, Ended], None]


class _Tunnel:
    """Two directions and the clock over both."""

    __slots__ = ("_down", "_ended", "_idle_s", "_loop", "_running", "_timer", "_up")

    def __init__(
        self, up: Callable[[_OnEnd], _Direction], down: Callable[[_OnEnd], _Direction], idle_s: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_s = idle_s
        self._running = 2
        self._up = up(self._direction_ended)
        self._down = down(self._direction_ended)
        self._timer = self._loop.call_later(idle_s, self._look_at_clock)
        self._ended: asyncio.Future[None] = self._loop.create_future()

    async def run(self, early: bytes, count: RelayCount) -> None:
        try:
            self._down.start(b"")
            self._up.start(early)
            await self._ended
        finally:
            self._timer.cancel()
            self._up.stop()
            self._down.stop()
            count.up, count.down = self._up.moved, self._down.moved

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _direction_ended(self, direction: _Direction, how: Ended) -> None:
        self._running -= 1
        if not self._running or how is Ended.SOURCE_BROKEN:
            self._end()
            return
        if how is Ended.SOURCE_DONE:
            try:
                direction.half_close()
                return
            except OSError:
                pass
        # The sink is broken. What it had sent, perhaps the reason, should still reach the other side.
        if self._idle_s > _LAST_WORDS_S:
            self._idle_s = _LAST_WORDS_S
            self._timer.cancel()
            self._look_at_clock()

    def _look_at_clock(self) -> None:
        # Looked at once in a while instead of being set anew at every piece.
        ends_at = max(self._up.moved_at, self._down.moved_at) + self._idle_s
        if self._loop.time() >= ends_at:
            self._end()
        else:
            self._timer = self._loop.call_at(ends_at, self._look_at_clock)
