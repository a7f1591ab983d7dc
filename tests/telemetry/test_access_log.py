"""The access log: Squid's native format, one clean line an exchange, no secrets."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

import pytest

from cacheproxy.ports import ExchangeRecord
from cacheproxy.telemetry.access_log import MAX_BUFFERED_LINES, AccessLog, format_line
from cacheproxy.telemetry.counters import Repeated

NATIVE = re.compile(r"\d+\.\d{3} +\d+ \S+ [A-Z_]+/\d{3} \d+ \S+ \S+ \S+ \S+/\S+ \S+\n\Z")


def test_native_format() -> None:
    record = ExchangeRecord(
        "10.0.0.1", "GET", "http://h/a?token=1", status=200, started_at=1000.0, elapsed_s=0.25
    )
    record.client_bytes = 512
    record.hierarchy = "HIER_DIRECT/h"
    record.content_type = "text/html; charset=utf-8"
    assert format_line(record, with_query=False) == (
        "1000.250    250 10.0.0.1 TCP_MISS/200 512 GET http://h/a? - HIER_DIRECT/h text/html\n"
    )
    assert "token=1" in format_line(record, with_query=True)


@pytest.mark.parametrize("hostile", ["a b", "a\nb", "a\r\nb", "\x00", "\x1b[31m", "\xff", "", " "])
def test_hostile_texts_stay_on_their_line(hostile: str) -> None:
    record = ExchangeRecord("::1", hostile, "http://h/" + hostile, status=400, content_type=hostile)
    line = format_line(record, with_query=True)
    assert NATIVE.match(line), line


async def test_lines_reach_the_file_and_it_is_rotated(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "access.log", 400, 1, with_query=False)
    for _ in range(3):
        log.record(ExchangeRecord("::1", "GET", "http://h/", status=200))
        log._flush()
        log._thread.submit(lambda: None).result()
    log.close()
    kept = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert all(NATIVE.match(line + "\n") for text in kept for line in text.splitlines())
    assert sum(len(text.splitlines()) for text in kept) >= 1


async def test_what_comes_in_different_ways_keeps_its_order(tmp_path: Path) -> None:
    """Exchanges, those prepared ahead and the lines of other processes; more than are formatted together."""
    path = tmp_path / "access.log"
    log = AccessLog(path, 1_000_000, 1, with_query=False)
    again = Repeated(("hit", "2xx"), *log.prepare(ExchangeRecord("-", "GET", "http://again/", status=200)))
    for number in range(70):
        log.record(ExchangeRecord("::1", "GET", f"http://first/{number}", status=200))
    log.repeat([(again, "::2", 5.0, 7, 0.0), (again, "::3", 6.0, 8, 0.5)])
    log.record(ExchangeRecord("::1", "GET", "http://then/", status=200))
    log.add(format_line(ExchangeRecord("::4", "GET", "http://other/", status=200), with_query=False))
    log.close()
    lines = [line.split() for line in path.read_text().splitlines()]
    hosts = [line[6] for line in lines]
    assert hosts == [
        *(f"http://first/{n}" for n in range(70)),
        *["http://again/"] * 2,
        "http://then/",
        "http://other/",
    ]
    assert [line[:3] + line[4:5] for line in lines[70:72]] == [
        ["5.000", "0", "::2", "7"],
        ["6.000", "500", "::3", "8"],
    ]


async def test_what_the_file_cannot_take_in_time_is_dropped_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The bound is in lines, however they come."""
    caplog.set_level(logging.WARNING, logger="cacheproxy")
    path = tmp_path / "access.log"
    log = AccessLog(path, 100_000_000, 1, with_query=False)
    again = Repeated(("hit", "2xx"), *log.prepare(ExchangeRecord("-", "GET", "http://again/", status=200)))
    log.repeat([(again, "::1", 5.0, 7, 0.0)] * (MAX_BUFFERED_LINES - 4))
    log.repeat([(again, "::2", 5.0, 7, 0.0)])
    log.record(ExchangeRecord("::1", "GET", "http://last/", status=200))
    log.add("one\ntwo\nthree\n")
    log.record(ExchangeRecord("::1", "GET", "http://dropped/", status=200))
    log.repeat([(again, "::9", 5.0, 7, 0.0)] * 2)
    log._flush()
    async with asyncio.timeout(5):
        while log._is_writing:
            await asyncio.sleep(0)
    log.close()
    lines = path.read_text().splitlines()
    assert (len(lines), lines[-2:]) == (MAX_BUFFERED_LINES, ["one", "two"])
    assert lines[-3].split()[6] == "http://last/"
    assert "4 lines of the access log were dropped" in caplog.text
