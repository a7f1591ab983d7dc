"""The disk tier of the keeper: the process that has the only writing connection, on behalf of all workers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cacheproxy.caching.options import CachingOptions
from cacheproxy.channel import Channel, Handlers
from cacheproxy.ports import Recorder
from cacheproxy.store.batch import EntryRow, Order, Row
from cacheproxy.store.changes import Changes
from cacheproxy.store.disk import DiskTier
from cacheproxy.store.memory import MemoryTier
from cacheproxy.store.space import DiskOptions, InUse


class _HeldByWorkers(InUse):
    """While workers have yet to say what they hold, everything counts as held."""

    def __init__(self) -> None:
        super().__init__()
        self.is_settling = True

    def __contains__(self, body_id: int) -> bool:
        return self.is_settling or super().__contains__(body_id)


class _TellingChanges(Changes):
    """Tells the workers when everything stored must be forgotten."""

    on_forget_all: Callable[[], None]

    def forget_all(self) -> int:
        """Hide everything, in every worker too; the highest id."""
        self.on_forget_all()
        return super().forget_all()


class KeptDisk(DiskTier):
    """`tell` sends a message to every worker."""

    def __init__(
        self,
        directory: Path,
        options: DiskOptions,
        caching: CachingOptions,
        recorder: Recorder,
        tell: Callable[..., None],
    ) -> None:
        self._held = _HeldByWorkers()
        super().__init__(directory, options, caching, recorder, MemoryTier(0, 0), self._held)
        self._on_evicted = lambda entry_id: tell("evicted", entry_id)
        self._tell = tell
        # Unlike any earlier keeper's.
        self.generation = os.getpid() << 16
        self.changes = changes = _TellingChanges(
            self._removed,
            self._held,
            lambda: self.ranking,
            lambda: self.writer,
            lambda: self._last_entry_id,
            self.absent,
            self.arriving,
        )
        changes.on_forget_all = lambda: tell("forget_all")

    def settle(self) -> None:
        """Every worker has said what it holds, or has had the time to: reclaiming and evicting may begin."""
        if self._held.is_settling:
            self._held.is_settling = False
            self.writer.body_released()

    def saw(self, entry_id: int) -> None:
        """An id that a worker has given."""
        self._last_entry_id = max(self._last_entry_id, entry_id)

    def report_damage(self) -> None:
        """A worker has found the file broken."""
        self._damaged()

    async def _recover(self) -> None:
        # From here on rows of the old file's bodies are refused: a body must not go on in the new one.
        self.generation += 1
        await super()._recover()
        self._tell("replaced", self.generation)


class Keeping:
    """Performs one worker's messages; `handlers` names them."""

    def __init__(self, disk: KeptDisk, channel: Channel) -> None:
        self._disk = disk
        self._channel = channel
        self._held: Counter[int] = Counter()

    @property
    def handlers(self) -> Handlers:
        """What a worker may send."""
        return {
            "row": self._row,
            "entry": self._entry,
            "order": self._order,
            "full": self._full,
            "touches": self._touches,
            "asked": self._asked,
            "hold": self._hold,
            "free": self._free,
            "held": self._held_now,
            "damaged": self._damaged,
        }

    def _settled(self, number: int) -> Callable[[bool], None]:
        return lambda is_committed: self._channel.send("settled", number, is_committed)

    def _row(self, generation: int, number: int, entry_id: int, body_id: int, first: int, data: bytes) -> None:
        self._disk.saw(entry_id)
        row = Row(entry_id, body_id, first, data, self._settled(number))
        if generation == self._disk.generation:
            self._disk.writer.add_row(row)
        else:
            row.settled(False)

    def _entry(self, generation: int, number: int, columns: tuple[Any, ...]) -> None:
        entry = EntryRow._make((*columns, self._settled(number)))
        # All workers' requests for the key are counted here.
        entry = entry._replace(requests=self._disk.ranking.requests_of(entry.key))
        self._disk.saw(entry.entry_id)
        if generation == self._disk.generation:
            self._disk.writer.publish(entry)
        else:
            entry.settled(False)

    def _order(self, number: int, sql: str, parameters: list[tuple[Any, ...]], at_once: bool) -> None:
        self._disk.writer.order(
            Order(
                sql,
                parameters,
                lambda: self._channel.send("committed", number),
                lambda is_done: self._channel.send("attempted", number, is_done),
            ),
            at_once=at_once,
        )

    def _full(self) -> None:
        # Its share of the queue is less than a batch: it would wait for others, or for the time to come.
        self._disk.writer.commit_soon()

    def _touches(self, uses: list[tuple[int, int]]) -> None:
        self._disk.ranking.touches.give_back(uses)

    def _asked(self, hashes: list[int]) -> None:
        for hashed in hashes:
            self._disk.ranking.ghosts.add(hashed)

    def _hold(self, body_id: int) -> None:
        self._held[body_id] += 1
        self._disk.pin(body_id)

    def _free(self, body_id: int) -> None:
        if self._held[body_id] > 0:
            self._held[body_id] -= 1
            self._disk.unpin(body_id)
        if not self._held[body_id]:
            del self._held[body_id]

    async def _held_now(self) -> None:
        if self._disk.in_use.going:
            await self._disk.writer.quiet()

    def _damaged(self) -> None:
        self._disk.report_damage()

    def close(self) -> None:
        """The worker has gone: nothing is held for it any more."""
        for body_id in list(self._held.elements()):
            self._disk.unpin(body_id)
        self._held.clear()
