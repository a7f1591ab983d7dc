"""Client connections over TLS: the certificate, and what runs between socket and connection."""

from __future__ import annotations

import asyncio
import logging
import ssl
from asyncio.sslproto import SSLProtocol, SSLProtocolState
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
            why = error.reason or (
                "cannot be read" if self._key else "without a key: name its file with listen.key?"
            )
            raise StartError(f"{files}: not a certificate with its private key in PEM ({why})") from None
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
    """asyncio's, with three differences.

    All share a buffer, which holds nothing between callbacks: 256 KiB each would be ten times what an idle connection
    takes otherwise. The side that has nothing more to say can end its own way (RFC 8446 section 6.1), as the
    transport's extra `end_writing` does. And closing sends what is written, whatever the client still says: asyncio
    drops it where data follows its close_notify.
    """

    max_size = _RECORD_BYTES
    # asyncio's own, which typeshed does not know.
    _app_protocol: Any
    _app_reading_paused: bool
    _eof_received: bool
    _extra: dict[str, Any]
    _loop: asyncio.AbstractEventLoop
    _outgoing: ssl.MemoryBIO
    _shutdown_timeout_handle: asyncio.TimerHandle | None
    _ssl_shutdown_timeout: float
    _sslobj: Any
    _state: SSLProtocolState
    _transport: Any
    _call_eof_received: Callable[[], None]
    _check_shutdown_timeout: Callable[[], None]
    _process_outgoing: Callable[[], None]
    _start_shutdown: Callable[[], None]

    def __init__(
        self,
        buffer: memoryview,
        protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        done: asyncio.Future[None],
        handshake_s: float,
        shutdown_s: float,
    ) -> None:
        super().__init__(
            done.get_loop(),
            protocol,
            context,
            done,
            server_side=True,
            ssl_handshake_timeout=handshake_s,  # type: ignore[arg-type] # parts of seconds as well
            ssl_shutdown_timeout=shutdown_s,
        )
        self._ssl_buffer_view = buffer
        self._ssl_buffer = buffer.obj
        self._has_ended = False
        self._extra["end_writing"] = self.end_writing

    def end_writing(self) -> None:
        """Say that nothing more will come, behind what is written; what the client says is still received."""
        if self._may_end():
            # What has arrived comes first, even where reading is paused: otherwise the close_notify would cost a record.
            self._deliver(even_if_paused=True)
        if not self._may_end():
            return
        self._has_ended = True
        try:
            self._sslobj.unwrap()
        except ssl.SSLError as error:
            # Usually that the client has not ended yet.
            log.debug("close_notify: %s", error)
        self._process_outgoing()

    def _may_end(self) -> bool:
        return not self._has_ended and self._transport is not None

    def _deliver(self, *, even_if_paused: bool) -> None:
        """Give what has arrived to the connection, record by record."""
        read, is_open = self._sslobj.read, (SSLProtocolState.WRAPPED, SSLProtocolState.FLUSHING)
        try:
            while self._state in is_open and (even_if_paused or not self._app_reading_paused):
                data = read(self.max_size)
                if not data:
                    break
                self._app_protocol.data_received(data)
            else:
                return
        except (ssl.SSLWantReadError, ssl.SSLSyscallError):
            return
        except ssl.SSLZeroReturnError:
            # The same as no data, once this side has ended.
            pass
        self._call_eof_received()
        self._start_shutdown()

    def _do_read__copied(self) -> None:
        self._deliver(even_if_paused=False)

    def _do_shutdown(self) -> None:
        """Send what is written and close: whoever wants to wait for the client's end has done so."""
        if self._eof_received:
            self._call_eof_received()
        self.end_writing()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._shutdown_timeout_handle is None:
            self._shutdown_timeout_handle = self._loop.call_later(
                self._ssl_shutdown_timeout, self._check_shutdown_timeout
            )
        transport.write(self._outgoing.read())
        transport.close()


class _Refused(asyncio.Protocol):
    """One too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class Handshakes:
    """Makes the protocols for new connections that begin with a handshake, which has `handshake_s` seconds.

    What is written has `shutdown_s` after the connection is closed. `may_begin` is asked with the number of handshakes
    under way.
    """

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext],
        handshake_s: float,
        shutdown_s: float,
        may_begin: Callable[[int], bool],
    ) -> None:
        self._protocol = protocol
        self._context = context
        self._limits = handshake_s, shutdown_s
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
        made = _LeanTls(self._buffer, self._protocol(), self._context(), done, *self._limits)
        self.under_way += 1
        return made

    def _done(self, done: asyncio.Future[None]) -> None:
        self.under_way -= 1
        error = None if done.cancelled() else done.exception()
        if error is not None:
            log.debug("no TLS with a client: %r", error)
