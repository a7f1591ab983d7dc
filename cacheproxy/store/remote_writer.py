"""A worker's writer: operations go over a channel to the one process that writes, and their results come back.

Bounds: `queue_bytes` of rows are under way at most; orders that nobody could take yet are kept, up to
`MAX_ORDERS` rows, as the writer does itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from cacheproxy.channel import Channel, ChannelLost
from cacheproxy.store.batch import EntryRow, Order, Row, Settled
from cacheproxy.store.ghosts import Ghosts, key_hash
from cacheproxy.store.ranking import Ranking
from cacheproxy.store.space import InUse
from cacheproxy.store.writer import MAX_ORDERS, STALL_S, TOUCH_DELAY_S

_MAX_ASKED = 10_000


class ToldInUse(InUse):
    """Bodies in use here; the keeper of the store is told of the first use and of the end of the last."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__()
        self._tell = tell

    def begin_writing(self, body_id: int) -> None:
        """Rows will come."""
        self._begin(body_id)
        super().begin_writing(body_id)

    def end_writing(self, body_id: int) -> None:
        """No more rows from one that began."""
        super().end_writing(body_id)
        self._end(body_id)

    def pin(self, body_id: int) -> None:
        """A reader begins."""
        self._begin(body_id)
        super().pin(body_id)

    def unpin(self, body_id: int) -> bool:
        """A reader ends. The keeper reclaims by itself what it is told to be free."""
        super().unpin(body_id)
        self._end(body_id)
        return False

    def _begin(self, body_id: int) -> None:
        if body_id not in self:
            self._tell("hold", body_id)

    def _end(self, body_id: int) -> None:
        if body_id not in self:
            self._tell("free", body_id)

    def tell_all(self) -> None:
        """Say everything again, to a new keeper."""
        for body_id in {*self._writers, *self._readers}:
            self._tell("hold", body_id)


class ToldRanking(Ranking):
    """A worker's part in the eviction policy: it notes, the keeper ranks. Nobody is refused beforehand."""

    def __init__(self) -> None:
        super().__init__(0.0, Ghosts())
        self._asked: list[int] = []

    def note_request(self, key: str) -> None:
        """Count a request for what is not stored."""
        super().note_request(key)
        if len(self._asked) < _MAX_ASKED:
            self._asked.append(key_hash(key))

    def admits(self, key: str, size: int) -> bool:
        """What is worth less than what it replaces goes when the keeper evicts."""
        return True

    def requests_of(self, key: str) -> int:
        """The keeper knows better: it was told of every request before."""
        self.ghosts.take(key_hash(key))
        return 1

    def take_asked(self) -> list[int]:
        """The hashes of keys that were asked for since the last time."""
        asked, self._asked = self._asked, []
        return asked


class RemoteWriter:
    """One per life of the cache file. `generation` is that file's number: the keeper ignores what is for an older one."""

    def __init__(
        self,
        queue_bytes: int,
        ranking: ToldRanking,
        forget_all: Callable[[], int],
        before: RemoteWriter | None = None,
    ) -> None:
        self._ranking = ranking
        self._queue_bytes = queue_bytes
        self._forget_all = forget_all
        self._channel: Channel | None = None
        self._generation = 0
        self._last = 0
        # What waits for its result: rows and entries, and orders until they are committed.
        self._settling: dict[int, tuple[Settled, int]] = {}
        self._orders: dict[int, Order] = {}
        if before is not None:
            # What must not get lost goes on in the next life.
            self._last, self._orders = before.hand_over()
        self._queued_bytes = 0
        self._is_hurried = False
        self._room: deque[tuple[int, asyncio.Future[bool]]] = deque()
        self._changed = asyncio.Event()
        self._stopping = False
        self._has_ended = False

    def hand_over(self) -> tuple[int, dict[int, Order]]:
        """The last number given, and the orders that are not carried out, for the next writer."""
        orders, self._orders = self._orders, {}
        return self._last, orders

    # the channel

    def attach(self, channel: Channel, generation: int) -> None:
        """A keeper is there: it gets the orders that no keeper has carried out yet, in their order."""
        self._channel = channel
        self._generation = generation
        self._is_hurried = False
        for number, order in list(self._orders.items()):
            channel.send("order", number, order.sql, order.parameters, False)

    def detach(self) -> None:
        """The keeper has gone: what was under way is lost, orders are kept for the next one."""
        self._channel = None
        for number in list(self._settling):
            self.settled(number, False)
        for number, order in list(self._orders.items()):
            self._attempted(number, order, False)
        self._bound_orders()

    def settled(self, number: int, is_committed: bool) -> None:
        """The keeper says what became of a row or an entry."""
        self._is_hurried = False
        found = self._settling.pop(number, None)
        if found is not None:
            self._queued_bytes -= found[1]
            found[0](is_committed)
        expected = self._queued_bytes
        while self._room and expected <= self._queue_bytes:
            size, waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(True)
                expected += size
        if self._room:
            self.commit_soon()
        self._changed.set()

    def attempted(self, number: int, is_done: bool) -> None:
        """The keeper has tried an order for the first time."""
        order = self._orders.get(number)
        if order is not None:
            self._attempted(number, order, is_done)

    def _attempted(self, number: int, order: Order, is_done: bool) -> None:
        if order.attempted is not None:
            order.attempted(is_done)
            self._orders[number] = Order(order.sql, order.parameters, order.committed)

    def committed(self, number: int) -> None:
        """An order is carried out."""
        order = self._orders.pop(number, None)
        if order is not None:
            order.committed()
        self._changed.set()

    def _bound_orders(self) -> None:
        waiting = list(self._orders.values())
        if sum(len(order.parameters) for order in waiting) <= MAX_ORDERS:
            return

        def committed() -> None:
            for order in waiting:
                order.committed()

        self._orders.clear()
        bound = self._forget_all()
        self._orders[self._next()] = Order("DELETE FROM entries WHERE entry_id <= ?", [(bound,)], committed)

    def _next(self) -> int:
        self._last += 1
        return self._last

    # enqueueing

    def add_row(self, row: Row) -> None:
        """Send a piece of a body."""
        if self._channel is None or self._has_ended:
            row.settled(False)
            return
        number = self._next()
        self._settling[number] = (row.settled, len(row.data))
        self._queued_bytes += len(row.data)
        self._channel.send("row", self._generation, number, row.entry_id, row.body_id, row.first, row.data)

    def publish(self, entry: EntryRow) -> None:
        """Have a stored response made visible."""
        if self._channel is None or self._has_ended:
            entry.settled(False)
            return
        if asked := self._ranking.take_asked():
            # Before the entry: it takes over what was counted for its key.
            self._channel.send("asked", asked)
        number = self._next()
        self._settling[number] = (entry.settled, 0)
        # All but `settled`.
        columns = entry[:-1]
        self._channel.send("entry", self._generation, number, columns)

    def order(self, order: Order, *, at_once: bool = False) -> None:
        """Have entries changed; kept until it is done."""
        if self._has_ended:
            if order.attempted is not None:
                order.attempted(False)
            return
        number = self._next()
        self._orders[number] = order
        if self._channel is not None:
            self._channel.send("order", number, order.sql, order.parameters, at_once)
        else:
            self._attempted(number, order, False)
            self._bound_orders()

    def order_and_tell(
        self, sql: str, parameters: list[tuple[Any, ...]], committed: Callable[[], None]
    ) -> asyncio.Future[bool]:
        """An order that goes out at once; the future tells whether its first try succeeded."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def attempted(result: bool) -> None:
            if not done.done():
                done.set_result(result)

        self.order(Order(sql, parameters, committed, attempted), at_once=True)
        return done

    def body_released(self) -> None:
        """The keeper hears of it from ToldInUse."""

    def commit_soon(self) -> None:
        """Once until the keeper has answered."""
        if self._channel is not None and not self._is_hurried:
            self._is_hurried = True
            self._channel.send("full")

    @property
    def has_room(self) -> bool:
        """Whether more may be sent without waiting."""
        return self._channel is not None and not self._has_ended and self._queued_bytes <= self._queue_bytes

    async def room(self, size: int) -> bool:
        """Wait until less is under way; False where the keeper stands still for `STALL_S`, or has gone."""
        if self._has_ended or self._channel is None:
            return False
        if self._queued_bytes <= self._queue_bytes:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._room.append((size, waiter))
        self.commit_soon()
        try:
            async with asyncio.timeout(STALL_S):
                return await waiter
        except TimeoutError:
            return False

    async def quiet(self) -> None:
        """Wait until the keeper knows of what was pinned before: from then on it neither evicts nor reclaims it."""
        if self._channel is not None:
            try:
                await self._channel.call("held")
            except ChannelLost:
                # The next keeper holds everything until it has been told.
                return

    # life

    async def run(self) -> None:
        """Send touches now and then until `stop()`; then wait for what is under way."""
        loop = asyncio.get_running_loop()
        due = loop.time() + TOUCH_DELAY_S
        while not self._stopping or (self._channel is not None and (self._settling or self._orders)):
            self._changed.clear()
            try:
                async with asyncio.timeout_at(due):
                    await self._changed.wait()
            except TimeoutError:
                pass
            if loop.time() >= due:
                self._send_notes()
                due = loop.time() + TOUCH_DELAY_S
        self._send_notes()
        self.end()

    def _send_notes(self) -> None:
        if self._channel is None:
            return
        if asked := self._ranking.take_asked():
            self._channel.send("asked", asked)
        if touches := self._ranking.touches.take_due(everything=True):
            self._channel.send("touches", touches)

    def stop(self) -> None:
        """Finish what is under way and end."""
        self._stopping = True
        self._changed.set()

    def end(self) -> None:
        """Nothing goes out any more: what is under way fails."""
        self._has_ended = self._stopping = True
        self.detach()
        for _, waiter in self._room:
            if not waiter.done():
                waiter.set_result(False)
        self._changed.set()
