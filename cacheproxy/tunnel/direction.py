"""One way of a tunnel: copies, later splices or large copies; reads nothing before what it has read is passed on."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from enum import Enum, auto

from cacheproxy.tunnel.pace import Pace
from cacheproxy.tunnel.pipes import PIPE_BYTES, Pipe, Pipes

# A direction splices once it has moved this much: a small exchange is not worth a pipe.
SPLICE_AFTER_BYTES = 256 * 1024
_PIECE_BYTES = 128 * 1024
# As much as a pipe takes: fewer, larger pieces wake up the ends less often.
_LARGE_PIECE_BYTES = PIPE_BYTES
# So many directions at most hold the rest of a large piece, for a sink that is behind.
MAX_HOLDING_MUCH = 32
# How many pieces a direction may move before others have their turn.
_ROUNDS = 4
_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)
# The kernel cannot splice these descriptors, or not now; every other error is the connection's own.
_CANNOT_SPLICE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ENOMEM})


class Shared:
    """What the tunnels of one event loop share: a buffer, which holds nothing between callbacks, and the pipes."""

    def __init__(self, pipes: Pipes | None = None) -> None:
        self.large_buffer = memoryview(bytearray(_LARGE_PIECE_BYTES))
        self.buffer = self.large_buffer[:_PIECE_BYTES]
        self.pipes = Pipes() if pipes is None else pipes
        # Directions that hold more than a usual piece.
        self.holding_much = 0


class Waits(Enum):
    """What a direction waits for."""

    NOTHING = auto()
    SOURCE = auto()
    SINK = auto()


class Ended(Enum):
    """Why a direction has ended."""

    SOURCE_DONE = auto()
    SOURCE_BROKEN = auto()
    SINK_BROKEN = auto()


class Direction:
    """From `source` to `sink`, non-blocking sockets that the tunnel owns and closes after `stop`.

    It waits for one of the two at a time: for the sink while bytes are on the way, else for the source. So what is
    on the way is bounded by one piece (128 KiB, or a pipe, or 1 MiB for the fastest), and "pipe full" is never
    mistaken for "source empty", which would spin.
    """

    __slots__ = (
        "_holds_much",
        "_left",
        "_loop",
        "_may_splice",
        "_on_end",
        "_pace",
        "_pipe",
        "_shared",
        "_sink",
        "_source",
        "_waits",
        "moved",
        "moved_at",
    )

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        shared: Shared,
        on_end: Callable[[Direction, Ended], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._sink = sink
        self._shared = shared
        self._on_end = on_end
        self._left = b""
        self._holds_much = False
        self._pipe: Pipe | None = None
        self._may_splice = True
        self._pace: Pace | None = None
        self._waits = Waits.NOTHING
        # Bytes that the sink's kernel has taken; the loop's time when something last moved.
        self.moved = 0
        self.moved_at = self._loop.time()

    def start(self, early: bytes) -> None:
        """Pass `early` on, then whatever comes; call `on_end` once, unless stopped before."""
        if early:
            self._hold(early)
            self._wait_for(Waits.SINK)
            self._pump()
        else:
            self._wait_for(Waits.SOURCE)

    def stop(self) -> None:
        """Wait for nothing any more and let go of the pipe."""
        self._wait_for(Waits.NOTHING)
        self._hold(b"")
        self._return_pipe()

    def half_close(self) -> None:
        """Tell the sink that no more will come. Raises OSError where it is broken."""
        self._sink.shutdown(socket.SHUT_WR)

    def _hold(self, rest: bytes) -> None:
        """What the sink has not taken yet."""
        self._left = rest
        holds_much = len(rest) > _PIECE_BYTES
        if holds_much is not self._holds_much:
            self._holds_much = holds_much
            self._shared.holding_much += 1 if holds_much else -1

    def _wait_for(self, what: Waits) -> None:
        before, self._waits = self._waits, what
        if before is what:
            return
        if before is Waits.SOURCE:
            self._loop.remove_reader(self._source.fileno())
        elif before is Waits.SINK:
            self._loop.remove_writer(self._sink.fileno())
        if what is Waits.SOURCE:
            self._loop.add_reader(self._source.fileno(), self._pump)
        elif what is Waits.SINK:
            self._loop.add_writer(self._sink.fileno(), self._pump)

    def _finish(self, how: Ended) -> None:
        self.stop()
        self._on_end(self, how)

    def _pump(self) -> None:
        """The source can be read, or the sink written to: move bytes until it is time to wait again."""
        self.moved_at = now = self._loop.time()
        pace = self._pace
        if pace is not None:
            pace.note(self.moved, now)
        elif self.moved >= SPLICE_AFTER_BYTES:
            self._pace = pace = Pace(self.moved, now)
        copies_much = pace is not None and pace.is_fast and self._shared.holding_much < MAX_HOLDING_MUCH
        for _ in range(_ROUNDS):
            if (self._left or self._pipe is not None) and not self._pass_on():
                return
            if copies_much:
                is_more = self._copy(self._shared.large_buffer)
            elif self._may_splice and self.moved >= SPLICE_AFTER_BYTES:
                is_more = self._splice()
            else:
                is_more = self._copy(self._shared.buffer)
            if not is_more:
                return
        # Nothing is on the way here. What it waited for is still ready and calls again, after the others.

    def _copy(self, buffer: memoryview) -> bool:
        """One piece through the buffer; whether there may be another at once."""
        try:
            received = self._source.recv_into(buffer)
        except BlockingIOError:
            self._wait_for(Waits.SOURCE)
            return False
        except OSError:
            self._finish(Ended.SOURCE_BROKEN)
            return False
        if not received:
            self._finish(Ended.SOURCE_DONE)
            return False
        try:
            sent = self._sink.send(buffer[:received])
        except BlockingIOError:
            sent = 0
        except OSError:
            self._finish(Ended.SINK_BROKEN)
            return False
        self.moved += sent
        if sent < received:
            self._hold(bytes(buffer[sent:received]))
            self._wait_for(Waits.SINK)
            return False
        if received < len(buffer):
            self._wait_for(Waits.SOURCE)
            return False
        return True

    def _splice(self) -> bool:
        """One piece through a pipe, or by copying; whether there may be another at once."""
        pipe = self._shared.pipes.take()
        if pipe is None:
            return self._copy(self._shared.buffer)
        self._pipe = pipe
        try:
            pipe.held = os.splice(self._source.fileno(), pipe.writer, pipe.size, flags=_FLAGS)
        except BlockingIOError:
            # The pipe was empty, so it is the source that has nothing.
            self._return_pipe()
            self._wait_for(Waits.SOURCE)
            return False
        except OSError as error:
            self._return_pipe()
            if error.errno in _CANNOT_SPLICE:
                self._may_splice = False
                return self._copy(self._shared.buffer)
            self._finish(Ended.SOURCE_BROKEN)
            return False
        if not pipe.held:
            # Perhaps the end; but urgent data stops a splice as well, and only recv goes past it.
            self._return_pipe()
            return self._copy(self._shared.buffer)
        received = pipe.held
        if not self._pass_on():
            return False
        if received < _PIECE_BYTES:
            self._wait_for(Waits.SOURCE)
            return False
        return True

    def _pass_on(self) -> bool:
        """Send what is on the way; whether all of it has gone. If not, this waits, or has ended."""
        try:
            if self._pipe is not None:
                self._empty(self._pipe)
            if self._left:
                sent = self._sink.send(self._left)
                self.moved += sent
                self._hold(self._left[sent:])
        except BlockingIOError:
            pass
        except OSError:
            # What the sink sent before it broke can still be read: the other direction ends by itself.
            self._finish(Ended.SINK_BROKEN)
            return False
        if self._left or self._pipe is not None:
            self._wait_for(Waits.SINK)
            return False
        return True

    def _empty(self, pipe: Pipe) -> None:
        try:
            sent = os.splice(pipe.reader, self._sink.fileno(), pipe.held, flags=_FLAGS)
        except OSError as error:
            if error.errno not in _CANNOT_SPLICE:
                raise
            self._may_splice = False
            self._hold(os.read(pipe.reader, pipe.held))
            pipe.held -= len(self._left)
        else:
            self.moved += sent
            pipe.held -= sent
        if not pipe.held:
            self._return_pipe()

    def _return_pipe(self) -> None:
        if self._pipe is not None:
            self._shared.pipes.give_back(self._pipe)
            self._pipe = None
