"""The program as users start it: commands, exit codes, signals, kill -9."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.origin import Origin, response

COMMAND = [sys.executable, "-m", "cacheproxy"]


class Process:
    """A proxy in a process of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--listen", "127.0.0.1:0", "--cache-dir", str(directory),
             "-o", "access.deny_destinations=[]", *options],
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        self.greeting = self.process.stderr.readline()
        self.port = self.port_of("http")

    def port_of(self, scheme: str) -> int:
        """The first port where it listens so."""
        found = re.search(rf"\b{scheme}://127\.0\.0\.1:(\d+)", self.greeting)
        assert self.process.stderr is not None
        assert found, self.greeting + self.process.stderr.read()
        return int(found.group(1))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return command(*arguments, "--cache-dir", str(self.directory))

    def curl(self, url: str, *options: str) -> str:
        done = subprocess.run(
            ["curl", "-sS", "-x", f"http://127.0.0.1:{self.port}", *options, url],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=20)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture
def started() -> Iterator[list[Process]]:
    running: list[Process] = []
    yield running
    for one in running:
        one.stop(signal.SIGKILL)
        if one.process.stderr is not None:
            one.process.stderr.close()


async def offload(work, *arguments):  # type: ignore[no-untyped-def]
    import asyncio

    return await asyncio.to_thread(work, *arguments)


async def test_commands_against_a_running_proxy(tmp_path: Path, origin: Origin, started: list[Process]) -> None:
    origin.routes["/a.deb"] = response(
        b"x" * 1000, "Cache-Control: max-age=600", "Content-Type: app/deb", 'ETag: "1"'
    )
    origin.routes["/b.deb"] = response(b"y" * 1000, "Cache-Control: max-age=600")

    def work() -> None:
        proxy = Process(tmp_path / "cache")
        started.append(proxy)
        for path in ("/a.deb", "/a.deb", "/b.deb?token=s3cret"):
            proxy.curl(origin.url(path), "-u", "user:hunter2")
            proxy.curl(origin.url(path))
        stats = json.loads(proxy.run("stats", "--json").stdout)
        assert (stats["requests"], stats["hits"], stats["misses"]) == (6, 2, 4)
        assert stats["saved_bytes"] == stats["client_bytes"] - stats["origin_bytes"]
        assert "hit ratio" in proxy.run("stats").stdout
        listed = proxy.run("list", "*.deb*")
        assert "/a.deb" in listed.stdout
        shown = proxy.run("show", origin.url("/a.deb"))
        assert "fresh" in shown.stdout
        assert 'ETag: "1"' in shown.stdout
        assert proxy.run("show", origin.url("/none")).returncode == 1
        assert proxy.run("purge", "--glob", "*/a.deb", "--dry-run").stdout.startswith(
            "1 stored response would be"
        )
        assert proxy.run("purge", "--soft", origin.url("/a.deb")).stdout == "1 stored response marked stale\n"
        assert "marked stale" in proxy.run("explain", origin.url("/a.deb")).stdout
        assert proxy.run("purge", origin.url("/a.deb")).returncode == 0
        assert proxy.run("purge", origin.url("/a.deb")).returncode == 1
        assert proxy.run("purge", "--host", "127.0.0.1").stdout.startswith("1 stored response removed")
        assert proxy.run("purge").returncode == 2
        assert proxy.run("purge", "--all").returncode == 1
        assert proxy.run("list").returncode == 1
        assert proxy.run("stop").returncode == 0
        assert proxy.process.wait(timeout=10) == 0
        log = (proxy.directory / "access.log").read_text()
        lines = [line.split() for line in log.splitlines()]
        assert len(lines) == 6
        assert all(len(line) == 10 for line in lines)
        assert {line[3] for line in lines} == {"TCP_MISS/200", "TCP_MEM_HIT/200"}
        assert "s3cret" not in log
        assert "hunter2" not in log
        assert proxy.run("stats").returncode == 3

    await offload(work)


def test_usage_errors_name_the_nearest(tmp_path: Path) -> None:
    for arguments, nearest in [
        (["serve", "--lisen", "x"], "--listen"),
        (["serv"], "serve"),
        (["serve", "-o", "cache.dsk=1GiB"], "cache.disk"),
        (["serve", "-o", "cache.set_cookie=strp"], "strip"),
        (["config", "chek"], "check"),
    ]:
        done = command(*arguments)
        assert (done.returncode, nearest in done.stderr) == (2, True), done.stderr


def test_config_commands(tmp_path: Path) -> None:
    file = tmp_path / "cacheproxy.toml"
    assert command("config", "init", str(file)).returncode == 0
    assert command("config", "init", str(file)).returncode == 1
    assert command("config", "check", str(file)).returncode == 0
    file.write_text('[cache]\ndisk = "20GiB"\n[[rules]]\nhost = "x"\nfirst_byte_timeout = "5m"\n')
    assert 'disk = "20GiB"' in command("config", "show", "--config", str(file)).stdout
    file.write_text("[cahce]\n")
    done = command("config", "check", str(file))
    assert (done.returncode, "'cache'" in done.stderr) == (4, True)


def test_what_keeps_it_from_starting_is_one_line(tmp_path: Path, started: list[Process]) -> None:
    proxy = Process(tmp_path / "cache")
    started.append(proxy)
    same_directory = command("serve", "--listen", "127.0.0.1:0", "--cache-dir", str(tmp_path / "cache"))
    same_port = command("serve", "--listen", f"127.0.0.1:{proxy.port}", "--cache-dir", str(tmp_path / "other"))
    blocked = tmp_path / "file"
    blocked.write_text("")
    no_directory = command("serve", "--listen", "127.0.0.1:0", "--cache-dir", str(blocked / "cache"))
    for done, word in (
        (same_directory, "in use"),
        (same_port, "uses the port"),
        (no_directory, "cannot be made"),
    ):
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert word in done.stderr
    open_proxy = command("serve", "--listen", "0.0.0.0:0", "--cache-dir", str(tmp_path / "x"))
    assert (open_proxy.returncode, "access.clients" in open_proxy.stderr) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_drain(tmp_path: Path, origin: Origin, started: list[Process], number: int) -> None:
    import asyncio

    release = asyncio.Event()

    async def slow(received, wire):  # type: ignore[no-untyped-def]
        await release.wait()
        await wire.send(response(b"late"))

    origin.routes["/slow"] = slow
    proxy = await offload(Process, tmp_path / "cache")
    started.append(proxy)
    running = asyncio.ensure_future(offload(proxy.curl, origin.url("/slow")))
    await origin.until(lambda: origin.count() == 1)
    proxy.process.send_signal(number)
    # It no longer accepts, and still answers what is under way.
    while _accepts(proxy.port):
        await asyncio.sleep(0)
    release.set()
    assert await running == "late"
    assert await offload(proxy.process.wait, 20) == 0


def test_a_second_signal_stops_now(tmp_path: Path, started: list[Process]) -> None:
    proxy = Process(tmp_path / "cache")
    started.append(proxy)
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        url = f"http://127.0.0.1:{black_hole.getsockname()[1]}/"
        waiting = subprocess.Popen(["curl", "-s", "-x", f"http://127.0.0.1:{proxy.port}", url])
        black_hole.accept()
        began = time.monotonic()
        proxy.process.send_signal(signal.SIGINT)
        while _accepts(proxy.port):
            os.sched_yield()
        proxy.process.send_signal(signal.SIGINT)
        assert proxy.process.wait(timeout=5) == 130
        assert time.monotonic() - began < 5
        waiting.wait(timeout=10)


async def test_kill_and_restart_keep_the_cache_warm(
    tmp_path: Path, origin: Origin, started: list[Process]
) -> None:
    body = "0123456789abcdef" * 20_000
    origin.routes["/a"] = response(body.encode(), "Cache-Control: max-age=600")

    def work() -> None:
        first = Process(tmp_path / "cache")
        started.append(first)
        first.curl(origin.url("/a"))
        # Listed means committed.
        while first.run("list", "--json").returncode:
            pass
        first.stop(signal.SIGKILL)
        second = Process(tmp_path / "cache")
        started.append(second)
        assert second.curl(origin.url("/a")) == body

    await offload(work)
    assert origin.count() == 1
