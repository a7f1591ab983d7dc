"""An answer's head as bytes, and how its body is framed for this client (RFC 9112 §6)."""

from __future__ import annotations

from typing import NamedTuple

from cacheproxy.http.forwarding import connection_options
from cacheproxy.http.message import FieldLine, Fields, RequestHead, ResponseHead
from cacheproxy.ports import Answer


class WireHead(NamedTuple):
    """Head bytes; how the body follows; whether the connection may go on afterwards."""

    data: bytes
    has_body: bool
    chunked: bool
    length: int | None
    keep_alive: bool


def wants_keep_alive(request: RequestHead) -> bool:
    """Whether the client's connection persists after this request (RFC 9112 §9.3)."""
    options = connection_options(request.fields)
    if "close" in options:
        return False
    return request.version >= (1, 1) or "keep-alive" in options


def wire_head(answer: Answer, request: RequestHead | None, *, may_keep_alive: bool) -> WireHead:
    """The head for the client that sent `request` (None: it could not be parsed)."""
    is_counted = answer.stream is not None or (request is not None and request.method == "HEAD")
    length = answer.length if is_counted else len(answer.content)
    return framed_head(answer.head, length, request, may_keep_alive=may_keep_alive and not answer.must_close)


def framed_head(
    head: ResponseHead, length: int | None, request: RequestHead | None, *, may_keep_alive: bool
) -> WireHead:
    """The same for a body of `length` bytes that comes from elsewhere; None: its length is not known."""
    fields = head.fields
    names = fields.named
    method, version = ("GET", (1, 1)) if request is None else (request.method, request.version)
    if (
        length is not None
        and names.sole_length >= 0
        and not names.has_connection
        and may_keep_alive
        and method != "HEAD"
        and version == (1, 1)
        and head.status not in (204, 304)
        and fields.value_at(names.sole_length) == str(length)
    ):
        # The usual case: nothing to change; below it would come to the same.
        return WireHead(head.wire(), True, False, length, True)
    has_body = not (method == "HEAD" or head.status in (204, 304))
    chunked = has_body and length is None and version >= (1, 1)
    keep_alive = may_keep_alive and (not has_body or length is not None or chunked)
    lines: list[FieldLine] = []
    is_length_written = False
    for line in fields:
        lower = line[0].lower()
        if lower == "content-length":
            if is_length_written or head.status in (204, 304) or (has_body and length is None):
                continue
            is_length_written = True
            # What leaves here is our own count; HEAD repeats what the origin said of the body.
            lines.append((line[0], str(length) if has_body else line[1].partition(",")[0].strip()))
        elif lower not in ("connection", "transfer-encoding"):
            lines.append(line)
    if not is_length_written and length is not None and head.status not in (204, 304):
        lines.append(("Content-Length", str(length)))
    if chunked:
        lines.append(("Transfer-Encoding", "chunked"))
    if not keep_alive:
        lines.append(("Connection", "close"))
    elif version < (1, 1):
        lines.append(("Connection", "keep-alive"))
    return WireHead(
        head.with_fields(Fields(lines)).wire(),
        has_body,
        chunked,
        length if has_body else 0,
        keep_alive,
    )
