"""Counting many at once comes to the same as counting one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cacheproxy.caching.response_facts import facts_of
from cacheproxy.http.message import Fields, ResponseHead
from cacheproxy.ports import ExchangeRecord, Usage
from cacheproxy.reasons import Reason
from cacheproxy.telemetry.access_log import AccessLog, format_line
from cacheproxy.telemetry.counters import Counters

URLS = st.sampled_from(["http://h/a", "http://h/a?token=1", "http://h/\x80", "http://h/a b"])
ENDED = st.lists(
    st.tuples(
        st.booleans(),
        URLS,
        st.sampled_from([200, 204, 404, 503]),
        st.sampled_from(["-", "text/html; x=y", "a b"]),
        st.floats(0, 1e9),
        st.integers(0, 10**9),
        st.floats(0, 100),
    ),
    max_size=8,
)


class Lines:
    """The access log's lines, without its file."""

    def __init__(self) -> None:
        self.log = AccessLog(Path("unused"), 1, 1, with_query=False)
        self.texts: list[str] = []

    def prepare(self, exchange: Any) -> tuple[str, str]:
        return self.log.prepare(exchange)

    def repeat(self, ended: Any) -> None:
        for what, client, at, count, elapsed_s in ended:
            self.texts.append(f"{at:.3f} {round(elapsed_s * 1000):6d} {client}{what.before}{count}{what.after}")


@settings(deadline=None, derandomize=True, database=None, max_examples=100)
@given(ENDED)
def test_hits_and_misses_counted_together(ended: list[tuple[bool, str, int, str, float, int, float]]) -> None:
    lines, apart_lines = Lines(), []
    together, apart = Counters(), Counters()
    together.log = lines
    again = []
    for is_hit, url, status, content_type, at, count, elapsed_s in ended:
        record = ExchangeRecord(
            "::1", "GET", url, status=status, started_at=at - elapsed_s, elapsed_s=elapsed_s, client_bytes=count
        )
        record.content_type = content_type
        if is_hit:
            record.reason, record.tag = Reason.HIT, "TCP_MEM_HIT"
            what: Any = together.prepare(record)
        else:
            record.reason, record.tag, record.hierarchy = Reason.URI_MISS, "TCP_MISS", "HIER_DIRECT/h"
            head = ResponseHead(status, "", Fields([("Content-Type", content_type)]))
            what = together.missed(url, facts_of(head), "HIER_DIRECT/h")
        again.append((what, "::1", record.started_at + elapsed_s, count, elapsed_s))
        apart.client_sent(count)
        apart.finished(record)
        apart_lines.append(format_line(record, with_query=False))
    together.tallied(again)
    hits = sum(is_hit for is_hit, *_ in ended)
    usage = Usage()
    assert together.snapshot(usage, 0) == {**apart.snapshot(usage, 0), "hot_answers": hits}
    assert lines.texts == apart_lines
