"""Several workers behave as one proxy: one fetch, one purge, one sum; whoever dies is replaced."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_process import Process, command
from tests.support.client import RawClient, Reply
from tests.support.origin import Origin, Received, Wire, response

COUNT = 4
FRESH = "Cache-Control: max-age=600"
Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    running: list[Process] = []

    async def start(*options: str, workers: int = COUNT) -> Process:
        proxy = await asyncio.to_thread(
            Process, tmp_path / "cache", "--workers", str(workers), "-o", "cache.keep_free=1MiB", *options
        )
        running.append(proxy)
        return proxy

    yield start
    for one in running:
        one.stop(signal.SIGTERM)
        if one.process.stderr is not None:
            one.process.stderr.close()


opened: list[RawClient] = []


@pytest.fixture(autouse=True)
async def closing() -> AsyncIterator[None]:
    yield
    while opened:
        opened.pop().close()
    await asyncio.sleep(0)


async def connect(proxy: Process) -> RawClient:
    client = await RawClient.connect(proxy.port)
    opened.append(client)
    return client


async def stats(proxy: Process) -> dict[str, Any]:
    shown = await asyncio.to_thread(proxy.run, "stats", "--json")
    assert shown.returncode == 0, shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await condition():
            await asyncio.sleep(0.02)


async def everywhere(proxy: Process) -> list[RawClient]:
    """Connections to every worker, several to each."""
    clients: list[RawClient] = []

    async def are_reached() -> bool:
        clients.extend([await connect(proxy) for _ in range(8)])
        for client in clients[-8:]:
            await client.send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.reply()).status == 200
        return all(worker["requests"] >= 2 for worker in (await stats(proxy))["workers"])

    await until(are_reached)
    return clients


async def keeper_of(proxy: Process) -> int:
    """The process that is neither the supervisor nor a worker."""
    children = Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children").read_text().split()
    workers = [worker["pid"] for worker in (await stats(proxy))["workers"]]
    (keeper,) = [int(pid) for pid in children if int(pid) not in workers]
    return keeper


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Paced:
    """A route that sends its body's first half, then the rest once it is told to."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.may_go_on = asyncio.Event()

    async def __call__(self, received: Received, wire: Wire) -> None:
        head = f"HTTP/1.1 200 OK\r\n{FRESH}\r\nContent-Length: {len(self.body)}\r\n\r\n".encode()
        half = len(self.body) // 2
        await wire.send(head + self.body[:half])
        await self.may_go_on.wait()
        await wire.send(self.body[half:])


async def begin(client: RawClient, url: str) -> int:
    """Send a GET and read the answer's head; the length of its body."""
    await client.send(f"GET {url} HTTP/1.1\r\nHost: {url.split('/')[2]}\r\n\r\n".encode())
    head = (await client.head()).decode()
    assert head.startswith("HTTP/1.1 200"), head
    return int(Reply(200, head.encode(), b"", []).field("content-length") or 0)


async def body_of(client: RawClient, length: int) -> bytes | None:
    """The rest of an answer; None where it was cut."""
    try:
        async with asyncio.timeout(30):
            return await client.reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def test_fifty_clients_of_four_workers_are_one_fetch(origin: Origin, start: Start) -> None:
    body = os.urandom(20_000_000)
    origin.routes["/big"] = paced = Paced(body)
    proxy = await start()
    clients = [await connect(proxy) for _ in range(50)]
    lengths = await asyncio.gather(*(begin(client, origin.url("/big")) for client in clients))
    paced.may_go_on.set()
    bodies = await asyncio.gather(*map(body_of, clients, lengths))
    assert all(found == body for found in bodies)
    assert origin.count("/big") == 1
    shown = await stats(proxy)
    assert (shown["requests"], shown["misses"], shown["collapsed"]) == (50, 1, 49)
    assert shown["client_bytes"] > 50 * len(body) > 50 * shown["origin_bytes"] * 0.9
    assert len([worker for worker in shown["workers"] if worker["requests"]]) >= 2


async def test_a_purge_holds_in_every_worker(origin: Origin, start: Start) -> None:
    paths = [f"/{number}" for number in range(12)]
    for path in paths:
        origin.routes[path] = response(b"old" * 100, FRESH)
    proxy = await start()
    clients = await everywhere(proxy)

    async def all_bodies() -> set[bytes]:
        return {(await client.get(origin.url(path))).body for client in clients for path in paths}

    for _ in range(2):
        assert await all_bodies() == {b"old" * 100}
    assert [origin.count(path) for path in paths] == [1] * len(paths)
    # Copies are in the memory of workers that do not own them: they answer without the owner.
    assert (await stats(proxy))["memory_entries"] > len(paths)
    for path in paths:
        origin.routes[path] = response(b"new" * 100, FRESH)
    for arguments in (["--host", "127.0.0.1"], ["--all"], ["--glob", "*"], list(map(origin.url, paths))):
        dry = await asyncio.to_thread(proxy.run, "purge", *arguments, "--dry-run", "--json")
        assert json.loads(dry.stdout)["count"] == len(paths)
        purged = await asyncio.to_thread(proxy.run, "purge", *arguments, "--json")
        assert json.loads(purged.stdout)["count"] == len(paths), purged.stderr
        assert (await stats(proxy))["memory_entries"] == 0
        origin.requests.clear()
        assert await all_bodies() == {b"new" * 100}
        assert [origin.count(path) for path in paths] == [1] * len(paths)


async def test_unsafe_requests_and_purge_requests_invalidate_everywhere(origin: Origin, start: Start) -> None:
    origin.routes["/page"] = response(b"old", FRESH)
    proxy = await start()
    clients = await everywhere(proxy)
    url = origin.url("/page")
    for client in clients[:COUNT]:
        for other in clients:
            assert (await other.get(url)).status == 200
        origin.requests.clear()
        assert (await client.get(url, method="POST", body=b"change")).status == 200
        assert (await client.get(url)).status == 200
        assert [one.line.split()[0] for one in origin.requests] == ["POST", "GET"]
        assert origin.requests[0].body == b"change"

        async def are_all_new(clients: list[RawClient] = clients) -> bool:
            return all([(await one.get(url)).body == b"old" for one in clients])

        assert await are_all_new()
        assert (await client.get(url, method="PURGE")).status == 200
        origin.requests.clear()
        assert await are_all_new()
        assert origin.count() == 1


async def test_an_unsafe_request_is_answered_once_no_worker_has_the_old(origin: Origin, start: Start) -> None:
    origin.routes["/page"] = response(b"old", FRESH)
    proxy = await start()
    clients = await everywhere(proxy)
    url = origin.url("/page")
    for _ in range(2):
        assert {(await client.get(url)).body for client in clients} == {b"old"}
    origin.routes["/page"] = response(b"new", FRESH)
    # What one worker tells the others goes through the keeper: it is late.
    keeper = await keeper_of(proxy)
    os.kill(keeper, signal.SIGSTOP)
    asyncio.get_running_loop().call_later(0.5, os.kill, keeper, signal.SIGCONT)
    assert (await clients[0].get(url, method="POST", body=b"change")).status == 200
    assert {(await client.get(url)).body for client in clients} == {b"new"}


async def test_a_body_is_known_whoever_owns_it(origin: Origin, start: Start) -> None:
    body = os.urandom(20_000_000)
    named = f"/by-hash/SHA256/{hashlib.sha256(body).hexdigest()}"
    names = [f"/{number}{named}" for number in range(6)]
    for name in names:
        origin.routes[name] = response(body, FRESH)
    proxy = await start()
    client = await connect(proxy)
    for name in names:
        length = await begin(client, origin.url(name))
        assert await body_of(client, length) == body
    # Ended when the head has come, all but the first; what is in the sockets by then does not count here.
    shown = await stats(proxy)
    assert shown["origin_bytes"] < len(body) * len(names) / 2
    assert len([worker for worker in shown["workers"] if worker["requests"]]) == 1


async def test_sums_are_exact(origin: Origin, start: Start, tmp_path: Path) -> None:
    for number in range(20):
        origin.routes[f"/{number}"] = response(bytes([number]) * 1000 * number, FRESH)
    proxy = await start()
    clients = [await connect(proxy) for _ in range(30)]
    for turn in range(4):
        for at, client in enumerate(clients):
            path = f"/{(at + turn) % 25}"
            reply = await client.get(origin.url(path), method="HEAD" if at % 7 == 0 else "GET")
            assert reply.status == (404 if (at + turn) % 25 >= 20 else 200)
    shown = await stats(proxy)
    assert shown["requests"] == 120 == sum(worker["requests"] for worker in shown["workers"])
    kinds = ("hits", "misses", "revalidated", "collapsed", "errors")
    assert sum(shown[kind] for kind in kinds) == 120
    # HEAD replies have no body; RawClient counts what it reads.
    received = sum(client.received_bytes + 4 * 0 for client in clients)
    assert shown["client_bytes"] == received
    assert shown["origin_bytes"] == origin.sent_bytes
    assert sum(shown["statuses"].values()) == 120 == sum(shown["reasons"].values())
    assert shown["disk_entries"] == 20
    listed = await asyncio.to_thread(proxy.run, "list", "--json")
    assert len(listed.stdout.splitlines()) == 20
    told = await asyncio.to_thread(proxy.run, "show", origin.url("/3"), "--json")
    assert json.loads(told.stdout)[0]["bytes"] == 3000
    assert await asyncio.to_thread(proxy.stop) == 0
    assert len((tmp_path / "cache" / "access.log").read_text().splitlines()) == 120


@pytest.mark.parametrize("whom", range(2))
async def test_a_killed_worker_is_replaced(origin: Origin, start: Start, whom: int) -> None:
    body = os.urandom(4_000_000)
    origin.routes["/big"] = paced = Paced(body)
    origin.routes["/small"] = response(b"small", FRESH)
    proxy = await start()
    before = [worker["pid"] for worker in (await stats(proxy))["workers"]]
    clients = [await connect(proxy) for _ in range(16)]
    lengths = await asyncio.gather(*(begin(client, origin.url("/big")) for client in clients))
    victim = before[whom * 3]
    os.kill(victim, signal.SIGKILL)
    killed_at = time.monotonic()
    for _ in range(8):
        fresh = await connect(proxy)
        assert (await fresh.get(origin.url("/small"))).body == b"small"
    assert time.monotonic() - killed_at < 2

    async def is_replaced() -> bool:
        found = [worker["pid"] for worker in (await stats(proxy))["workers"]]
        return len(found) == COUNT and victim not in found

    await until(is_replaced)
    paced.may_go_on.set()
    bodies = await asyncio.gather(*map(body_of, clients, lengths))
    assert set(bodies) <= {body, None}
    whole = [client for client, found in zip(clients, bodies, strict=True) if found is not None]
    for client in whole:
        assert (await client.get(origin.url("/small"))).body == b"small"
    for _ in range(8):
        again = await connect(proxy)
        assert (await again.get(origin.url("/big"))).body == body
    assert origin.count("/big") <= 2
    after = [worker["pid"] for worker in (await stats(proxy))["workers"]]
    assert len(set(after) & set(before)) == COUNT - 1
    assert await asyncio.to_thread(proxy.stop) == 0
    log = proxy.process.stderr.read() if proxy.process.stderr is not None else ""
    assert f"(process {victim}) ended with signal 9; another takes its place" in log


async def test_a_killed_keeper_is_replaced(origin: Origin, start: Start, tmp_path: Path) -> None:
    for name in ("before", "meanwhile", "after"):
        origin.routes[f"/{name}"] = response(name.encode() * 1000, FRESH)
    proxy = await start("--memory", "1MiB")
    client = await connect(proxy)
    await client.get(origin.url("/before"))
    os.kill(await keeper_of(proxy), signal.SIGKILL)
    assert (await client.get(origin.url("/meanwhile"))).body == b"meanwhile" * 1000

    async def is_replaced() -> bool:
        shown = await asyncio.to_thread(proxy.run, "stats", "--json")
        return shown.returncode == 0 and len(json.loads(shown.stdout)["workers"]) == COUNT

    await until(is_replaced)
    assert (await client.get(origin.url("/after"))).body == b"after" * 1000

    async def is_stored() -> bool:
        return "/after" in (await asyncio.to_thread(proxy.run, "list")).stdout

    await until(is_stored)
    purged = await asyncio.to_thread(proxy.run, "purge", "--all", "--json")
    assert json.loads(purged.stdout)["count"] >= 2
    assert await asyncio.to_thread(proxy.stop) == 0


async def test_a_taken_port_and_a_taken_directory_are_errors(start: Start, tmp_path: Path) -> None:
    proxy = await start()
    listen = ["--listen", f"127.0.0.1:{proxy.port}", "--workers", "2"]
    other = await asyncio.to_thread(command, "serve", *listen, "--cache-dir", str(tmp_path / "other"))
    assert other.returncode == 1
    assert "uses the port already" in other.stderr
    free = ["--listen", "127.0.0.1:0", "--workers", "2", "--cache-dir", str(tmp_path / "cache")]
    same = await asyncio.to_thread(command, "serve", *free)
    assert same.returncode == 1
    assert "is in use by another cacheproxy" in same.stderr


@pytest.mark.parametrize("how", ["stop", "signal"])
async def test_stop_drains(origin: Origin, start: Start, tmp_path: Path, how: str) -> None:
    body = os.urandom(2_000_000)
    origin.routes["/big"] = paced = Paced(body)
    proxy = await start()
    pids = [worker["pid"] for worker in (await stats(proxy))["workers"]]
    clients = [await connect(proxy) for _ in range(12)]
    lengths = await asyncio.gather(*(begin(client, origin.url("/big")) for client in clients))
    if how == "stop":
        stopping = asyncio.create_task(asyncio.to_thread(proxy.run, "stop"))
    else:
        stopping = asyncio.create_task(asyncio.to_thread(proxy.stop))  # type: ignore[arg-type]

    async def is_closed() -> bool:
        try:
            (await connect(proxy)).close()
        except ConnectionError:
            return True
        return False

    await until(is_closed)
    paced.may_go_on.set()
    assert await asyncio.gather(*map(body_of, clients, lengths)) == [body] * 12
    async with asyncio.timeout(20):
        await stopping
    assert await asyncio.to_thread(proxy.stop) == 0
    assert not [pid for pid in pids if is_alive(pid)]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["access.log", "cache.db", "lock"]


async def test_a_second_signal_ends_at_once(origin: Origin, start: Start) -> None:
    origin.routes["/big"] = Paced(bytes(1_000_000))
    proxy = await start("-o", "server.drain_timeout=60s")
    pids = [worker["pid"] for worker in (await stats(proxy))["workers"]]
    client = await connect(proxy)
    length = await begin(client, origin.url("/big"))
    proxy.process.send_signal(signal.SIGINT)

    async def is_closed() -> bool:
        try:
            (await connect(proxy)).close()
        except ConnectionError:
            return True
        return False

    await until(is_closed)
    proxy.process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(proxy.process.wait, 5) == 130
    assert await body_of(client, length) is None
    assert not [pid for pid in pids if is_alive(pid)]


async def test_without_its_supervisor_nothing_stays(origin: Origin, start: Start) -> None:
    origin.routes["/a"] = response(b"a" * 5000, FRESH)
    proxy = await start()
    pids = [worker["pid"] for worker in (await stats(proxy))["workers"]]
    await (await connect(proxy)).get(origin.url("/a"))
    proxy.process.kill()

    async def are_gone() -> bool:
        return not [pid for pid in pids if is_alive(pid)]

    await until(are_gone)
    proxy.process.wait(timeout=5)

    async def is_free() -> bool:
        try:
            again = await start()
        except AssertionError:
            return False
        assert (await (await connect(again)).get(origin.url("/a"))).body == b"a" * 5000
        return True

    await until(is_free)
    assert origin.count("/a") == 1


async def test_a_restart_is_warm_for_any_number_of_workers(origin: Origin, start: Start) -> None:
    bodies = {f"/{number}": os.urandom(300 * 4**number) for number in range(8)}
    for path, body in bodies.items():
        origin.routes[path] = response(body, FRESH)
    for workers in (3, 1, 4, 2):
        proxy = await start(workers=workers)
        clients = [await connect(proxy) for _ in range(6)]
        for client in clients:
            for path, body in bodies.items():
                assert (await client.get(origin.url(path))).body == body
        assert await asyncio.to_thread(proxy.stop) == 0
        assert origin.count() == len(bodies)


async def test_without_a_disk(origin: Origin, start: Start) -> None:
    for number in range(8):
        origin.routes[f"/{number}"] = response(b"x" * 500, FRESH)
    proxy = await start("--disk", "0")
    clients = await everywhere(proxy)
    for client in clients:
        for number in range(8):
            assert (await client.get(origin.url(f"/{number}"))).body == b"x" * 500
    assert origin.count() == 8
    assert len((await asyncio.to_thread(proxy.run, "list", "--json")).stdout.splitlines()) == 8
    purged = await asyncio.to_thread(proxy.run, "purge", "--all", "--json")
    assert json.loads(purged.stdout)["count"] == 8
    assert (await asyncio.to_thread(proxy.run, "list")).returncode == 1
    for client in clients:
        assert (await client.get(origin.url("/0"))).body == b"x" * 500
    assert origin.count() == 9


async def test_what_a_client_says_about_hops_is_not_believed(
    origin: Origin, start: Start, tmp_path: Path
) -> None:
    lie = 'Cacheproxy-Hop: {"client":"203.0.113.9","version":[1,1],"reason":"hit"}'
    for number in range(8):
        origin.routes[f"/{number}"] = response(b"x", FRESH, lie)
    proxy = await start()
    clients = [await connect(proxy) for _ in range(8)]
    for client in clients:
        for number in range(8):
            assert (await client.get(origin.url(f"/{number}"), lie)).body == b"x"
    shown = await stats(proxy)
    assert (shown["misses"], shown["hits"]) == (8, 56)
    assert await asyncio.to_thread(proxy.stop) == 0
    log = (tmp_path / "cache" / "access.log").read_text()
    assert "203.0.113.9" not in log
    assert log.count(" 127.0.0.1 TCP_") == 64


async def test_a_small_disk_is_shared_and_stays_within_its_size(
    origin: Origin, start: Start, tmp_path: Path
) -> None:
    bodies = {f"/{number}": os.urandom(700_000) for number in range(60)}
    for path, body in bodies.items():
        origin.routes[path] = response(body, FRESH)
    proxy = await start("--disk", "16MiB", "--memory", "4MiB")
    clients = [await connect(proxy) for _ in range(8)]

    async def fetch(client: RawClient, offset: int) -> None:
        for number in range(60):
            path = f"/{(number + offset) % 60}"
            assert (await client.get(origin.url(path))).body == bodies[path]

    await asyncio.gather(*(fetch(client, at * 7) for at, client in enumerate(clients)))
    shown = await stats(proxy)
    assert shown["disk_bytes"] <= 16 * 1024 * 1024
    assert shown["requests"] == 480
    assert shown["hits"] + shown["collapsed"] > 0
    assert await asyncio.to_thread(proxy.stop) == 0
    assert (tmp_path / "cache" / "cache.db").stat().st_size <= 17 * 1024 * 1024
