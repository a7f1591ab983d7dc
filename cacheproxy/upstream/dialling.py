"""From a host name to a connected socket: resolve once, drop denied addresses, race the rest (RFC 8305)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import aiohappyeyeballs
from cachetools import TTLCache

from cacheproxy.errors import UpstreamError
from cacheproxy.policy.access import AccessPolicy, plain_address
from cacheproxy.reasons import Reason

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
Resolve = Callable[[str, int], Awaitable[Sequence[AddressInfo]]]

_HAPPY_EYEBALLS_DELAY_S = 0.25
_NEGATIVE_TTL_S = 5.0


@dataclass(frozen=True, slots=True)
class DialOptions:
    """Durations in seconds; the cache of names is bounded by `dns_entries`."""

    connect_timeout_s: float = 5.0
    dns_ttl_s: float = 60.0
    dns_entries: int = 4096
    dns_threads: int = 8


def _look_up(host: str) -> Sequence[AddressInfo]:
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)  # type: ignore[return-value]


class Resolver:
    """getaddrinfo in its own few threads, with a bounded cache; concurrent look-ups of a name share one."""

    def __init__(self, options: DialOptions, timer: Callable[[], float]) -> None:
        self._threads = ThreadPoolExecutor(options.dns_threads, thread_name_prefix="dns")
        self._known: TTLCache[str, Sequence[AddressInfo]] = TTLCache(
            options.dns_entries, options.dns_ttl_s, timer
        )
        self._unknown: TTLCache[str, str] = TTLCache(options.dns_entries, _NEGATIVE_TTL_S, timer)
        self._pending: dict[str, asyncio.Future[Sequence[AddressInfo]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[AddressInfo]:
        """The addresses of `host`. Raises OSError (socket.gaierror) where there are none."""
        found = self._known.get(host)
        if found is None:
            if (why := self._unknown.get(host)) is not None:
                raise socket.gaierror(socket.EAI_NONAME, why)
            pending = self._pending.get(host)
            if pending is None:
                pending = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host)
                self._pending[host] = pending
                pending.add_done_callback(partial(self._settled, host))
            found = await asyncio.shield(pending)
        return [
            (family, kind, proto, name, (address[0], port, *address[2:]))
            for family, kind, proto, name, address in found
        ]

    def _settled(self, host: str, future: asyncio.Future[Sequence[AddressInfo]]) -> None:
        self._pending.pop(host, None)
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._known[host] = future.result()
        else:
            self._unknown[host] = getattr(error, "strerror", None) or str(error)

    def close(self) -> None:
        """Stop the threads; look-ups under way are left behind."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Dialler:
    """Opens sockets to allowed addresses only: the address judged is the address connected to."""

    def __init__(
        self,
        access: AccessPolicy,
        options: DialOptions,
        resolve: Resolve,
        own_endpoints: Callable[[], Sequence[tuple[str, int]]],
    ) -> None:
        self._access = access
        self._options = options
        self._resolve = resolve
        self._own_endpoints = own_endpoints

    async def open(self, host: str, port: int) -> socket.socket:
        """A connected, non-blocking socket. The caller closes it. Raises UpstreamError."""
        denied = self._access.refuses_host(host, port)
        if denied is not None:
            raise UpstreamError(Reason.DESTINATION_IP_PROHIBITED, host, denied)
        try:
            async with asyncio.timeout(self._options.connect_timeout_s) as limit:
                infos = await self._addresses(host, port, limit)
                sock = await self._connect(host, infos)
        except TimeoutError:
            raise UpstreamError(
                Reason.CONNECTION_TIMEOUT,
                host,
                f"no connection to port {port} within {self._options.connect_timeout_s:g} s",
            ) from None
        if self._is_ourselves(sock, port):
            sock.close()
            raise UpstreamError(Reason.PROXY_LOOP_DETECTED, host, "this address is the proxy itself")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def _addresses(self, host: str, port: int, limit: asyncio.Timeout) -> list[AddressInfo]:
        try:
            infos = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            detail = getattr(error, "strerror", None) or str(error)
            raise UpstreamError(Reason.DNS_ERROR, host, f"the name cannot be resolved ({detail})") from None
        except asyncio.CancelledError:
            if limit.expired():
                raise UpstreamError(
                    Reason.DNS_TIMEOUT, host, "the name server did not answer in time"
                ) from None
            raise
        own = self._own_endpoints()
        allowed: list[AddressInfo] = []
        why = "no address"
        for info in infos:
            address = info[4][0]
            if any(own_port == port and own_host == str(plain_address(address)) for own_host, own_port in own):
                raise UpstreamError(Reason.PROXY_LOOP_DETECTED, host, "this address is the proxy itself")
            denied = self._access.refuses_address(host, address, port)
            if denied is None:
                allowed.append(info)
            else:
                why = denied
        if not allowed:
            raise UpstreamError(Reason.DESTINATION_IP_PROHIBITED, host, why)
        return allowed

    async def _connect(self, host: str, infos: list[AddressInfo]) -> socket.socket:
        try:
            if len(infos) == 1:
                # Nothing to race, which is most of what a race costs.
                return await _connect_to(infos[0])
            return await aiohappyeyeballs.start_connection(
                infos,
                happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY_S,
                interleave=1,
            )
        except OSError as error:
            number = error.errno
            if number == errno.ECONNREFUSED or isinstance(error, ConnectionRefusedError):
                raise UpstreamError(Reason.CONNECTION_REFUSED, host, "the connection was refused") from None
            if number == errno.ETIMEDOUT:
                raise UpstreamError(Reason.CONNECTION_TIMEOUT, host, "the connection timed out") from None
            raise UpstreamError(
                Reason.DESTINATION_IP_UNROUTABLE, host, error.strerror or "the host cannot be reached"
            ) from None

    def _is_ourselves(self, sock: socket.socket, port: int) -> bool:
        # Behind a wildcard listener every local address is the proxy: then both ends have the same address.
        if not any(own_port == port for _, own_port in self._own_endpoints()):
            return False
        if not any(
            own_host in ("0.0.0.0", "::") and own_port == port for own_host, own_port in self._own_endpoints()
        ):
            return False
        return bool(sock.getsockname()[0] == sock.getpeername()[0])


async def _connect_to(info: AddressInfo) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError."""
    family, kind, proto, _, address = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        try:
            sock.connect(address)
        except BlockingIOError:
            await _writable(sock)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number)) from None
    except BaseException:
        sock.close()
        raise
    return sock


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(sock.fileno(), _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(sock.fileno())


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Verification against the system's roots, or those of `ca_file`."""
    return ssl.create_default_context(cafile=ca_file or None)


def tls_failure(host: str, error: Exception) -> UpstreamError:
    """The UpstreamError of a failed handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return UpstreamError(
            Reason.TLS_CERTIFICATE_ERROR, host, f"the certificate is not trusted: {error.verify_message}"
        )
    detail = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return UpstreamError(Reason.TLS_PROTOCOL_ERROR, host, f"the TLS handshake failed ({detail})")
