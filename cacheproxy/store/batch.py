"""What one write transaction does: collected by the writer, carried out in a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiosqlite

from cacheproxy.store.eviction import PINNED
from cacheproxy.store.schema import row_checksum

MAX_VARIANTS = 32
"""Stored responses kept under one key; the oldest go first."""
ORDERS_AT_ONCE = 256
"""Rows that the orders of one transaction name at most."""

_SMALL_ROW_BYTES = 16 * 1024

Settled = Callable[[bool], None]
"""Called once, with whether the transaction was committed."""


class Row(NamedTuple):
    """A piece of a body: at most 256 KiB from `first` on. `entry_id` is whose body it is, or will be."""

    entry_id: int
    body_id: int
    first: int
    data: bytes
    settled: Settled


class EntryRow(NamedTuple):
    """A stored response as columns. `parts` names the bytes that are here; empty: all of them."""

    entry_id: int
    key: str
    key_hash: int
    variant: str
    body_id: int
    length: int
    parts: str
    size: int
    weight: float
    requests: int
    is_pinned: bool
    stored_at: float
    head: bytes
    head_checksum: int
    settled: Settled


@dataclass(frozen=True, slots=True)
class Order:
    """A change to entries that must not get lost: repeated until a transaction with it commits.

    `attempted` hears of the first try, `committed` of the one that succeeded.
    """

    sql: str
    parameters: list[tuple[Any, ...]]
    committed: Callable[[], None]
    attempted: Settled | None = None


@dataclass(slots=True)
class Batch:
    """Operations that commit together."""

    rows: list[Row] = field(default_factory=list)
    entries: list[EntryRow] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    touches: list[tuple[int, int]] = field(default_factory=list)
    data_bytes: int = 0

    @property
    def count(self) -> int:
        """Operations in the batch."""
        return len(self.rows) + len(self.entries) + len(self.orders)

    @property
    def is_new_data(self) -> bool:
        """Whether it makes the file larger."""
        return bool(self.rows or self.entries)

    def settle(self, is_committed: bool) -> None:
        """Tell whose rows and entries these are."""
        for row in self.rows:
            row.settled(is_committed)
        for entry in self.entries:
            entry.settled(is_committed)

    def take_orders(self, limit: int) -> list[Order]:
        """Keep the first orders, up to about `limit` rows; the others are returned."""
        named = 0
        for at, order in enumerate(self.orders):
            if named and named + len(order.parameters) > limit:
                rest, self.orders = self.orders[at:], self.orders[:at]
                return rest
            named += len(order.parameters)
        return []

    def drop_bodies(self, bodies: set[int]) -> int:
        """Fail what belongs to bodies that lost a row; the bytes of data that frees."""
        lost_rows = [row for row in self.rows if row.body_id in bodies]
        lost_entries = [entry for entry in self.entries if entry.body_id in bodies]
        if lost_rows:
            self.rows = [row for row in self.rows if row.body_id not in bodies]
        if lost_entries:
            self.entries = [entry for entry in self.entries if entry.body_id not in bodies]
        Batch(lost_rows, lost_entries).settle(False)
        freed = sum(len(row.data) for row in lost_rows)
        self.data_bytes -= freed
        return freed

    async def carry_out(self, db: aiosqlite.Connection, inflation: float) -> None:
        """Run every statement inside the caller's transaction. Raises sqlite3.Error."""
        if self.rows:
            await self._write_rows(db)
        if self.entries:
            await self._write_entries(db, inflation)
        for order in self.orders:
            await db.executemany(order.sql, order.parameters)
        if self.touches:
            await write_touches(db, self.touches, inflation)

    async def _write_rows(self, db: aiosqlite.Connection) -> None:
        # In every transaction: an earlier one of the same body may have failed, or its entry have gone.
        named = {entry.entry_id for entry in self.entries}
        await db.executemany(
            "INSERT OR IGNORE INTO loose SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM entries WHERE entry_id = ?2)",
            list({(row.body_id, row.entry_id) for row in self.rows if row.entry_id not in named}),
        )
        await db.executemany(
            # Two fetches may have brought the same bytes: the longer row stays.
            "INSERT INTO chunks(body_id, first, length, checksum, data)"
            " VALUES (?1, ?2, ?3, IFNULL(?5, row_checksum(?1, ?2, ?4)), ?4)"
            " ON CONFLICT(body_id, first) DO UPDATE SET length = excluded.length, checksum = excluded.checksum,"
            " data = excluded.data WHERE excluded.length > length",
            [(row.body_id, row.first, len(row.data), row.data, _checksum(row)) for row in self.rows],
        )

    async def _write_entries(self, db: aiosqlite.Connection, inflation: float) -> None:
        await db.executemany(_RANK, [_rank_of(entry, inflation) for entry in self.entries])
        await db.executemany(
            _ENTRY,
            [
                (
                    entry.entry_id,
                    entry.key,
                    entry.variant,
                    entry.body_id,
                    entry.length,
                    entry.parts,
                    entry.stored_at,
                    entry.head,
                    entry.key_hash,
                    entry.head_checksum,
                )
                for entry in self.entries
            ],
        )
        varied = {entry.key for entry in self.entries if entry.variant != "[[],[]]"}
        await db.executemany(
            "DELETE FROM entries WHERE key_hash = key_hash(?1) AND key = ?1 AND entry_id NOT IN (SELECT entry_id"
            " FROM entries WHERE key_hash = key_hash(?1) AND key = ?1"
            f" ORDER BY entry_id DESC LIMIT {MAX_VARIANTS})",
            [(key,) for key in varied],
        )


_ENTRY = (
    "INSERT INTO entries(entry_id, key_hash, key, variant, body_id, length, parts, stale, stored_at,"
    " head_checksum, head)"
    " VALUES (?1, ?9, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?10, ?8)"
    # An incomplete response that has got more of its body.
    " ON CONFLICT(entry_id) DO UPDATE SET length = excluded.length, parts = excluded.parts, stale = 0,"
    " stored_at = excluded.stored_at, head_checksum = excluded.head_checksum, head = excluded.head"
)
# What it takes the place of passes its requests on.
_RANK = (
    "INSERT INTO ranks(entry_id, score, hits, weight, size)"
    f" SELECT ?1, CASE WHEN ?7 THEN {PINNED} ELSE ?4 + CASE WHEN n <= 1 THEN 0.25 ELSE n END * ?5 END, n, ?5, ?6"
    " FROM (SELECT ?8 + IFNULL((SELECT MAX(r.hits) FROM entries e JOIN ranks r ON r.entry_id = e.entry_id"
    " WHERE e.key_hash = ?9 AND e.key = ?2 AND e.variant = ?3 AND e.entry_id < ?1), 0) AS n) WHERE 1"
    " ON CONFLICT(entry_id) DO UPDATE SET size = excluded.size, weight = excluded.weight"
)


def _rank_of(entry: EntryRow, inflation: float) -> tuple[Any, ...]:
    return (
        entry.entry_id,
        entry.key,
        entry.variant,
        inflation,
        entry.weight,
        entry.size,
        entry.is_pinned,
        entry.requests,
        entry.key_hash,
    )


def _checksum(row: Row) -> int | None:
    """Of a small row here: a function called by SQLite has to wait for this thread. Of a large one there, None."""
    return row_checksum(row.body_id, row.first, row.data) if len(row.data) <= _SMALL_ROW_BYTES else None


async def write_touches(db: aiosqlite.Connection, touches: list[tuple[int, int]], inflation: float) -> None:
    """Add uses to the scores. Raises sqlite3.Error."""
    await db.executemany(
        "UPDATE ranks SET hits = hits + ?2,"
        f" score = CASE WHEN score >= {PINNED} THEN score ELSE max(score, ?3 + (hits + ?2) * weight) END"
        " WHERE entry_id = ?1",
        [(entry_id, uses, inflation) for entry_id, uses in touches],
    )
