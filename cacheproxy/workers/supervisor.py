"""The supervisor: owns the sockets and the directory's lock, forks the keeper and the workers, replaces who dies.

It runs no event loop and no threads, so that forking is safe at any time and a replacement takes milliseconds.
"""

from __future__ import annotations

import logging
import os
import secrets
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cacheproxy.admin.routes import SOCKET_NAME
from cacheproxy.clock import SystemClock
from cacheproxy.config.model import Config, SettingValue
from cacheproxy.errors import StartError
from cacheproxy.sockets import raise_file_limit
from cacheproxy.store.directory import CacheDirectory
from cacheproxy.workers.greeting import greet
from cacheproxy.workers.keeper import run_keeper
from cacheproxy.workers.places import Places, Report, Seat
from cacheproxy.workers.worker import run_worker

log = logging.getLogger("cacheproxy")

_STEADY_S = 10.0
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 10.0
_MARGIN_S = 15.0
_EPOCH_2020 = 1_577_836_800
# Settings whose total is for all workers together.
_SHARED = (
    "cache.memory",
    "cache.disk_heads",
    "cache.spool",
    "cache.write_queue",
    "server.max_connections",
    "upstream.connections",
    "upstream.connections_per_origin",
)


@dataclass(slots=True)
class _Post:
    """A process that must always be there."""

    name: str
    start: Callable[[Report], None]
    pid: int = 0
    started_at: float = 0.0
    delay_s: float = 0.0
    due_at: float = 0.0


class Supervisor:
    """`run()` until told to stop."""

    def __init__(self, config: Config, directory: Path, count: int) -> None:
        name = config.text("server.name") or f"cacheproxy-{secrets.token_hex(4)}"
        # One Via name: the workers are one proxy.
        self._config = config.with_values({"server.name": name})
        self._directory = directory
        self._count = count
        self._clock = SystemClock()
        self._places: Places
        self._last_block = 0
        self._is_stopping = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        # Its other end closes with this process, however it ends.
        self._lifeline = os.pipe()
        self._keeper = _Post("keeper", self._start_keeper)
        self._workers = [
            _Post(f"worker {number}", lambda report, number=number: self._start_worker(number, report))  # type: ignore[misc]
            for number in range(count)
        ]

    def run(self) -> None:
        """Start everything, keep it running, stop it. Raises StartError."""
        os.umask(0o077)
        raise_file_limit()
        log.setLevel(self._config.text("log.level").upper())
        lock = CacheDirectory(self._directory)
        try:
            self._places = Places.open(self._config, self._directory, self._count)
            try:
                self._catch_signals()
                self._run()
            finally:
                self._kill_all(signal.SIGKILL)
                self._places.close()
                # Last but one: `cacheproxy stop` waits for it to go, and may then start anew.
                (self._directory / SOCKET_NAME).unlink(missing_ok=True)
        finally:
            lock.close()

    def _run(self) -> None:
        for post in (self._keeper, *self._workers):
            report = self._fork(post)
            report.wait()
        greet(self._config, self._places.clients.urls, self._directory)
        while not self._is_stopping:
            self._sleep(self._next_due())
            self._reap()
            self._replace()
        self._stop()

    # signals

    def _catch_signals(self) -> None:
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGUSR1, lambda number, frame: self._signal(self._keeper, signal.SIGUSR1))

    def _on_stop(self, number: int, frame: object) -> None:
        if self._is_stopping:
            # The second one: the operator does not want to wait. SQLite and the lock survive this.
            self._kill_all(signal.SIGKILL)
            os._exit(130)
        self._is_stopping = True

    def _sleep(self, seconds: float | None) -> None:
        """Until a signal comes, or for some time."""
        select.select([self._wake_reader], [], [], seconds)
        try:
            self._wake_reader.recv(4096)
        except BlockingIOError:
            return

    # processes

    def _fork(self, post: _Post) -> Report:
        report = Report()
        self._next_block()
        sys.stderr.flush()
        post.started_at = self._clock.monotonic()
        post.pid = os.fork()
        if post.pid:
            return report
        code = 1
        try:
            self._become_child()
            post.start(report)
            code = 0
        except StartError as error:
            log.error("%s: %s", post.name, error)
            report.say(str(error))
        except BaseException:
            log.exception("%s", post.name)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _become_child(self) -> None:
        signal.set_wakeup_fd(-1)
        # Ctrl-C reaches the whole group: the supervisor passes it on as SIGTERM, once.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        self._wake_reader.close()
        self._wake_writer.close()
        os.close(self._lifeline[1])

    def _start_keeper(self, report: Report) -> None:
        assert self._places.keeper is not None
        self._places.keep_only(self._places.keeper)
        run_keeper(self._config, self._directory, self._places, self._count, self._lifeline[0], report)

    def _start_worker(self, number: int, report: Report) -> None:
        self._places.keep_only(*self._places.clients.all, self._places.workers[number])
        shared: dict[str, SettingValue] = {
            name: max(1, -(-self._config.number(name) // self._count)) for name in _SHARED
        }
        seat = Seat(number, self._count, self._last_block, self._places)
        run_worker(self._config.with_values(shared), self._directory, seat, self._lifeline[0], report)

    def _next_block(self) -> None:
        # Seconds since 2020: later processes give higher ids, also in the next run.
        # The store settles what a clock that was set back would spoil.
        self._last_block = max(self._last_block + 1, int(self._clock.wall()) - _EPOCH_2020)

    # who dies is replaced

    def _reap(self) -> None:
        for post in (self._keeper, *self._workers):
            if not post.pid:
                continue
            pid, status = os.waitpid(post.pid, os.WNOHANG)
            if not pid:
                continue
            post.pid = 0
            now = self._clock.monotonic()
            if now - post.started_at >= _STEADY_S:
                post.delay_s = 0.0
            post.due_at = now + post.delay_s
            how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {status >> 8}"
            log.error("%s (process %d) ended with %s; another takes its place", post.name, pid, how)
            post.delay_s = min(max(_FIRST_DELAY_S, post.delay_s * 2), _LONGEST_DELAY_S)

    def _replace(self) -> None:
        if self._is_stopping:
            return
        for post in (self._keeper, *self._workers):
            if not post.pid and self._clock.monotonic() >= post.due_at:
                self._fork(post).ignore()

    def _next_due(self) -> float | None:
        due = [post.due_at for post in (self._keeper, *self._workers) if not post.pid]
        return max(0.0, min(due) - self._clock.monotonic()) if due else None

    # the end

    def _stop(self) -> None:
        """Workers drain, then the keeper writes what is queued."""
        self._places.close_clients()
        limit = self._config.seconds("server.drain_timeout") * 2 + _MARGIN_S
        for posts in (self._workers, [self._keeper]):
            for post in posts:
                self._signal(post, signal.SIGTERM)
            deadline = self._clock.monotonic() + limit
            while any(post.pid for post in posts):
                self._sleep(max(0.0, min(1.0, deadline - self._clock.monotonic())))
                self._reap_quietly(posts)
                if self._clock.monotonic() > deadline:
                    log.warning("%s did not end in time", ", ".join(post.name for post in posts if post.pid))
                    return

    def _reap_quietly(self, posts: list[_Post]) -> None:
        for post in posts:
            if post.pid and os.waitpid(post.pid, os.WNOHANG)[0]:
                post.pid = 0

    @staticmethod
    def _signal(post: _Post, number: int) -> None:
        if post.pid:
            try:
                os.kill(post.pid, number)
            except ProcessLookupError:
                return

    def _kill_all(self, number: int) -> None:
        for post in (*self._workers, self._keeper):
            self._signal(post, number)
            if post.pid:
                os.waitpid(post.pid, 0)
                post.pid = 0
