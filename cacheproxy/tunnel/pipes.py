"""Kernel pipes for splicing (Linux): lent to a direction while bytes are under way, a bounded number in all.

A pipe is lent for as long as it holds bytes and comes back empty: a tunnel that waits holds no pipe, and what an
unprivileged user may have of pipe memory goes as far as possible.
"""

from __future__ import annotations

import fcntl
import logging
import os
import resource
from dataclasses import dataclass

log = logging.getLogger("cacheproxy")

PIPE_BYTES = 1024 * 1024
# Through a smaller pipe, which the kernel gives to users who have many, splicing costs more than copying.
MIN_PIPE_BYTES = 64 * 1024
_MAX_PIPES = 256
_KEPT_PIPES = 8


@dataclass(slots=True)
class Pipe:
    """Both ends, non-blocking; `held` bytes of at most `size` are inside."""

    reader: int
    writer: int
    size: int
    held: int = 0

    def close(self) -> None:
        """Close both ends; bytes inside are lost."""
        os.close(self.reader)
        os.close(self.writer)


def can_splice() -> bool:
    """Whether this system has what splicing needs."""
    return hasattr(os, "splice") and hasattr(fcntl, "F_SETPIPE_SZ")


def default_limit() -> int:
    """As many pipes as take a sixteenth of the process's descriptors, two each; 0 where nothing can be spliced."""
    if not can_splice():
        return 0
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_PIPES if soft == resource.RLIM_INFINITY else min(_MAX_PIPES, soft // 32)


class Pipes:
    """Lends at most `limit` pipes. Empty ones are kept for the next direction while any tunnel is open."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = default_limit() if limit is None else limit
        self._free: list[Pipe] = []
        self._users = 0
        self.lent = 0

    def enter(self) -> None:
        """A tunnel opens."""
        self._users += 1

    def leave(self) -> None:
        """A tunnel has closed: the last one closes the pipes that are kept."""
        self._users -= 1
        if not self._users:
            while self._free:
                self._free.pop().close()

    def take(self) -> Pipe | None:
        """An empty pipe, or None: too many are lent, or the system gives none."""
        if self.lent >= self._limit:
            return None
        pipe = self._free.pop() if self._free else _open()
        if pipe is not None:
            self.lent += 1
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """Take a lent pipe back. One that still holds bytes is closed: they belong to one tunnel only."""
        self.lent -= 1
        if pipe.held or len(self._free) >= _KEPT_PIPES or not self._users:
            pipe.close()
        else:
            self._free.append(pipe)


def _open() -> Pipe | None:
    try:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        log.debug("no pipe: %s", error)
        return None
    size = PIPE_BYTES
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        # Above the user's share of pipe memory, or above the system's largest pipe: what was granted must do.
        size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    pipe = Pipe(reader, writer, size)
    if size < MIN_PIPE_BYTES:
        pipe.close()
        return None
    return pipe
