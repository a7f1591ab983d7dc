"""The access log in Squid's native format; lines are buffered and written by a thread of their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from cacheproxy.ports import ExchangeRecord
from cacheproxy.telemetry.counters import Missed

log = logging.getLogger("cacheproxy")

FLUSH_S = 0.2
MAX_BUFFERED_LINES = 50_000
_FORMATTED_TOGETHER = 64
# What is a millisecond by rounding: most answers take less.
_SHORTEST_S = 0.0005


def format_line(record: ExchangeRecord, *, with_query: bool) -> str:
    """`time elapsed client tag/status bytes method URL user hierarchy type`, one line, nothing unprintable."""
    before, after = line_parts(record, with_query=with_query)
    return (
        f"{record.started_at + record.elapsed_s:.3f} {max(0, round(record.elapsed_s * 1000)):6d} {record.client}"
        f"{before}{record.client_bytes}{after}"
    )


def line_parts(record: ExchangeRecord | Missed, *, with_query: bool) -> tuple[str, str]:
    """What stands in a line between the client and the bytes, and behind the bytes."""
    url = record.url
    if not with_query and "?" in url:
        # As Squid's strip_query_terms: the query is where secrets travel.
        url = url[: url.index("?") + 1]
    if not url or " " in url or not (url.isascii() and url.isprintable()):
        url = _clean(url)
    content_type = record.content_type
    behind = _known_behind if len(content_type) <= _SHORT_TYPE else _behind
    method = record.method if record.method == "GET" else _clean(record.method)
    return (
        _outcome(record.tag, record.is_aborted, record.status),
        f" {method} {url}{behind(record.user, record.hierarchy, content_type)}",
    )


@lru_cache(1024)
def _outcome(tag: str, is_aborted: bool, status: int) -> str:
    return f" {tag}{'_ABORTED' if is_aborted else ''}/{status:03d} "


def _behind(user: str, hierarchy: str, content_type: str) -> str:
    essence = content_type.partition(";")[0].strip()
    return f" {_clean(user)} {_clean(hierarchy)} {_clean(essence)}\n"


# Few users, hosts and types make up most lines.
_known_behind = lru_cache(1024)(_behind)
_SHORT_TYPE = 128


def _clean(text: str) -> str:
    if text and " " not in text and text.isascii() and text.isprintable():
        return text
    return quote(text, safe="!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", encoding="latin-1") or "-"


class Line(Protocol):
    """The parts of a line between which the number of bytes stands."""

    before: str
    after: str


class AccessLog:
    """Appends to a file that is rotated by size. Start it in the loop, close it at the end."""

    def __init__(self, path: Path, max_bytes: int, keep: int, *, with_query: bool) -> None:
        self._handler = RotatingFileHandler(
            path, maxBytes=max_bytes, backupCount=keep, encoding="ascii", delay=True
        )
        self._handler.terminator = ""
        self._handler.setFormatter(logging.Formatter("%(message)s"))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="access-log")
        self._with_query = with_query
        # Exchanges become lines many at once, but soon: what is kept until the file is written is new memory for
        # each, and pushes what the hot path needs out of the processor's cache.
        self._exchanges: list[ExchangeRecord] = []
        self._texts: list[str] = []
        self._buffered_lines = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_writing = False
        self._is_closed = False
        self._dropped = 0

    def record(self, exchange: ExchangeRecord) -> None:
        """Add a line. Where the file cannot keep up, lines are dropped and the log says how many."""
        if self._timer is None or self._buffered_lines >= MAX_BUFFERED_LINES:
            if not self._room_for(1):
                return
        else:
            self._buffered_lines += 1
        self._exchanges.append(exchange)
        if len(self._exchanges) >= _FORMATTED_TOGETHER:
            self._format()

    def prepare(self, exchange: ExchangeRecord | Missed) -> tuple[str, str]:
        """The parts of a line that `repeat` writes again and again."""
        return line_parts(exchange, with_query=self._with_query)

    def repeat(self, ended: Sequence[tuple[Line, str, float, int, float]]) -> None:
        """Add lines of exchanges prepared ahead: (what `line` stands in, client, at, bytes, seconds) each."""
        lines = []
        second, begin, end = "", 0.0, 0.0
        for what, client, at, count, elapsed_s in ended:
            # Many end within a millisecond, and to write a number takes half of what a line does.
            if not begin <= at < end:
                second = f"{at:.3f}"
                begin, end = float(second) - 0.0005, float(second) + 0.0005
            lines.append(
                f"{second} {round(elapsed_s * 1000):6d} {client}{what.before}{count}{what.after}"
                if elapsed_s > _SHORTEST_S
                else f"{second}      0 {client}{what.before}{count}{what.after}"
            )
        if room := self._room_for(len(lines)):
            self._format()
            self._texts.append("".join(lines[:room]))

    def add(self, lines: str) -> None:
        """Add lines that another process has formatted."""
        count = lines.count("\n")
        if room := self._room_for(count):
            self._format()
            self._texts.append(lines if room == count else "".join(lines.splitlines(keepends=True)[:room]))

    def _room_for(self, lines: int) -> int:
        room = min(lines, MAX_BUFFERED_LINES - self._buffered_lines)
        self._dropped += lines - room
        self._buffered_lines += room
        self._flush_soon()
        return room

    def _format(self) -> None:
        if self._exchanges:
            exchanges, self._exchanges = self._exchanges, []
            with_query = self._with_query
            self._texts.append("".join([format_line(one, with_query=with_query) for one in exchanges]))

    def _take(self) -> str:
        self._format()
        texts, self._texts = self._texts, []
        self._buffered_lines = 0
        return "".join(texts)

    def _flush_soon(self) -> None:
        if self._timer is None and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._is_writing or not self._buffered_lines:
            return
        text = self._take()
        self._is_writing = True
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._write, text)
        future.add_done_callback(self._written)

    def _write(self, text: str) -> None:
        self._handler.emit(logging.makeLogRecord({"msg": text}))

    def _written(self, future: asyncio.Future[None]) -> None:
        self._is_writing = False
        if not future.cancelled() and (error := future.exception()) is not None:
            log.warning("the access log cannot be written: %s", error)
        if self._dropped:
            log.warning("%d lines of the access log were dropped", self._dropped)
            self._dropped = 0
        if self._buffered_lines and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def reopen(self) -> None:
        """Close the file; the next line opens it anew (for outside rotation)."""
        self._thread.submit(self._handler.close)

    def close(self) -> None:
        """Write what is buffered and close the file."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._buffered_lines:
            self._thread.submit(self._write, self._take())
        self._thread.submit(self._handler.close)
        self._thread.shutdown(wait=True)


class RelayedAccessLog(AccessLog):
    """The lines of a worker: `send` takes them to the process that has the file, False where it cannot."""

    def __init__(self, send: Callable[[str], bool], *, with_query: bool) -> None:
        super().__init__(Path("unused"), 0, 0, with_query=with_query)
        self._send = send

    def _flush(self) -> None:
        self._timer = None
        lines = self._buffered_lines
        if lines and not self._send(self._take()):
            log.warning("%d lines of the access log were dropped", self._dropped + lines)
            self._dropped = 0

    def close(self) -> None:
        """Send what is buffered."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        self._thread.shutdown(wait=True)
