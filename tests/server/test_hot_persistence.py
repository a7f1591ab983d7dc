"""What a request says of its connection (RFC 9112 §9.3) is heeded by the hot path as by the ordinary one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cacheproxy.server.lingering import LINGER_BYTES, LINGER_S, Lingering
from cacheproxy.server.outlet import Outlet
from tests.server.test_hot_equals_ordinary import House, begun

KEEP = "Connection: keep-alive"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory: Path = tmp_path_factory.mktemp("twins")
    yield from begun(House(directory))


@pytest.mark.parametrize(
    ("version", "fields", "said", "goes_on"),
    [
        ("HTTP/1.1", [], "", True),
        ("HTTP/1.1", [KEEP], "", True),
        ("HTTP/1.1", ["Connection: close"], "close", False),
        ("HTTP/1.1", ["Proxy-Connection: Close"], "close", False),
        ("HTTP/1.1", ["Connection: close, x-own", "X-Own: 1"], "close", False),
        ("HTTP/1.1", ["Connection: close, keep-alive"], "close", False),
        ("HTTP/1.0", [], "close", False),
        ("HTTP/1.0", [KEEP], "keep-alive", True),
        ("HTTP/1.0", ["Proxy-Connection: Keep-Alive"], "keep-alive", True),
        ("HTTP/1.0", [KEEP, "Connection: close"], "close", False),
        ("HTTP/1.0", [KEEP, "Range: bytes=1-2"], "keep-alive", True),
        ("HTTP/1.0", ['If-None-Match: "1"'], "close", False),
        # What Connection names is for us alone: it is no condition.
        ("HTTP/1.1", ["Connection: close, if-none-match", 'If-None-Match: "1"'], "close", False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_persistence(
    house: House, method: str, version: str, fields: list[str], said: str, goes_on: bool
) -> None:
    async def check() -> None:
        twins = house.twins
        await twins.reset()
        wires = await house.warm()
        lines = [f"{method} {twins.origin.url('/plain')} {version}", "Host: x", *fields, "", ""]
        request = "\r\n".join(lines).encode()
        before = twins.hot_answers
        for _ in range(4 if goes_on else 1):
            for twin, wire in zip(twins.pair, wires, strict=True):
                wire.written.clear()
                await twin.feed(wire, request)
            head = bytes(wires[0].written).partition(b"\r\n\r\n")[0].decode().lower()
            assert [line for line in head.split("\r\n") if line.startswith("connection:")] == (
                [f"connection: {said}"] if said else []
            )
            twins.compare(*wires)
        assert twins.hot_answers == before + (4 if goes_on else 1)
        # What comes behind the last request is nobody's.
        for twin, wire in zip(twins.pair, wires, strict=True):
            assert wire.protocol.inlet.is_dropping is not goes_on
            written = len(wire.written)
            await twin.feed(wire, f"GET {twins.origin.url('/weak')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert (len(wire.written) > written) is goes_on
            await twin.finish(wire)
        twins.compare(*wires)
        assert len(twins.hot.app.listener._server._services.lingering) == 0  # type: ignore[union-attr]

    house.run(asyncio.wait_for(check(), 20))


def test_a_client_that_does_not_stop_is_read_no_more(house: House) -> None:
    async def check() -> None:
        twins = house.twins
        await twins.reset()
        wires = await house.warm()
        wire = wires[0]
        request = f"GET {twins.origin.url('/plain')} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        await twins.hot.feed(wire, request.encode())
        for _ in range(LINGER_BYTES // 65536):
            wire.protocol.data_received(bytes(65536))
            assert not wire.protocol.inlet._is_paused
        wire.protocol.data_received(b"x")
        assert wire.protocol.inlet._is_paused
        assert len(wire.protocol.inlet) == 0
        for one, other in zip(twins.pair, wires, strict=True):
            await one.finish(other)

    house.run(asyncio.wait_for(check(), 20))


class Closing:
    """A connection whose client says nothing."""

    def __init__(self) -> None:
        self.is_closed = False

    def force_close(self) -> None:
        self.is_closed = True


class Clock:
    """A loop's time and timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[float] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, *_: object) -> object:
        self.due.append(when)
        return object()


def test_lingering_ends() -> None:
    lingering, clock = Lingering(), Clock()
    first, second, third = Closing(), Closing(), Closing()
    for at, one in ((0.0, first), (0.5, second), (1.0, third)):
        clock.now = at
        lingering.add(one, clock)  # type: ignore[arg-type]
    assert clock.due == [LINGER_S]
    lingering.discard(second)
    clock.now = LINGER_S
    lingering._due(clock)  # type: ignore[arg-type]
    assert (first.is_closed, second.is_closed, third.is_closed) == (True, False, False)
    assert clock.due == [LINGER_S, 1.0 + LINGER_S]
    clock.now = 1.0 + LINGER_S
    lingering._due(clock)  # type: ignore[arg-type]
    assert third.is_closed
    assert (len(lingering), len(clock.due)) == (0, 2)


class Slow:
    """A transport whose client reads nothing."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.is_aborted = False

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.is_aborted = True


@pytest.mark.parametrize(("size", "is_aborted"), [(0, False), (1, True)])
async def test_who_does_not_read_the_last_answer_has_as_long_as_for_any(size: int, is_aborted: bool) -> None:
    slow = Slow(size)
    outlet = Outlet(slow, None, None, 0.0)  # type: ignore[arg-type]
    outlet.closing()
    outlet.closing()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert slow.is_aborted is is_aborted


async def test_who_has_read_it_is_left_alone() -> None:
    slow = Slow(1)
    outlet = Outlet(slow, None, None, 0.0)  # type: ignore[arg-type]
    outlet.closing()
    outlet.lost(is_abrupt=False)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not slow.is_aborted
