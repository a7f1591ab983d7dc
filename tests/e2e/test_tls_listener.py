"""Clients that talk to the proxy over TLS: all that others get, and tunnels through transports."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cacheproxy.app import App
from cacheproxy.tunnel.transports import End
from tests.conftest import StartProxy
from tests.e2e.test_process import Process
from tests.support.client import RawClient
from tests.support.echo import Echo, connect_head
from tests.support.origin import Origin, Received, Wire, response
from tests.support.tls import AUTHORITY, client_context, write_files
from tests.support.tunnel import open_descriptors, reset

FRESH = "Cache-Control: max-age=3600"
StartTls = Callable[..., Awaitable[App]]
ConnectTls = Callable[[App], Awaitable[RawClient]]


@pytest.fixture
def start_tls(start_proxy: StartProxy, tmp_path: Path) -> StartTls:
    """A proxy that listens in the clear and, behind that, over TLS."""
    certificate, key = write_files(tmp_path)

    async def start(*options: str) -> App:
        return await start_proxy(
            'listen.addresses=["127.0.0.1:0", "https://127.0.0.1:0"]',
            f'listen.certificate="{certificate}"',
            f'listen.key="{key}"',
            *options,
        )

    return start


@pytest.fixture
async def connect_tls() -> AsyncIterator[ConnectTls]:
    clients: list[RawClient] = []

    async def connect(app: App) -> RawClient:
        clients.append(await RawClient.connect(app.addresses[1][1], client_context()))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_misses_and_hits(start_tls: StartTls, connect_tls: ConnectTls, origin: Origin) -> None:
    app = await start_tls()
    assert [url.partition(":")[0] for url in app.urls] == ["http", "https"]
    client = await connect_tls(app)
    large = random.Random(1).randbytes(3_000_000)
    origin.routes["/small"] = response(b"small", FRESH)
    origin.routes["/large"] = response(large, FRESH)
    for _ in range(3):
        assert (await client.get(origin.url("/small"))).body == b"small"
        assert (await client.get(origin.url("/large"))).body == large
    assert origin.count() == 2
    if app.hot is not None:
        assert app.counters.hot_answers >= 2
    assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() is None


async def test_bodies_of_requests_and_pipelining(
    start_tls: StartTls, connect_tls: ConnectTls, origin: Origin
) -> None:
    client = await connect_tls(await start_tls())
    origin.routes["/a"] = response(b"a", FRESH)
    body = random.Random(2).randbytes(700_000)
    origin.routes["/post"] = response(b"posted")
    assert (await client.get(origin.url("/post"), method="POST", body=body)).body == b"posted"
    assert origin.requests[-1].body == body
    asked = f"GET {origin.url('/a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    await client.send(asked * 20)
    for _ in range(20):
        assert (await client.reply()).body == b"a"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_last_answer_is_ended_at_once(
    start_tls: StartTls, connect_tls: ConnectTls, origin: Origin, version: str
) -> None:
    """Without the two seconds that a client in the clear has."""
    app = await start_tls()
    origin.routes["/a"] = response(b"a" * 300_000, FRESH)
    async with asyncio.timeout(1.5):
        for _ in range(3):
            client = await connect_tls(app)
            await client.send(
                f"GET {origin.url('/a')} HTTP/{version}\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            )
            assert (await client.reply()).body == b"a" * 300_000
            assert await client.reader.read() == b""
            client.close()
            await client.writer.wait_closed()


async def test_a_broken_answer_is_seen(
    start_tls: StartTls, connect_tls: ConnectTls, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    async def route(received: Received, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 10)
        wire.close()

    client = await connect_tls(await start_tls())
    origin.routes["/cut"] = route
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await client.get(origin.url("/cut"))
    assert await client.closed()
    assert "Traceback" not in caplog.text


async def test_who_leaves_in_the_middle_is_noticed(
    start_tls: StartTls, connect_tls: ConnectTls, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    app = await start_tls("cache.memory=0", "cache.disk=0")
    origin.routes["/big"] = response(bytes(30_000_000), "Cache-Control: no-store")
    for leave in (RawClient.close, RawClient.reset):
        client = await connect_tls(app)
        await client.send(f"GET {origin.url('/big')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await client.head()
        leave(client)
        await _until(lambda: app.listener is not None and app.listener.connections == 0)
    assert "Traceback" not in caplog.text
    assert "no effect" not in caplog.text


async def test_an_idle_connection_ends(start_tls: StartTls, connect_tls: ConnectTls) -> None:
    client = await connect_tls(await start_tls("server.idle_timeout=100ms"))
    assert await client.closed()


@pytest.mark.parametrize("sent", ["CONNECT {} HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"])
async def test_errors_are_answered_and_the_connection_ends(
    start_tls: StartTls, connect_tls: ConnectTls, sent: str
) -> None:
    client = await connect_tls(await start_tls())
    await client.send(sent.format("127.0.0.1:25").encode())
    assert (await client.reply()).status in (400, 403)
    assert await client.closed()


async def test_stopping_ends_idle_connections(start_tls: StartTls, connect_tls: ConnectTls) -> None:
    app = await start_tls()
    client = await connect_tls(app)
    async with asyncio.timeout(5):
        await app.close()
        assert await client.closed()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_program_behind_it(tmp_path: Path, origin: Origin, workers: str) -> None:
    """As users start it, alone and as several processes."""
    certificate, key = write_files(tmp_path)
    trusted = tmp_path / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(str(trusted))
    origin.routes["/a"] = response(b"answer", FRESH)

    def work() -> list[str]:
        proxy = Process(
            tmp_path / "cache", "--workers", workers, "--listen", "https://127.0.0.1:0",
            "-o", f"listen.certificate={certificate}", "-o", f"listen.key={key}",
            "-o", f"access.connect_ports=[{origin.port}]",
        )  # fmt: skip
        try:
            via = ["-x", f"https://127.0.0.1:{proxy.port_of('https')}", "--proxy-cacert", str(trusted)]
            return [
                proxy.curl(origin.url("/a"), *via, *more) for more in ([], ["--http1.0"], ["--proxytunnel"])
            ]
        finally:
            assert proxy.stop() == 0
            assert proxy.process.stderr is not None
            assert "Traceback" not in proxy.process.stderr.read()
            proxy.process.stderr.close()

    assert await asyncio.to_thread(work) == ["answer"] * 3
    # The tunnel asked for itself.
    assert origin.count() == 2


def _talk_while_reading(port: int, head: bytes) -> tuple[bytes, int]:
    """A client with little room that says something after each piece it reads; asyncio's own ends at a close_notify."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.settimeout(20)
        sock.connect(("127.0.0.1", port))
        with client_context().wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as tls:
            tls.sendall(head)
            received, sent = bytearray(), 0
            while piece := tls.recv(16384):
                received += piece
                tls.sendall(bytes(500))
                sent += 500
            return bytes(received), sent


async def test_an_early_answer_to_an_upload_is_whole(start_tls: StartTls) -> None:
    """What the client still sends must not cost it what is on its way to it."""
    refusal = response(bytes(4_000_000), "Connection: close", status="413 Content Too Large")

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)
        writer.write_eof()
        while await reader.read(65536):
            pass
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/up"
    app = await start_tls()
    upload = f"POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n".encode()
    received, _ = await asyncio.to_thread(_talk_while_reading, app.addresses[1][1], upload)
    head, _, body = received.partition(b"\r\n\r\n")
    assert (b" 413 " in head, len(body)) == (True, 4_000_000)
    server.close()


# tunnels


async def test_what_a_client_says_behind_the_destinations_end(start_tls: StartTls) -> None:
    """It reaches the destination, and does not cost the client what is on its way to it."""
    last = random.Random(5).randbytes(8_000_000)
    heard: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def ends_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(last)
        writer.write_eof()
        heard.set_result(len(await reader.read(-1)))
        writer.close()

    server = await asyncio.start_server(ends_first, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    app = await start_tls(f"access.connect_ports=[{port}]")
    received, sent = await asyncio.to_thread(_talk_while_reading, app.addresses[1][1], connect_head(port))
    async with asyncio.timeout(20):
        assert received.partition(b"\r\n\r\n")[2] == last
        assert await heard == sent
    server.close()


async def test_a_client_that_leaves_before_the_tunnel_stands(
    start_tls: StartTls,
    connect_tls: ConnectTls,
    echo: Echo,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = await start_tls(f"access.connect_ports=[{echo.port}]")
    client = await connect_tls(app)
    at = End.at

    async def leave_meanwhile(sock: socket.socket) -> End:
        end = await at(sock)
        assert app.listener is not None
        for connection in app.listener._server.connections:
            # What a reset does, but that the connection is told of it in the loop's next turn.
            connection.transport._ssl_protocol._transport.abort()  # type: ignore[union-attr]
            connection.transport._ssl_protocol.connection_lost(None)  # type: ignore[union-attr]
        return end

    monkeypatch.setattr(End, "at", leave_meanwhile)
    await client.send(connect_head(echo.port))
    assert await client.closed()
    await _until(lambda: app.listener is not None and app.listener.connections == 0)
    assert "Traceback" not in caplog.text
    assert app.counters.tunnels == 0


async def test_a_tunnel_carries_bytes_both_ways(
    start_tls: StartTls, connect_tls: ConnectTls, echo: Echo
) -> None:
    app = await start_tls(f"access.connect_ports=[{echo.port}]")
    client = await connect_tls(app)
    payload = random.Random(3).randbytes(2_000_000)
    await client.send(connect_head(echo.port) + b"early")
    assert (await client.head()).startswith(b"HTTP/1.1 200")
    sender = asyncio.ensure_future(client.send(payload))
    assert await client.reader.readexactly(len(payload) + 5) == b"early" + payload
    await sender
    client.close()
    await client.writer.wait_closed()
    await _until(lambda: bool(app.counters.tunnels))
    # The echo's goodbye may have come before the connection was gone.
    assert app.counters.tunnel_bytes - 2 * (len(payload) + 5) in (0, len(b"goodbye"))
    await _until(lambda: app.listener is not None and app.listener.connections == 0)


async def test_a_tunnel_behind_other_requests(
    start_tls: StartTls, connect_tls: ConnectTls, echo: Echo, origin: Origin
) -> None:
    app = await start_tls(f"access.connect_ports=[{echo.port}]")
    origin.routes["/a"] = response(bytes(2_000_000), FRESH)
    client = await connect_tls(app)
    asked = f"GET {origin.url('/a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    await client.send(asked * 2 + connect_head(echo.port) + b"hello")
    for _ in range(2):
        assert len((await client.reply()).body) == 2_000_000
    assert (await client.head()).startswith(b"HTTP/1.1 200")
    assert await client.reader.readexactly(5) == b"hello"


async def test_the_destinations_end_and_idleness_end_a_tunnel(
    start_tls: StartTls, connect_tls: ConnectTls
) -> None:
    async def says_goodbye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(1) == b"g":
            writer.write(b"goodbye" * 100_000)
            writer.close()
        else:
            await reader.read()
            writer.close()

    server = await asyncio.start_server(says_goodbye, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    app = await start_tls(f"access.connect_ports=[{port}]", "server.tunnel_idle_timeout=200ms")
    for first, expected in ((b"g", b"goodbye" * 100_000), (b"i", b"")):
        client = await connect_tls(app)
        await client.send(connect_head(port) + first)
        await client.head()
        async with asyncio.timeout(10):
            assert await client.reader.read() == expected
    server.close()
    await _until(lambda: app.counters.tunnels == 2)


async def test_tunnels_leave_no_descriptor(start_tls: StartTls, echo: Echo) -> None:
    app = await start_tls(f"access.connect_ports=[{echo.port}]", 'log.access=""')
    chance = random.Random(4)
    context = client_context()
    before = open_descriptors()

    async def one(size: int, ending: str) -> None:
        client = await RawClient.connect(app.addresses[1][1], context)
        await client.send(connect_head(echo.port))
        await client.head()
        data = chance.randbytes(size)
        sending = asyncio.ensure_future(client.send(data))
        assert await client.reader.readexactly(size) == data
        await sending
        if ending == "reset":
            reset(client.writer.get_extra_info("socket")._sock)
            client.writer.transport.abort()
        elif ending == "abort":
            client.writer.transport.abort()
        else:
            client.close()
        try:
            await client.writer.wait_closed()
        except OSError:
            pass

    for _ in range(5):
        await asyncio.gather(
            *(one(chance.choice((0, 1, 3000, 600_000)), chance.choice(("abort", "close"))) for _ in range(10))
        )
    await _until(lambda: app.counters.tunnels == 50)
    await _until(lambda: open_descriptors() <= before)
