"""The client's end of the direct path between an answer and its sending."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from cacheproxy.http.message import Fields, RequestHead, ResponseHead
from cacheproxy.ports import Answer
from cacheproxy.server.direct import DirectReply
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
        self.outlet = SimpleNamespace(is_paused=is_paused, count=lambda data: None, write_counted=self.write)

    def write(self, data: bytes) -> None:
        self.events.append(data.decode())

    def begin(self, *_: object) -> Any:
        return SimpleNamespace(status=0, content_type="", client_bytes=0, is_aborted=False)

    def finish(self) -> None:
        self.events.append("finished")


def reply_to(stub: Stub) -> DirectReply:
    clock = SimpleNamespace(wall=lambda: 0.0, monotonic=lambda: 0.0)
    line = SimpleNamespace(head=RequestHead("GET", "http://h/", (1, 1), Fields()), key="http://h/")
    plain: Any = (line, None, True)
    replies = Replies(None, None, clock, 5.0)  # type: ignore[arg-type]
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
