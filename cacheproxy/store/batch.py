"""What one write transaction does: collected by the writer, carried out in a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import aiosqlite

MAX_VARIANTS = 32
"""Stored responses kept under one key; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Row:
    """A piece of a body: at most 256 KiB from `first` on."""

    body_id: int
    first: int
    data: bytes


@dataclass(frozen=True, slots=True)
class EntryRow:
    """A stored response as columns."""

    entry_id: int
    key: str
    variant: str
    body_id: int
    length: int
    size: int
    weight: float
    stored_at: float
    head: bytes


@dataclass(frozen=True, slots=True)
class NewHead:
    """New fields for an entry."""

    entry_id: int
    stored_at: float
    is_stale: bool
    head: bytes


@dataclass(slots=True)
class Batch:
    """Operations that commit together, and who wants to know how it went."""

    opened: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    entries: list[EntryRow] = field(default_factory=list)
    heads: list[NewHead] = field(default_factory=list)
    removed_keys: list[tuple[str, int]] = field(default_factory=list)
    removed_ids: list[int] = field(default_factory=list)
    stale_ids: list[int] = field(default_factory=list)
    touches: dict[int, int] = field(default_factory=dict)
    data_bytes: int = 0
    committed: list[Callable[[], None]] = field(default_factory=list)
    failed: list[Callable[[], None]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Operations in the batch."""
        return (
            len(self.rows)
            + len(self.entries)
            + len(self.heads)
            + len(self.removed_keys)
            + len(self.removed_ids)
            + len(self.stale_ids)
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return self.count == 0 and not self.touches

    async def carry_out(self, db: aiosqlite.Connection, inflation: float) -> None:
        """Run every statement inside the caller's transaction. Raises sqlite3.Error."""
        if self.opened:
            await db.executemany("INSERT OR IGNORE INTO loose VALUES (?)", [(body,) for body in self.opened])
        if self.rows:
            await db.executemany(
                "INSERT INTO chunks(body_id, first, length, checksum, data) VALUES (?1, ?2, ?3, crc32(?4), ?4)",
                [(row.body_id, row.first, len(row.data), row.data) for row in self.rows],
            )
        if self.entries:
            await db.executemany(
                "DELETE FROM entries WHERE key = ? AND variant = ? AND entry_id < ?",
                [(entry.key, entry.variant, entry.entry_id) for entry in self.entries],
            )
            await db.executemany(
                "INSERT INTO entries(entry_id, key, variant, body_id, length, size, weight, score, hits, stale,"
                " stored_at, head_checksum, head) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1, 0, ?9, crc32(?10), ?10)",
                [
                    (
                        entry.entry_id,
                        entry.key,
                        entry.variant,
                        entry.body_id,
                        entry.length,
                        entry.size,
                        entry.weight,
                        inflation + 0.25 * entry.weight,
                        entry.stored_at,
                        entry.head,
                    )
                    for entry in self.entries
                ],
            )
            varied = {entry.key for entry in self.entries if entry.variant != "[[],[]]"}
            await db.executemany(
                "DELETE FROM entries WHERE key = ?1 AND entry_id NOT IN"
                f" (SELECT entry_id FROM entries WHERE key = ?1 ORDER BY entry_id DESC LIMIT {MAX_VARIANTS})",
                [(key,) for key in varied],
            )
        if self.heads:
            await db.executemany(
                "UPDATE entries SET stored_at = ?2, stale = ?3, head_checksum = crc32(?4), head = ?4 WHERE entry_id = ?1",
                [(new.entry_id, new.stored_at, new.is_stale, new.head) for new in self.heads],
            )
        if self.stale_ids:
            await db.executemany(
                "UPDATE entries SET stale = 1 WHERE entry_id = ?", [(one,) for one in self.stale_ids]
            )
        if self.removed_keys:
            await db.executemany("DELETE FROM entries WHERE key = ? AND entry_id <= ?", self.removed_keys)
        if self.removed_ids:
            await db.executemany("DELETE FROM entries WHERE entry_id = ?", [(one,) for one in self.removed_ids])
        if self.touches:
            await db.executemany(
                "UPDATE entries SET hits = hits + ?2, score = ?3 + (hits + ?2) * weight WHERE entry_id = ?1",
                [(entry_id, uses, inflation) for entry_id, uses in self.touches.items()],
            )
