"""https:// in absolute-form: fetched over verified TLS, cached under its own scheme, never with credentials."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from tests.conftest import Connect, StartProxy
from tests.support.origin import Origin, response

FRESH = "Cache-Control: max-age=3600"


class TlsOrigin(Origin):
    """The same origin behind TLS."""

    context: ssl.SSLContext

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]

    def url(self, path: str) -> str:
        return f"https://localhost:{self.port}{path}"


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


async def _tls_origin(authority: trustme.CA, name: str) -> TlsOrigin:
    origin = TlsOrigin()
    origin.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(origin.context)
    await origin.start()
    return origin


@pytest.fixture
async def tls_origin(authority: trustme.CA) -> AsyncIterator[TlsOrigin]:
    origin = await _tls_origin(authority, "localhost")
    yield origin
    await origin.stop()


async def test_fetched_verified_and_cached(
    tls_origin: TlsOrigin, start_proxy: StartProxy, connect: Connect, tmp_path: Path
) -> None:
    client = await connect(await start_proxy(f'upstream.ca_file="{tmp_path / "ca.pem"}"'))
    tls_origin.routes["/a"] = response(b"secure", FRESH)
    for _ in range(2):
        assert (await client.get(tls_origin.url("/a"))).body == b"secure"
    assert tls_origin.count() == 1
    assert tls_origin.requests[0].field("host") == [f"localhost:{tls_origin.port}"]


@pytest.mark.parametrize("credentials", ["Cookie: a=b", "Authorization: Bearer x"])
async def test_never_stored_with_credentials(
    tls_origin: TlsOrigin, start_proxy: StartProxy, connect: Connect, tmp_path: Path, credentials: str
) -> None:
    client = await connect(await start_proxy(f'upstream.ca_file="{tmp_path / "ca.pem"}"'))
    tls_origin.routes["/a"] = response(b"mine", FRESH + ", public")
    got = await client.get(tls_origin.url("/a"), credentials)
    assert "credentials-over-tls" in (got.field("cache-status") or "")
    await client.get(tls_origin.url("/a"))
    assert tls_origin.count() == 2


async def test_certificates_are_verified(
    authority: trustme.CA, tls_origin: TlsOrigin, start_proxy: StartProxy, connect: Connect, tmp_path: Path
) -> None:
    untrusting = await connect(await start_proxy())
    got = await untrusting.get(tls_origin.url("/a"))
    assert (got.status, "tls_certificate_error" in (got.field("proxy-status") or "")) == (502, True)
    other = await _tls_origin(authority, "other.example")
    client = await connect(await start_proxy(f'upstream.ca_file="{tmp_path / "ca.pem"}"'))
    assert (await client.get(other.url("/a"))).status == 502
    await other.stop()
    assert tls_origin.count() == other.count() == 0


async def test_no_tls_there_and_turned_off(origin: Origin, start_proxy: StartProxy, connect: Connect) -> None:
    client = await connect(await start_proxy("upstream.connect_timeout=200ms"))
    got = await client.get(origin.url("/a").replace("http:", "https:"))
    assert (got.status, "tls_protocol_error" in (got.field("proxy-status") or "")) == (502, True)
    client = await connect(await start_proxy("upstream.absolute_https=false"))
    assert (await client.get(origin.url("/a").replace("http:", "https:"))).status == 403
