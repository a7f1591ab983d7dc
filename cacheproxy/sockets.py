"""Sockets below asyncio: what the kernel counted on a TCP connection, Unix sockets in deep directories, how many there may be."""

from __future__ import annotations

import logging
import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("cacheproxy")

# struct tcp_info of Linux: tcpi_bytes_acked and tcpi_bytes_received are two u64 at byte 120.
_OFFSET = 120
_PAIR = struct.Struct("@QQ")


def kernel_bytes(sock: socket.socket | None) -> tuple[int, int] | None:
    """(bytes acknowledged by the peer, bytes received from it) in the connection's life; None if unknown.

    Received counts what reached this machine even if nobody read it before the socket was closed.
    """
    if sock is None or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _OFFSET + _PAIR.size)
    except (OSError, AttributeError):
        return None
    if len(info) < _OFFSET + _PAIR.size:
        return None
    acked, received = _PAIR.unpack_from(info, _OFFSET)
    return acked, received


def bind_unix(path: Path, backlog: int = 64) -> socket.socket:
    """A listening Unix socket at `path`, replacing what is there; only its owner may connect. Raises OSError."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        with address_unix(path) as address:
            sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(old)
    return sock


def connect_unix(path: Path, timeout_s: float) -> socket.socket:
    """A connection to the Unix socket at `path`. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        with address_unix(path) as address:
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def address_unix(path: Path) -> Iterator[str]:
    """A name for the Unix socket at `path` that the kernel takes, however deep it lies. Raises OSError."""
    # A Unix socket's name is at most 107 bytes; through a descriptor of its directory any depth will do.
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}" if len(os.fsencode(path)) > 100 else str(path)
    finally:
        os.close(directory)


def raise_file_limit() -> None:
    """As many open files as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            log.debug("the limit on open files stays at %s", soft)


def room_for_clients() -> int:
    """The client connections that the limit on open files leaves room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Most clients are idle most of the time; the others need descriptors upstream as well, the store a few.
    return max(16, (soft - 64) * 3 // 4) if soft != resource.RLIM_INFINITY else 2**31
