"""Parts that are not what was asked for: never joined, a new start before the head, a visible cut after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cacheproxy.app import App
from tests.conftest import Connect, StartProxy
from tests.e2e.test_partial import BODY, NEVER_FINISH, SIZE, aborted
from tests.support.files import File, Head, noise, quiet
from tests.support.origin import Origin, response

OTHER = noise(SIZE, seed=2)
CUT = (asyncio.IncompleteReadError, ConnectionError)


@pytest.fixture
async def app(start_proxy: StartProxy) -> App:
    return await start_proxy(*NEVER_FINISH)


@pytest.fixture
def file(origin: Origin) -> File:
    found = File(BODY)
    origin.routes["/f"] = found
    return found


def _moved(start: int, end: int, head: Head) -> Head:
    status, fields, body = head
    return status, _with_range(fields, f"bytes {start + 1}-{end}/{SIZE}"), body


def _with_range(fields: list[str], value: str) -> list[str]:
    return [f"Content-Range: {value}" if one.startswith("Content-Range") else one for one in fields]


def _too_long(start: int, end: int, head: Head) -> Head:
    status, fields, body = head
    fields = [one for one in fields if not one.startswith("Content-Length")]
    body = BODY[start : end + 10]
    fields.append(f"Content-Length: {len(body)}")
    return status, _with_range(fields, f"bytes {start}-{start + len(body) - 1}/{SIZE + 10}"), body


def _other_length(start: int, end: int, head: Head) -> Head:
    status, fields, body = head
    return status, _with_range(fields, f"bytes {start}-{end - 1}/{SIZE + 1}"), body


def _contradiction(start: int, end: int, head: Head) -> Head:
    status, fields, body = head
    return status, _with_range(fields, f"bytes {start}-{end - 2}/{SIZE}"), body


def _other_tag(start: int, end: int, head: Head) -> Head:
    status, fields, _body = head
    return status, ['ETag: "2"' if one.startswith("ETag") else one for one in fields], OTHER[start:end]


def _no_tag(start: int, end: int, head: Head) -> Head:
    status, fields, _body = head
    return status, [one for one in fields if not one.startswith("ETag")], OTHER[start:end]


def _multipart(start: int, end: int, head: Head) -> Head:
    status, fields, body = head
    return status, [*fields, "Content-Type: multipart/byteranges; boundary=x"], body


def _coded(start: int, end: int, head: Head) -> Head:
    status, fields, body = head
    return status, [*fields, "Content-Encoding: gzip"], body


def _refused(start: int, end: int, head: Head) -> Head:
    return "416 No", ["Content-Length: 0", f"Content-Range: bytes */{SIZE}"], b""


LIES = [_moved, _too_long, _other_length, _contradiction, _other_tag, _no_tag, _multipart, _coded, _refused]


@pytest.mark.parametrize("lie", LIES)
async def test_a_part_that_does_not_fit_is_never_joined(
    origin: Origin, app: App, connect: Connect, file: File, lie: Callable[[int, int, Head], Head]
) -> None:
    url = origin.url("/f")
    await aborted(app, connect, file, url, 1_000_000)
    file.lie = lie
    client = await connect(app)
    # Found before the head went: the right bytes, from the start.
    assert (await client.get(url)).body == BODY
    await quiet(app)
    assert file.asked[-1] == (0, SIZE)


@pytest.mark.parametrize("lie", LIES)
async def test_within_a_reply_it_is_a_visible_cut(
    origin: Origin, app: App, connect: Connect, file: File, lie: Callable[[int, int, Head], Head]
) -> None:
    file.lie, file.cuts = lie, [1_000_000]
    with pytest.raises(CUT):
        await (await connect(app)).get(origin.url("/f"))
    # The first part and one attempt.
    assert origin.count() == 2
    await quiet(app)
    assert (await (await connect(app)).get(origin.url("/f"))).body == BODY


async def test_a_shorter_part_than_asked_is_taken_and_the_rest_asked_for(
    origin: Origin, app: App, connect: Connect, file: File
) -> None:
    def shorter(start: int, end: int, head: Head) -> Head:
        status, fields, _ = head
        end = min(end, start + 700_000)
        fields = [one for one in fields if not one.startswith("Content-Length")]
        fields.append(f"Content-Length: {end - start}")
        return status, _with_range(fields, f"bytes {start}-{end - 1}/{SIZE}"), BODY[start:end]

    url = origin.url("/f")
    await aborted(app, connect, file, url, 1_000_000)
    file.lie, file.sent = shorter, 0
    assert (await (await connect(app)).get(url)).body == BODY
    assert file.sent == SIZE - 1_000_000


@pytest.mark.parametrize("extra", [b"", b"x" * 70_000])
async def test_unasked_or_lying_206_to_a_whole_request_is_not_stored(
    origin: Origin, app: App, connect: Connect, extra: bytes
) -> None:
    body = b"a" * 1000 + extra
    head = ('ETag: "1"', f"Content-Range: bytes 0-999/{len(body)}", "Cache-Control: max-age=60")
    origin.routes["/g"] = response(body[:1000], *head, status="206 Partial Content")
    client = await connect(app)
    await client.get(origin.url("/g"))
    await client.get(origin.url("/g"))
    assert origin.count("/g") == 2
