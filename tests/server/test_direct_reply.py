"""The client's end of the direct path between an answer and its sending."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from cacheproxy.caching.facts import FieldFacts
from cacheproxy.caching.response_facts import facts_of
from cacheproxy.http.head import split_plain_fields
from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.http.uri import parse_absolute
from cacheproxy.ports import Answer
from cacheproxy.server.direct import DirectReply
from cacheproxy.server.parse_memo import LineFacts
from cacheproxy.server.replies import Replies

ANSWER = Answer(ResponseHead(200, "OK", Fields([("Content-Length", "2")])), content=b"hi")


class Stub:
    """A connection that notes what happens to it."""

    def __init__(self, *, is_paused: bool) -> None:
        self.events: list[str] = []
        self.affinity = None
        self.inlet = SimpleNamespace(
            may_go_on=True, hold=lambda: None, release=lambda: self.events.append("released")
        )
        self.outlet = SimpleNamespace(
            is_paused=is_paused,
            count=lambda data: None,
            count_hot=len,
            write_counted=self.write,
            write=lambda data: self.write(bytes(data)),
            midway=lambda is_midway: None,
        )

    def write(self, data: bytes) -> None:
        self.events.append(data.decode())

    def begin(self, *_: object) -> Any:
        self.record = SimpleNamespace(status=0, content_type="", client_bytes=0, is_aborted=False)
        return self.record

    def finish(self) -> None:
        self.events.append("finished")

    def ended(self) -> None:
        self.events.append("ended")

    def end_soon(self) -> None:
        self.events.append("ends")

    def send_interim(self, head: ResponseHead) -> None:
        self.events.append(f"interim {head.status}")


def reply_to(
    stub: Stub, hot: Any = None, version: tuple[int, int] = (1, 1), fields: bytes = b"Host: h\r\n\r\n"
) -> DirectReply:
    clock = SimpleNamespace(wall=lambda: 0.0, monotonic=lambda: 0.0)
    line = LineFacts(RequestHead("GET", "http://h/", version, Fields(), parse_absolute("http://h/")))
    plain = line, FieldFacts(fields, split_plain_fields(fields[:-2].decode())), True, False
    replies = Replies(hot, None, clock, 5.0)  # type: ignore[arg-type]
    return DirectReply(replies, stub, plain, b"", SimpleNamespace(client="c"))  # type: ignore[arg-type]


SENT = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


async def test_a_client_that_catches_up_before_the_answer_is_sent_gets_it() -> None:
    stub = Stub(is_paused=True)
    reply = reply_to(stub)
    reply.answer(ANSWER)
    stub.outlet.is_paused = False
    reply.resumed()
    assert (stub.events, reply.is_over) == ([], False)
    await asyncio.sleep(0)
    assert stub.events == [SENT, "finished", "released"]


@pytest.mark.parametrize(
    ("version", "fields", "said", "end"),
    [
        ((1, 1), b"Host: h\r\nConnection: close\r\n\r\n", "Connection: close\r\n", "ends"),
        ((1, 0), b"Host: h\r\n\r\n", "Connection: close\r\n", "ends"),
        ((1, 0), b"Host: h\r\nConnection: keep-alive\r\n\r\n", "Connection: keep-alive\r\n", "released"),
    ],
)
async def test_what_the_request_says_of_its_connection(
    version: tuple[int, int], fields: bytes, said: str, end: str
) -> None:
    stub = Stub(is_paused=False)
    reply = reply_to(stub, Hot(), version, fields)
    reply.interim(ResponseHead(103, "Early Hints", Fields()))
    reply.answer(ANSWER)
    await asyncio.sleep(0)
    interim = ["interim 103"] if version == (1, 1) else []
    assert stub.events == [*interim, SENT.replace("\r\n\r\n", f"\r\n{said}\r\n"), "finished", end]


@pytest.mark.parametrize(
    ("version", "sent", "end"),
    [
        ((1, 1), ["Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n", "0\r\n\r\n"], "released"),
        # RFC 9112 §6.3: to HTTP/1.0 only the end of the connection says where such a body ends.
        ((1, 0), ["Connection: close\r\n", "hi"], "ends"),
    ],
)
async def test_a_body_of_unknown_length(version: tuple[int, int], sent: list[str], end: str) -> None:
    stub = Stub(is_paused=False)
    reply = reply_to(stub, None, version, b"Host: h\r\nConnection: keep-alive\r\n\r\n")
    reply.open(ResponseHead(200, "OK", Fields()), None)
    reply.piece(b"hi")
    reply.end()
    assert stub.events == [f"HTTP/1.1 200 OK\r\n{sent[0]}\r\n", *sent[1:], "finished", end]


async def test_a_client_that_is_behind_once_the_answer_is_sent_is_waited_for() -> None:
    stub = Stub(is_paused=True)
    reply = reply_to(stub)
    reply.answer(ANSWER)
    await asyncio.sleep(0)
    assert (stub.events, reply.is_over) == ([SENT], False)
    stub.outlet.is_paused = False
    reply.resumed()
    assert stub.events == [SENT, "finished", "released"]


async def test_a_client_that_has_left_is_sent_nothing() -> None:
    stub = Stub(is_paused=False)
    reply = reply_to(stub)
    reply.answer(ANSWER)
    reply.lost()
    await asyncio.sleep(0)
    assert stub.events == ["finished"]


class Hot:
    """A hot path that notes what it is to count."""

    def __init__(self) -> None:
        self.counted: list[tuple[Any, ...]] = []
        self.tally = SimpleNamespace(count_soon=self.counted.append)

    def missed(self, *what: object) -> tuple[object, ...]:
        return what


FACTS = facts_of(ResponseHead(404, "", Fields([("Content-Type", "text/plain")])))


async def test_a_plain_miss_is_counted_with_others_once_it_is_sent() -> None:
    stub, hot = Stub(is_paused=False), Hot()
    reply = reply_to(stub, hot)
    assert reply.takes_plain
    reply.pass_on(b"answer", FACTS, "HIER_DIRECT/h")
    assert (stub.events, hot.counted, reply.is_over) == ([], [], False)
    await asyncio.sleep(0)
    assert (stub.events, reply.is_over) == (["answer", "ended", "released"], True)
    assert hot.counted == [(("http://h/", FACTS, "HIER_DIRECT/h"), "c", 0.0, 6, 0.0)]


async def test_a_plain_miss_whose_client_is_behind_is_an_exchange_like_others() -> None:
    stub, hot = Stub(is_paused=True), Hot()
    reply = reply_to(stub, hot)
    reply.pass_on(b"answer", FACTS, "HIER_DIRECT/h")
    await asyncio.sleep(0)
    assert (stub.events, reply.is_over) == (["answer"], False)
    stub.outlet.is_paused = False
    reply.resumed()
    assert (stub.events, hot.counted) == (["answer", "finished", "released"], [])
    assert (stub.record.status, stub.record.content_type, stub.record.tag) == (404, "text/plain", "TCP_MISS")
    assert not stub.record.is_aborted


async def test_a_plain_miss_whose_client_has_left_is_logged_as_such() -> None:
    stub, hot = Stub(is_paused=False), Hot()
    reply = reply_to(stub, hot)
    reply.pass_on(b"answer", FACTS, "HIER_DIRECT/h")
    reply.lost()
    await asyncio.sleep(0)
    assert (stub.events, hot.counted, stub.record.is_aborted) == (["finished"], [], True)
    assert (stub.record.status, stub.record.hierarchy) == (404, "HIER_DIRECT/h")


async def test_who_has_been_told_something_or_is_another_worker_takes_no_plain_miss() -> None:
    assert not reply_to(Stub(is_paused=False)).takes_plain
    stub = Stub(is_paused=False)
    reply = reply_to(stub, Hot())
    reply.record()
    assert not reply.takes_plain
    stub = Stub(is_paused=False)
    stub.inlet.may_go_on = False
    assert not reply_to(stub, Hot()).takes_plain
