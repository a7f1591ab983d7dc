"""Exceptions, by whose fault: the client's, the upstream's, the store's, the operator's.

`kind` is the RFC 9209 error type; it goes into `Proxy-Status`, the log and the page.
"""

from __future__ import annotations

from cacheproxy.reasons import Reason


class CacheproxyError(Exception):
    """Base of all errors that this package raises on purpose."""


class SyntaxFault(CacheproxyError):
    """A text that breaks its grammar (raised by parsers in `http`)."""


class ClientError(CacheproxyError):
    """The request cannot be served as it stands; `status` and `detail` say what to change.

    `close` is set where the connection cannot be trusted any more (RFC 9112 §6.3, §11.2).
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: Reason = Reason.HTTP_REQUEST_ERROR,
        close: bool = False,
        advice: str = "",
        allow: str = "",
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.close = close
        self.advice = advice
        self.allow = allow


class ClientGone(CacheproxyError):
    """The client closed or stalled before its message was complete; there is nobody to answer."""


class UpstreamError(CacheproxyError):
    """The origin or the way to it failed. `kind` decides the status (502, 504, 403, 503, 508)."""

    def __init__(self, kind: Reason, host: str, detail: str, *, before_head: bool = True) -> None:
        super().__init__(f"{host}: {detail}")
        self.kind = kind
        self.host = host
        self.detail = detail
        self.before_head = before_head


class StaleConnection(UpstreamError):
    """A pooled connection was closed by the origin before any byte of the response: may be tried again."""


class StoreError(CacheproxyError):
    """The store failed. Never a client's error: the caller counts it and goes on as a miss."""


class ConfigError(CacheproxyError):
    """A setting is wrong: the message names the key, the value and what is allowed."""


class StartError(CacheproxyError):
    """The proxy cannot start (port in use, directory not writable): one clear line, exit 1."""
