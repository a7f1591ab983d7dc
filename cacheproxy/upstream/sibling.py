"""The way to the other workers of this proxy: connections to their Unix sockets in place of an origin's."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from cacheproxy.errors import UpstreamError
from cacheproxy.reasons import Reason
from cacheproxy.sockets import address_unix


class SiblingDialler:
    """Opens DIR/HOST: the host of a sibling's origin is its socket's name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def open(self, host: str, port: int) -> socket.socket:
        """A connected socket; it waits in the queue of a worker that is being replaced. Raises UpstreamError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            with address_unix(self._directory / host) as address:
                async with asyncio.timeout(5):
                    await asyncio.get_running_loop().sock_connect(sock, address)
        except (OSError, TimeoutError) as error:
            sock.close()
            raise UpstreamError(
                Reason.PROXY_INTERNAL_ERROR, host, f"another worker cannot be reached: {error}"
            ) from None
        except BaseException:
            sock.close()
            raise
        return sock


class NoReceipt:
    """What comes from another worker came from no origin: nothing is counted."""

    def origin_received(self, count: int) -> None:
        """Not from an origin."""

    def client_sent(self, count: int) -> None:
        """Not to a client."""

    def tunnelled(self, up: int, down: int) -> None:
        """There are no tunnels between workers."""

    def store_failed(self, what: str) -> None:
        """No store is asked."""

    def finished(self, exchange: object) -> None:
        """The client's own exchange is counted where the client is."""
