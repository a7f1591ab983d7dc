"""Reads that the loop makes itself: most of what is asked for often is in the machine's page cache.

A thread, which reads go to otherwise, costs more than such a read.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from typing import Any
from zlib import crc32

from cacheproxy.store.ghosts import key_hash
from cacheproxy.store.reading import LOOKUP
from cacheproxy.store.schema import checksum_seed

log = logging.getLogger("cacheproxy")

_SHARE = 32
# Slow reads that are far apart, in `_SHARE` times their seconds: a machine that is busy for a moment is no slow disk.
_SPARED_S = 0.5
_LONGEST_S = 600.0

_LOOKUP = LOOKUP.format(marks="?")
_FIRST = "SELECT data, checksum, rowid FROM chunks WHERE body_id = ? AND first = 0"
_SAME = "SELECT data, checksum FROM chunks WHERE rowid = ?"


class Place:
    """Where the first row of a body is: its `number`, once it is known, finds it for less."""

    __slots__ = ("_seed", "body_id", "number")

    def __init__(self, body_id: int) -> None:
        self.body_id = body_id
        self.number = 0
        self._seed = checksum_seed(body_id, 0)

    def checked(self, data: object, checksum: int) -> bytes | None:
        """The bytes; None where they are not from there, as they were written."""
        return data if isinstance(data, bytes) and crc32(data, self._seed) == checksum else None


class AtOnce:
    """Reads by a connection of the loop's own. Close it.

    What took more than `wait_s` seconds is followed by a pause, `_SHARE` times as long, at most `_LONGEST_S`, of which
    `_SPARED_S` are let off where there was none for so long: slow reads take about a thirtieth of the loop's time. With 0
    everything is left to the thread.

    Rows of bodies never change, so that those of one turn of the loop are read as of its first: a transaction costs as
    much as a row.
    """

    __slots__ = ("_db", "_execute", "_from", "_is_in_transaction", "_monotonic", "_soon", "_wait_s")

    def __init__(
        self,
        db: sqlite3.Connection,
        wait_s: float,
        monotonic: Callable[[], float],
        soon: Callable[[Callable[[], None]], object],
    ) -> None:
        """`monotonic` tells the time, `soon` has something called at the beginning of the loop's next turn."""
        self._db = db
        self._execute = db.cursor().execute
        self._monotonic = monotonic
        self._soon = soon
        self._wait_s = wait_s
        # Before this nothing is tried.
        self._from = 0.0 if wait_s else float("inf")
        self._is_in_transaction = False

    def close(self) -> None:
        """Read nothing more."""
        self._db.close()

    def look_up(self, key: str) -> list[Any] | None:
        """The rows of a key: the columns of `LOOKUP`; None where that takes too long or fails."""
        if self._is_in_transaction:
            # They do change.
            self._end()
        rows = self._rows(_LOOKUP, key_hash(key))
        return rows and [row for row in rows if row[0] == key]

    def first_row(self, place: Place) -> bytes | None:
        """The first bytes of a body; None where that takes too long or fails, or they are lost or damaged."""
        if not self._is_in_transaction and not self._begin():
            return None
        if place.number:
            rows = self._rows(_SAME, place.number)
            if rows is None:
                return None
            if rows and (data := place.checked(*rows[0])) is not None:
                return data
            # Perhaps the row is another body's now.
            place.number = 0
        rows = self._rows(_FIRST, place.body_id)
        if not rows:
            return None
        *row, place.number = rows[0]
        return place.checked(*row)

    def _begin(self) -> bool:
        if self._monotonic() < self._from:
            return False
        try:
            self._execute("BEGIN")
        except sqlite3.Error:
            return False
        self._is_in_transaction = True
        self._soon(self._end)
        return True

    def _end(self) -> None:
        if self._is_in_transaction:
            self._is_in_transaction = False
            try:
                self._execute("COMMIT")
            except sqlite3.Error as error:
                # Closed meanwhile; or an error has ended it.
                log.debug("a read transaction: %s", error)

    def _rows(self, sql: str, parameter: int) -> list[Any] | None:
        began = self._monotonic()
        if began < self._from:
            return None
        rows: list[Any] | None = None
        try:
            rows = self._execute(sql, (parameter,)).fetchall()
        except sqlite3.Error:
            # It will fail in the thread too, or not any more; there it is counted.
            rows = None
        ended = self._monotonic()
        if ended - began > self._wait_s:
            pause = min(_SHARE * (ended - began), _LONGEST_S)
            self._from = max(self._from, ended - _SPARED_S) + pause
        return rows
