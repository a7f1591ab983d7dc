"""Programs under test: started pinned to a core, measured through /proc, ended by process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0


class BenchmarkError(Exception):
    """The benchmark cannot go on: a program did not start, or answers wrongly."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


ALLOWED = sorted(os.sched_getaffinity(0))  # before the driver moves itself to the core of the load


def cores() -> tuple[list[int], list[int]]:
    """The core of the program under test, and the core of load and origin; the same one where there is only one."""
    return [ALLOWED[0]], [ALLOWED[1] if len(ALLOWED) > 1 else ALLOWED[0]]


def pinned(cpus: Sequence[int], argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` on these cores only."""
    return ["taskset", "-c", ",".join(map(str, cpus)), *argv]


def missing(*programs: str) -> str:
    """The first of these programs that is not installed, or an empty text."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return next((name for name in programs if shutil.which(name, path=path) is None), "")


def program(name: str) -> str:
    """The absolute path of an installed program; Debian keeps some where only root's PATH leads."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise BenchmarkError(f"{name} is not installed")
    return found


def tree(root: int) -> list[int]:
    """`root` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def run_ns(pids: Sequence[int]) -> int:
    """Nanoseconds that all threads of these processes have run, by the scheduler's account."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except OSError:
                continue
    return total


def pss_bytes(pids: Sequence[int]) -> int:
    """Proportional set size of these processes together."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    return total


@dataclass(slots=True)
class Machine:
    """Seconds that all cores were busy, and seconds that were stolen by the machine's host."""

    busy_s: float
    steal_s: float

    @classmethod
    def now(cls) -> Machine:
        """Read /proc/stat."""
        with Path("/proc/stat").open() as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
        user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
        hz = os.sysconf("SC_CLK_TCK")
        return cls((user + nice + system + irq + softirq) / hz, steal / hz)


@dataclass(slots=True)
class Program:
    """One started program and what it forks."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    shared_memory: str = ""  # name in /dev/shm that the program leaves behind when it is killed
    _pids: list[int] = field(default_factory=list)

    def pids(self) -> list[int]:
        """Its processes; looked up anew each time, for workers come and go."""
        self._pids = tree(self.process.pid)
        return self._pids

    def check(self) -> None:
        """Raise BenchmarkError with the end of its log when it has ended."""
        if self.process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-1500:]
            raise BenchmarkError(f"{self.name} ended with {self.process.returncode}:\n{tail}")

    def stop(self) -> None:
        """SIGTERM to the first process; after a while SIGKILL to all of them, each by its id."""
        known = self.pids()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                known = list({*known, *self.pids()})
                self.process.kill()
                self.process.wait()
        for pid in known:
            if pid != self.process.pid and _is_ours(pid, known):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        if self.shared_memory:
            for left in Path("/dev/shm").glob(f"*{self.shared_memory}*"):
                left.unlink(missing_ok=True)


def _is_ours(pid: int, known: Sequence[int]) -> bool:
    """Whether `pid` is still an orphan or a child of the ended program, not a stranger with a reused id."""
    try:
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return False
    return parent == 1 or parent in known


def start(
    name: str,
    argv: Sequence[str],
    *,
    cpus: Sequence[int],
    port: int,
    directory: Path,
    env: Mapping[str, str] | None = None,
    shared_memory: str = "",
) -> Program:
    """Start a program and wait until its port accepts connections. Raises BenchmarkError."""
    log = directory / f"{name}.out"
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned(cpus, argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    started = Program(name, process, log, shared_memory)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        started.check()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return started
        except OSError:
            time.sleep(0.05)
    started.stop()
    raise BenchmarkError(
        f"{name} did not listen within {START_TIMEOUT_S:.0f} s; see its output:\n" + _tail(log)
    )


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:]
