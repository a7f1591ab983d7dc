"""The body of a fetch under way, followed by any number of readers.

What has arrived stays in a window in memory. While the body is being stored, a piece leaves the window once
the store can read it back; else once every reader has passed it. While it cannot leave, the origin waits. So
the window is bounded, and the pace is set by the disk, or without one by the slowest reader.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from cacheproxy.errors import UpstreamError
from cacheproxy.ports import BodyWriter
from cacheproxy.reasons import Reason


@dataclass(slots=True)
class SpoolBudget:
    """Bytes that all spools together hold in memory; past `limit_bytes` each keeps only its window."""

    limit_bytes: int = 64 * 1024 * 1024
    window_bytes: int = 512 * 1024
    used_bytes: int = 0


class SpoolReader:
    """One reader's place. Close it; the last one to close may end the fetch."""

    def __init__(self, spool: Spool, start: int, end: int | None) -> None:
        self._spool = spool
        self.position = start
        self._end = end
        self._is_closed = False
        # Waits here for later: it does not hold up others, but keeps its bytes as long as there are none.
        self.is_parked = False

    def __aiter__(self) -> SpoolReader:
        return self

    async def __anext__(self) -> bytes:
        if self._is_closed or (self._end is not None and self.position >= self._end):
            raise StopAsyncIteration
        piece = await self._spool.next_piece(self.position)
        if not piece:
            raise StopAsyncIteration
        if self._end is not None and len(piece) > self._end - self.position:
            piece = piece[: self._end - self.position]
        self.position += len(piece)
        self._spool.advanced()
        return piece

    async def aclose(self) -> None:
        """Leave."""
        if not self._is_closed:
            self._is_closed = True
            self._spool.left(self)


class Spool:
    """Fed by one flight, which calls `append`, then `finish` or `fail`."""

    def __init__(
        self,
        writer: BodyWriter | None,
        length: int | None,
        keep_bytes: int,
        budget: SpoolBudget,
        on_unread: Callable[[], None],
    ) -> None:
        self._writer = writer
        self.length = length
        # Bodies that memory may keep stay whole in the window until they are committed.
        self._keep_bytes = keep_bytes if length is None or length <= keep_bytes else 0
        self._budget = budget
        self._on_unread = on_unread
        self._pieces: list[bytes] = []
        self._offsets: list[int] = []
        self._start = 0
        self.received = 0
        self._readers: set[SpoolReader] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._feeder: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._is_finished = False
        self._is_over = False
        # Whether everybody who read has left.
        self._is_left = False
        if writer is not None:
            writer.on_progress = self._wake_feeder

    # the flight's side

    async def append(self, piece: bytes) -> None:
        """Take a piece: readers get it at once; returns when the next may come."""
        self._offsets.append(self.received)
        self._pieces.append(piece)
        self.received += len(piece)
        self._budget.used_bytes += len(piece)
        self._wake_readers()
        if self._writer is not None and self._writer.is_open:
            await self._writer.write(piece)
        if self._is_left:
            # Is it still worth it?
            self._on_unread()
        while not self._make_room():
            self._feeder = asyncio.get_running_loop().create_future()
            await self._feeder

    def _make_room(self) -> bool:
        held = self.received - self._start
        if self.received <= self._keep_bytes and self._budget.used_bytes <= self._budget.limit_bytes:
            return True
        self._keep_bytes = 0
        window = self._budget.window_bytes
        if held <= window:
            return True
        droppable = self._readable()
        if self._writer is None or not self._writer.is_open:
            active = [one.position for one in self._readers if not one.is_parked]
            positions = active or [one.position for one in self._readers]
            droppable = max(droppable, min(positions, default=self.received))
        drop = 0
        while drop < len(self._pieces) and held > window // 2:
            end = self._offsets[drop] + len(self._pieces[drop])
            if end > droppable:
                break
            held -= len(self._pieces[drop])
            drop += 1
        if drop:
            freed = sum(len(piece) for piece in self._pieces[:drop])
            del self._pieces[:drop], self._offsets[:drop]
            self._start += freed
            self._budget.used_bytes -= freed
        # One piece larger than the window must not stop the flow.
        return held <= window or len(self._pieces) <= 1

    def finish(self) -> None:
        """The body is whole."""
        self._is_finished = True
        self.length = self.received
        self._wake_readers()

    def fail(self, error: Exception) -> None:
        """The body breaks off: readers get what is here, then `error`."""
        if not self._is_finished:
            self._error = error
            self._wake_readers()
            self._wake_feeder()

    def whole(self) -> bytes | None:
        """The whole body where the window still has it from byte 0."""
        if not self._is_finished or self._start or self.received > self._keep_bytes:
            return None
        if len(self._pieces) != 1:
            self._pieces = [b"".join(self._pieces)]
            self._offsets = [0]
        return self._pieces[0]

    def close(self) -> None:
        """The flight is over: the memory goes back once nobody reads."""
        self._is_over = True
        self._release()

    def _release(self) -> None:
        if self._is_over and not self._readers:
            self._budget.used_bytes -= self.received - self._start
            self._start = self.received
            self._pieces, self._offsets = [], []

    # the readers' side

    @property
    def is_finished(self) -> bool:
        """Whether the body is whole."""
        return self._is_finished

    @property
    def is_kept(self) -> bool:
        """Whether the store takes what comes."""
        return self._writer is not None and self._writer.is_open

    def can_read_from(self, offset: int) -> bool:
        """Whether a reader may still begin at `offset`: in the window, or readable from the store."""
        if self._error is not None and offset >= self.received:
            return False
        if self._is_over and not self._readers:
            return False
        return self._start <= offset or self._readable() >= self._start

    @property
    def has_failed(self) -> bool:
        """Whether the body broke off."""
        return self._error is not None

    def begin(self, writer: BodyWriter | None, length: int | None) -> None:
        """Bytes will come; only now it is known where they are stored."""
        self.length = length
        self._writer = writer
        if writer is not None:
            writer.on_progress = self._wake_feeder
            for _ in self._readers:
                writer.pin()

    def _readable(self) -> int:
        return self._writer.readable if self._writer is not None and not self._is_over else 0

    def open(self, start: int = 0, end: int | None = None) -> SpoolReader:
        """A reader of the bytes from `start` on; it counts from now on."""
        reader = SpoolReader(self, start, end)
        self._readers.add(reader)
        self._is_left = False
        if self._writer is not None:
            self._writer.pin()
        return reader

    async def next_piece(self, position: int) -> bytes:
        """The bytes from `position` on that are next at hand; empty at the end. Raises what ended the fetch."""
        while True:
            if position < self._start:
                if self._writer is None or position >= self._writer.readable:
                    raise UpstreamError(
                        Reason.CONNECTION_TERMINATED,
                        "",
                        "the fetch went on without this reader",
                        before_head=False,
                    )
                return await self._writer.read_back(position)
            if position < self.received:
                index = bisect_right(self._offsets, position) - 1
                piece = self._pieces[index]
                skip = position - self._offsets[index]
                return piece[skip:] if skip else piece
            if self._error is not None:
                raise self._error
            if self._is_finished:
                return b""
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def advanced(self) -> None:
        """A reader has moved on."""
        if self._feeder is not None:
            self._wake_feeder()

    def left(self, reader: SpoolReader) -> None:
        """A reader has closed."""
        self._readers.discard(reader)
        if self._writer is not None:
            self._writer.unpin()
        self._wake_feeder()
        if not self._readers:
            self._release()
            if not self._is_finished and self._error is None:
                self._is_left = True
                self._on_unread()

    def _wake_readers(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _wake_feeder(self) -> None:
        if self._feeder is not None and not self._feeder.done():
            self._feeder.set_result(None)
