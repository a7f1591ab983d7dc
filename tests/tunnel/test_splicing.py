"""When a direction splices, when it copies instead, and that no byte is lost between the two; the pipes' budget."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import random
import socket
import stat
import tracemalloc
from collections.abc import Callable

import pytest

from cacheproxy.tunnel import direction, pace, pipes
from cacheproxy.tunnel.direction import SPLICE_AFTER_BYTES, Shared
from cacheproxy.tunnel.pipes import PIPE_BYTES, Pipe, Pipes
from tests.support.tunnel import Wire, open_descriptors, receive_all, send_all

SIZE = 3_000_000
DATA = random.Random(7).randbytes(SIZE)


class Splices:
    """Stands for os.splice, counts, and fails the calls from the n-th into or out of a pipe."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.into = self.out = self.moved = 0
        self.fail_into = self.fail_out = 0
        self.error = errno.EINVAL
        self._real = os.splice
        monkeypatch.setattr(os, "splice", self)

    def __call__(self, source: int, sink: int, count: int, flags: int) -> int:
        if stat.S_ISFIFO(os.fstat(sink).st_mode):
            self.into += 1
            if 0 < self.fail_into <= self.into:
                raise OSError(self.error, os.strerror(self.error))
        else:
            self.out += 1
            if 0 < self.fail_out <= self.out:
                raise OSError(self.error, os.strerror(self.error))
        moved = self._real(source, sink, count, flags=flags)
        if not stat.S_ISFIFO(os.fstat(sink).st_mode):
            self.moved += moved
        return moved


@pytest.fixture
def splices(monkeypatch: pytest.MonkeyPatch) -> Splices:
    return Splices(monkeypatch)


async def through(shared: Shared, data: bytes = DATA, buffer_bytes: int = 0) -> tuple[int, bytes]:
    """Send `data` from the destination; the relay's count and what the client got."""
    before = open_descriptors()
    async with asyncio.timeout(20), Wire(shared, buffer_bytes=buffer_bytes) as wire:
        sending = asyncio.create_task(send_all(wire.destination, data))
        received = await receive_all(wire.client, limit=len(data))
        await sending
        wire.destination.shutdown(socket.SHUT_WR)
        received += await receive_all(wire.client)
        wire.client.shutdown(socket.SHUT_WR)
        count = await wire.ended()
    assert (shared.pipes.lent, open_descriptors()) == (0, before)
    return count.down, received


async def test_all_but_the_first_quarter_megabyte_is_spliced(splices: Splices) -> None:
    assert await through(Shared()) == (SIZE, DATA)
    first = SIZE - splices.moved
    assert SPLICE_AFTER_BYTES <= first <= SPLICE_AFTER_BYTES + direction._PIECE_BYTES


async def test_what_is_faster_than_any_network_is_copied(
    splices: Splices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "WINDOW_BYTES", 1_000_000)
    monkeypatch.setattr(pace, "FAST", 0)
    data = DATA * 6
    assert await through(Shared(), data) == (len(data), data)
    # A window, and what the pumps before and behind it move until they look.
    most = pace.WINDOW_BYTES + 2 * direction._ROUNDS * PIPE_BYTES
    assert 0 < splices.moved <= most < len(data)


async def test_a_small_exchange_takes_no_pipe(splices: Splices) -> None:
    assert await through(Shared(), DATA[: SPLICE_AFTER_BYTES // 2]) == (
        SPLICE_AFTER_BYTES // 2,
        DATA[: SPLICE_AFTER_BYTES // 2],
    )
    assert splices.into == 0


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("way", ["into", "out"])
@pytest.mark.parametrize("buffer_bytes", [0, 16_384])
async def test_where_splice_fails_the_rest_is_copied(
    splices: Splices, way: str, call: int, error: int, buffer_bytes: int
) -> None:
    setattr(splices, f"fail_{way}", call)
    splices.error = error
    assert await through(Shared(), buffer_bytes=buffer_bytes) == (SIZE, DATA)
    assert getattr(splices, way) == call


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_without_descriptors_for_a_pipe_bytes_are_copied(
    splices: Splices, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def none(flags: int) -> tuple[int, int]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pipe2", none)
    assert await through(Shared()) == (SIZE, DATA)
    assert splices.into == 0


def ask_for(monkeypatch: pytest.MonkeyPatch, granted: int) -> None:
    """The kernel refuses to enlarge pipes, which have `granted` bytes."""
    real: Callable[..., int] = fcntl.fcntl

    def answer(fd: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETPIPE_SZ:
            if granted == pipes.PIPE_BYTES // 16:
                raise PermissionError(errno.EPERM, "Operation not permitted")
            real(fd, command, granted)
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return real(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", answer)


@pytest.mark.parametrize(("granted", "is_spliced"), [(4096, False), (65536, True), (262_144, True)])
async def test_a_pipe_smaller_than_asked_for_is_used_unless_tiny(
    splices: Splices, monkeypatch: pytest.MonkeyPatch, granted: int, is_spliced: bool
) -> None:
    ask_for(monkeypatch, granted)
    assert await through(Shared()) == (SIZE, DATA)
    assert (splices.into > 0) == is_spliced


async def test_without_splice_nothing_is_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "splice")
    assert Pipes().take() is None
    assert await through(Shared()) == (SIZE, DATA)


async def test_a_waiting_tunnel_holds_no_pipe(splices: Splices) -> None:
    shared = Shared()
    async with asyncio.timeout(20), Wire(shared) as wire:
        sending = asyncio.create_task(send_all(wire.destination, DATA))
        assert await receive_all(wire.client, limit=SIZE) == DATA
        await sending
        assert splices.into > 0
        assert shared.pipes.lent == 0


async def test_megabytes_to_a_slow_reader_take_no_memory() -> None:
    size = 40_000_000
    data = bytes(size)
    async with asyncio.timeout(30), Wire(Shared(Pipes(0)), buffer_bytes=32_768) as wire:
        loop = asyncio.get_running_loop()
        buffer = bytearray(20_000)
        sending = asyncio.create_task(send_all(wire.destination, data))
        tracemalloc.start()
        try:
            received = 0
            while received < size:
                received += await loop.sock_recv_into(wire.client, buffer)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await sending
    # At most one piece is on the way, twice while it is cut.
    assert peak < 4 * direction._PIECE_BYTES


def test_no_more_pipes_are_lent_than_the_limit() -> None:
    lender = Pipes(2)
    lender.enter()
    taken = [lender.take(), lender.take()]
    assert lender.take() is None
    for pipe in taken:
        assert pipe is not None
        lender.give_back(pipe)
    assert lender.take() is taken[1]
    assert isinstance(taken[1], Pipe)
    lender.give_back(taken[1])
    before = open_descriptors()
    lender.leave()
    assert open_descriptors() == before - 4


def test_a_pipe_with_bytes_in_it_never_goes_to_another() -> None:
    lender = Pipes(2)
    lender.enter()
    before = open_descriptors()
    pipe = lender.take()
    assert pipe is not None
    assert pipe.size == PIPE_BYTES
    pipe.held = os.write(pipe.writer, b"secret")
    lender.give_back(pipe)
    assert open_descriptors() == before
    fresh = lender.take()
    assert fresh is not None
    with pytest.raises(BlockingIOError):
        os.read(fresh.reader, 10)
    lender.give_back(fresh)
    lender.leave()


def test_the_default_limit_leaves_most_descriptors_to_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for soft in (64, 1024, 1_048_576, pipes.resource.RLIM_INFINITY):
        monkeypatch.setattr(pipes.resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        found.append(pipes.default_limit())
    assert found == [2, 32, 256, 256]
