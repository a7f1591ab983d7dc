"""Message heads from bytes, strictly (RFC 9112 §2-5): what breaks the grammar is refused, never repaired.

Not here: where a head ends in the stream and how long the body is (`framing`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from cacheproxy.errors import ClientError, SyntaxFault
from cacheproxy.http.message import FieldLine, Fields, RequestHead, ResponseHead
from cacheproxy.http.names import Names, names_of
from cacheproxy.http.uri import UnsupportedScheme, parse_absolute, parse_authority

_REQUEST_LINE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([^\s\x00-\x20\x7f]+) HTTP/([0-9])\.([0-9])\Z")
_STATUS_LINE = re.compile(r"HTTP/([0-9])\.([0-9]) ([0-9]{3})(?: ([\t \x21-\x7e\x80-\xff]*))?\Z")
_FIELD_LINE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t \x21-\x7e\x80-\xff]*)\Z")


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bounds on a head, in bytes and lines; a request past them gets 414 or 431, a response 502."""

    target_bytes: int = 12 * 1024
    field_bytes: int = 32 * 1024
    head_bytes: int = 64 * 1024
    fields: int = 128


# What `_FIELD_LINE` accepts, many lines at once, each with its CRLF.
_FIELD_LINES = re.compile(r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t \x21-\x7e\x80-\xff]*\r\n)+\Z")
_SPLIT_LINES = re.compile(r"([^:]+):([^\r]*)\r\n")
# At the beginnings of lines: where there are as many as line feeds, and one is the end, nothing is between them.
# What nearly everybody sends: one space, and a value without white space around it.
_NEAT_NAMES = re.compile(
    r"(?<![^\n])([!#$%&'*+\-.^_`|~0-9A-Za-z]++): "
    r"(?=[\x21-\x7e\x80-\xff])[\t \x21-\x7e\x80-\xff]*+(?<![\t ])\r\n"
)
# As `_FIELD_LINE`.
LINE_NAMES = re.compile(rb"(?<![^\n])([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[\t \x21-\x7e\x80-\xff]*+\r\n")


def parse_plain_fields(block: str, limits: HeadLimits) -> Fields | None:
    """The fields of lines, each with its CRLF; None where they break any rule or limit.

    For all lines at once, it takes a fifth of the time of one line after the other.
    """
    if len(block) > limits.field_bytes:
        return None
    names: list[str] = _NEAT_NAMES.findall(block)
    texts = block.split("\r\n")
    if names and len(texts) == len(names) + 1 and block.count("\n") == len(names) and not texts[-1]:
        del texts[-1]
        return None if len(names) > limits.fields else Fields.sent(tuple(texts), names_of(tuple(names)))
    if _FIELD_LINES.match(block) is None:
        return None
    lines = _split_lines(block)
    return None if len(lines) > limits.fields else Fields(lines)


def _split_lines(block: str) -> list[FieldLine]:
    return [(name, value.strip(" \t")) for name, value in _SPLIT_LINES.findall(block)]


def split_plain_fields(block: str) -> Fields:
    """The fields of lines for which `plain_field_names` gives names."""
    return Fields(_split_lines(block))


def plain_field_names(block: bytes, limits: HeadLimits) -> list[bytes] | None:
    """The names, as sent, of field lines and the empty line behind them.

    None where `parse_plain_fields`, which takes twice as long, would give None for the lines.
    """
    names: list[bytes] = LINE_NAMES.findall(block)
    count = len(names)
    if not 0 < count <= limits.fields or block.count(b"\n") != count + 1 or not block.endswith(b"\r\n\r\n"):
        return None
    return None if len(block) - 2 > limits.field_bytes else names


def _field_lines(lines: list[str], limits: HeadLimits) -> list[FieldLine]:
    if len(lines) > limits.fields:
        raise OverflowError(f"more than {limits.fields} fields")
    found: list[FieldLine] = []
    for line in lines:
        if len(line) > limits.field_bytes:
            raise OverflowError(f"a field is longer than {limits.field_bytes} bytes")
        match = _FIELD_LINE.match(line)
        if match is None:
            raise SyntaxFault(_what_is_wrong(line))
        found.append((match.group(1), match.group(2).strip(" \t")))
    return found


# Status lines and Hosts longer than this are not remembered.
_KNOWN_LENGTH = 256


def _fields(block: str, limits: HeadLimits) -> Fields:
    if not block:
        return Fields()
    plain = parse_plain_fields(block + "\r\n", limits)
    # One line after the other, to say what is wrong.
    return Fields(_field_lines(block.split("\r\n"), limits)) if plain is None else plain


def _what_is_wrong(line: str) -> str:
    if line[:1] in (" ", "\t"):
        return "a field line starts with white space (obsolete line folding)"
    name, colon, _ = line.partition(":")
    if "\r" in line or "\n" in line:
        return "a line does not end in CRLF"
    if not colon:
        return "a field line has no colon"
    if name.endswith((" ", "\t")):
        return "there is white space before the colon of a field"
    if not name:
        return "a field name is empty"
    return "a field has a character that is not allowed"


def parse_request_head(data: bytes, limits: HeadLimits) -> RequestHead:
    """A request head from its bytes up to and without the empty line. Raises ClientError, always closing.

    The target is absolute-form (http, https), authority-form for CONNECT, `*` for OPTIONS, or origin-form
    (kept as `request_target` with no `target`: the caller knows that this is a proxy).
    """
    line, _, block = data.decode("latin-1").partition("\r\n")
    method, target_text, version = parse_request_line(line, limits)
    fields = parse_request_fields(block, limits)
    # RFC 9112 §2.5: a minor version above ours is handled as 1.1.
    head = RequestHead(method, target_text, min(version, (1, 1)), fields)
    check_host(head)
    return with_target(head)


def parse_request_fields(block: str, limits: HeadLimits) -> Fields:
    """The fields of a request from its lines without the last CRLF. Raises ClientError, always closing."""
    try:
        return _fields(block, limits)
    except SyntaxFault as fault:
        raise ClientError(400, str(fault), close=True) from None
    except OverflowError as overflow:
        raise ClientError(431, str(overflow), close=True) from None


def parse_request_line(line: str, limits: HeadLimits) -> tuple[str, str, tuple[int, int]]:
    """Method, request target and version of a request line without its CRLF. Raises ClientError."""
    match = _REQUEST_LINE.match(line)
    if match is None:
        if not re.match(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ ", line):
            raise ClientError(400, "the method or the request line is malformed", close=True)
        if re.search(r" HTTP/[0-9]+(\.[0-9]+)?\Z", line) is None:
            raise ClientError(400, "the request line does not end in an HTTP version", close=True)
        raise ClientError(400, "the request line is malformed", close=True)
    method, target_text = match.group(1), match.group(2)
    version = (int(match.group(3)), int(match.group(4)))
    if version[0] != 1:
        raise ClientError(505, f"HTTP/{version[0]}.{version[1]} is not supported; use HTTP/1.1", close=True)
    if len(target_text) > limits.target_bytes:
        raise ClientError(414, f"the request target is longer than {limits.target_bytes} bytes", close=True)
    return method, target_text, version


def check_host(head: RequestHead) -> None:
    """Raises ClientError where Host is missing, repeated or malformed."""
    # RFC 9112 §3.2: exactly one valid Host, also with an absolute-form target; HTTP/1.0 may lack it.
    hosts = head.fields.all("host")
    if len(hosts) > 1 or (not hosts and head.version >= (1, 1)):
        raise ClientError(400, "exactly one Host field is required (RFC 9112 section 3.2)", close=True)
    if hosts and (hosts[0] or head.method != "CONNECT"):
        check_host_value(hosts[0])


def check_host_value(value: str) -> None:
    """Raises ClientError where `value` is no Host that anybody but CONNECT may send."""
    if not value:
        raise ClientError(400, "the Host field is empty", close=True)
    try:
        (_known_host if len(value) <= _KNOWN_LENGTH else _check_host)(value)
    except SyntaxFault as fault:
        raise ClientError(400, f"the Host field is invalid: {fault}", close=True) from None


def _check_host(value: str) -> None:
    parse_authority(value, 80)


_known_host = lru_cache(maxsize=1024)(_check_host)


def with_target(head: RequestHead) -> RequestHead:
    """The head with its target URI, where the target has one. Raises ClientError, always closing."""
    text = head.request_target
    if head.method == "CONNECT":
        try:
            parse_authority(text, None)
        except SyntaxFault as fault:
            raise ClientError(400, f"CONNECT wants host:port: {fault}", close=True) from None
        return head
    if text.startswith("/") or (text == "*" and head.method == "OPTIONS"):
        return head
    try:
        target = parse_absolute(text)
    except SyntaxFault as fault:
        status = 501 if isinstance(fault, UnsupportedScheme) else 400
        raise ClientError(status, f"the request target is invalid: {fault}", close=True) from None
    if target.path_and_query == "/" and head.method == "OPTIONS" and not text.endswith("/"):
        # RFC 9112 §3.2.4: OPTIONS for a server as a whole reaches the origin as `*`.
        return RequestHead(head.method, "*", head.version, head.fields, target)
    return RequestHead(head.method, text, head.version, head.fields, target)


# Deleted from a head they leave its line ends: all but tabs, and what no head may have.
_IN_LINES = bytes([*range(0x20, 0x7F), *range(0x80, 0x100)])
_begins = str.startswith


def _parse_alike(data: bytes, limits: HeadLimits, names: Names) -> ResponseHead | None:
    """The response head where its lines have these names, in this order, and no unusual white space; else None."""
    text = data.decode("latin-1")
    lines = text.split("\r\n")
    if (
        len(lines) == len(names.beginnings)
        and all(map(_begins, lines, names.beginnings))
        and data.translate(None, _IN_LINES) == names.line_ends
        and not ("  " in text or " \r" in text or text[-1] == " ")
        and len(lines[0]) <= _KNOWN_LENGTH
        and len(data) <= limits.field_bytes
        and len(lines) <= limits.fields
    ):
        status, phrase, version = _known_status(lines[0])
        del lines[0]
        return ResponseHead(status, phrase, Fields.sent(tuple(lines), names), version)
    return None


def parse_response_head(data: bytes, limits: HeadLimits, alike: Names | None = None) -> ResponseHead:
    """A response head from its bytes up to and without the empty line. Raises SyntaxFault.

    Mostly its fields have the names of the response before: to see that they are `alike` takes less than finding them.
    """
    if alike is not None and (head := _parse_alike(data, limits, alike)) is not None:
        return head
    text = data.decode("latin-1")
    line, _, block = text.partition("\r\n")
    status, phrase, version = (_known_status if len(line) <= _KNOWN_LENGTH else _status_line)(line)
    fields = parse_plain_fields(block + "\r\n", limits) if block else Fields()
    if fields is None:
        # One line after the other, to say what is wrong.
        try:
            fields = Fields(_field_lines(block.split("\r\n"), limits))
        except OverflowError as overflow:
            raise SyntaxFault(str(overflow)) from None
    return ResponseHead(status, phrase, fields, version)


def _status_line(line: str) -> tuple[int, str, tuple[int, int]]:
    match = _STATUS_LINE.match(line)
    if match is None:
        raise SyntaxFault(f"the status line is malformed: {line[:60]!r}")
    version = (int(match.group(1)), int(match.group(2)))
    if version[0] != 1:
        raise SyntaxFault(f"unsupported version HTTP/{version[0]}.{version[1]}")
    status = int(match.group(3))
    if status < 100:
        raise SyntaxFault(f"invalid status {status}")
    return status, match.group(4) or "", min(version, (1, 1))


_known_status = lru_cache(maxsize=512)(_status_line)
