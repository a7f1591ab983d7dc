"""Proxies under test: started here, fresh cache each, ended by their own process id."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

MIB = 1024 * 1024
DISK = 200 * MIB
START_S = 60.0
STOP_S = 15.0
SETTLE_S = 0.3


class NotStarted(Exception):
    """A proxy did not begin to listen; the text has what it wrote."""


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Proxy(ABC):
    """A process of its own in a directory of its own, removed afterwards."""

    name = ""

    def __init__(self, disk_bytes: int = DISK) -> None:
        self.disk_bytes = disk_bytes
        self.port = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def folder(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name)

    @property
    def memory_bytes(self) -> int:
        """5 % of the disk."""
        return self.disk_bytes // 20

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it."""

    async def prepare(self) -> None:
        """Make what must be there before the process starts; nothing, where not said otherwise."""
        return

    @property
    def log(self) -> Path:
        return self.folder / "access.log"

    @abstractmethod
    async def store_bytes(self) -> int:
        """Bytes that the store occupies now."""

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="savings-", ignore_cleanup_errors=True)
        self.port = free_port()
        try:
            await self.prepare()
            with (self.folder / "output").open("wb") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *self.command(), stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
                )
            await self._listening()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _listening(self) -> None:
        process = self._process
        assert process is not None
        for _ in range(int(START_S * 20)):
            if process.returncode is not None:
                break
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            # Some listen first and find out afterwards that they cannot go on.
            await asyncio.sleep(SETTLE_S)
            break
        else:
            process.kill()
            await process.wait()
        if process.returncode is None:
            return
        said = (self.folder / "output").read_text(errors="replace")[-2000:]
        raise NotStarted(f"{self.name} does not listen: {said}")

    async def _end(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._process = None
        if self._folder is not None:
            self._folder.cleanup()

    def alive(self) -> bool:
        """Whether its process still runs."""
        return self._process is not None and self._process.returncode is None

    def written_bytes(self) -> int:
        """Bytes that the process caused to be written to disk, 0 where the system does not say."""
        try:
            text = Path(f"/proc/{self._process.pid if self._process else 0}/io").read_text()
        except OSError:
            return 0
        match = re.search(r"^write_bytes: ([0-9]+)", text, re.MULTILINE)
        return int(match.group(1)) if match else 0

    def log_tags(self) -> Counter[str]:
        """How often each of Squid's result tags is in the access log (ours uses the same)."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return Counter()
        words = (line.split() for line in lines)
        return Counter(one[3].partition("/")[0] for one in words if len(one) > 3)


class Ours(Proxy):
    """This project's proxy."""

    name = "ours"

    def command(self) -> list[str]:
        return [
            sys.executable, "-m", "cacheproxy", "serve", "--listen", f"127.0.0.1:{self.port}",
            "--cache-dir", str(self.folder / "cache"), "--disk", str(self.disk_bytes),
            "--memory", str(self.memory_bytes), "-o", "access.deny_destinations=[]",
        ]  # fmt: skip

    @property
    def log(self) -> Path:
        return self.folder / "cache" / "access.log"

    async def store_bytes(self) -> int:
        return sum(one.stat().st_size for one in (self.folder / "cache").glob("cache*") if one.is_file())


async def run_once(*command: str) -> str:
    """Output of a command that ends by itself. Raises NotStarted when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), START_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise NotStarted(f"{command[0]} took too long") from None
    if process.returncode:
        raise NotStarted(f"{command[0]}: {output.decode(errors='replace')[-2000:]}")
    return output.decode(errors="replace")


def is_root() -> bool:
    """Whether this process may change owners."""
    return os.geteuid() == 0
