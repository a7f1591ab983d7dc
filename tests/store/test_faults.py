"""SQLite fails: at every call in turn, for a while, or because another process holds the file."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cacheproxy.errors import StoreError
from cacheproxy.ports import Selector
from tests.store.conftest import KIB, URL, House, Tap, content, damage_error, io_error, read, response, until

BODIES = {
    "http://h/empty": b"",
    "http://h/small": content("small", 1000),
    "http://h/inline": content("inline", 64 * KIB),
    "http://h/rows": content("rows", 600 * KIB),
}


async def answer(house: House, key: str) -> bytes | None:
    """What a client would get: the right bytes or a miss. Wrong bytes and other exceptions are failures."""
    try:
        found = list(await house.store.lookup(key))
        for candidate in found:
            try:
                assert await read(candidate) == BODIES[key], f"wrong bytes of {key}"
            except StoreError:
                house.store.discard(candidate)
                return None
        return BODIES[key] if found else None
    except StoreError:
        return None


async def scenario(house: House) -> None:
    """A little of everything that the engine and operators do."""
    for key, body in BODIES.items():
        writer = house.store.begin(response(key), None)
        if writer is None:
            continue
        for at in range(0, len(body), 256 * KIB):
            await writer.write(body[at : at + 256 * KIB])
            await asyncio.sleep(0)
        await writer.commit(response(key), body if key.endswith("small") else None)
    given_up = house.store.begin(response("http://h/aborted"), None)
    if given_up is not None:
        await given_up.write(bytes(300 * KIB))
        given_up.abort()
    for key in BODIES:
        await answer(house, key)
    house.forget_memory()
    for key in BODIES:
        await answer(house, key)
    for key in ("http://h/rows", "http://h/small"):
        try:
            for candidate in await house.store.lookup(key):
                house.store.touch(candidate.stored)
                house.store.freshen(candidate, candidate.stored)
        except StoreError:
            pass
    house.store.invalidate("http://h/empty")
    for work in (
        house.store.purge(Selector(urls=("http://h/inline",)), dry_run=False, soft=True),
        house.store.purge(Selector(glob="*rows"), dry_run=False, soft=False),
        house.store.purge(Selector(everything=True), dry_run=True, soft=False),
        house.store.usage(),
        list_all(house),
        house.store.purge(Selector(everything=True), dry_run=False, soft=False),
    ):
        try:
            await work
        except StoreError:
            pass


async def list_all(house: House) -> None:
    """As `cacheproxy list` does."""
    async for _ in house.store.entries(None):
        pass


async def one_round(house: House, fail: Callable[[], None]) -> None:
    """Open, work, close with the fault armed; then everything must be as if nothing had happened."""
    async with asyncio.timeout(4):
        try:
            await house.open()
        except StoreError:
            pass
        else:
            await scenario(house)
            await until(lambda: house.disk._recovery is None)
        fail()
        if house._store is None:
            await house.open()
        # What the writer was doing when the fault was disarmed may have failed, and not be told of yet.
        await house.flush()
        await until(lambda: house.disk._recovery is None)
        assert await house.put(response(), content("after", 300 * KIB)) is not None, (
            "it does not store any more"
        )
        house.forget_memory()
        assert await house.bodies(URL) == [content("after", 300 * KIB)]
        await house.reopen()
        assert await house.bodies(URL) == [content("after", 300 * KIB)]
        for key in BODIES:
            await answer(house, key)
        await house.flush()
        await until(lambda: house.sql("SELECT COUNT(*) FROM loose") == [(0,)], 2)
        await house.close()
    house.check_file()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("error", "step"),
    [
        pytest.param(io_error, 1, id="I/O error"),
        # Each of these makes a new file: a third of the calls says enough.
        pytest.param(damage_error, 3, id="damage"),
    ],
)
async def test_the_nth_call_fails(
    tmp_path: Path, tap: Tap, error: Callable[[], sqlite3.Error], step: int
) -> None:
    """For every n: only StoreError reaches a caller, no byte is wrong, nobody hangs, and it works again."""
    problems: list[str] = []
    for n in range(1, 1000, step):
        house = House(tmp_path / str(n))
        house.directory.mkdir()
        tap.calls = 0
        failed_at = ""

        async def fail(sql: str, n: int = n) -> None:
            nonlocal failed_at
            if tap.calls == n:
                failed_at = sql
                raise error()

        def disarm() -> None:
            tap.before = None

        tap.before = fail
        try:
            await one_round(house, disarm)
        except (Exception, asyncio.CancelledError) as problem:  # noqa: BLE001 - every kind is a finding
            problems.append(f"call {n}, {failed_at[:60]!r}: {type(problem).__name__}: {str(problem)[:200]}")
            tap.before = None
            try:
                await house.close()
            except TimeoutError:
                problems.append(f"call {n}: closing hangs")
        if not failed_at:
            break
        if await tap.stop_left_open():
            problems.append(f"call {n}, {failed_at[:60]!r}: a connection is left open")
        if len(problems) > 8:
            break
    assert problems == []
    assert n > 60


@pytest.mark.usefixtures("quick")
async def test_everything_fails_for_a_while(house: House, tap: Tap) -> None:
    """Look-ups and stores go on as misses, memory still answers, and the disk is used again afterwards."""
    await house.put(response("http://h/small"), BODIES["http://h/small"], whole=True)
    await house.put(response("http://h/rows"), BODIES["http://h/rows"])

    async def fail(sql: str) -> None:
        raise io_error()

    tap.before = fail
    async with asyncio.timeout(5):
        assert house.store.lookup_memory("http://h/small")[0].body.whole() == BODIES["http://h/small"]
        for _ in range(5):
            assert await answer(house, "http://h/rows") is None
            assert await house.put(response("http://h/empty"), b"") is None
            with pytest.raises(StoreError):
                await house.store.lookup("http://h/inline")
        with pytest.raises(StoreError):
            await house.store.purge(Selector(host="h"), dry_run=False, soft=False)
    assert len(house.recorder.failures) >= 10
    tap.before = None
    assert await house.put(response("http://h/inline"), BODIES["http://h/inline"]) is not None
    assert await answer(house, "http://h/inline") is not None


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
connection.close()
print("free", flush=True)
"""


async def test_another_process_holds_the_file(house: House) -> None:
    """BEGIN EXCLUSIVE elsewhere: reading goes on, storing fails within bounds, and works again afterwards."""
    await house.put(response("http://h/rows"), BODIES["http://h/rows"])
    holder = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLDER,
        str(house.path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert await holder.stdout.readline() == b"held\n"
        house.forget_memory()
        began = time.monotonic()
        assert await answer(house, "http://h/rows") is not None
        assert time.monotonic() - began < 0.5
        began = time.monotonic()
        assert await house.put(response("http://h/inline"), BODIES["http://h/inline"]) is None
        assert await house.put(response("http://h/small"), BODIES["http://h/small"], whole=True) is not None
        with pytest.raises(StoreError):
            await house.store.purge(Selector(everything=True), dry_run=False, soft=True)
        # Each transaction waits for the busy time-out of half a second at most.
        assert time.monotonic() - began < 3
        assert house.recorder.failures
    finally:
        holder.stdin.write(b"\n")
        assert await holder.stdout.readline() == b"free\n"
        await holder.wait()
    assert await house.put(response("http://h/inline"), BODIES["http://h/inline"]) is not None
    house.forget_memory()
    assert await answer(house, "http://h/inline") is not None
