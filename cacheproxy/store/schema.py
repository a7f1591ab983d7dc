"""The SQLite file: tables, pragmas, version; a file that cannot be used is set aside, once, and said so."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import zlib
from pathlib import Path

import aiosqlite

from cacheproxy.store.ghosts import key_hash

log = logging.getLogger("cacheproxy")

PAGE_BYTES = 16 * 1024
SMALL_PAGE_BYTES = 4 * 1024
_SMALL_FILE_BYTES = 1024 * 1024 * 1024
SCHEMA_VERSION = 3
FILE_NAME = "cache.db"

_BUSY_MS = 500
_WRITER_CACHE_KIB = 2048
AT_ONCE_CACHE_KIB = 16 * 1024
LOOK_UPS_CACHE_KIB = 8 * 1024
LISTING_CACHE_KIB = 1024
"""Of the connections for reading: look-ups go through indexes of the whole file, whoever lists reads pages once."""

# `loose` holds the bodies that have rows but no entry: being written, unlinked, or left by a crash. The
# triggers keep it and the totals true whoever inserts or deletes.
# `ranks` is apart from `entries`: a use rewrites one of few pages with hundreds of narrow rows, not a page of heads.
# The index on keys is one of hashes for the same reason.
_TABLES = """
CREATE TABLE entries(
  entry_id INTEGER PRIMARY KEY,
  key_hash INTEGER NOT NULL,
  key TEXT NOT NULL,
  variant TEXT NOT NULL,
  body_id INTEGER NOT NULL,
  length INTEGER NOT NULL,
  parts TEXT NOT NULL,
  stale INTEGER NOT NULL,
  stored_at REAL NOT NULL,
  head_checksum INTEGER NOT NULL,
  head BLOB NOT NULL
);
CREATE INDEX entries_key ON entries(key_hash);
CREATE TABLE ranks(
  entry_id INTEGER PRIMARY KEY,
  score REAL NOT NULL,
  hits INTEGER NOT NULL,
  weight REAL NOT NULL,
  size INTEGER NOT NULL
);
CREATE INDEX ranks_score ON ranks(score);
CREATE TABLE chunks(
  body_id INTEGER NOT NULL,
  first INTEGER NOT NULL,
  length INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  data BLOB NOT NULL
);
CREATE UNIQUE INDEX chunks_place ON chunks(body_id, first);
CREATE TABLE loose(body_id INTEGER PRIMARY KEY);
CREATE TABLE ghosts(part INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE totals(entries INTEGER NOT NULL, bytes INTEGER NOT NULL, inflation REAL NOT NULL);
INSERT INTO totals VALUES (0, 0, 0.0);
CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
  DELETE FROM loose WHERE body_id = NEW.body_id;
END;
CREATE TRIGGER entry_removed AFTER DELETE ON entries BEGIN
  DELETE FROM ranks WHERE entry_id = OLD.entry_id;
  INSERT OR IGNORE INTO loose VALUES (OLD.body_id);
END;
CREATE TRIGGER rank_added AFTER INSERT ON ranks BEGIN
  UPDATE totals SET entries = entries + 1, bytes = bytes + NEW.size;
END;
CREATE TRIGGER rank_resized AFTER UPDATE OF size ON ranks BEGIN
  UPDATE totals SET bytes = bytes + NEW.size - OLD.size;
END;
CREATE TRIGGER rank_removed AFTER DELETE ON ranks BEGIN
  UPDATE totals SET entries = entries - 1, bytes = bytes - OLD.size;
END;
"""

# Which body has which digest; made where a file of before lacks it.
_DIGESTS = """
CREATE TABLE IF NOT EXISTS digests(
  digest BLOB NOT NULL,
  entry_id INTEGER NOT NULL,
  facts TEXT NOT NULL,
  PRIMARY KEY(digest, entry_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS digests_entry ON digests(entry_id);
CREATE TRIGGER IF NOT EXISTS digests_removed AFTER DELETE ON entries BEGIN
  DELETE FROM digests WHERE entry_id = OLD.entry_id;
END;
"""

_READER_PRAGMAS = ("PRAGMA wal_autocheckpoint=0", "PRAGMA query_only=1")

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
        set_aside(directory, str(error))
        return await _open_and_check(path, disk_bytes)


def set_aside(directory: Path, why: str) -> None:
    """Rename a file that cannot be used, its log with it; the next open makes a new one. Raises OSError."""
    log.warning(
        "%s cannot be used (%s); it is set aside as cache.damaged and a new one is made",
        directory / FILE_NAME,
        why,
    )
    for suffix in ("", "-wal", "-shm"):
        old = directory / (FILE_NAME + suffix)
        kept = directory / ("cache.damaged" + suffix)
        if old.exists():
            old.replace(kept)
        else:
            kept.unlink(missing_ok=True)


class _WrongVersion(Exception):
    pass


async def _open_and_check(path: Path, disk_bytes: int) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(path, isolation_level=None)
    try:
        await connection.execute(f"PRAGMA page_size={_page_bytes(disk_bytes)}")
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
        elif version != SCHEMA_VERSION:
            raise _WrongVersion(f"its format is {version}, not {SCHEMA_VERSION}")
        await connection.executescript(_DIGESTS)
        page_bytes = int(await scalar(connection, "PRAGMA page_size"))
        if page_bytes not in (PAGE_BYTES, SMALL_PAGE_BYTES):
            raise _WrongVersion(f"its pages are of {page_bytes} bytes")
        await scalar(connection, "SELECT entries FROM totals")
        page_count = await scalar(connection, "PRAGMA page_count")
        most = max(disk_bytes // page_bytes, int(page_count), 64)
        await scalar(connection, f"PRAGMA max_page_count={most}")
    except BaseException:
        await connection.close()
        raise
    return connection


def _page_bytes(disk_bytes: int) -> int:
    """Of a new file. What an object wastes, and what a small change writes, is up to a page: a lot of a small cache."""
    return SMALL_PAGE_BYTES if disk_bytes < _SMALL_FILE_BYTES else PAGE_BYTES


async def open_reader(directory: Path, cache_kib: int) -> aiosqlite.Connection:
    """A connection that only reads and never checkpoints, with so much of the file in memory."""
    connection = await aiosqlite.connect(directory / FILE_NAME, isolation_level=None)
    try:
        await _tune(connection, cache_kib)
        for pragma in _READER_PRAGMAS:
            await connection.execute(pragma)
    except BaseException:
        await connection.close()
        raise
    return connection


async def open_at_once(directory: Path) -> sqlite3.Connection:
    """The same without a thread, for the loop itself: close it. It never waits for a lock.

    It must not be the connection of a thread: the module waits for such a one's end holding what that may be waiting
    for, the interpreter's lock.
    """
    return await asyncio.to_thread(_open_at_once, directory / FILE_NAME)


def _open_at_once(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        for pragma in (f"PRAGMA cache_size=-{AT_ONCE_CACHE_KIB}", *_READER_PRAGMAS):
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


async def _tune(connection: aiosqlite.Connection, cache_kib: int) -> None:
    await connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    await connection.execute(f"PRAGMA cache_size=-{cache_kib}")
    await connection.execute("PRAGMA temp_store=MEMORY")
    await connection.create_function("key_hash", 1, _key_hash, deterministic=True)
    await connection.create_function("row_checksum", 3, row_checksum, deterministic=True)
    await connection.create_function("head_checksum", 5, head_checksum, deterministic=True)


def _key_hash(key: object) -> int | None:
    return key_hash(key) if isinstance(key, str) else None


# They cover the columns that say whose the bytes are: a flipped bit there would answer with another body. As SQL
# functions they run in the connection's thread; zlib lets the loop go on meanwhile.


def row_checksum(body_id: object, first: object, data: object) -> int | None:
    """Of a piece of a body; None where a damaged file has another type in the column."""
    return zlib.crc32(data, checksum_seed(body_id, first)) if isinstance(data, bytes) else None


def checksum_seed(body_id: object, first: object) -> int:
    """What the checksum of a piece begins with."""
    return zlib.crc32(b"%a %a" % (body_id, first))


def head_checksum(key: object, body_id: object, length: object, parts: object, head: object) -> int | None:
    """Of a stored head; None where a damaged file has another type in the column."""
    if not isinstance(head, bytes):
        return None
    return zlib.crc32(head, zlib.crc32(f"{key} {body_id} {length} {parts}".encode()))


async def scalar(connection: aiosqlite.Connection, sql: str) -> float:
    """The first column of the first row; 0 where there is none."""
    rows = list(await connection.execute_fetchall(sql))
    return rows[0][0] if rows else 0
