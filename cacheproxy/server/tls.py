"""Client connections over TLS: the certificate, and what runs between socket and connection."""

from __future__ import annotations

import asyncio
import logging
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from pathlib import Path

from cacheproxy.errors import StartError

log = logging.getLogger("cacheproxy")

# How often, in seconds, the files are looked at.
LOOK_EVERY_S = 10.0
_READ_BYTES = 256 * 1024
_RECORD_BYTES = 16 * 1024


class Certificate:
    """A server's certificate and private key in PEM files, which may be renewed while the proxy runs."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """Reads both; without `key` the certificate's file holds it as well. Raises StartError."""
        self._certificate = certificate
        self._key = key
        self._looked_at = 0.0
        self._stamp = self._current_stamp()
        self._context = self._load()

    def context(self, now: float) -> ssl.SSLContext:
        """For a handshake; `now` in monotonic seconds. Renewed files that cannot be used leave the last ones in force."""
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            stamp = self._current_stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._context = self._load()
                    log.info("%s has been renewed", self._certificate)
                except StartError as error:
                    log.error("%s; the certificate from before stays in use", error)
        return self._context

    def _current_stamp(self) -> tuple[object, ...]:
        stamp: list[object] = []
        for path in (self._certificate, self._key):
            try:
                stat = path.stat() if path is not None else None
            except OSError:
                stat = None
            stamp.append(None if stat is None else (stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(stamp)

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # A browser offers HTTP/2 first.
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, password=self._no_password)
        except ssl.SSLError as error:
            files = self._certificate if self._key is None else f"{self._certificate}, {self._key}"
            raise StartError(
                f"{files}: not a certificate with its private key in PEM ({error.reason or error})"
            ) from None
        except OSError as error:
            name = self._certificate if self._key is None or not _is_readable(self._certificate) else self._key
            raise StartError(f"{name}: cannot be read: {error.strerror}") from None
        return context

    def _no_password(self) -> str:
        raise StartError(
            f"{self._key or self._certificate}: the private key is encrypted; nobody could be asked"
        )


def _is_readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


class _LeanTls(SSLProtocol):
    """asyncio's, but that all share a buffer, which holds nothing between callbacks: 256 KiB each would be ten times
    what an idle connection takes otherwise.
    """

    max_size = _RECORD_BYTES

    def __init__(
        self,
        buffer: memoryview,
        protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        done: asyncio.Future[None],
        limit_s: float,
    ) -> None:
        super().__init__(
            done.get_loop(),
            protocol,
            context,
            done,
            server_side=True,
            ssl_handshake_timeout=limit_s,  # type: ignore[arg-type] # parts of seconds as well
        )
        self._ssl_buffer_view = buffer
        self._ssl_buffer = buffer.obj


class _Refused(asyncio.Protocol):
    """One too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class Handshakes:
    """Makes the protocols for new connections that begin with a handshake, which has `limit_s` seconds.

    `may_begin` is asked with the number of those that are under way.
    """

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext],
        limit_s: float,
        may_begin: Callable[[int], bool],
    ) -> None:
        self._protocol = protocol
        self._context = context
        self._limit_s = limit_s
        self._may_begin = may_begin
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self.under_way = 0

    def __call__(self) -> asyncio.BaseProtocol:
        """A protocol for a connection that has been accepted."""
        if not self._may_begin(self.under_way):
            return _Refused()
        done = self._loop.create_future()
        done.add_done_callback(self._done)
        made = _LeanTls(self._buffer, self._protocol(), self._context(), done, self._limit_s)
        self.under_way += 1
        return made

    def _done(self, done: asyncio.Future[None]) -> None:
        self.under_way -= 1
        error = None if done.cancelled() else done.exception()
        if error is not None:
            log.debug("no TLS with a client: %s", error)
