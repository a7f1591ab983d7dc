"""The chunked transfer coding, decoded strictly and without I/O (RFC 9112 §7.1)."""

from __future__ import annotations

import re

from cacheproxy.errors import SyntaxFault
from cacheproxy.http.syntax import FIELD_VALUE, is_token

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb"\"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*\""
_EXTENSION = rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})((?:" + _EXTENSION + rb")*)")
_MAX_SIZE_LINE = 4096
_MAX_TRAILERS = 16 * 1024
_MAX_EXTENSION_BYTES = 16 * 1024


class ChunkedDecoder:
    """Feeds on the coded bytes, gives the decoded ones; extensions and trailers are checked and dropped.

    `finished` turns true after the last chunk and its trailers; what follows stays in `rest`.
    """

    def __init__(self) -> None:
        self.finished = False
        self.rest = b""
        self._buffer = bytearray()
        self._left = 0
        self._state = "size"
        self._trailer_bytes = 0
        self._extension_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of body that `data` completes, without copying whole pieces. Raises SyntaxFault."""
        pieces: list[bytes] = []
        at = 0
        end = len(data)
        while at < end:
            if self.finished:
                self.rest += data[at:]
                break
            if self._state == "data":
                take = min(self._left, end - at)
                pieces.append(data[at : at + take] if take != end or at else data)
                at += take
                self._left -= take
                if self._left:
                    break
                self._state = "data-end"
                continue
            # Short line states go through a small buffer.
            line, at = self._line(data, at)
            if line is None:
                break
            self._take_line(line)
        return pieces

    def _line(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        newline = data.find(b"\n", at)
        stop = len(data) if newline == -1 else newline + 1
        self._buffer += data[at:stop]
        if len(self._buffer) > _MAX_SIZE_LINE + _MAX_TRAILERS:
            raise SyntaxFault("a chunk's size line or trailer is too long")
        if newline == -1:
            if self._state == "size" and len(self._buffer.removesuffix(b"\r")) > _MAX_SIZE_LINE:
                raise SyntaxFault("a chunk's size line is too long")
            if self._state == "data-end" and bytes(self._buffer) != b"\r":
                raise SyntaxFault("a chunk is longer than its size")
            return None, stop
        line = bytes(self._buffer)
        self._buffer.clear()
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise SyntaxFault("a line in the chunked body does not end in CRLF")
        return line[:-2], stop

    def _take_line(self, line: bytes) -> None:
        if self._state == "data-end":
            if line:
                raise SyntaxFault("a chunk is longer than its size")
            self._state = "size"
        elif self._state == "size":
            match = _SIZE_LINE.fullmatch(line) if len(line) <= _MAX_SIZE_LINE else None
            if match is None:
                raise SyntaxFault("a chunk size is malformed")
            self._extension_bytes += len(match.group(2))
            if self._extension_bytes > _MAX_EXTENSION_BYTES:
                raise SyntaxFault("too many chunk extensions")
            self._left = int(match.group(1), 16)
            self._state = "data" if self._left else "trailer"
        elif not line:
            self.finished = True
        else:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > _MAX_TRAILERS:
                raise SyntaxFault("the trailers are too long")
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not is_token(name) or not FIELD_VALUE.match(value):
                raise SyntaxFault("a trailer field is malformed")


def encode_chunk(data: bytes) -> bytes:
    """One chunk of the coding; `data` must not be empty (that would be the last chunk)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
