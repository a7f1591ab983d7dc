"""What is stored, page by page, for operators: short statements on a connection of their own."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import aiosqlite

from cacheproxy.caching.options import CachingOptions
from cacheproxy.errors import StoreError
from cacheproxy.ports import ListedEntry
from cacheproxy.store.codec import decode
from cacheproxy.store.schema import scalar

PAGE_ROWS = 1000


class Listing:
    """Reads the whole table without ever holding a cursor. Raises StoreError."""

    def __init__(self, db: aiosqlite.Connection) -> None:
        self._db = db

    async def _fetch(self, sql: str, parameters: tuple[int, ...]) -> list[Any]:
        try:
            return list(await self._db.execute_fetchall(sql, parameters))
        except (sqlite3.Error, ValueError) as error:
            raise StoreError(str(error)) from error

    async def entries(self) -> AsyncIterator[list[ListedEntry]]:
        """Every stored response in pages, oldest first."""
        last = 0
        sql = (
            "SELECT entry_id, key, head, IFNULL(size, 0), stored_at, IFNULL(hits, 0)"
            " FROM entries LEFT JOIN ranks USING (entry_id) WHERE entry_id > ?"
            f" ORDER BY entry_id LIMIT {PAGE_ROWS}"
        )
        while page := [_listed(row) for row in await self._fetch(sql, (last,))]:
            last = page[-1].entry_id
            yield page

    async def keys(self) -> AsyncIterator[list[tuple[int, str, str]]]:
        """(entry id, key, variant) of every stored response in pages."""
        last = 0
        sql = (
            f"SELECT entry_id, key, variant FROM entries WHERE entry_id > ? ORDER BY entry_id LIMIT {PAGE_ROWS}"
        )
        while page := await self._fetch(sql, (last,)):
            last = page[-1][0]
            yield [(row[0], row[1], row[2]) for row in page]

    async def key_hashes(self) -> AsyncIterator[list[int]]:
        """The hash of every key in pages."""
        last = -(2**63)
        sql = f"SELECT key_hash FROM entries WHERE key_hash >= ? ORDER BY key_hash LIMIT {PAGE_ROWS}"
        while last < 2**63 and (page := await self._fetch(sql, (last,))):
            last = page[-1][0] + 1
            yield [row[0] for row in page]

    async def first_ids(self, up_to: int, count: int) -> list[int]:
        """The lowest ids, at most `count`, none above `up_to`."""
        sql = "SELECT entry_id FROM entries WHERE entry_id <= ? ORDER BY entry_id LIMIT ?"
        return [row[0] for row in await self._fetch(sql, (up_to, count))]

    async def usage(self) -> tuple[int, int, int]:
        """(bytes in use, stored responses, bytes of the file)."""
        try:
            pages = int(await scalar(self._db, "PRAGMA page_count"))
            free = int(await scalar(self._db, "PRAGMA freelist_count"))
            page_bytes = int(await scalar(self._db, "PRAGMA page_size"))
            entries = int(await scalar(self._db, "SELECT entries FROM totals"))
        except (sqlite3.Error, ValueError) as error:
            raise StoreError(str(error)) from error
        return (pages - free) * page_bytes, entries, pages * page_bytes


def _listed(row: Any) -> ListedEntry:
    entry_id, key, head, size, stored_at, hits = row
    status, content_type = 0, "(damaged)"
    try:
        stored = decode(
            head,
            CachingOptions(),
            key=key,
            entry_id=entry_id,
            body_id=0,
            length=0,
            parts="",
            forced_stale=False,
        )
        status, content_type = stored.status, stored.fields.get("content-type") or ""
    except StoreError:
        pass
    return ListedEntry(entry_id, key, status, size, stored_at, hits, content_type)
