"""Opening a tunnel: authority, verdict, dial."""

from __future__ import annotations

import socket
from typing import Protocol

from cacheproxy.errors import ClientError
from cacheproxy.http.forwarding import has_passed
from cacheproxy.http.message import RequestHead
from cacheproxy.http.uri import parse_authority
from cacheproxy.policy.access import AccessPolicy
from cacheproxy.reasons import Reason


class SocketDialler(Protocol):
    """Opens connected sockets to allowed destinations."""

    async def open(self, host: str, port: int) -> socket.socket:
        """A connected, non-blocking socket. Raises UpstreamError."""


async def open_destination(
    request: RequestHead, client: str, access: AccessPolicy, dialler: SocketDialler, via: str
) -> socket.socket:
    """A socket to the authority of a CONNECT request. Raises ClientError, UpstreamError."""
    refused = access.refuses_client(client)
    if refused is not None:
        raise ClientError(403, refused, kind=Reason.HTTP_REQUEST_DENIED, close=True)
    if has_passed(request.fields, via):
        raise ClientError(
            508, "the request has been through this proxy already", kind=Reason.PROXY_LOOP_DETECTED
        )
    host, port = parse_authority(request.request_target, None)
    refused = access.refuses_connect_port(port)
    if refused is not None:
        raise ClientError(
            403,
            refused,
            kind=Reason.HTTP_REQUEST_DENIED,
            close=True,
            advice="The operator of this proxy can allow the port with access.connect_ports.",
        )
    return await dialler.open(host, port)
