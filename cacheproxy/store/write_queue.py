"""What the disk tier asks of a writer: this process's own, or the one in the process that keeps the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from cacheproxy.store.batch import EntryRow, Order, Row


class WriteQueue(Protocol):
    """Operations queue up and commit together; none of the plain calls waits or raises."""

    def add_row(self, row: Row) -> None:
        """Write a piece of a body."""

    def publish(self, entry: EntryRow) -> None:
        """Make a stored response visible."""

    def order(self, order: Order, *, at_once: bool = False) -> None:
        """Change entries, after what was queued before."""

    def order_and_tell(
        self, sql: str, parameters: list[tuple[Any, ...]], committed: Callable[[], None]
    ) -> asyncio.Future[bool]:
        """An order that goes out at once; the future tells whether its first try succeeded."""

    def body_released(self) -> None:
        """A body is no longer written or read."""

    def commit_soon(self) -> None:
        """Commit what is queued without waiting for more."""

    @property
    def has_room(self) -> bool:
        """Whether the queue takes more without waiting."""

    async def room(self, size: int) -> bool:
        """Wait until the queue has room; `size`: about how much will come. False where the writer stands still."""

    async def quiet(self) -> None:
        """Wait for a transaction under way: it may evict what was pinned after it had looked."""

    async def run(self) -> None:
        """Write until `stop()`."""

    def stop(self) -> None:
        """Finish what is queued and end."""
