"""Validations on the direct path and on the ordinary one: the same bytes to client and origin, log, counts and uses."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from cacheproxy.http.dates import format_date
from tests.server.test_hot_equals_ordinary import House, begun
from tests.support import origin
from tests.support.origin import Received, response
from tests.support.twins import IN_MEMORY, ON_DISK, START, Wire

DATE = "Date: " + format_date(START)
LATER = "Date: " + format_date(START + 100)
TAG, WEAK = 'ETag: "1"', 'ETag: W/"1"'
MODIFIED = "Last-Modified: " + format_date(START - 86400)
SHORT = "Cache-Control: max-age=50"

STORED = {
    "tag": response(b"stored", DATE, SHORT, TAG),
    "date": response(b"stored", DATE, SHORT, MODIFIED),
    "both": response(b"stored", DATE, SHORT, TAG, MODIFIED, "X-Kept: 1", "X-Changed: old", "Age: 3"),
    "weak": response(b"stored", DATE, "Cache-Control: no-cache", WEAK),
    "kind": response(b"stored", DATE, f"{SHORT}, stale-if-error=500", TAG, "Set-Cookie: a=b"),
    "strict": response(b"stored", DATE, f"{SHORT}, must-revalidate", TAG),
    "public": response(b"stored", DATE, f"{SHORT}, public", TAG, "Vary: Accept"),
    "none": response(b"stored", DATE, SHORT),
    "empty": response(b"", DATE, SHORT, TAG),
    "coded": response(b"stored", DATE, SHORT, TAG, "Content-Encoding: gzip"),
    "gone": response(b"stored", DATE, SHORT, TAG, status="404 Not Found"),
}
ASKED = {
    "plain": (),
    "reload": ("Cache-Control: no-cache",),
    "old reload": ("Pragma: no-cache",),
    "again": ("Cache-Control: max-age=0", "Accept-Encoding: gzip"),
    "strict": ("Cache-Control: max-age=10, min-fresh=4",),
    "not kept": ("Cache-Control: no-store, max-age=0",),
    "only": ("Cache-Control: only-if-cached, max-age=0",),
    "known": ("Authorization: Basic eA==",),
    "last": ("Connection: close",),
    "own": ('If-None-Match: "1"', "Cache-Control: max-age=0"),
}
ANSWERS = {
    "304": response(b"", LATER, status="304 Not Modified"),
    "304 tag": response(b"", LATER, TAG, "Cache-Control: max-age=900", "X-Changed: new", status="304 Not Modified"),
    "304 other": response(b"", LATER, 'ETag: "2"', status="304 Not Modified"),
    "304 date": response(b"", LATER, MODIFIED, SHORT, status="304 Not Modified"),
    "304 cookie": response(b"", LATER, "Set-Cookie: own=1", TAG, status="304 Not Modified"),
    "304 private": response(b"", LATER, "Cache-Control: private", status="304 Not Modified"),
    "200": response(b"changed", LATER, SHORT, 'ETag: "2"'),
    "200 private": response(b"changed", LATER, "Cache-Control: no-store"),
    "404": response(b"gone", LATER, "Cache-Control: no-store", status="404 Not Found"),
    "503": response(b"down", LATER, status="503 Service Unavailable"),
    "500 kept": response(b"down", LATER, "Cache-Control: max-age=9", status="500 Internal Server Error"),
    "cut": None,
}  # fmt: skip
SIMPLE = {"plain", "reload", "old reload", "again", "strict", "known", "last"}


class Script:
    """The origin: first what is to be stored, then the answer to whoever asks again; unconditional requests get a 200."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.stored = b""
        self.answer: bytes | None = b""
        self.asked = 0
        house.twins.origin.routes["/x"] = self

    async def __call__(self, received: Received, wire: origin.Wire) -> None:
        self.asked += 1
        has_condition = bool(received.field("if-none-match") or received.field("if-modified-since"))
        if self.asked == 1:
            await wire.send(self.stored)
        elif self.answer is None:
            wire.close()
        elif self.answer.startswith(b"HTTP/1.1 304") and not has_condition:
            await wire.send(response(b"anew", LATER, SHORT, 'ETag: "9"'))
        else:
            await wire.send(self.answer)


@pytest.fixture(scope="module", params=["in memory", "on disk"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory: Path = tmp_path_factory.mktemp("twins")
    options = IN_MEMORY if request.param == "in memory" else ON_DISK
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cacheproxy.store.writer.BATCH_DELAY_S", 0.001)
        yield from begun(House(directory, options))


@pytest.mark.parametrize("stored", STORED)
def test_equal(house: House, stored: str) -> None:
    async def check(asked: str, answer: str) -> bool:
        twins = house.twins
        await twins.reset()
        twins.origin.requests.clear()
        lines = (f"GET {twins.origin.url('/x')} HTTP/1.1", "Host: x")
        first = "\r\n".join([*lines, "", ""]).encode()
        request = "\r\n".join([*lines, *ASKED[asked], "", ""]).encode()
        heads: list[list[bytes]] = []
        wires: list[Wire] = []
        has_task = False
        for twin in twins.pair:
            script = Script(house)
            script.stored, script.answer = STORED[stored], ANSWERS[answer]
            begin = len(twins.origin.requests)
            twin.clock.now = START
            wire = twin.connect()
            await twin.feed(wire, first)
            await twin.finish(wire)
            twin.clock.now = START + 100
            wire = twin.connect()
            # Asked, asked again, and whatever is there now.
            await twin.feed(wire, request)
            if twin is twins.hot:
                has_task = wire.protocol._task_handler is not None
            await twin.feed(wire, request, first)
            heads.append([one.head for one in twins.origin.requests[begin:]])
            await twin.finish(wire)
            wires.append(wire)
        assert heads[0] == heads[1]
        twins.compare(*wires)
        return not has_task

    direct = set()
    for asked, answer in itertools.product(ASKED, ANSWERS):
        try:
            if house.run(asyncio.wait_for(check(asked, answer), 20)):
                direct.add((asked, answer.partition(" ")[0]))
        except BaseException as error:
            error.add_note(f"{stored}, {asked}, {answer}")
            raise
    if stored in ("tag", "both", "date", "kind", "strict", "gone", "empty"):
        # What still holds needs no task.
        assert {one for one, how in direct if how == "304"} >= SIMPLE
    if stored in ("public", "none", "coded"):
        assert not {(one, how) for one, how in direct if one == "plain"}
