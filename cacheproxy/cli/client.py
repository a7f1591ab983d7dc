"""Talking to a running proxy over its Unix socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import click

from cacheproxy.admin.routes import SOCKET_NAME
from cacheproxy.sockets import connect_unix

NOT_RUNNING = 3
_TIMEOUT_S = 600.0


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock: socket.socket = connect_unix(self._path, _TIMEOUT_S)


class NotRunning(click.ClickException):
    """No proxy answers in that cache directory."""

    exit_code = NOT_RUNNING


def _request(directory: Path, method: str, path: str, body: object | None) -> HTTPResponse:
    connection = _UnixConnection(directory / SOCKET_NAME)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise NotRunning(
            f"no running proxy in {directory} ({reason}); start it with 'cacheproxy serve' or name its --cache-dir"
        ) from None
    if response.status >= 400:
        raw = response.read()
        try:
            text = json.loads(raw)["error"]
        except (ValueError, KeyError, TypeError):
            text = raw.decode("utf-8", "replace") or f"status {response.status}"
        raise click.ClickException(str(text))
    return response


def call(directory: Path, method: str, path: str, body: object | None = None) -> Any:
    """One call, its JSON answer. Raises NotRunning (exit 3) or ClickException (exit 1)."""
    return json.loads(_request(directory, method, path, body).read())


def lines(directory: Path, path: str) -> Iterator[Any]:
    """The JSON lines of an answer as they come."""
    response = _request(directory, "GET", path, None)
    try:
        for line in response:
            yield json.loads(line)
    except (OSError, HTTPException) as error:
        raise click.ClickException(f"the proxy broke off its answer: {error}") from None
