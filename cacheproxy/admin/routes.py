"""HTTP over the Unix socket: routes, and who may call them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from cacheproxy.admin.operations import Operations
from cacheproxy.errors import StoreError, SyntaxFault
from cacheproxy.ports import Selector
from cacheproxy.sockets import bind_unix

log = logging.getLogger("cacheproxy")

SOCKET_NAME = "admin.sock"
_CREDENTIALS = struct.Struct("3i")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    if sock is not None and hasattr(socket, "SO_PEERCRED"):
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(raw)[1] not in (0, os.getuid()):
            return _error(403, "only the proxy's own user may do this")
    if "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
        return _error(403, "not for browsers")
    try:
        return await handler(request)
    except StoreError as error:
        return _error(500, f"the store failed: {error}")
    except SyntaxFault as error:
        return _error(400, str(error))


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


class AdminServer:
    """Serves `operations` on DIR/admin.sock."""

    def __init__(self, operations: Operations, directory: Path, *, unlinks: bool = True) -> None:
        self._unlinks = unlinks
        self._operations = operations
        self._path = directory / SOCKET_NAME
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises OSError."""
        app = web.Application(middlewares=[_guard], client_max_size=4 * 1024 * 1024)
        app.add_routes(
            [
                web.get("/stats", self._stats),
                web.get("/entries", self._entries),
                web.get("/show", self._show),
                web.get("/explain", self._explain),
                web.post("/purge", self._purge),
                web.post("/stop", self._stop),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2.0)
        await self._runner.setup()
        sock = bind_unix(self._path)
        sock.setblocking(False)
        await web.SockSite(self._runner, sock).start()

    async def close(self) -> None:
        """Stop listening and remove the socket, unless somebody else will."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._runner is not None and self._unlinks:
            self._path.unlink(missing_ok=True)

    async def _stats(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(await self._operations.snapshot())

    async def _entries(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        lines: list[str] = []
        async for entry in self._operations.list_entries(request.query.get("glob")):
            lines.append(json.dumps(entry) + "\n")
            if len(lines) >= 500:
                await response.write("".join(lines).encode())
                lines.clear()
        await response.write("".join(lines).encode())
        return response

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(await self._operations.show(request.query.get("url", "")))

    async def _explain(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(await self._operations.explain(request.query.get("url", "")))

    async def _purge(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = await request.json()
            selector = Selector(
                urls=tuple(self._operations.key(str(url)) for url in asked.get("urls", ())),
                host=asked.get("host"),
                glob=asked.get("glob"),
                everything=asked.get("everything") is True,
            )
        except (ValueError, AttributeError) as error:
            return _error(400, f"not a purge request: {error}")
        if (
            sum(
                (
                    bool(selector.urls),
                    selector.host is not None,
                    selector.glob is not None,
                    selector.everything,
                )
            )
            != 1
        ):
            return _error(400, "name URLs, a host, a glob, or everything")
        count = await self._operations.purge(selector, asked.get("dry_run") is True, False)
        return web.json_response({"count": count})

    async def _stop(self, request: web.Request) -> web.StreamResponse:
        # After this answer has gone out.
        asyncio.get_running_loop().call_later(0.05, self._operations.stop)
        return web.json_response({"stopping": True})
