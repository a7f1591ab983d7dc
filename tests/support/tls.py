"""TLS on loopback: a certificate and who trusts it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import trustme

AUTHORITY = trustme.CA()
_ISSUED = AUTHORITY.issue_cert("localhost", "127.0.0.1")


def server_context() -> ssl.SSLContext:
    """For whoever is connected to."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _ISSUED.configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    """For whoever connects."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def write_files(directory: Path, issued: trustme.LeafCert = _ISSUED) -> tuple[Path, Path]:
    """The certificate with its chain, and the private key."""
    certificate, key = directory / "server.pem", directory / "server.key"
    certificate.write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key


class Held(asyncio.Protocol):
    """Keeps what comes and how it ended."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.received = bytearray()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def tls_pair() -> tuple[Held, asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection over TLS: its server's side, held and not reading, and its client's."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[Held] = loop.create_future()

    class Near(Held):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()
            made.set_result(self)

    server = await loop.create_server(Near, "127.0.0.1", 0, ssl=server_context())
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=client_context(), server_hostname="localhost"
    )
    near = await made
    server.close()
    return near, reader, writer
