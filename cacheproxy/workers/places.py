"""What the supervisor opens once and every process it forks inherits: sockets, and where they are."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from cacheproxy.config.model import Config
from cacheproxy.engine.owners import socket_name
from cacheproxy.errors import StartError
from cacheproxy.options import bind_all
from cacheproxy.server.listener import ListeningSockets
from cacheproxy.sockets import bind_unix

_KEEPER = "keeper.sock"
_BACKLOG = 4096


@dataclass(slots=True)
class Places:
    """Listening sockets: the clients', the keeper's, one for each worker. Who dies leaves its queue to the next."""

    directory: Path
    clients: ListeningSockets = field(default_factory=ListeningSockets)
    keeper: socket.socket | None = None
    workers: list[socket.socket] = field(default_factory=list)

    @classmethod
    def open(cls, config: Config, directory: Path, count: int) -> Places:
        """Bind everything. Raises StartError, also where a port is taken."""
        places = cls(directory / "run")
        try:
            places.clients = bind_all(config)
            places.directory.mkdir(mode=0o700, exist_ok=True)
            places.keeper = bind_unix(places.directory / _KEEPER, _BACKLOG)
            for number in range(count):
                places.workers.append(bind_unix(places.directory / socket_name(number), _BACKLOG))
        except OSError as error:
            places.close()
            raise StartError(f"{places.directory} cannot be used: {error.strerror}") from None
        except StartError:
            places.close()
            raise
        return places

    @property
    def keeper_path(self) -> Path:
        """Where the keeper is reached."""
        return self.directory / _KEEPER

    def keep_only(self, *wanted: socket.socket) -> None:
        """In a forked process: close what it does not serve itself."""
        for sock in self._all():
            if sock not in wanted:
                sock.close()

    def close_clients(self) -> None:
        """From now on nobody can connect once the workers have closed theirs."""
        self.clients.close()

    def close(self) -> None:
        """Close everything and remove the names."""
        self.keep_only()
        try:
            for path in self.directory.iterdir():
                path.unlink(missing_ok=True)
            self.directory.rmdir()
        except OSError:
            return

    def _all(self) -> list[socket.socket]:
        own = [self.keeper] if self.keeper is not None else []
        return [*self.clients.all, *own, *self.workers]


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's place: its number among how many, its block of ids, its inheritance."""

    number: int
    count: int
    block: int
    places: Places


class Report:
    """A pipe on which a forked process says once that it is ready, or why it cannot start."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def say(self, text: str = "") -> None:
        """In the child: ready, or the error's text."""
        os.close(self._reader)
        try:
            os.write(self._writer, f"{text or 'ready'}\n".encode())
        except BrokenPipeError:
            # A replacement: nobody waits for it.
            pass
        finally:
            os.close(self._writer)

    def wait(self) -> None:
        """In the parent, once: until the child has spoken. Raises StartError with what it said."""
        os.close(self._writer)
        with os.fdopen(self._reader, encoding="utf-8") as pipe:
            text = pipe.read().strip()
        if text != "ready":
            raise StartError(text or "a process of the proxy ended while it started")

    def ignore(self) -> None:
        """In the parent: whoever is ready later need not be waited for."""
        os.close(self._writer)
        os.close(self._reader)
