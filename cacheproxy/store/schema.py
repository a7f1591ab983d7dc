"""The SQLite file: tables, pragmas, version; a file that cannot be used is set aside, once, and said so."""

from __future__ import annotations

import logging
import sqlite3
import zlib
from pathlib import Path

import aiosqlite

log = logging.getLogger("cacheproxy")

PAGE_BYTES = 16 * 1024
SCHEMA_VERSION = 1
FILE_NAME = "cache.db"

_BUSY_MS = 500
_WRITER_CACHE_KIB = 2048
_READER_CACHE_KIB = 1024

# `loose` holds the bodies that have rows but no entry: being written, unlinked, or left by a crash. The
# triggers keep it and the totals true whoever inserts or deletes.
_TABLES = """
CREATE TABLE entries(
  entry_id INTEGER PRIMARY KEY,
  key TEXT NOT NULL,
  variant TEXT NOT NULL,
  body_id INTEGER NOT NULL,
  length INTEGER NOT NULL,
  size INTEGER NOT NULL,
  weight REAL NOT NULL,
  score REAL NOT NULL,
  hits INTEGER NOT NULL,
  stale INTEGER NOT NULL,
  stored_at REAL NOT NULL,
  head_checksum INTEGER NOT NULL,
  head BLOB NOT NULL
);
CREATE INDEX entries_key ON entries(key);
CREATE INDEX entries_score ON entries(score);
CREATE TABLE chunks(
  body_id INTEGER NOT NULL,
  first INTEGER NOT NULL,
  length INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  data BLOB NOT NULL
);
CREATE UNIQUE INDEX chunks_place ON chunks(body_id, first);
CREATE TABLE loose(body_id INTEGER PRIMARY KEY);
CREATE TABLE totals(entries INTEGER NOT NULL, bytes INTEGER NOT NULL, inflation REAL NOT NULL);
INSERT INTO totals VALUES (0, 0, 0.0);
CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
  UPDATE totals SET entries = entries + 1, bytes = bytes + NEW.size;
  DELETE FROM loose WHERE body_id = NEW.body_id;
END;
CREATE TRIGGER entry_removed AFTER DELETE ON entries BEGIN
  UPDATE totals SET entries = entries - 1, bytes = bytes - OLD.size;
  INSERT OR IGNORE INTO loose VALUES (OLD.body_id);
END;
"""

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file itself is broken."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.DatabaseError) and code is not None and (code & 0xFF) in _DAMAGE


async def open_writer(directory: Path, disk_bytes: int) -> aiosqlite.Connection:
    """The one connection that writes and checkpoints. A damaged or foreign file is renamed and replaced.

    Raises sqlite3.Error or OSError where even a new file cannot be made.
    """
    path = directory / FILE_NAME
    try:
        return await _open_and_check(path, disk_bytes)
    except (sqlite3.DatabaseError, _WrongVersion) as error:
        if isinstance(error, sqlite3.OperationalError) and not is_damage(error):
            raise
        aside = path.with_suffix(".damaged")
        log.warning(
            "%s cannot be used (%s); it is set aside as %s and a new one is made", path, error, aside.name
        )
        for suffix in ("", "-wal", "-shm"):
            old = path.with_name(path.name + suffix)
            if old.exists():
                old.replace(aside.with_name(aside.name + suffix))
        return await _open_and_check(path, disk_bytes)


def set_aside(directory: Path, why: str) -> None:
    """Rename a file that cannot be used, its log with it; the next open makes a new one. Raises OSError."""
    log.warning(
        "%s cannot be used (%s); it is kept as cache.damaged and a new one is made", directory / FILE_NAME, why
    )
    for suffix in ("", "-wal", "-shm"):
        old = directory / (FILE_NAME + suffix)
        if old.exists():
            old.replace(directory / ("cache.damaged" + suffix))


class _WrongVersion(Exception):
    pass


async def _open_and_check(path: Path, disk_bytes: int) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(path, isolation_level=None)
    try:
        await connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        await connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        await connection.execute("PRAGMA journal_mode=WAL")
        await _tune(connection, _WRITER_CACHE_KIB)
        await connection.execute("PRAGMA synchronous=NORMAL")
        # Debian's SQLite overwrites what is deleted: every freed page would go through the log.
        await connection.execute("PRAGMA secure_delete=OFF")
        await connection.execute("PRAGMA wal_autocheckpoint=0")
        await connection.execute("PRAGMA journal_size_limit=33554432")
        version = await scalar(connection, "PRAGMA user_version")
        tables = await scalar(connection, "SELECT COUNT(*) FROM sqlite_master")
        if version == 0 and tables == 0:
            await connection.executescript(_TABLES)
            await connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION or await scalar(connection, "PRAGMA page_size") != PAGE_BYTES:
            raise _WrongVersion(f"its format is {version}, not {SCHEMA_VERSION}")
        await scalar(connection, "SELECT entries FROM totals")
        page_count = await scalar(connection, "PRAGMA page_count")
        await scalar(connection, f"PRAGMA max_page_count={max(disk_bytes // PAGE_BYTES, int(page_count), 64)}")
    except BaseException:
        await connection.close()
        raise
    return connection


async def open_reader(directory: Path) -> aiosqlite.Connection:
    """A connection that only reads and never checkpoints."""
    connection = await aiosqlite.connect(directory / FILE_NAME, isolation_level=None)
    await _tune(connection, _READER_CACHE_KIB)
    await connection.execute("PRAGMA wal_autocheckpoint=0")
    await connection.execute("PRAGMA query_only=1")
    return connection


async def _tune(connection: aiosqlite.Connection, cache_kib: int) -> None:
    await connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    await connection.execute(f"PRAGMA cache_size=-{cache_kib}")
    await connection.execute("PRAGMA temp_store=MEMORY")
    await connection.create_function("crc32", 1, _checksum, deterministic=True)


def _checksum(data: bytes | None) -> int | None:
    # Runs in the connection's thread; zlib lets the loop go on meanwhile.
    return None if data is None else zlib.crc32(data)


async def scalar(connection: aiosqlite.Connection, sql: str) -> float:
    """The first column of the first row; 0 where there is none."""
    rows = list(await connection.execute_fetchall(sql))
    return rows[0][0] if rows else 0
