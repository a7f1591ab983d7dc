"""Accepting: many at a turn, a bounded number, and on again after descriptors ran out."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Any

import pytest

from cacheproxy.server import acceptor as module
from cacheproxy.server.acceptor import Acceptor
from cacheproxy.server.listener import bind
from cacheproxy.tasks import TaskGroup


class Greeter(asyncio.Protocol):
    """Says who has connected, and ends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(repr(transport.get_extra_info("peername")).encode())
        transport.close()


class Failing:
    """A socket whose accept fails as it is told, then as if nobody came."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)
        self.calls = 0
        self.near, self.far = socket.socketpair()

    def fileno(self) -> int:
        return self.near.fileno()

    def accept(self) -> Any:
        self.calls += 1
        number = self.errors.pop(0) if self.errors else errno.EAGAIN
        raise OSError(number, "told so")

    def setblocking(self, is_blocking: bool) -> None:
        assert not is_blocking

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.mark.parametrize("has_own", [True, False], ids=["asyncio", "another loop"])
async def test_all_who_wait_are_connected(has_own: bool) -> None:
    tasks = TaskGroup("test")
    (sock,) = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    acceptor = Acceptor(sock, Greeter, 2, tasks)
    if not has_own:
        acceptor._make_transport = None
    acceptor.start()
    async with asyncio.timeout(10):
        for reader, writer in await asyncio.gather(
            *[asyncio.open_connection("127.0.0.1", port) for _ in range(7)]
        ):
            assert await reader.read() == repr(writer.get_extra_info("sockname")).encode()
            writer.close()
    acceptor.close()
    acceptor.close()
    await tasks.close()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_mistake_costs_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    (sock,) = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    mistakes = [ValueError("ours")]

    def protocol() -> Greeter:
        if mistakes:
            raise mistakes.pop()
        return Greeter()

    acceptor = Acceptor(sock, protocol, 8, TaskGroup("test"))
    acceptor.start()
    async with asyncio.timeout(10):
        for said in (False, True):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert bool(await reader.read()) is said
            writer.close()
    acceptor.close()
    assert "a new connection" in caplog.text


@pytest.mark.parametrize("number", sorted(module._NO_ROOM))
async def test_no_descriptor_is_free(
    number: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    failing = Failing(number, errno.ECONNABORTED, number)
    acceptor = Acceptor(failing, Greeter, 100, TaskGroup("test"))  # type: ignore[arg-type]
    acceptor.start()
    failing.far.send(b"x")
    with caplog.at_level(logging.ERROR):
        async with asyncio.timeout(10):
            while failing.errors:
                await asyncio.sleep(0)
    acceptor.close()
    # Once each time, and nothing else.
    assert [record.message for record in caplog.records] == [
        "no new connection is accepted for 0 s: told so"
    ] * 2


async def test_nobody_is_waited_for() -> None:
    """Another process may have taken who was there."""
    (sock,) = bind("127.0.0.1", 0)
    sock.setblocking(True)
    acceptor = Acceptor(sock, Greeter, 8, TaskGroup("test"))
    acceptor._accept()
    acceptor.close()


async def test_not_more_than_so_many_at_a_turn() -> None:
    failing = Failing(*[errno.ECONNABORTED] * 3)
    acceptor = Acceptor(failing, Greeter, 5, TaskGroup("test"))  # type: ignore[arg-type]
    accepted: list[object] = []
    acceptor._connect = lambda connection, address: accepted.append(connection)  # type: ignore[method-assign]
    failing.accept = lambda: (failing, None)  # type: ignore[method-assign]
    acceptor._accept()
    assert len(accepted) == 5
    acceptor.close()
