"""The certificate of the listener, and handshakes: renewed, refused, bounded."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from cacheproxy.errors import StartError
from cacheproxy.server.acceptor import Acceptor
from cacheproxy.server.listener import bind
from cacheproxy.server.tls import LOOK_EVERY_S, Certificate, Handshakes
from cacheproxy.tasks import TaskGroup
from tests.support.tls import Held, client_context, server_context, write_files


def test_both_in_one_file(tmp_path: Path) -> None:
    certificate, key = write_files(tmp_path)
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    assert Certificate(certificate, None).context(0.0).minimum_version is ssl.TLSVersion.TLSv1_2


def _encrypted(key: Path) -> None:
    plain = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a password"))
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda certificate, key: certificate.unlink(), "server.pem: cannot be read: No such file"),
        (lambda certificate, key: key.unlink(), "server.key: cannot be read: No such file"),
        (
            lambda certificate, key: certificate.write_bytes(b"nonsense"),
            "not a certificate with its private key",
        ),
        (
            lambda certificate, key: key.write_bytes(trustme.CA().issue_cert("x").private_key_pem.bytes()),
            "KEY_VALUES_MISMATCH",
        ),
        (lambda certificate, key: _encrypted(key), "server.key: the private key is encrypted"),
    ],
    ids=["no certificate", "no key", "no PEM", "another's key", "encrypted"],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, spoil: object, said: str) -> None:
    certificate, key = write_files(tmp_path)
    assert callable(spoil)
    spoil(certificate, key)
    with pytest.raises(StartError, match=said):
        Certificate(certificate, key)


def _touch(path: Path, number: int) -> None:
    os.utime(path, ns=(number, number))


def test_renewed_files_are_taken_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    certificate, key = write_files(tmp_path)
    served = Certificate(certificate, key)
    first = served.context(100.0)
    assert served.context(100.0 + LOOK_EVERY_S) is first

    certificate.write_bytes(b"half of it")
    with caplog.at_level(logging.INFO, "cacheproxy"):
        assert served.context(99.0 + 2 * LOOK_EVERY_S) is first
        assert not caplog.records
        assert served.context(100.0 + 2 * LOOK_EVERY_S) is first
        assert "the certificate from before stays in use" in caplog.text
        caplog.clear()
        # Said once.
        assert served.context(100.0 + 3 * LOOK_EVERY_S) is first
        assert not caplog.records

        write_files(tmp_path, trustme.CA().issue_cert("localhost"))
        _touch(certificate, 5)
        second = served.context(100.0 + 4 * LOOK_EVERY_S)
        assert second is not first
        assert "has been renewed" in caplog.text
        certificate.unlink()
        assert served.context(100.0 + 5 * LOOK_EVERY_S) is second
        assert "No such file" in caplog.text


class Door:
    """A listening socket with TLS behind it."""

    def __init__(self, at_most: int = 100, limit_s: float = 30.0) -> None:
        self.held: list[Held] = []
        context = server_context()
        self.handshakes = Handshakes(
            self._held, lambda: context, limit_s, 30.0, lambda under_way: under_way < at_most
        )
        (sock,) = bind("127.0.0.1", 0)
        self.port = sock.getsockname()[1]
        self.acceptor = Acceptor(sock, self.handshakes, 8, TaskGroup("test"))
        self.acceptor.start()

    def _held(self) -> Held:
        self.held.append(Held())
        return self.held[-1]

    async def settled(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.handshakes.under_way != count:
                await asyncio.sleep(0)


async def gets_nothing(door: Door) -> None:
    """Connect, and wait for the other side to end it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        assert await reader.read() == b""
    except ConnectionResetError:
        pass
    writer.close()


async def test_a_handshake_makes_a_connection() -> None:
    door = Door()
    buffers = set()
    async with asyncio.timeout(10):
        for _ in range(3):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", door.port, ssl=client_context(), server_hostname="localhost"
            )
            writer.write(b"hello " * 100_000)
            await writer.drain()
            while len(door.held[-1].received) < 600_000:
                await asyncio.sleep(0)
            assert door.held[-1].transport.get_extra_info("peername")[0] == "127.0.0.1"
            buffers.add(id(door.held[-1].transport._ssl_protocol.get_buffer(-1)))  # type: ignore[attr-defined]
            writer.close()
            assert await reader.read() == b""
            await door.held[-1].lost
    await door.settled(0)
    # One for all, which holds nothing between callbacks.
    assert len(buffers) == 1
    door.acceptor.close()


@pytest.mark.parametrize("sent", [b"GET http://a.example/ HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00", b""])
async def test_what_is_not_tls_gets_no_connection(sent: bytes) -> None:
    door = Door()
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(sent)
        writer.write_eof()
        try:
            assert b"HTTP" not in await reader.read()
        except ConnectionResetError:
            pass
        writer.close()
    await door.settled(0)
    assert not any(hasattr(held, "transport") for held in door.held)
    door.acceptor.close()


async def test_a_handshake_has_its_time() -> None:
    door = Door(limit_s=0.05)
    async with asyncio.timeout(10):
        await gets_nothing(door)
    await door.settled(0)
    door.acceptor.close()


async def test_only_so_many_handshakes_at_once() -> None:
    door = Door(at_most=2)
    idle = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(2)]
    await door.settled(2)
    async with asyncio.timeout(10):
        await gets_nothing(door)
        for one in idle:
            one.close()
        await door.settled(0)
        _, writer = await asyncio.open_connection(
            "127.0.0.1", door.port, ssl=client_context(), server_hostname="localhost"
        )
        writer.close()
    door.acceptor.close()
