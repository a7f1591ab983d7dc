"""Requests from a connection's bytes: heads whole and strict, bodies piece by piece. No sockets here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cacheproxy.errors import ClientError, SyntaxFault
from cacheproxy.http.chunked import ChunkedDecoder
from cacheproxy.http.framing import Framing
from cacheproxy.http.head import HeadLimits, parse_request_head, parse_request_line
from cacheproxy.http.message import RequestHead
from cacheproxy.server.parse_memo import ParseMemo

_TOKEN_BYTES = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_BARE_LF = re.compile(rb"(?<!\r)\n")
# RFC 9112 §2.2: empty lines before a request are ignored, but not endlessly.
_MAX_EMPTY_LINES = 4


@dataclass(slots=True)
class RequestReader:
    """A buffer in front of the parser. Pipelined requests wait in it, unparsed, until it is their turn."""

    limits: HeadLimits
    memo: ParseMemo | None = None
    buffer: bytearray = field(default_factory=bytearray)
    _scanned: int = 0
    _empty_lines: int = 0
    _is_line_checked: bool = False

    def __len__(self) -> int:
        return len(self.buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection."""
        self.buffer += data

    def unread(self, data: bytes) -> None:
        """Put a whole request back in front of what has come since."""
        self.buffer[:0] = data
        self._scanned = 0

    def take_rest(self) -> bytes:
        """Everything unread, for a tunnel."""
        rest = bytes(self.buffer)
        self.buffer.clear()
        return rest

    def next_head(self) -> RequestHead | None:
        """The next request's head, or None while it is not complete. Raises ClientError."""
        buffer = self.buffer
        while buffer.startswith(b"\r\n"):
            del buffer[:2]
            self._scanned = 0
            self._empty_lines += 1
            if self._empty_lines > _MAX_EMPTY_LINES:
                raise ClientError(400, "too many empty lines before the request", close=True)
        if not buffer or buffer == b"\r":
            return None
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end == -1:
            self._check_beginning()
            self._scanned = len(buffer)
            return None
        if end > self.limits.head_bytes:
            self._too_long()
        raw = bytes(buffer[: end + 4])
        del buffer[: end + 4]
        self._scanned = 0
        self._empty_lines = 0
        self._is_line_checked = False
        known = self.memo.known_head(raw) if self.memo is not None else None
        return parse_request_head(raw[:-4], self.limits) if known is None else known

    def _check_beginning(self) -> None:
        # What can no longer become a request is refused now, not when the deadline has passed.
        buffer = self.buffer
        if buffer[0] not in _TOKEN_BYTES:
            detail = (
                "this port speaks plain HTTP, not TLS" if buffer[0] == 0x16 else "this is not an HTTP request"
            )
            raise ClientError(400, detail, close=True)
        if _BARE_LF.search(buffer, self._scanned):
            raise ClientError(400, "a line does not end in CRLF", close=True)
        if not self._is_line_checked:
            line_end = buffer.find(b"\r\n")
            if line_end == -1:
                if len(buffer) > self.limits.target_bytes + 256:
                    self._too_long()
            else:
                self._is_line_checked = True
                parse_request_line(bytes(buffer[:line_end]).decode("latin-1"), self.limits)
        if len(buffer) > self.limits.head_bytes:
            self._too_long()

    def _too_long(self) -> None:
        if self.buffer.find(b"\r\n", 0, self.limits.target_bytes + 256) == -1:
            raise ClientError(
                414, f"the request target is longer than {self.limits.target_bytes} bytes", close=True
            )
        raise ClientError(431, f"the request's head is longer than {self.limits.head_bytes} bytes", close=True)

    def body(self, framing: Framing) -> BodyDecoder:
        """The body of the request whose head was just taken."""
        return BodyDecoder(self.buffer, framing)


class BodyDecoder:
    """Takes one request's body off the buffer."""

    def __init__(self, buffer: bytearray, framing: Framing) -> None:
        self.buffer = buffer
        self._left = framing.length or 0
        self._chunks = ChunkedDecoder() if framing.chunked else None

    @property
    def is_complete(self) -> bool:
        """Whether the whole body has been taken."""
        return self._chunks.finished if self._chunks is not None else self._left == 0

    @property
    def left(self) -> int | None:
        """Bytes still to come, None where chunked."""
        return None if self._chunks is not None else self._left

    def take(self) -> bytes:
        """What is in the buffer of this body; empty while nothing is. Raises ClientError."""
        buffer = self.buffer
        if not buffer or self.is_complete:
            return b""
        if self._chunks is None:
            data = bytes(buffer[: self._left])
            del buffer[: len(data)]
            self._left -= len(data)
            return data
        raw = bytes(buffer)
        buffer.clear()
        try:
            pieces = self._chunks.feed(raw)
        except SyntaxFault as fault:
            raise ClientError(400, f"the chunked body is malformed: {fault}", close=True) from None
        if self._chunks.finished:
            # What follows belongs to the next request.
            buffer += self._chunks.rest
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
