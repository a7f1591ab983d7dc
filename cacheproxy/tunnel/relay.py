"""Relays bytes between two raw sockets: half-close kept, idle limit, exact counts.

Raw sockets on purpose: asyncio's transports close both directions at a client's end-of-file. And callbacks on purpose:
a tunnel is one task that sleeps until its end, no matter how many pieces it moves.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from cacheproxy.tunnel.direction import Direction, Ended, Shared

# Where one side is broken, what it had sent may be on its way to the other; that one may stall for so long.
_LAST_WORDS_S = 10.0


@dataclass(slots=True)
class RelayCount:
    """Bytes taken by the destination's socket (`up`) and by the client's (`down`). Known when the relay ends."""

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
    tunnel = _Tunnel(client, destination, idle_s, shared)
    shared.pipes.enter()
    try:
        tunnel.start(early)
        await tunnel.ended
    finally:
        tunnel.stop(count)
        shared.pipes.leave()


class _Tunnel:
    """Two directions and the clock over both."""

    __slots__ = ("_down", "_idle_s", "_loop", "_running", "_timer", "_up", "ended")

    def __init__(
        self, client: socket.socket, destination: socket.socket, idle_s: float, shared: Shared
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_s = idle_s
        self._running = 2
        self._up = Direction(client, destination, shared, self._direction_ended)
        self._down = Direction(destination, client, shared, self._direction_ended)
        self._timer = self._loop.call_later(idle_s, self._look_at_clock)
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def start(self, early: bytes) -> None:
        self._down.start(b"")
        self._up.start(early)

    def stop(self, count: RelayCount) -> None:
        self._timer.cancel()
        self._up.stop()
        self._down.stop()
        count.up, count.down = self._up.moved, self._down.moved

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _direction_ended(self, direction: Direction, how: Ended) -> None:
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
