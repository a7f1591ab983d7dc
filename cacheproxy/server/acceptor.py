"""Takes new connections from a listening socket, many at a turn of the loop, and goes on once descriptors have run out."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from cacheproxy.tasks import TaskGroup

log = logging.getLogger("cacheproxy")

PAUSE_S = 1.0
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Owns the socket. Close it.

    asyncio's own takes a task and a future for each connection, which is a quarter of what a short one costs, and where
    no descriptor is free it tries, and says so, as often as it may accept at once.
    """

    def __init__(
        self, sock: socket.socket, protocol: Callable[[], asyncio.BaseProtocol], at_once: int, tasks: TaskGroup
    ) -> None:
        # Of several processes with the same socket another may be quicker.
        sock.setblocking(False)
        self._sock = sock
        self._protocol = protocol
        self._at_once = at_once
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        # asyncio's own name for it, on which its servers stand too; other loops have none.
        self._make_transport = getattr(self._loop, "_make_socket_transport", None)
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Accept from now on."""
        self._pause = None
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        """Accept no further connection."""
        if self._pause is not None:
            self._pause.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _accept(self) -> None:
        for _ in range(self._at_once):
            try:
                connection, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                log.error("no new connection is accepted for %g s: %s", PAUSE_S, error.strerror)
                self._loop.remove_reader(self._sock.fileno())
                self._pause = self._loop.call_later(PAUSE_S, self.start)
                return
            try:
                self._connect(connection, address)
            except Exception:
                log.exception("a new connection")
                connection.close()

    def _connect(self, connection: socket.socket, address: object) -> None:
        connection.setblocking(False)
        if self._make_transport is not None:
            self._make_transport(connection, self._protocol(), extra={"peername": address})
        else:
            self._tasks.spawn("accept", self._connect_slowly(connection))

    async def _connect_slowly(self, connection: socket.socket) -> None:
        await self._loop.connect_accepted_socket(self._protocol, connection)
