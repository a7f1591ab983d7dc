"""The access log: Squid's native format, one clean line an exchange, no secrets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cacheproxy.ports import ExchangeRecord
from cacheproxy.telemetry.access_log import AccessLog, format_line

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
